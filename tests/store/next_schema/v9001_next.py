"""A migration as the next release may bring it: it only adds, so that code of this one may run beside."""

import sqlalchemy as sa
from alembic import op

from server.store.tables.schema import HEAD

revision = "9001"
down_revision = HEAD
branch_labels = None
depends_on = None
compatible_from = HEAD


def upgrade() -> None:
    """Adds columns to tables in service, null or with a default, an index and a table."""
    op.add_column("experiments", sa.Column("owner", sa.String(63)))
    op.add_column("rewards", sa.Column("source", sa.SmallInteger, nullable=False, server_default="0"))
    op.create_index("ix_experiments_owner", "experiments", ["owner"])
    op.create_table("owners", sa.Column("name", sa.String(63), primary_key=True))


def downgrade() -> None:
    """Refused, as every downgrade."""
    raise RuntimeError

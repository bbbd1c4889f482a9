"""A migration of a possible next release: it only adds, so that this release's code can run on the result."""

import sqlalchemy as sa
from alembic import op

from server.store.tables.schema import HEAD

revision = "9001"
down_revision = HEAD
branch_labels = None
depends_on = None
compatible_from = HEAD


def upgrade() -> None:
    """Add columns to tables in use, nullable or with a default, an index and a table."""
    op.add_column("experiments", sa.Column("owner", sa.String(63)))
    op.add_column("rewards", sa.Column("source", sa.SmallInteger, nullable=False, server_default="0"))
    op.create_index("ix_experiments_owner", "experiments", ["owner"])
    op.create_table("owners", sa.Column("name", sa.String(63), primary_key=True))


def downgrade() -> None:
    """Refuse, as every downgrade does."""
    raise RuntimeError

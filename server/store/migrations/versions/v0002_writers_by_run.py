"""Writers are told apart by their run and not by their slot, which another may take over."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table anew: no writer runs during this migration, and rows of dead ones tell nothing."""
    op.drop_table("writers")
    op.create_table(
        "writers",
        sa.Column("incarnation", sa.LargeBinary, primary_key=True),
        sa.Column("slot", sa.SmallInteger, unique=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Refused: an older version can't read what a newer one wrote. Restore a backup instead."""
    raise RuntimeError("schemas are not downgraded: restore a backup from before the upgrade")

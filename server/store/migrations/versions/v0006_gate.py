"""The gate: which code each server runs, and columns by which old code can be kept from writing."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None
compatible_from = "0005"


def upgrade() -> None:
    """Add to writers what they run, and to epochs and revisions their format. Older servers may go on."""
    op.add_column("writers", sa.Column("code", sa.String(32)))
    for table in ("epochs", "configurations"):
        op.add_column(table, sa.Column("format", sa.SmallInteger, nullable=False, server_default="0"))


def downgrade() -> None:
    """Refused: an older version can't read what a newer one wrote. Restore a backup instead."""
    raise RuntimeError("schemas are not downgraded: restore a backup from before the upgrade")

"""What a look at an arm of a launch showed, in full, so that lists show it as well."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None
compatible_from = "0005"


def upgrade() -> None:
    """Add the column. Older servers may go on: those that know launches leave it as it is."""
    op.add_column("launch_looks", sa.Column("shown", sa.Text, nullable=False, server_default="{}"))


def downgrade() -> None:
    """Refused: an older version can't read what a newer one wrote. Restore a backup instead."""
    raise RuntimeError("schemas are not downgraded: restore a backup from before the upgrade")

"""Runs of servers that ended, by which outcomes are known whose decisions were never counted."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None
compatible_from = "0005"


def upgrade() -> None:
    """Add to writers how far they counted, and the table of ended runs. Older servers may go on."""
    op.add_column("writers", sa.Column("flushed_ms", sa.BigInteger))
    op.add_column("writers", sa.Column("ended_at", sa.BigInteger))
    op.create_table(
        "ended_runs",
        sa.Column("run", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("incarnation", sa.LargeBinary, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("flushed_ms", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger, nullable=False),
        sa.Column("next_id", sa.LargeBinary),
        sa.Column("last_id", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Refused: an older version can't read what a newer one wrote. Restore a backup instead."""
    raise RuntimeError("schemas are not downgraded: restore a backup from before the upgrade")

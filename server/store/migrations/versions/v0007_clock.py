"""The clock: how far time is known to have passed, and which epochs end what a wrong clock had put ahead."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None
compatible_from = "0005"


def upgrade() -> None:
    """Add tables and columns. Older servers go on without them."""
    op.add_column("epochs", sa.Column("is_cap", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("seals", sa.Column("purged_before", sa.LargeBinary))
    clock = op.create_table(
        "clock",
        sa.Column("number", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("mark", sa.BigInteger),
        sa.Column("running", sa.BigInteger, nullable=False),
        sa.Column("beat_at", sa.BigInteger),
        sa.Column("doubt", sa.BigInteger),
        sa.Column("doubted_at", sa.BigInteger),
        sqlite_with_rowid=False,
    )
    op.bulk_insert(clock, [{"number": 1, "generation": 1, "running": 0}])
    op.create_table(
        "clock_marks",
        sa.Column("running", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("mark", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Refused: an older version can't read what a newer one wrote. Restore a backup instead."""
    raise RuntimeError("schemas are not downgraded: restore a backup from before the upgrade")

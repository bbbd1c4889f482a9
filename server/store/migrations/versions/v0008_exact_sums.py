"""Values as they were posted, and sums of any size: what the log and the facts hold beside their quanta.

It only adds columns, and what those that stand mean stays: older servers may go on reading and writing them.
Sums that SQLite made inexact when they overflowed are mended afterwards, by
`server.store.maintenance.sum_repair`.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None
compatible_from = "0005"


def _rest(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"))


def upgrade() -> None:
    """Add the columns."""
    op.add_column("rewards", sa.Column("value", sa.Double))
    op.add_column("rewards", sa.Column("steps", sa.BigInteger))
    op.add_column("rewards", sa.Column("replaced_steps", sa.BigInteger))
    for table in ("outcome_facts", "sealed_facts"):
        for name in ("total", "squares", "late_total", "late_squares"):
            op.add_column(table, _rest(f"{name}_low"))
            op.add_column(table, _rest(f"{name}_high"))
    op.add_column("unit_sums", _rest("total_low"))
    op.add_column("unit_sums", _rest("total_high"))


def downgrade() -> None:
    """Refused: an older version can't read what a newer one wrote. Restore a backup instead."""
    raise RuntimeError("schemas are not downgraded: restore a backup from before the upgrade")

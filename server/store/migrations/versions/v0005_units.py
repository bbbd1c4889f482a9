"""Units: who is counted once by evidence, and how much units repeat where decisions are counted."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None
compatible_from = "0005"


def _key(name: str, kind: type[sa.types.TypeEngine[int]]) -> sa.Column[int]:
    return sa.Column(name, kind, primary_key=True, autoincrement=False)


def upgrade() -> None:
    """Add to the log whose outcome it is, and the tables of units. Older servers may go on writing."""
    op.add_column("rewards", sa.Column("unit", sa.BigInteger))
    op.create_index(
        "rewards_by_unit",
        "rewards",
        ["experiment", "segment", "unit", "metric", "received_ms", "quanta"],
        sqlite_where=sa.text("unit IS NOT NULL"),
        postgresql_where=sa.text("unit IS NOT NULL"),
    )
    op.create_table(
        "units",
        _key("experiment", sa.BigInteger),
        _key("segment", sa.SmallInteger),
        _key("unit", sa.BigInteger),
        sa.Column("first_ms", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("arm", sa.Integer, nullable=False),
        sa.Column("decisions", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "unit_sums",
        _key("experiment", sa.BigInteger),
        _key("segment", sa.SmallInteger),
        _key("unit", sa.BigInteger),
        _key("metric", sa.SmallInteger),
        sa.Column("n", sa.BigInteger, nullable=False),
        sa.Column("total", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "unit_groups",
        _key("experiment", sa.BigInteger),
        _key("unit_group", sa.SmallInteger),
        _key("slot", sa.SmallInteger),
        sa.Column("decisions", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Refused: an older version can't read what a newer one wrote. Restore a backup instead."""
    raise RuntimeError("schemas are not downgraded: restore a backup from before the upgrade")

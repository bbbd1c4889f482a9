"""The first three decisions of units, with which they steer."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None
compatible_from = "0005"


def _key(name: str, kind: type[sa.types.TypeEngine[int]]) -> sa.Column[int]:
    return sa.Column(name, kind, primary_key=True, autoincrement=False)


def _rest(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"))


def upgrade() -> None:
    """Add to units the ids of their first decisions, and the sums of what purged rows steer with.

    Older servers may go on: they count decisions without ids.
    """
    for name in ("first_id", "second_id", "third_id"):
        op.add_column("units", sa.Column(name, sa.LargeBinary))
    sums = ("n", "total", "squares", "late_n", "late_total", "late_squares")
    exact = ("total", "squares", "late_total", "late_squares")
    op.create_table(
        "sealed_steering",
        _key("experiment", sa.BigInteger),
        _key("epoch", sa.Integer),
        _key("segment", sa.SmallInteger),
        _key("arm", sa.Integer),
        _key("basis", sa.SmallInteger),
        _key("metric", sa.SmallInteger),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in sums),
        *(_rest(f"{name}_{part}") for name in exact for part in ("low", "high")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Refused: an older version can't read what a newer one wrote. Restore a backup instead."""
    raise RuntimeError("schemas are not downgraded: restore a backup from before the upgrade")

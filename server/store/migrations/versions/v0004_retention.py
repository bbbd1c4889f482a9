"""What retention needs: which epochs are sealed, and the sums of their outcomes; and who may run beside whom.

It only adds tables, so servers of the version before go on serving while and after it runs.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None
compatible_from = "0004"


def _key(name: str, kind: type[sa.types.TypeEngine[int]]) -> sa.Column[int]:
    return sa.Column(name, kind, primary_key=True, autoincrement=False)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "seals",
        _key("experiment", sa.BigInteger),
        _key("segment", sa.SmallInteger),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("before", sa.LargeBinary, nullable=False),
        sa.Column("fence", sa.BigInteger),
        sa.Column("sealed_at", sa.BigInteger, nullable=False),
        sa.Column("n_apart", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    sums = ("n", "total", "squares", "late_n", "late_total", "late_squares")
    op.create_table(
        "sealed_facts",
        _key("experiment", sa.BigInteger),
        _key("epoch", sa.Integer),
        _key("segment", sa.SmallInteger),
        _key("arm", sa.Integer),
        _key("basis", sa.SmallInteger),
        _key("metric", sa.SmallInteger),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in sums),
        sqlite_with_rowid=False,
    )
    op.create_table("compatibility", sa.Column("oldest_code", sa.String(32), primary_key=True))


def downgrade() -> None:
    """Refused: an older version can't read what a newer one wrote. Restore a backup instead."""
    raise RuntimeError("schemas are not downgraded: restore a backup from before the upgrade")

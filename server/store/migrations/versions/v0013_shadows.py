"""Arms in shadow: what each epoch shows them, and the pairs of outcomes by which they are compared."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None
compatible_from = "0005"


def _key(name: str, kind: type[sa.types.TypeEngine[int]]) -> sa.Column[int]:
    return sa.Column(name, kind, primary_key=True, autoincrement=False)


def upgrade() -> None:
    """Add to epochs their shadows, an index of the log by shadow, and the sums of purged pairs.

    Older servers may go on: they make no shadow decisions, and purge none, since shadows pass the gate.
    """
    op.add_column("epochs", sa.Column("shadows", sa.Text))
    op.create_index(
        "rewards_of_shadows",
        "rewards",
        ["experiment", "metric", "decision", "epoch", "arm", "quanta", "is_late", "is_apart"],
        sqlite_where=sa.text("basis = 5"),
        postgresql_where=sa.text("basis = 5"),
    )
    op.create_table(
        "sealed_pairs",
        _key("experiment", sa.BigInteger),
        _key("epoch", sa.Integer),
        _key("segment", sa.SmallInteger),
        _key("arm", sa.Integer),
        _key("metric", sa.SmallInteger),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in ("n", "shadow", "shadow_squares", "champion", "champion_squares", "products")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "sealed_mirrors",
        _key("experiment", sa.BigInteger),
        _key("epoch", sa.Integer),
        _key("segment", sa.SmallInteger),
        _key("arm", sa.Integer),
        sa.Column("n", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Refused: an older version can't read what a newer one wrote. Restore a backup instead."""
    raise RuntimeError("schemas are not downgraded: restore a backup from before the upgrade")

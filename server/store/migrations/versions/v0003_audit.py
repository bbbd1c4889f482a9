"""Who changed what is kept, and keys that sign decisions take turns."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None
compatible_from = "0003"

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_NAME = sa.String(127).with_variant(sa.String(127, collation="C"), "postgresql")


def upgrade() -> None:
    """Add the audit, and when each key begins to sign."""
    op.create_table(
        "audit",
        sa.Column("number", _NUMBER, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("caller", sa.String(127), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("experiment", _NAME, index=True),
        sa.Column("before", sa.Text),
        sa.Column("after", sa.Text),
        sqlite_autoincrement=True,
    )
    op.add_column("signing_keys", sa.Column("signs_at", sa.BigInteger))


def downgrade() -> None:
    """Refused: an older version can't read what a newer one wrote. Restore a backup instead."""
    raise RuntimeError("schemas are not downgraded: restore a backup from before the upgrade")

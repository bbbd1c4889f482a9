"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_NAME = sa.String(127).with_variant(sa.String(127, collation="C"), "postgresql")


def _key(name: str, kind: type[sa.types.TypeEngine[int]]) -> sa.Column[int]:
    return sa.Column(name, kind, primary_key=True, autoincrement=False)


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "signing_keys",
        _key("id", sa.SmallInteger),
        sa.Column("secret", sa.LargeBinary, nullable=False),
        sa.Column("is_signing", sa.Boolean, nullable=False),
    )
    op.create_table(
        "writers",
        _key("slot", sa.SmallInteger),
        sa.Column("incarnation", sa.LargeBinary, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "experiments",
        sa.Column("number", _NUMBER, primary_key=True),
        sa.Column("name", _NAME, nullable=False, unique=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False, index=True),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("concluded_at", sa.BigInteger),
        sa.Column("deleted_at", sa.BigInteger),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "configurations",
        _key("experiment", sa.BigInteger),
        _key("revision", sa.Integer),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "epochs",
        _key("experiment", sa.BigInteger),
        _key("segment", sa.SmallInteger),
        _key("number", sa.Integer),
        sa.Column("nonce", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("champion", sa.Integer, nullable=False),
        sa.Column("shares", sa.Text, nullable=False),
        sa.Column("warming_up", sa.Text, nullable=False),
        sa.Column("means", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    _create_ledger()


def _create_ledger() -> None:
    op.create_table(
        "decision_facts",
        _key("experiment", sa.BigInteger),
        _key("epoch", sa.Integer),
        _key("segment", sa.SmallInteger),
        _key("arm", sa.Integer),
        _key("basis", sa.SmallInteger),
        _key("slot", sa.SmallInteger),
        sa.Column("decisions", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    sums = ("n", "total", "squares", "late_n", "late_total", "late_squares")
    op.create_table(
        "outcome_facts",
        _key("experiment", sa.BigInteger),
        _key("epoch", sa.Integer),
        _key("segment", sa.SmallInteger),
        _key("arm", sa.Integer),
        _key("basis", sa.SmallInteger),
        _key("metric", sa.SmallInteger),
        _key("slot", sa.SmallInteger),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in sums),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "rewards",
        sa.Column("decision", sa.LargeBinary, primary_key=True),
        _key("metric", sa.SmallInteger),
        sa.Column("experiment", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("segment", sa.SmallInteger, nullable=False),
        sa.Column("arm", sa.Integer, nullable=False),
        sa.Column("basis", sa.SmallInteger, nullable=False),
        sa.Column("quanta", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("is_late", sa.Boolean, nullable=False),
        sa.Column("is_apart", sa.Boolean, nullable=False),
        sa.Column("received_ms", sa.BigInteger, nullable=False),
        sa.Column("replaced_quanta", sa.BigInteger),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Refused: an older version can't read what a newer one wrote. Restore a backup instead."""
    raise RuntimeError("schemas are not downgraded: restore a backup from before the upgrade")

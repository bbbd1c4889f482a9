"""Who changed what is kept, and keys that sign decisions take turns."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_NAME = sa.String(127).with_variant(sa.String(127, collation="C"), "postgresql")


def upgrade() -> None:
    """Adds the audit, and makes the table of keys anew around the keys that it holds."""
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
    keys = op.get_bind().execute(sa.text("SELECT id, secret, is_signing FROM signing_keys")).mappings().all()
    op.drop_table("signing_keys")
    table = op.create_table(
        "signing_keys",
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("secret", sa.LargeBinary, nullable=False),
        sa.Column("is_signing", sa.Boolean, nullable=False),
        sa.Column("signs_at", sa.BigInteger),
        sa.Column("unit_secret", sa.LargeBinary),
    )
    op.bulk_insert(
        table,
        [
            {"id": key["id"], "secret": bytes(key["secret"]), "is_signing": bool(key["is_signing"])}
            for key in keys
        ],
    )


def downgrade() -> None:
    """Refused: an older version can't read what a newer one wrote. Restore a backup instead."""
    raise RuntimeError("schemas are not downgraded: restore a backup from before the upgrade")

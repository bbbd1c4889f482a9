"""What happened to experiments, numbered for each without gaps."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None
compatible_from = "0005"


def upgrade() -> None:
    """Add the events, and to experiments the number of the last one.

    Older servers may go on: what they change is no event.
    """
    op.add_column(
        "experiments", sa.Column("event_sequence", sa.BigInteger, nullable=False, server_default=sa.text("0"))
    )
    op.create_table(
        "events",
        sa.Column("experiment", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("version", sa.BigInteger, nullable=False, index=True),
        sa.Column("at", sa.BigInteger, nullable=False, index=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("arm", sa.String(128)),
        sa.Column("actor", sa.String(127), nullable=False),
        sa.Column("request_id", sa.String(128)),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("epoch", sa.Integer),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("figures", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Refused: an older version can't read what a newer one wrote. Restore a backup instead."""
    raise RuntimeError("schemas are not downgraded: restore a backup from before the upgrade")

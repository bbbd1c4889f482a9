"""The tables of arms in shadow; the migrations build them, as those of `server.store.tables.schema`."""

from sqlalchemy import BigInteger, Column, Index, Integer, SmallInteger, Table, text

from bandit.facts.shadow_pairs import PairSums
from server.store.tables.schema import key_column, metadata, rewards

rewards_of_shadows = Index(
    "rewards_of_shadows",
    *(rewards.c[name] for name in ("experiment", "metric", "decision", "epoch", "arm")),
    *(rewards.c[name] for name in ("quanta", "is_late", "is_apart")),
    sqlite_where=rewards.c.basis == text("5"),
    postgresql_where=rewards.c.basis == text("5"),
)
"""Pairs are folded from the log when they are read: two servers that commit the two halves of a pair at the
same time would each miss the other's."""

sealed_pairs = Table(
    "sealed_pairs",
    metadata,
    key_column("experiment", BigInteger),
    key_column("epoch", Integer),
    key_column("segment", SmallInteger),
    key_column("arm", Integer),
    key_column("metric", SmallInteger),
    *(Column(name, BigInteger, nullable=False) for name in PairSums._fields),
    sqlite_with_rowid=False,
)
"""The sums, in quanta of the log, of the pairs that were purged from it."""

sealed_mirrors = Table(
    "sealed_mirrors",
    metadata,
    key_column("experiment", BigInteger),
    key_column("epoch", Integer),
    key_column("segment", SmallInteger),
    key_column("arm", Integer),
    Column("n", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""How many of an arm's shadow decisions had an outcome that was purged from the log."""

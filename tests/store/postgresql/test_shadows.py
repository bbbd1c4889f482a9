"""Pairs on PostgreSQL, where several servers purge at once, and each passes over rows that another locked."""

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from server.store.opening import open_store
from server.store.sql_store import SqlStore
from tests.store.mirrored import END, champion, decision_at, ranker, read, seal, shadow
from tests.support.postgresql import PostgresqlProcess


@pytest.fixture
def url(postgresql: PostgresqlProcess) -> str:
    """An empty database."""
    return postgresql.create_database()


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    """A store on it."""
    with closing(open_store(url)) as opened:
        yield opened


@pytest.mark.parametrize("basis", [1, 5], ids=["champion", "shadow"])
def test_half_a_pair_is_not_purged(url: str, store: SqlStore, basis: int) -> None:
    """While another server has the other half, neither is; the rest is, and the pair at the next pass."""
    record = ranker(store)
    for _ in range(2):
        decision = decision_at()
        store.record_rewards([champion(decision, {1: 1}), shadow(decision, 1, {1: 1})], 0)
    before = read(store, record)
    seal(store, record)
    with closing(psycopg.connect(url.replace("+psycopg", ""))) as other:
        of_one = "SELECT * FROM rewards WHERE basis = %s ORDER BY decision LIMIT 1 FOR UPDATE"
        assert other.execute(of_one, [basis]).fetchone() is not None
        assert store.purge(bytes(16), END, 100).n_rows == 2
        assert read(store, record) == before
        other.rollback()  # the server may notice a closed connection later
    assert store.purge(bytes(16), END, 100).n_rows == 2
    assert read(store, record) == before

"""Stores for the contract suite: every backend, real, empty, and left without a connection in use."""

from collections.abc import Iterator

import pytest
from sqlalchemy import QueuePool

from server.store.opening import open_store
from server.store.sql_store import SqlStore
from tests.store.builders import engines_of


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    """A store of each backend; the test must leave no connection in use."""
    opened = open_store(url)
    yield opened
    in_use = [n_connections_in_use(engine.pool) for engine in engines_of(opened)]
    opened.close()
    assert in_use == [0, 0]


def n_connections_in_use(pool: object) -> int:
    """Return how many connections of a pool are checked out."""
    assert isinstance(pool, QueuePool)
    return pool.checkedout()

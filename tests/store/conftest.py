"""Stores for the contract suite: every backend, real, empty, and left without a connection in use."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from sqlalchemy import QueuePool

from server.store.sql import SqlStore, open_store

BACKENDS: Mapping[str, Callable[[Path], str]] = {
    "sqlite": lambda folder: f"sqlite:///{folder / 'bandit.db'}",
}
"""Backend to what makes an empty database in a folder and says its URL."""


@pytest.fixture(params=sorted(BACKENDS))
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each backend."""
    return BACKENDS[request.param](tmp_path)


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    """A store of each backend; the test must leave no connection in use."""
    opened = open_store(url)
    yield opened
    in_use = [n_connections_in_use(engine.pool) for engine in (opened._writer, opened._reader)]
    opened.close()
    assert in_use == [0, 0]


def n_connections_in_use(pool: object) -> int:
    """How many connections of a pool are checked out."""
    assert isinstance(pool, QueuePool)
    return pool.checkedout()

"""Fixtures: a real store, threads that write to it, and a queue in front of it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from server.services.reward.commit_queue import RewardQueue
from server.services.runtime.async_store import AsyncStore
from server.store.opening import open_store
from server.store.sql_store import SqlStore
from tests.bandit.builders import START
from tests.services.support import ManualClock, QueueFactory
from tests.store.builders import INCARNATION


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[EventDict]]:
    """The lines logged; none of them is printed."""
    with capture_logs() as captured:
        yield captured


@pytest.fixture
def clock() -> ManualClock:
    """A clock that the test moves."""
    return ManualClock()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    """A store on a real file, whose slot is claimed."""
    with closing(open_store(f"sqlite:///{tmp_path / 'bandit.db'}")) as opened:
        opened.claim_slot(INCARNATION, START)
        yield opened


@pytest.fixture
def async_store(store: SqlStore) -> Iterator[AsyncStore]:
    """The store for the event loop, whose threads end before the store is closed."""
    opened = AsyncStore(store)
    yield opened
    opened.close()


@pytest.fixture
async def new_queue(async_store: AsyncStore, clock: ManualClock) -> AsyncIterator[QueueFactory]:
    """Makes queues in front of the store, which commit once they are started."""
    factory = QueueFactory(async_store, clock)
    yield factory
    for task in factory.tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def queue(new_queue: QueueFactory) -> RewardQueue:
    """A queue with room, not yet started."""
    return new_queue()

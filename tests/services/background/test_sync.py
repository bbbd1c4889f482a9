"""Store sync: loads are shared and never too old, and counts are flushed once."""

import asyncio
import sqlite3
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, event

from bandit.decision_id import NO_UNIT, Basis
from server.services.background.sync import StoreSync
from server.services.choose.decision_counter import DecisionCounter
from server.services.errors import StorageUnavailableError
from server.services.experiments.allocator import Allocator
from server.services.runtime.async_store import AsyncStore
from server.services.runtime.writer import Writer
from server.services.snapshot.snapshot import Snapshot
from server.store.errors import StoreUnavailableError
from server.store.sql_store import SqlStore
from tests.bandit.builders import START
from tests.services.support import ManualClock
from tests.store.builders import INCARNATION, create, engines_of, epoch_of, run, some_id


class Desk:
    """A sync over a real store, with what it depends on."""

    def __init__(self, async_store: AsyncStore, clock: ManualClock) -> None:
        self.snapshot = Snapshot(clock)
        self.writer = Writer(INCARNATION, 0)
        self.counter = DecisionCounter(self.writer)
        allocator = Allocator(async_store, self.snapshot, clock, lag=timedelta(seconds=5), threshold=0.2)
        self.sync = StoreSync(
            async_store,
            self.snapshot,
            self.counter,
            self.writer,
            allocator,
            clock,
            on_broken=self._break,
        )
        self.allocator = allocator
        self.is_broken = False

    def _break(self) -> None:
        self.is_broken = True

    def names(self) -> set[str]:
        """Return the experiments in the snapshot."""
        return {live.record.name for live in self.snapshot}


@pytest.fixture
def desk(async_store: AsyncStore, clock: ManualClock) -> Desk:
    """A sync that the test drives."""
    return Desk(async_store, clock)


class Loads:
    """Counts the transactions that read a store."""

    def __init__(self, store: SqlStore) -> None:
        self.n = 0
        self.has_begun = threading.Event()
        event.listen(engines_of(store)[1], "begin", self._note)

    def _note(self, _: Connection) -> None:
        self.n += 1
        self.has_begun.set()


@pytest.fixture
def loads(store: SqlStore) -> Loads:
    """The loads from now on."""
    return Loads(store)


async def test_a_refresh_takes_in_what_the_store_has(desk: Desk, store: SqlStore) -> None:
    """After a refresh everything stored before it is in the snapshot, and deleted experiments are gone."""
    gone = create(store, "gone")
    record = run(store)
    await desk.sync.refresh()
    assert desk.names() == {"gone", "ranker"}
    assert desk.snapshot.age_seconds == 0.0
    store.delete_experiment(gone, START)
    store.add_epoch(epoch_of(record, 2))
    await desk.sync.refresh()
    assert desk.names() == {"ranker"}
    found = desk.snapshot.find("ranker")
    assert found is not None
    assert found.epoch.number == 2


async def test_refreshes_at_the_same_time_share_a_load(desk: Desk, loads: Loads) -> None:
    """A hundred refreshes at once are one load."""
    await asyncio.gather(*(desk.sync.refresh() for _ in range(100)))
    assert loads.n == 1


async def test_refreshes_during_a_load_share_the_next(desk: Desk, store: SqlStore, loads: Loads) -> None:
    """Callers during a load share one more load, since the one under way may be too old for them."""
    first = asyncio.create_task(desk.sync.refresh())
    await asyncio.to_thread(loads.has_begun.wait)
    create(store)
    others = [asyncio.create_task(desk.sync.refresh()) for _ in range(50)]
    await asyncio.gather(first, *others)
    assert loads.n == 2
    assert desk.names() == {"ranker"}


async def test_refreshes_after_each_other_load_each(desk: Desk, loads: Loads) -> None:
    """A refresh that begins after another has ended asks the store again."""
    for _ in range(3):
        await desk.sync.refresh()
    assert loads.n == 3


async def test_a_cancelled_refresh_cancels_no_other(desk: Desk, store: SqlStore) -> None:
    """A caller that gives up does not cancel the load that others wait for."""
    run(store)
    impatient, patient = (asyncio.create_task(desk.sync.refresh()) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    await patient
    assert desk.names() == {"ranker"}


async def test_no_load_outlives_the_end(desk: Desk, loads: Loads) -> None:
    """Loads that chores began, and were cancelled while waiting for, end before the threads do."""
    chores = [asyncio.create_task(desk.sync.refresh())]
    await asyncio.to_thread(loads.has_begun.wait)
    chores.append(asyncio.create_task(desk.sync.refresh()))
    await asyncio.sleep(0)
    for chore in chores:
        chore.cancel()
    await asyncio.gather(*chores, return_exceptions=True)
    await desk.sync.end()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_refresh_that_fails_can_be_repeated(desk: Desk, store: SqlStore) -> None:
    """Without the store a refresh fails for everyone who shares it; with it again the next one works."""
    with closing(engines_of(store)[0].raw_connection()) as connection:
        connection.cursor().execute("ALTER TABLE experiments RENAME TO elsewhere")
    results = await asyncio.gather(*(desk.sync.refresh() for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [StorageUnavailableError] * 3
    assert desk.snapshot.age_seconds > 1e9
    with closing(engines_of(store)[0].raw_connection()) as connection:
        connection.cursor().execute("ALTER TABLE elsewhere RENAME TO experiments")
    create(store)
    await desk.sync.refresh()
    assert desk.names() == {"ranker"}


async def test_a_flush_that_fails_is_kept(desk: Desk, store: SqlStore, tmp_path: Path) -> None:
    """Counts that could not be stored are sent again, with those that came since, and count once."""
    record = run(store)
    await desk.sync.refresh()
    found = desk.snapshot.find("ranker")
    assert found is not None
    offer = found.offers(Basis.POLICY).offers[0]
    with closing(engines_of(store)[0].raw_connection()) as connection:
        connection.cursor().execute("PRAGMA busy_timeout=1")
    desk.counter.count(offer, some_id(), NO_UNIT)
    with closing(sqlite3.connect(tmp_path / "bandit.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError):
            await desk.sync.flush()
        other.execute("ROLLBACK")
    desk.counter.count(offer, some_id(), NO_UNIT)
    await desk.sync.flush()
    facts = store.read_facts(record.number)
    assert facts is not None
    assert facts.facts.decisions == {offer.key: 2}


async def test_two_flushes_at_once_count_once(desk: Desk, store: SqlStore) -> None:
    """Flushes that overlap, as at the end of a server, store every count once."""
    record = run(store)
    await desk.sync.refresh()
    found = desk.snapshot.find("ranker")
    assert found is not None
    offer = found.offers(Basis.POLICY).offers[0]
    for _ in range(5):
        desk.counter.count(offer, some_id(), NO_UNIT)
    await asyncio.gather(desk.sync.flush(), desk.sync.flush())
    desk.counter.count(offer, some_id(), NO_UNIT)
    await desk.sync.flush()
    facts = store.read_facts(record.number)
    assert facts is not None
    assert facts.facts.decisions == {offer.key: 6}


async def test_traffic_does_not_put_off_the_end_of_an_epoch(
    desk: Desk, store: SqlStore, clock: ManualClock
) -> None:
    """An epoch with decisions ends once it is old, though counts are stored just before it is looked at."""
    record = run(store)
    await desk.sync.refresh()
    await desk.allocator.run_once(60)
    found = desk.snapshot.find("ranker")
    assert found is not None
    offer = found.offers(Basis.POLICY).offers[0]
    for pause in (timedelta(days=1), timedelta()):
        desk.counter.count(offer, some_id(), NO_UNIT)
        await desk.sync.flush()
        clock.advance(pause.total_seconds())
    await desk.allocator.run_once(60)
    facts = store.read_facts(record.number)
    assert facts is not None
    assert [epoch.number for epoch in facts.epochs] == [1, 2]

"""Which runs are dead for good: only those whose silence was observed."""

from typing import Any

import pytest
from structlog.typing import EventDict

from bandit.decision_id import FLUSH_BITS, NO_UNIT, Basis, IdBits, new_id, run_of
from server.services.background.ended_runs import LOOK_SECONDS, LastHeard, RunReaper
from server.services.choose.decision_counter import DecisionCounter
from server.services.runtime.async_store import AsyncStore
from server.services.runtime.writer import Writer, claim_slot
from server.store.records import WriterState
from server.store.sql_store import SqlStore
from tests.bandit.builders import START
from tests.services.background.test_sync import Desk
from tests.services.choose.test_decision_counter import compiled, decisions_of
from tests.services.support import ManualClock, flush_of
from tests.store.builders import INCARNATION, facts_of, post, reward, run, some_id

OTHER = WriterState(b"other run-------", 1, 5, 1_000, "0.3.0")


def test_silence_adds_up_while_it_is_listened_to() -> None:
    """A run that reports nothing is silent for the time between the looks, added up look by look."""
    silence = LastHeard()
    seconds = [silence.note([OTHER], 100.0 + LOOK_SECONDS * look)[0][1] for look in range(4)]
    assert seconds == [0.0, LOOK_SECONDS, 2 * LOOK_SECONDS, 3 * LOOK_SECONDS]


@pytest.mark.parametrize("sign", [{"seen_at": 2_000}, {"seen_at": 500}, {"sequence": 6}])
def test_any_sign_of_life_ends_the_silence(sign: dict[str, Any]) -> None:
    """A beat or a flush starts the silence again, whatever time it carries from the database's clock."""
    silence = LastHeard()
    for look in range(100):
        silence.note([OTHER], LOOK_SECONDS * look)
    assert silence.note([OTHER._replace(**sign)], LOOK_SECONDS * 100)[0][1] == 0.0


def test_an_outage_does_not_count_as_silence_of_others() -> None:
    """An hour in which no server reached the store adds at most two looks, whichever server is back first."""
    silence = LastHeard()
    silence.note([OTHER], 0.0)
    assert silence.note([OTHER], 3600.0)[0][1] == 2 * LOOK_SECONDS
    assert silence.note([OTHER], 3600.0 + LOOK_SECONDS)[0][1] == 3 * LOOK_SECONDS


@pytest.fixture
def desk(store: SqlStore, async_store: AsyncStore, clock: ManualClock) -> Desk:
    """The sync of a run next to another run."""
    store.claim_slot(OTHER.incarnation, START)
    return Desk(async_store, clock)


def reaper_of(desk: Desk, async_store: AsyncStore, clock: ManualClock, *, may_end: bool = True) -> RunReaper:
    """Return what ends runs on behalf of the desk's."""
    return RunReaper(async_store, desk.writer, desk.allocator, clock, may_end=lambda: may_end)


def ended(store: SqlStore) -> set[bytes]:
    """Return the incarnations of the runs that have ended."""
    return {each.incarnation for each in store.read_writers() if each.ended_at is not None}


@pytest.mark.parametrize("may_end", [True, False])
async def test_a_file_has_one_run_that_lives(
    desk: Desk, store: SqlStore, async_store: AsyncStore, clock: ManualClock, *, may_end: bool
) -> None:
    """Where one process serves, every other run is ended at the start, unless final steps have to wait."""
    await reaper_of(desk, async_store, clock, may_end=may_end).run_once()
    assert ended(store) == ({OTHER.incarnation} if may_end else set())


async def test_a_run_of_an_older_release_is_not_ended(
    desk: Desk, store: SqlStore, async_store: AsyncStore, clock: ManualClock
) -> None:
    """A run of an older release is not ended: its ids do not tell which decisions it counted."""
    with store._dialect.writing() as connection:
        connection.exec_driver_sql("UPDATE writers SET code = NULL")
    await reaper_of(desk, async_store, clock).run_once()
    assert ended(store) == set()


async def test_outcomes_are_moved_and_looked_at(
    desk: Desk, store: SqlStore, async_store: AsyncStore, clock: ManualClock, logs: list[EventDict]
) -> None:
    """A run that is ended leaves no outcome of a decision that it did not count among those compared."""
    number = run(store).number
    bits = IdBits(run_of(OTHER.incarnation), 1, 7, 0)
    post(store, reward(new_id(int(START.timestamp() * 1000), bits.pack()), experiment=number))
    reaper = reaper_of(desk, async_store, clock)
    await reaper.run_once()
    await reaper.run_once()
    assert {key.basis for key in facts_of(store)} == {Basis.UNCOUNTED}
    assert reaper.n_moved == 1
    assert [each["event"] for each in logs] == ["run.ended", "outcomes.uncounted"]


async def test_a_server_that_was_taken_for_dead_goes_on_as_another_run(
    desk: Desk, store: SqlStore, logs: list[EventDict]
) -> None:
    """Its unflushed counts are dropped and logged, its ids are of the new run, and it counts again."""
    number = run(store).number
    offer = compiled(number).offers(Basis.POLICY).offers[0]
    for n_decisions in (1, 3):
        for _ in range(n_decisions):
            desk.counter.count(offer, some_id(), NO_UNIT)
        if n_decisions == 1:
            await desk.sync.flush()
    (mine,) = [each for each in store.read_writers() if each.incarnation == INCARNATION]
    assert store.end_runs([mine], START) == [INCARNATION]
    await desk.sync.flush()
    assert desk.writer.incarnation != INCARNATION
    assert desk.counter.stamp >> FLUSH_BITS == run_of(desk.writer.incarnation)
    changed = [each for each in logs if each["event"] == "run.changed"]
    assert [each["dropped_decisions"] for each in changed] == [3]
    desk.counter.count(offer, some_id(), NO_UNIT)
    await desk.sync.flush()
    assert sum(decisions_of(store, number).values()) == 2


async def test_a_run_whose_bits_are_taken_draws_others(async_store: AsyncStore, clock: ManualClock) -> None:
    """A server that starts with the bits of another run takes other ones, and keeps what it has counted."""
    writer = Writer(INCARNATION[:3] + bytes(13), 0)
    counter = DecisionCounter(writer)
    counter.count(compiled(1).offers(Basis.UNCONFIRMED).offers[0], some_id(), NO_UNIT)
    await claim_slot(async_store, writer, clock, begin_run=counter.begin_run)
    assert run_of(writer.incarnation) != run_of(INCARNATION)
    assert counter.count_waiting(1) == 1
    flush = flush_of(counter)
    assert flush is not None
    assert (flush.incarnation, flush.sequence) == (writer.incarnation, 1)


async def test_a_clean_end_is_recorded_after_the_last_flush(desk: Desk, store: SqlStore) -> None:
    """A server that stops in order has counted all, and no one looks for what it lost."""
    number = run(store).number
    desk.counter.count(compiled(number).offers(Basis.POLICY).offers[0], some_id(), NO_UNIT)
    await desk.sync.end_run()
    assert sum(decisions_of(store, number).values()) == 1
    assert ended(store) == {INCARNATION}

"""The contract of a store: units steer with their first three decisions, each once its window has closed."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import delete, select, update

from bandit.decision_id import Basis, new_id
from bandit.experiment import AnalysisUnit
from bandit.facts import DecisionKey
from bandit.facts.units import SteeringFacts
from bandit.metric import Metric, MetricKind
from server.store.columns.times import from_micros
from server.store.contract import Store
from server.store.records import Flush, OutcomeEntry, RewardEntry, SealedEpochs, State
from server.store.sql_store import SqlStore
from server.store.tables.schema import rewards, units
from server.store.tables.units import portions
from tests.bandit.builders import START, declare
from tests.store.builders import INCARNATION, epoch_of

OTHER = b"another run-----"
WINDOW, LAG = timedelta(minutes=1), timedelta(seconds=10)
CLICK = Metric(name="click", window=WINDOW, default_value=0.0)
SPEND = Metric(name="spend", kind=MetricKind.REAL, maximum=100.0, window=2 * WINDOW)
VIEWS = Metric(name="views", kind=MetricKind.COUNT, maximum=3.0)
NUMBER = {"click": 0, "spend": 1, "views": 2}
T0 = 1_772_366_400_000
CLOSED_MS = 10**9
"""A moment after T0 when every window has closed."""


@pytest.fixture
def running(store: SqlStore) -> SqlStore:
    """A store whose experiment 1 counts units and runs in its first epoch; both slots are claimed."""
    declared = replace(declare(metrics=[CLICK, SPEND, VIEWS]), analysis_unit=AnalysisUnit.UNIT)
    draft = store.create_experiment(declared, START)
    started = replace(draft, state=State.RUNNING, started_at=START, updated_at=START)
    for incarnation in (INCARNATION, OTHER):
        store.claim_slot(incarnation, START)
    store.change_experiment(draft, started, epoch_of(draft, 1))
    return store


def id_of(unit: int, at_ms: int) -> bytes:
    """Return the id of a unit's decision `at_ms` after T0."""
    return new_id(T0 + at_ms, unit)


def flush_of(
    sequence: int, unit: int, at: Sequence[int], cell: tuple[int, int] = (1, 0), n: int | None = None
) -> Flush:
    """Return a flush of one unit's decisions, of an epoch and arm."""
    key = DecisionKey(1, cell[0], 0, cell[1], Basis.POLICY)
    sightings = {unit.to_bytes(6): (tuple(id_of(unit, at_ms) for at_ms in at), n or len(at))}
    return Flush(slot=0, incarnation=INCARNATION, sequence=sequence, counts={}, units=[(key, sightings)])


def outcome(
    unit: int, decided: int, value: float = 1, metric: Metric = CLICK, **changes: bool
) -> RewardEntry:
    """Return an outcome of a unit's decision, a second after it."""
    entry = OutcomeEntry(
        NUMBER[metric.name],
        metric.quantise(value),
        is_late=changes.get("is_late", False),
        value=float(value),
        is_real=metric.is_real,
    )
    return RewardEntry(
        decision=id_of(unit, decided),
        experiment=1,
        epoch=1,
        segment=0,
        arm=0,
        basis=Basis.POLICY,
        outcomes=(entry,),
        revision=0,
        received_ms=T0 + decided + 1_000,
        unit=unit,
    )


def steering(store: Store, at_ms: int = CLOSED_MS) -> Mapping[int, SteeringFacts]:
    """Return what units steer with, at a moment after T0."""
    found = store.read_steering(1, LAG, from_micros((T0 + at_ms) * 1_000))
    assert found is not None
    return found


def counted(
    store: Store, metric: Metric = CLICK, at_ms: int = CLOSED_MS
) -> dict[tuple[int, int], tuple[int, int, int]]:
    """Return epoch and arm mapped to decisions, outcomes, and the sum of these."""
    facts = steering(store, at_ms)[NUMBER[metric.name]].facts
    tallies = {(key.epoch, key.arm): (tally.n, tally.total) for key, tally in facts.outcomes.items()}
    return {
        (key.epoch, key.arm): (count, *tallies.get((key.epoch, key.arm), (0, 0)))
        for key, count in facts.decisions.items()
        if count
    }


def test_only_the_first_three_decisions_steer(running: SqlStore) -> None:
    """A unit with five decisions counts with three, under its first epoch and arm, whatever the order."""
    running.add_decisions(flush_of(1, 7, [30, 40, 50], (2, 1)))
    running.add_decisions(flush_of(2, 7, [10, 20], (1, 0)))
    running.record_rewards([outcome(7, at) for at in (10, 30, 40, 50)], 0)
    assert counted(running) == {(1, 0): (3, 2, 2)}


def test_a_decision_counts_once_its_own_window_has_closed(running: SqlStore) -> None:
    """The second is open while the first is closed; then neither its silence nor its outcome counts."""
    running.add_decisions(flush_of(1, 7, [0, 30_000]))
    running.record_rewards([outcome(7, 0), outcome(7, 30_000)], 0)
    closing = (WINDOW + LAG) // timedelta(milliseconds=1)
    assert counted(running, at_ms=closing - 1) == {}
    assert counted(running, at_ms=closing) == {(1, 0): (1, 1, 1)}
    assert steering(running, closing)[0].n_open == {0: 1}
    assert counted(running, at_ms=closing + 29_999) == {(1, 0): (1, 1, 1)}
    assert counted(running, at_ms=closing + 30_000) == {(1, 0): (2, 2, 2)}
    assert steering(running, closing + 30_000)[0].n_open == {}
    assert counted(running, SPEND, closing + 30_000) == {}


def test_without_a_window_decisions_count_at_once(running: SqlStore) -> None:
    """Nothing is waited for, neither a window nor the lag."""
    running.add_decisions(flush_of(1, 7, [0]))
    running.record_rewards([outcome(7, 0, 3.0, VIEWS)], 0)
    assert counted(running, VIEWS, 0) == {(1, 0): (1, 1, 3)}


def test_what_is_late_or_apart_or_never_counted_does_not_steer(running: SqlStore) -> None:
    """A late outcome is silence; an outcome whose decision was never flushed has no decision beside it."""
    running.add_decisions(flush_of(1, 7, [0, 10]))
    lost = outcome(7, 5)
    apart = outcome(7, 10)._replace(is_apart=True, unit=None)
    running.record_rewards([outcome(7, 0, is_late=True), lost, apart], 0)
    assert counted(running) == {(1, 0): (2, 0, 0)}


def test_real_values_are_summed_exactly(running: SqlStore) -> None:
    """Sums and squares of steps need more than 64 bits, and every bit of them is there."""
    running.add_decisions(flush_of(1, 7, [0, 1, 2]))
    values = (100.0, 99.99999, 100 / 3)
    running.record_rewards([outcome(7, at, value, SPEND) for at, value in enumerate(values)], 0)
    (tally,) = steering(running)[1].facts.outcomes.values()
    steps = [SPEND.quantise(value) for value in values]
    assert tally[:3] == (3, sum(steps), sum(step * step for step in steps))


def test_the_three_smallest_ids_merge_in_any_order(running: SqlStore) -> None:
    """However decisions are spread over flushes and runs, the row has the smallest three ids, sorted."""
    generator = random.Random(3)
    for sequence in range(1, 13):
        moments = generator.sample(range(50), generator.randint(1, 9))
        parts = [moments[at : at + 3] for at in range(0, len(moments), 3)]
        keyed = [(DecisionKey(1, 1, 0, n % 2, Basis.POLICY), part) for n, part in enumerate(parts)]
        sightings = [(k, {bytes(5) + b"\7": (tuple(id_of(7, at) for at in part), 3)}) for k, part in keyed]
        half = generator.randint(0, len(sightings))
        for incarnation, own in ((INCARNATION, sightings[:half]), (OTHER, sightings[half:])):
            flush = replace(flush_of(sequence, 7, [0]), incarnation=incarnation, units=own)
            running.add_decisions(flush)
        with running._dialect.writing() as connection:
            (row,) = connection.execute(select(units)).all()
            connection.execute(delete(units))
        ids = [*(id_of(7, at) for at in sorted(moments)), None, None, None]
        assert [row.first_id, row.second_id, row.third_id] == ids[:3]
        assert (row.first_ms, row.decisions) == (T0 + min(moments), 3 * len(parts))


def test_portions_add_up_to_all(running: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many units are folded at once, the sums are the same."""
    for unit in range(1, 20):
        running.add_decisions(flush_of(unit, unit, range(unit % 5 + 1), (1 + unit % 2, unit % 3)))
    running.record_rewards([outcome(unit, at) for unit in range(1, 20) for at in range(unit % 4)], 0)
    whole = steering(running)
    monkeypatch.setattr(portions, "_N_UNITS", 3)
    assert steering(running) == whole
    assert sum(whole[0].facts.decisions.values()) == sum(min(unit % 5 + 1, 3) for unit in range(1, 20))


def forget_ids(store: SqlStore) -> None:
    """Make rows of units look as a server before 0.3.0 leaves them."""
    with store._dialect.writing() as connection:
        connection.execute(update(units).values(first_id=None, second_id=None, third_id=None))


def test_a_unit_without_ids_counts_with_its_first_decision(running: SqlStore) -> None:
    """That is all that an older server noted: its outcomes are found by time, epoch and arm."""
    running.add_decisions(flush_of(1, 7, [0, 5, 9]))
    forget_ids(running)
    running.record_rewards([outcome(7, 5), outcome(7, 0)], 0)
    closing = (WINDOW + LAG) // timedelta(milliseconds=1)
    assert counted(running, at_ms=closing - 1) == {}
    assert steering(running, closing - 1)[0].n_open == {0: 1}
    assert counted(running, at_ms=closing) == {(1, 0): (1, 1, 1)}
    running.add_decisions(flush_of(2, 7, [20], (2, 1)))
    running.record_rewards([outcome(7, 20)], 0)
    assert counted(running) == {(1, 0): (1, 1, 1)}
    with running._dialect.reading() as connection:
        (row,) = connection.execute(select(units)).all()
    assert (row.first_id, row.second_id, row.decisions) == (id_of(7, 20), None, 4)


def test_an_older_server_leaves_the_ids_as_they_are(running: SqlStore) -> None:
    """It adds decisions and may move the first; the ids that are known stay those of the unit."""
    running.add_decisions(flush_of(1, 7, [10, 20], (2, 1)))
    running.record_rewards([outcome(7, 10), outcome(7, 0)], 0)
    with running._dialect.writing() as connection:
        values = {"first_ms": T0, "epoch": 1, "arm": 0, "decisions": units.c.decisions + 1}
        connection.execute(update(units).values(values))
    assert counted(running) == {(1, 0): (2, 1, 1)}


def purge_epoch(store: SqlStore, epoch: int) -> None:
    """Seal an epoch, and purge its rows in steps."""
    store.seal([SealedEpochs(1, 1, epoch, START, bytes(16))], START)
    assert store.settle_seals() or store.settle_seals()
    start: bytes | None = bytes(16)
    while start is not None:
        start = store.purge(start, b"\xff" * 16, 3).next_id


def test_what_leaves_the_log_goes_on_steering(running: SqlStore) -> None:
    """The sums of purged rows are kept under the first epoch and arm, and not those that never steer."""
    running.add_decisions(flush_of(1, 7, [0, 1, 2], (1, 0), n=4))
    running.add_decisions(flush_of(2, 8, [0], (1, 1)))
    of_seven = [outcome(7, at, 100 / (at + 1), SPEND) for at in (0, 1, 3)]
    of_eight = [outcome(8, 0, 30.0, SPEND), outcome(8, 0, is_late=True)]
    later = outcome(7, 2, 40.0, SPEND)._replace(epoch=2)
    running.record_rewards([*of_seven, *of_eight, later], 0)
    before = steering(running)
    purge_epoch(running, 1)
    with running._dialect.reading() as connection:
        assert connection.scalars(select(rewards.c.epoch).distinct()).all() == [2]
    assert steering(running) == before
    assert sum(tally.n for tally in before[1].facts.outcomes.values()) == 4


def test_sealed_units_without_ids_leave_with_their_outcomes(running: SqlStore) -> None:
    """Decisions and outcomes are left out together, so no mean is biased; the others go on counting."""
    running.add_decisions(flush_of(1, 7, [0]))
    forget_ids(running)
    running.add_decisions(flush_of(2, 8, [0]))
    running.record_rewards([outcome(7, 0), outcome(8, 0)], 0)
    assert counted(running) == {(1, 0): (2, 2, 2)}
    purge_epoch(running, 1)
    assert counted(running) == {(1, 0): (1, 1, 1)}


def test_decisions_are_no_units(store: SqlStore) -> None:
    """Where decisions are counted, and where there is no experiment, nothing is read."""
    draft = store.create_experiment(declare(), START)
    assert store.read_steering(draft.number, LAG, START) is None
    assert store.read_steering(99, LAG, START) is None

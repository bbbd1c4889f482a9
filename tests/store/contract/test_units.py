"""The contract of a store: a unit is counted once, whichever flush comes first, with the log's outcomes."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import delete, select

from bandit.decision_id import Basis, new_id
from bandit.experiment import AnalysisUnit
from bandit.facts import DecisionKey, OutcomeKey, Tally
from bandit.facts.units import UnitFacts, largest_quanta
from bandit.metric import Metric, MetricKind
from server.services.verification import rebuild, verify
from server.store.columns.exact_sums import StoredTally, quanta_of
from server.store.contract import Store
from server.store.records import (
    ExperimentRecord,
    Flush,
    OutcomeEntry,
    RewardEntry,
    SealedEpochs,
    Sightings,
    State,
)
from server.store.sql_store import SqlStore
from server.store.tables import units as units_in_sql
from server.store.tables.schema import rewards, unit_sums, units
from server.store.tables.units import LeavingOutcome, portions
from tests.bandit.builders import START, declare
from tests.store.builders import INCARNATION, REVISED, epoch_of, silently

OTHER = b"another run-----"
WINDOW = timedelta(minutes=1)
CLICK = Metric(name="click", window=WINDOW, default_value=0.0)
SPEND = Metric(name="spend", kind=MetricKind.REAL, maximum=100.0, window=2 * WINDOW)
VIEWS = Metric(name="views", kind=MetricKind.COUNT, maximum=3.0)
T0 = 1_772_366_400_000


def run_by_unit(store: Store) -> ExperimentRecord:
    """An experiment that counts units, running in its first epoch; its slots are claimed."""
    declared = replace(declare(metrics=[CLICK, SPEND, VIEWS]), analysis_unit=AnalysisUnit.UNIT)
    draft = store.create_experiment(declared, START)
    running = replace(draft, state=State.RUNNING, started_at=START, updated_at=START)
    for incarnation in (INCARNATION, OTHER):
        store.claim_slot(incarnation, START)
    return store.change_experiment(draft, running, epoch_of(draft, 1))


def policy(epoch: int, arm: int) -> DecisionKey:
    """Return policy decisions of experiment 1."""
    return DecisionKey(1, epoch, 0, arm, Basis.POLICY)


def seen(unit: int, at_ms: int, n_decisions: int = 1) -> Sightings:
    """Return a unit whose first decision was made `at_ms` after T0."""
    return {unit.to_bytes(6): ((new_id(T0 + at_ms, unit),), n_decisions)}


def flush_of(
    sequence: int, sightings: Sequence[tuple[DecisionKey, Sightings]], incarnation: bytes = INCARNATION
) -> Flush:
    """Return a flush of units alone."""
    return Flush(slot=0, incarnation=incarnation, sequence=sequence, counts={}, units=sightings)


def outcome(
    unit: int | None, decided: int, received: int, quanta: int = 1, metric: int = 0, revision: int = 0
) -> RewardEntry:
    """Return an outcome of a unit's decision, its moments in milliseconds after T0."""
    return RewardEntry(
        decision=new_id(T0 + decided, unit or 0),
        experiment=1,
        epoch=1,
        segment=0,
        arm=0,
        basis=Basis.POLICY,
        outcomes=(
            OutcomeEntry(1, quanta, is_late=False, value=SPEND.to_value(quanta), is_real=True)
            if metric
            else OutcomeEntry(0, quanta, is_late=False),
        ),
        revision=revision,
        received_ms=T0 + received,
        unit=unit,
    )


def units_of(store: Store) -> UnitFacts:
    """Return the units of the one experiment."""
    (record,) = store.list_experiments("", 2)
    report = store.read_report(record.name)
    assert report is not None
    return report.units


def tallies(store: Store, metric: int = 0) -> dict[tuple[int, int], tuple[int, int, int]]:
    """Return epoch and arm mapped to number, sum and squares of the outcomes of units."""
    facts = units_of(store).facts.outcomes
    return {(key.epoch, key.arm): tally[:3] for key, tally in facts.items() if key.metric == metric}


def test_a_returning_unit_counts_once(store: Store) -> None:
    """A unit counts in the epoch and for the arm of its first decision, with all its outcomes."""
    run_by_unit(store)
    store.add_decisions(flush_of(1, [(policy(1, 0), seen(7, 0, 3)), (policy(1, 1), seen(8, 5))]))
    store.add_decisions(flush_of(2, [(policy(2, 1), seen(7, 1_000, 2))]))
    store.record_rewards([outcome(7, 0, 10), outcome(7, 1_000, 2_000), outcome(7, 9, 3_000, 0)], 0)
    found = units_of(store)
    assert found.facts.decisions == {policy(1, 0): 1, policy(1, 1): 1}
    assert found.n_decisions == 6
    assert tallies(store) == {(1, 0): (1, 1, 1)}


def test_a_unit_is_worth_at_most_the_maximum(store: Store) -> None:
    """Outcomes of a unit are summed, and the sum is capped: 80 and 70 of at most 100 are 100."""
    run_by_unit(store)
    store.add_decisions(flush_of(1, [(policy(1, 0), seen(7, 0)), (policy(1, 0), seen(8, 0))]))
    a, b, c = (SPEND.quantise(value) for value in (80.0, 70.0, 30.0))
    store.record_rewards([outcome(7, 0, 10, a, 1), outcome(7, 1, 11, b, 1), outcome(8, 0, 9, c, 1)], 0)
    most = largest_quanta(SPEND)
    assert tallies(store, 1) == {(1, 0): (2, most + c, most**2 + c**2)}


def test_the_window_counts_from_the_first_decision(store: Store) -> None:
    """An outcome past that window is not the unit's, even if it was in time for a later decision."""
    run_by_unit(store)
    window = WINDOW // timedelta(milliseconds=1)
    store.add_decisions(flush_of(1, [(policy(1, 0), seen(7, 0)), (policy(1, 1), seen(8, 0))]))
    store.record_rewards([outcome(7, 50_000, window), outcome(8, 50_000, window + 1)], 0)
    assert tallies(store) == {(1, 0): (1, 1, 1)}


def test_without_a_window_a_unit_has_no_outcome(store: Store) -> None:
    """A metric whose windows never close gives no evidence, and no outcomes of units."""
    run_by_unit(store)
    store.add_decisions(flush_of(1, [(policy(1, 0), seen(7, 0))]))
    store.record_rewards([outcome(7, 0, 1, metric=2)], 0)
    assert tallies(store, 2) == {}


def test_a_unit_whose_decision_was_never_flushed_does_not_count(store: Store) -> None:
    """Units lost in a crash are lost with their outcomes: only their successes would be known."""
    run_by_unit(store)
    store.record_rewards([outcome(7, 0, 10)], 0)
    assert units_of(store).facts.decisions == {}
    assert tallies(store) == {}
    store.add_decisions(flush_of(1, [(policy(1, 1), seen(7, 20_000))]))
    assert tallies(store) == {(1, 1): (1, 1, 1)}


def test_a_repeated_flush_notes_its_units_once(store: Store) -> None:
    """A flush whose COMMIT was in doubt counts once, including its units and groups."""
    run_by_unit(store)
    flush = replace(flush_of(1, [(policy(1, 0), seen(7, 0, 3))]), groups={1: {255: 4, 0: 1}})
    for _ in range(3):
        store.add_decisions(flush)
    found = units_of(store)
    assert (found.n_decisions, found.groups) == (3, {255: 4, 0: 1})
    store.add_decisions(replace(flush, slot=1, incarnation=OTHER))
    assert (units_of(store).n_decisions, units_of(store).groups) == (6, {255: 8, 0: 2})


def test_a_revision_moves_a_unit_by_the_difference(store: Store) -> None:
    """A refund is the unit's as well, even after the window; a superseded value changes nothing."""
    run_by_unit(store)
    store.add_decisions(flush_of(1, [(policy(1, 0), seen(7, 0))]))
    first = outcome(7, 0, 10, SPEND.quantise(80.0), 1)
    refund = outcome(7, 0, 10**9, SPEND.quantise(5.0), 1, revision=2)
    store.record_rewards([first], 0)
    assert store.record_rewards([refund], 0) == [REVISED]
    store.record_rewards([outcome(7, 0, 20, SPEND.quantise(9.0), 1, revision=1)], 0)
    five = SPEND.quantise(5.0)
    assert tallies(store, 1) == {(1, 0): (1, five, five * five)}


def test_flushes_of_two_replicas_commute(store: SqlStore) -> None:
    """Whatever the order in which flushes and rewards arrive, the rows are the same, byte for byte."""
    run_by_unit(store)
    generator = random.Random(5)
    flushes = [
        (policy(generator.randint(1, 3), generator.randint(0, 1)), seen(unit, generator.randrange(50)))
        for unit in range(1, 6)
        for _ in range(6)
    ]
    found = []
    for sequence in range(1, 4):
        generator.shuffle(flushes)
        half = generator.randrange(len(flushes))
        parts = [(INCARNATION, flushes[:half]), (OTHER, flushes[half:])]
        for incarnation, part in parts if sequence % 2 else reversed(parts):
            store.add_decisions(flush_of(sequence, part, incarnation))
        with store._dialect.writing() as connection:
            found.append(connection.execute(select(units).order_by(units.c.unit)).all())
            connection.execute(delete(units))
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 5


def test_a_replay_of_the_events_gives_the_same(store: Store) -> None:
    """Random decisions, outcomes and revisions in portions fold to the same as a list of the events."""
    run_by_unit(store)
    generator = random.Random(11)
    decisions: list[tuple[int, int, int, int]] = []
    sent: dict[tuple[int, int, int], tuple[int, int]] = {}
    for number in range(300):
        unit, at = generator.randint(1, 40), generator.randrange(200_000)
        decisions.append((unit, at, generator.randint(1, 3), generator.randint(0, 1)))
        for revision in range(generator.randint(0, 2)):
            delay, quanta = generator.randrange(60_000), generator.randrange(2**40)
            entry = outcome(unit, at, at + delay, quanta, 1, revision)
            key = (number, unit, at)
            sent[key] = (sent[key][0] if key in sent else at + delay, quanta)
            store.record_rewards([entry._replace(decision=new_id(T0 + at, number))], 0)
    shuffled = generator.sample(decisions, len(decisions))
    for sequence in range(1, 11):
        part = shuffled[30 * (sequence - 1) : 30 * sequence]
        sightings = [(policy(epoch, arm), seen(unit, at)) for unit, at, epoch, arm in part]
        store.add_decisions(flush_of(sequence, sightings, generator.choice([INCARNATION, OTHER])))
    firsts = {unit: min((at, e, a) for u, at, e, a in decisions if u == unit) for unit, *_ in decisions}
    sums: defaultdict[int, list[int]] = defaultdict(list)
    for (_, unit, _), (received, quanta) in sent.items():
        if received <= firsts[unit][0] + 120_000:
            sums[unit].append(quanta)
    expected: defaultdict[tuple[int, int], Tally] = defaultdict(Tally)
    for unit, quanta_of_unit in sums.items():
        capped = min(sum(quanta_of_unit), 2**40)
        cell = firsts[unit][1:]
        expected[cell] = expected[cell].plus(Tally.of(capped, is_late=False))
    assert tallies(store, 1) == {cell: tally[:3] for cell, tally in expected.items()}
    n_units = sum(units_of(store).facts.decisions.values())
    assert (n_units, units_of(store).n_decisions) == (len(firsts), len(decisions))


def test_portions_of_units_add_up_to_all(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many units are folded at once, each is in one portion, with all its outcomes."""
    run_by_unit(store)
    sightings = [(policy(1 + unit % 3, unit % 2), seen(unit, unit, unit % 4 + 1)) for unit in range(1, 31)]
    store.add_decisions(flush_of(1, sightings))
    store.record_rewards(
        [outcome(unit, unit, unit + 9 * turn) for unit in range(1, 31, 2) for turn in (1, 2)], 0
    )
    whole = units_of(store)
    for n_units in (1, 7, 30, 31):
        monkeypatch.setattr(portions, "_N_UNITS", n_units)
        assert units_of(store) == whole
    assert sum(whole.facts.decisions.values()) == 30
    assert sum(tally.n for tally in whole.facts.outcomes.values()) == 15


def test_the_first_epoch_is_also_counted_in_parts(store: Store) -> None:
    """Five parts, by the top four bits of the mark, hold the first epoch and no other."""
    run_by_unit(store)
    nibbles = [0, 1, 2, 3, 4, 7, 8, 15]
    units_of_epochs = [(nibble << 44 | epoch, epoch) for nibble in nibbles for epoch in (1, 2)]
    sightings = [(policy(epoch, 0), seen(unit, epoch)) for unit, epoch in units_of_epochs]
    assert units_of(store).facts.parts == ()
    store.add_decisions(flush_of(1, sightings))
    store.record_rewards([outcome(unit, epoch, 10) for unit, epoch in units_of_epochs], 0)
    whole = units_of(store).facts
    assert whole.decisions == {policy(1, 0): 8, policy(2, 0): 8}
    assert [part.decisions for part in whole.parts] == [{policy(1, 0): n} for n in (1, 1, 2, 2, 2)]
    key = OutcomeKey(1, 1, 0, 0, Basis.POLICY, 0)
    assert [part.outcomes for part in whole.parts] == [{key: Tally(n, n, n)} for n in (1, 1, 2, 2, 2)]


def test_heavy_units_are_named_the_largest_first(store: Store) -> None:
    """Those with more than 5 % of the decisions and 20 times those of an average unit, with mark and arm."""
    run_by_unit(store)
    light = [(policy(1, 0), seen(unit, unit)) for unit in range(1, 1_000)]
    heavy = [(policy(1, 1), seen(5 << 40, 1, 3_000)), (policy(1, 0), seen(7 << 40, 2, 250))]
    store.add_decisions(flush_of(1, [*light, *heavy]))
    found = units_of(store)
    assert (found.n_units, found.n_decisions) == (1_001, 4_249)
    assert [(each.mark, each.group, each.n_decisions, each.arm) for each in found.heavy] == [
        (b"\5" + bytes(5), 5, 3_000, 1),
        (b"\7" + bytes(5), 7, 250, 0),
    ]
    assert found.heavy[0].share == 3_000 / 4_249


def test_a_few_units_are_not_all_heavy(store: Store) -> None:
    """Ten units have a tenth of the decisions each, and one of thirty needs twenty thirtieths."""
    run_by_unit(store)
    store.add_decisions(flush_of(1, [(policy(1, 0), seen(unit, unit, 9)) for unit in range(1, 11)]))
    assert units_of(store).heavy == ()
    more = [(policy(1, 0), seen(unit, unit)) for unit in range(11, 31)]
    store.add_decisions(flush_of(2, [*more, (policy(1, 0), seen(30, 40, 300))]))
    (heavy,) = units_of(store).heavy
    assert (heavy.n_decisions, heavy.mark) == (301, (30).to_bytes(6))


def test_where_decisions_count_heavy_groups_are_named(store: Store) -> None:
    """Their share is of all policy decisions, those without a unit included."""
    record = run_by_unit(store)
    counts = {DecisionKey(1, 1, 0, 0, Basis.POLICY): 1_000, DecisionKey(1, 1, 0, 0, Basis.FALLBACK): 9_000}
    flush = replace(flush_of(1, []), counts=counts, groups={record.number: {9: 300, 8: 50}})
    store.add_decisions(flush)
    (heavy,) = units_of(store).heavy
    assert (heavy.mark, heavy.group, heavy.n_decisions, heavy.share) == (None, 9, 300, 0.3)


@pytest.mark.parametrize("name", ["decisions", "apart"])
def test_an_outcome_without_a_unit_is_in_no_row(store: Store, name: str) -> None:
    """Outcomes without a unit, and kept-apart ones, belong to no unit."""
    run_by_unit(store)
    store.add_decisions(flush_of(1, [(policy(1, 0), seen(7, 0))]))
    entry = outcome(None, 0, 10) if name == "decisions" else outcome(None, 0, 10)._replace(is_apart=True)
    store.record_rewards([entry], 0)
    assert tallies(store) == {}


def test_verify_and_rebuild_hold_with_units(store: Store) -> None:
    """Units are read from the log: a clean ledger covers them as well, and a rebuild keeps them."""
    run_by_unit(store)
    store.add_decisions(flush_of(1, [(policy(1, 0), seen(7, 0))]))
    store.record_rewards([outcome(7, 0, 10), outcome(7, 5, 10, SPEND.quantise(3.0), 1)], 0)
    before = units_of(store)
    assert verify(store, silently).is_clean
    rebuild(store, silently)
    assert units_of(store) == before


def test_sealed_outcomes_stay_with_their_units(store: SqlStore) -> None:
    """When an epoch's rows leave the log, in several steps, the sums of its units stay the same."""
    run_by_unit(store)
    store.add_decisions(flush_of(1, [(policy(1, 0), seen(7, 0)), (policy(1, 1), seen(8, 3))]))
    half = SPEND.quantise(60.0)
    earlier = [outcome(7, 0, 10), outcome(7, 0, 10, half, 1), outcome(8, 3, 10**8, half, 1)]
    later = outcome(7, 5, 20, half, 1)._replace(epoch=2)
    store.record_rewards([*earlier, later], 0)
    before = units_of(store)
    store.seal([SealedEpochs(1, 1, 1, START, bytes(16))], START)
    assert store.settle_seals() or store.settle_seals()
    start: bytes | None = bytes(16)
    n_rows = 0
    while start is not None:
        step = store.purge(start, b"\xff" * 16, 3)
        n_rows, start = n_rows + step.n_rows, step.next_id
    with store._dialect.reading() as connection:
        assert connection.scalars(select(rewards.c.epoch).distinct()).all() == [2]
    assert n_rows == 3
    assert units_of(store) == before
    assert verify(store, silently).is_clean
    assert before.facts.outcomes == {
        OutcomeKey(1, 1, 0, 0, Basis.POLICY, 0): Tally(1, 1, 1),
        OutcomeKey(1, 1, 0, 0, Basis.POLICY, 1): Tally(1, 2**40, 2**80),
    }


def test_the_sum_of_a_unit_can_not_overflow(store: SqlStore) -> None:
    """One unit for all anonymous callers still counts once when its purged sums outgrow 64 bits."""
    run_by_unit(store)
    store.add_decisions(flush_of(1, [(policy(1, 0), seen(7, 0)), (policy(1, 0), seen(8, 0))]))
    third = SPEND.quantise(100 / 3)
    rests = StoredTally.of(quanta_of(third), third, is_late=False)
    leaving = LeavingOutcome(1, 0, 7, 1, bytes(16), Basis.POLICY, 2**62 - 1, third, False, T0 + 10)
    sealed, small = leaving, leaving._replace(unit=8, quanta=rests.total)
    for _ in range(4):
        with store._dialect.writing() as connection:
            units_in_sql.seal(connection, [sealed, small], {(1, 1): 60_000})
    with store._dialect.reading() as connection:
        rows = connection.execute(select(unit_sums).order_by(unit_sums.c.unit)).all()
    found = [
        StoredTally(r.n, r.total, 0, 0, 0, 0, r.total_low + (r.total_high << 62)).in_steps() for r in rows
    ]
    assert [(tally.n, tally.total) for tally in found] == [
        (4, 4 * ((2**62 - 1 << 20) + rests.total_rest)),
        (4, 4 * third),
    ]
    most = largest_quanta(SPEND)
    assert tallies(store, 1) == {(1, 0): (2, 2 * most, 2 * most**2)}

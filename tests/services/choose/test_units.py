"""Which units Choose records where units are counted, and what of them reaches the ledger."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from bandit.decision_id import NO_UNIT, Basis, hash_lone_decision, hash_unit
from bandit.experiment import AnalysisUnit
from server.services.choose import seen_units
from server.services.choose.chooser import Choice, Question
from server.services.snapshot.offers import Reason
from server.store.records import Flush
from tests.bandit.builders import declare
from tests.services.support import LAG, SIGNER, Bench, epoch_with, flush_of, running


def bench_of(unit: AnalysisUnit) -> Bench:
    """Return a running experiment of two arms that counts these."""
    record = running(replace(declare(), analysis_unit=unit))
    return Bench(record, epoch_with(record, {"champion": 0.5, "challenger": 0.5}))


@pytest.fixture
def bench() -> Bench:
    """A running experiment that counts units."""
    return bench_of(AnalysisUnit.UNIT)


def flushed(bench: Bench) -> Flush:
    """Return what is flushed next."""
    flush = flush_of(bench.counter)
    assert flush is not None
    bench.counter.settle(flush)
    return flush


def noted(flush: Flush) -> dict[bytes, tuple[tuple[bytes, ...], int]]:
    """Return every unit of a flush, whatever its arm."""
    return {mark: sighting for _, sightings in flush.units for mark, sighting in sightings.items()}


def ask(bench: Bench, unit: str, eligible: Sequence[str] = (), previous: str = "") -> Choice:
    """Return the answer to a question in full."""
    question = Question(unit=unit, eligible_arms=eligible, previous_decision_id=previous)
    return bench.chooser.choose_within(bench.experiment, question)


def test_a_unit_is_noted_with_its_first_three_decisions(bench: Bench) -> None:
    """Five answers make one unit, its first three decisions, and their number, under its arm and epoch."""
    choices = [bench.chooser.choose(bench.experiment, "user-1") for _ in range(5)]
    ((key, sightings),) = flushed(bench).units
    assert key == choices[0].offer.key
    mark = hash_unit(bench.experiment.salt, b"user-1")
    assert dict(sightings) == {mark: (tuple(SIGNER.read(each.decision_id).id for each in choices[:3]), 5)}
    assert flush_of(bench.counter) is None


def test_only_policy_decisions_are_noted(bench: Bench) -> None:
    """Restricted and unconfirmed decisions and fallbacks are counted, and are not exposures."""
    ask(bench, "user-1", ["champion"])
    bench.clock.advance(LAG + 1)
    bench.chooser.choose(bench.experiment, "user-2")
    flush = flushed(bench)
    assert {key.basis for key in flush.counts} == {Basis.RESTRICTED, Basis.UNCONFIRMED}
    assert noted(flush) == {}


def test_a_pinned_decision_is_not_counted_again(bench: Bench) -> None:
    """Handed back, an earlier decision is the same exposure: neither it nor its unit is counted again."""
    first = bench.chooser.choose(bench.experiment, "user-1")
    again = ask(bench, "user-1", previous=first.decision_id)
    assert (again.offer.reason, again.decision_id) == (Reason.PINNED, first.decision_id)
    flush = flushed(bench)
    assert sum(flush.counts.values()) == 1
    assert [count for _, count in noted(flush).values()] == [1]


def test_a_decision_without_a_unit_counts_as_its_own(bench: Bench) -> None:
    """Each gets a mark that only its own id leads to; a caller without a unit can pin it, and no one else."""
    one, other = (bench.chooser.choose(bench.experiment, "") for _ in range(2))
    marks = noted(flushed(bench))
    assert len(marks) == 2
    decision = SIGNER.read(one.decision_id)
    assert decision.unit_hash == hash_lone_decision(bench.experiment.salt, decision.id)
    assert marks[decision.unit_hash] == ((decision.id,), 1)
    assert ask(bench, "", previous=one.decision_id).decision_id == one.decision_id
    assert ask(bench, "user-1", previous=one.decision_id).decision_id != one.decision_id
    theirs = bench.chooser.choose(bench.experiment, "user-1").decision_id
    assert ask(bench, "", previous=theirs).decision_id not in {theirs, other.decision_id}


def test_where_decisions_are_counted_only_groups_are() -> None:
    """No unit is recorded; decisions with a unit are counted by a byte of its hash, others are not."""
    bench = bench_of(AnalysisUnit.DECISION)
    for number in range(100):
        bench.chooser.choose(bench.experiment, f"user-{number % 10}")
        bench.chooser.choose(bench.experiment, "")
    ask(bench, "user-1", ["champion"])
    flush = flushed(bench)
    assert noted(flush) == {}
    bytes_of_ten = {hash_unit(bench.experiment.salt, f"user-{n}".encode())[0] for n in range(10)}
    (groups,) = flush.groups.values()
    assert set(groups) == bytes_of_ten
    assert sum(groups.values()) == 100
    lone = bench.chooser.choose(bench.experiment, "").decision_id
    assert SIGNER.read(lone).unit_hash == NO_UNIT


def test_units_are_flushed_in_portions(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting units are flushed in portions of bounded size, each unit once, and no count is lost."""
    monkeypatch.setattr(seen_units, "MAX_FLUSH_UNITS", 10)
    for number in range(35):
        bench.chooser.choose(bench.experiment, f"user-{number}")
    assert bench.counter.n_flushes == 4
    flushes = [flushed(bench) for _ in range(4)]
    assert [len(noted(flush)) for flush in flushes] == [10, 10, 10, 5]
    assert [flush.sequence for flush in flushes] == [1, 2, 3, 4]
    assert sum(sum(flush.counts.values()) for flush in flushes) == 35
    assert flush_of(bench.counter) is None
    assert bench.counter.units.n_dropped == 0


def test_units_that_wait_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound units are dropped and counted as such; those waiting still count decisions."""
    monkeypatch.setattr(seen_units, "MAX_FLUSH_UNITS", 10)
    monkeypatch.setattr(seen_units, "MAX_WAITING_UNITS", 30)
    for _ in range(2):
        for number in range(50):
            bench.chooser.choose(bench.experiment, f"user-{number}")
    flushes = [flushed(bench) for _ in range(bench.counter.n_flushes)]
    assert sum(len(noted(flush)) for flush in flushes) == 30
    assert bench.counter.units.n_dropped > 0
    assert sum(flushes[0].counts.values()) == 100

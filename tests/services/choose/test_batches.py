"""Batches of questions: each gets the answer that it would get alone."""

import random
from dataclasses import replace

import pytest

from bandit.decision_id import Basis
from bandit.experiment import AnalysisUnit
from server.services.choose.chooser import Choice
from server.services.errors import StorageUnavailableError
from server.services.signing_keys.signers import UnknownKeys
from server.services.snapshot.offers import CompiledExperiment, Reason
from server.store.records import State
from tests.bandit.builders import declare
from tests.services.support import LAG, MAX_STALENESS, SIGNER, Bench, epoch_with, flush_of, running

SHARES = {"a": 0.5, "b": 0.3, "c": 0.2}
MANY_SHARES = {f"v{number}": 1 / 16 for number in range(16)}


def compiled(
    number: int,
    shares: dict[str, float],
    *,
    state: State = State.RUNNING,
    unit: AnalysisUnit = AnalysisUnit.DECISION,
) -> CompiledExperiment:
    """An experiment in some state that counts decisions or units."""
    declared = replace(declare(f"ranker-{number}", arms=tuple(shares)), analysis_unit=unit)
    record = replace(running(declared, number=number), state=state, winner="b")
    return CompiledExperiment(record, epoch_with(record, shares))


def questions() -> list[tuple[CompiledExperiment, str]]:
    """Six hundred questions to four experiments, in any order, every third without a unit."""
    experiments = [
        compiled(1, SHARES),
        compiled(2, MANY_SHARES),
        compiled(3, SHARES, unit=AnalysisUnit.UNIT),
        compiled(4, SHARES, state=State.CONCLUDED),
    ]
    generator = random.Random(7)
    units = [f"üser-{number}" if number % 3 else "" for number in range(600)]
    return [(generator.choice(experiments), unit) for unit in units]


def read(choice: Choice) -> tuple[object, ...]:
    """Return an answer's content, except the decision's unique id."""
    decision = SIGNER.read(choice.decision_id)
    assert decision.terms == choice.offer.terms
    return decision.terms, choice.offer.reason


@pytest.mark.parametrize("age", [0.0, LAG + 1, MAX_STALENESS + 1])
def test_units_get_the_answers_that_they_would_get_alone(age: float) -> None:
    """Arm, terms, reason and mark are the same, whatever the snapshot's age permits."""
    bench = Bench.of(SHARES)
    bench.clock.advance(age)
    asked = [(experiment, unit) for experiment, unit in questions() if unit]
    together = bench.chooser.choose_each(asked)
    alone = [bench.chooser.choose(experiment, unit) for experiment, unit in asked]
    assert list(map(read, together)) == list(map(read, alone))
    marks = [[SIGNER.read(each.decision_id).unit_hash for each in choices] for choices in (together, alone)]
    assert marks[0] == marks[1]
    assert len({choice.decision_id for choice in together + alone}) == 2 * len(asked)


def test_draws_are_the_same_as_one_by_one() -> None:
    """With the same random numbers, questions without a unit get the same arms together as one by one."""
    bench = Bench.of(SHARES)
    asked = [(experiment, "") for experiment, _ in questions()]
    bench.chooser._generator = random.Random(1)
    together = bench.chooser.choose_each(asked)
    again = random.Random(1)
    expected = [_drawn(experiment, again.random()) for experiment, _ in asked]
    assert [choice.offer.arm.id for choice in together] == expected


def test_all_are_counted_as_if_alone() -> None:
    """Decisions, groups of units and units are counted as by the same number of single calls."""
    asked = questions()
    one, many = Bench.of(SHARES), Bench.of(SHARES)
    for bench in (one, many):
        bench.chooser._generator = random.Random(3)
    by_unit = [question for question in asked if question[1]]
    many.chooser.choose_each(by_unit)
    for experiment, unit in by_unit:
        one.chooser.choose(experiment, unit)
    alone, together = flush_of(one.counter), flush_of(many.counter)
    assert alone is not None
    assert together is not None
    assert (together.counts, together.groups) == (alone.counts, alone.groups)
    assert sum(together.counts.values()) == len(by_unit)
    assert {key.basis for key in together.counts} == {Basis.POLICY, Basis.FALLBACK}
    seen = [
        {(key, mark): n for key, units in each.units for mark, (_, n) in units.items()}
        for each in (alone, together)
    ]
    assert seen[0] == seen[1] != {}


def test_an_empty_batch_gets_no_answers() -> None:
    """An empty batch gets no answer and counts nothing."""
    bench = Bench.of(SHARES)
    assert bench.chooser.choose_each([]) == []
    assert flush_of(bench.counter) is None


def test_without_keys_nothing_is_counted() -> None:
    """Before the keys are known no decision is handed out, alone or in a batch, and none is counted."""
    bench = Bench.of(SHARES)
    bench.chooser.signer = UnknownKeys()
    with pytest.raises(StorageUnavailableError):
        bench.chooser.choose(bench.experiment, "user-1")
    with pytest.raises(StorageUnavailableError):
        bench.chooser.choose_each([(bench.experiment, "user-1")])
    assert flush_of(bench.counter) is None


def _drawn(experiment: CompiledExperiment, uniform: float) -> str:
    offers = (
        experiment.offers(Basis.POLICY)
        if experiment.state is State.RUNNING
        else experiment.fallback(Reason.CONCLUDED)
    )
    return offers.offers[offers.picker.draw(uniform)].arm.id

"""A launch's own bound on stale answers: a cut-off server soon stops serving what may be rolled back."""

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from bandit.decision_id import Basis
from bandit.experiment import Experiment
from bandit.launch import moves
from bandit.launch.launching import Launching, Occasion
from bandit.launch.plan import Holdback, LaunchPlan, Stage, StageKind
from bandit.launch.state import ArmState
from server.services.choose.chooser import Choice, Question
from server.services.snapshot.offers import CompiledExperiment, Reason
from server.store.records import ExperimentRecord
from tests.bandit.builders import START, declare
from tests.services.support import LAG, MAX_STALENESS, SIGNER, Bench, epoch_with, running

OWN = 20.0
"""The launch's own staleness, between the server's lag and its staleness."""

PLAN = LaunchPlan(
    stages=(Stage(kind=StageKind.CANARY, share=0.5), Stage(kind=StageKind.BANDIT)),
    holdback=Holdback(share=0.5),
    max_staleness=timedelta(seconds=OWN),
)
OCCASION = Occasion(at=START, revision=2, actor="test")
SHARES = {"champion": 0.5, "challenger": 0.5}

Move = Callable[[Launching], Launching]


def waiting(launching: Launching) -> Launching:
    """Leave the challenger where it begins."""
    return launching


def in_canary(launching: Launching) -> Launching:
    """Take the challenger to its first stage."""
    return moves.admitted(launching, OCCASION)


def promoted(launching: Launching) -> Launching:
    """Make the challenger champion, with a holdback."""
    in_bandit = moves.advanced(in_canary(launching), "challenger", OCCASION)
    return moves.promoted(in_bandit, "challenger", OCCASION)


def succeeded(launching: Launching) -> Launching:
    """End the holdback."""
    return moves.holdback_ended(promoted(launching), OCCASION)


def rolled_back(launching: Launching) -> Launching:
    """Take the challenger's traffic away."""
    return moves.rolled_back(in_canary(launching), "challenger", OCCASION)


def launched(move: Move = in_canary, plan: LaunchPlan = PLAN) -> ExperimentRecord:
    """Return the record of an experiment whose challenger was moved."""
    experiment: Experiment = replace(declare(), launch=plan)
    launching = move(moves.begun(experiment, OCCASION, is_started=False))
    return replace(running(launching.experiment), launch=launching.launch)


def bench_of(record: ExperimentRecord) -> Bench:
    """Return a chooser over an experiment with even shares."""
    return Bench(record, epoch_with(record, SHARES))


def answers(bench: Bench) -> list[Choice]:
    """Return answers to questions of every kind, for many units."""
    units = [f"u{number}" for number in range(20)]
    pinned = [bench.chooser.choose(bench.experiment, unit).decision_id for unit in units]
    return [
        *(bench.chooser.choose(bench.experiment, unit) for unit in units),
        *bench.chooser.choose_each([(bench.experiment, unit) for unit in units]),
        *(within(bench, unit, eligible=("challenger",)) for unit in units),
        *(within(bench, unit, previous=each) for unit, each in zip(units, pinned, strict=True)),
    ]


def within(bench: Bench, unit: str, *, eligible: tuple[str, ...] = (), previous: str = "") -> Choice:
    """Return the answer to a question that names arms or an earlier decision."""
    question = Question(unit=unit, eligible_arms=eligible, previous_decision_id=previous)
    return bench.chooser.choose_within(bench.experiment, question)


def test_after_its_own_staleness_the_champion_answers() -> None:
    """Every kind of question gets the champion, certain and stale, once the launch's time is over."""
    bench = bench_of(launched())
    decided = [bench.chooser.choose(bench.experiment, f"u{number}") for number in range(20)]
    bench.clock.advance(OWN)
    assert {each.offer.arm.id for each in answers(bench)} == {"champion", "challenger"}
    assert within(bench, "u0", previous=decided[0].decision_id).offer.reason is Reason.PINNED
    bench.clock.advance(0.001)
    late = [
        *answers(bench),
        *(within(bench, f"u{number}", previous=each.decision_id) for number, each in enumerate(decided)),
    ]
    assert {(each.offer.arm.id, each.offer.reason) for each in late} == {("champion", Reason.STALE)}
    terms = SIGNER.read(late[0].decision_id).terms
    assert (terms.basis, terms.propensity) == (Basis.FALLBACK, 1.0)


def test_a_confirmed_snapshot_is_used_again() -> None:
    """Once the database confirms the shares, they are served as before."""
    bench = bench_of(launched())
    bench.clock.advance(OWN + 1)
    assert {each.offer.arm.id for each in answers(bench)} == {"champion"}
    bench.put(bench.experiment.record, bench.experiment.epoch)
    assert {each.offer.arm.id for each in answers(bench)} == {"champion", "challenger"}


def test_in_a_holdback_the_former_champion_answers() -> None:
    """The promoted arm may be rolled back meanwhile, and the former champion can't."""
    bench = bench_of(launched(promoted))
    assert bench.experiment.record.experiment.champion == "challenger"
    bench.clock.advance(OWN + 1)
    assert {(each.offer.arm.id, each.offer.reason) for each in answers(bench)} == {("champion", Reason.STALE)}


@pytest.mark.parametrize("move", [waiting, rolled_back, succeeded])
def test_without_an_arm_to_roll_back_the_server_s_bound_holds(move: Move) -> None:
    """A launch in which nothing can be rolled back goes on for as long as the server may."""
    record = launched(move)
    assert record.launch is not None
    assert record.launch.arms["challenger"].state is not ArmState.CANARY
    bench = bench_of(record)
    assert bench.experiment.max_staleness == math.inf
    bench.clock.advance(MAX_STALENESS)
    assert bench.chooser.choose(bench.experiment, "u").offer.reason is Reason.POLICY
    bench.clock.advance(0.001)
    assert bench.chooser.choose(bench.experiment, "u").offer.reason is Reason.STALE


def test_without_a_launch_the_server_s_bound_holds() -> None:
    """An experiment without a launch has no bound of its own."""
    record = running()
    assert CompiledExperiment(record, epoch_with(record, SHARES)).max_staleness == math.inf


def test_the_server_s_bound_may_be_the_shorter_one() -> None:
    """A launch makes no server serve for longer than it would."""
    bench = bench_of(launched(plan=replace(PLAN, max_staleness=timedelta(seconds=2 * MAX_STALENESS))))
    bench.clock.advance(MAX_STALENESS + 0.001)
    assert bench.chooser.choose(bench.experiment, "u").offer.reason is Reason.STALE


def test_a_snapshot_that_is_not_old_is_not_stale() -> None:
    """A bound below the server's lag counts from the lag on: between two polls no snapshot is younger."""
    bench = bench_of(launched(plan=replace(PLAN, max_staleness=timedelta(seconds=1))))
    bench.clock.advance(LAG)
    assert {each.offer.arm.id for each in answers(bench)} == {"champion", "challenger"}
    bench.clock.advance(0.001)
    assert {each.offer.arm.id for each in answers(bench)} == {"champion"}

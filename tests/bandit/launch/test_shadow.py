"""Arms in shadow: their stage, their room, and that nothing which steers counts what they saw."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from bandit.allocation import ExperimentState, allocate, needs_epoch
from bandit.decision_id import Basis
from bandit.experiment import Arm, Experiment
from bandit.facts import Facts
from bandit.facts.shadow_pairs import PairSums, ShadowFacts, ShadowKey
from bandit.launch import moves
from bandit.launch.gates import ArmFigures, HoldCause, Look
from bandit.launch.launching import Launching, NoRoomError, Occasion
from bandit.launch.mirroring import count_shadow
from bandit.launch.plan import LaunchPlan, Mode, Stage, StageKind
from bandit.launch.rulings import Action, rule
from bandit.launch.state import ArmState
from bandit.metric import Metric
from bandit.validation import InvalidExperimentError, require_valid
from tests.bandit.builders import (
    NOTHING,
    START,
    binary_tally,
    decision_key,
    declare,
    make_epoch,
    outcome_key,
    stand,
)

SHADOW = Stage(kind=StageKind.SHADOW, sample=0.5)
BANDIT = Stage(kind=StageKind.BANDIT)
PLAN = LaunchPlan(stages=(SHADOW, Stage(kind=StageKind.CANARY, share=0.01), BANDIT))
OCCASION = Occasion(at=START, revision=2, actor="anna")


def launching(arms: tuple[str, ...] = ("champion", "challenger"), plan: LaunchPlan = PLAN) -> Launching:
    """Return a launch that has just begun, with each challenger let in where there is room."""
    declared = replace(declare(arms=[Arm(id=each) for each in arms]), launch=plan)
    return moves.admitted(moves.begun(declared, OCCASION, is_started=False), OCCASION)


def state_of(launch: Launching, facts: Facts | None = None) -> ExperimentState:
    """Return the state of an experiment in its first epoch, in which the champion has every request."""
    base = stand(launch.experiment, [make_epoch(shares={0: 1.0, 1: 0.0})], facts or NOTHING)
    return replace(base, launch=launch.launch)


def rules_of(stage: Stage, metrics: tuple[Metric, ...] = (Metric(name="clicks"),)) -> Mapping[str, str]:
    """Return field to description of what is wrong with a plan of this stage and a bandit."""
    declared = replace(declare(metrics=metrics), launch=LaunchPlan(stages=(stage, BANDIT)))
    with pytest.raises(InvalidExperimentError) as caught:
        require_valid(declared)
    return {violation.field: violation.description for violation in caught.value.violations}


def test_a_challenger_enters_the_shadow_and_is_not_in_service() -> None:
    """The first stage of this plan has no share, and an arm in it can neither answer nor be pinned."""
    launch = launching()
    arm = launch.arm("challenger")
    assert (arm.state, arm.current and arm.current.label) == (ArmState.SHADOW, "shadow")
    assert not launch.launch.is_in_service("challenger")
    assert launch.launch.samples == {"challenger": 0.5}


def test_a_shadow_goes_on_to_the_next_stage() -> None:
    """From then on it is in service, and sees no requests of the champion any more."""
    launch = moves.advanced(launching(), "challenger", OCCASION)
    assert launch.arm("challenger").state is ArmState.CANARY
    assert launch.launch.is_in_service("challenger")
    assert launch.launch.samples == {}


def test_at_most_three_arms_are_in_shadow() -> None:
    """A fourth waits, and an advance says why."""
    launch = launching(("champion", "a", "b", "c", "d"))
    assert [launch.arm(each).state for each in "abcd"] == [*[ArmState.SHADOW] * 3, ArmState.WAITING]
    with pytest.raises(NoRoomError, match="4 arms in shadow, and at most 3 may be at once"):
        moves.advanced(launch, "d", OCCASION)
    launch = moves.admitted(moves.rolled_back(launch, "b", OCCASION), OCCASION)
    assert launch.arm("d").state is ArmState.SHADOW


def test_the_epoch_shows_the_shadow_its_sample_and_no_share() -> None:
    """The champion keeps every request."""
    allocation = allocate(state_of(launching()))
    assert (allocation.shares, allocation.shadows) == ({0: 1.0, 1: 0.0}, {1: 0.5})
    without = allocate(replace(state_of(launching()), launch=None))
    assert without.shadows == {}


def test_a_shadow_that_comes_or_goes_needs_an_epoch() -> None:
    """The shares are the same either way."""
    state = state_of(launching())
    allocation = allocate(state)
    assert needs_epoch(state, allocation, threshold=0.1)
    current = replace(state.epochs[-1], shadows=allocation.shadows)
    assert not needs_epoch(replace(state, epochs=[current]), allocation, threshold=0.1)


def test_shadow_decisions_steer_nothing() -> None:
    """Counts, minima, the end of an epoch and the posterior are as if the arm had seen nothing."""
    decided, posted = {decision_key(1, 0): 40}, {outcome_key(1, 0): binary_tally(40, 10)}
    shadows = {decision_key(1, 1, Basis.SHADOW): 5_000_000}
    seen = {outcome_key(1, 1, Basis.SHADOW): binary_tally(5_000_000, 4_000_000)}
    launch = moves.advanced(launching(), "challenger", OCCASION)
    launch = moves.advanced(launch, "challenger", OCCASION)
    plain = state_of(launch, Facts(decisions=decided, outcomes=posted))
    mirrored = state_of(launch, Facts(decisions=decided | shadows, outcomes=posted | seen))
    assert mirrored.decisions_by_arm == plain.decisions_by_arm
    assert mirrored.n_decisions_in_force == plain.n_decisions_in_force
    assert mirrored.decisions_to_growth == plain.decisions_to_growth
    assert allocate(mirrored) == allocate(plain)
    answered = state_of(launch, Facts(decisions=decided | {decision_key(1, 1): 5_000_000}, outcomes=posted))
    assert answered.n_decisions_in_force != plain.n_decisions_in_force, "the control: answers count"


@pytest.mark.parametrize(
    ("stage", "field", "rule"),
    [
        (Stage(kind=StageKind.SHADOW, sample=0.0), "sample", "0 must be in (0, 1]"),
        (Stage(kind=StageKind.SHADOW, minimum_mirrored=1.5), "minimum_mirrored", "1.5 must be in (0, 1]"),
        (Stage(kind=StageKind.SHADOW, share=0.1), "share", "a shadow has none; it never answers"),
        (
            Stage(kind=StageKind.CANARY, share=0.1, sample=0.5),
            "sample",
            "a canary has none: it belongs to a shadow",
        ),
        (
            Stage(kind=StageKind.SHADOW, minimum_outcomes=5),
            "minimum_outcomes",
            "needs a metric with shadow = true: only those are compared with the champion's",
        ),
    ],
)
def test_a_stage_that_breaks_a_rule_is_refused(stage: Stage, field: str, rule: str) -> None:
    """The error names the field and the rule."""
    assert rules_of(stage) == {f"launch.stages[0].{field}": rule}


def test_a_shadow_waits_for_pairs_of_metrics_without_a_window() -> None:
    """The reward metric's window is of no matter to it: pairs need outcomes, and not time."""
    metrics = (Metric(name="clicks"), Metric(name="error", is_shadow=True))
    stage = replace(SHADOW, minimum_outcomes=100)
    require_valid(replace(declare(metrics=metrics), launch=LaunchPlan(stages=(stage, BANDIT))))


def test_a_shadow_comes_first() -> None:
    """A canary has answered already."""
    plan = LaunchPlan(stages=(Stage(kind=StageKind.CANARY, share=0.1), SHADOW, BANDIT))
    declared: Experiment = replace(declare(), launch=plan)
    with pytest.raises(InvalidExperimentError, match="a shadow can't follow a canary"):
        require_valid(declared)


def test_the_stage_of_an_arm_keeps_its_own_sample() -> None:
    """A plan that changes holds for those who enter later."""
    launch = launching()
    other = replace(PLAN, stages=(replace(SHADOW, sample=0.25), *PLAN.stages[1:]), cycle=timedelta(days=7))
    declared = replace(launch.experiment, launch=other, arms=(*launch.experiment.arms, Arm(id="third")))
    after = moves.admitted(moves.redeclared(launch, declared, OCCASION), OCCASION)
    assert after.launch.samples == {"challenger": 0.5, "third": 0.25}


def test_what_a_shadow_has_seen_since_it_entered() -> None:
    """Decisions, those with an outcome, and pairs, from its revision's epochs on, and of no other arm."""
    epochs = [make_epoch(number, revision=number) for number in (1, 2, 3)]
    decided = {decision_key(epoch, 1, Basis.SHADOW): 10 * epoch for epoch in (1, 2, 3)}
    decided |= {decision_key(3, 2, Basis.SHADOW): 7, decision_key(3, 1): 9}
    facts = Facts(decisions=decided, outcomes={})
    own = {ShadowKey(epoch, 1): epoch for epoch in (1, 2, 3)}
    pairs = {key: PairSums(n, n, n, 0, 0, 0) for key, n in own.items()} | {ShadowKey(3, 2): PairSums.of(1, 1)}
    shadows = ShadowFacts(pairs={0: pairs, 1: {}}, n_mirrored=own | {ShadowKey(3, 2): 6})
    counts = count_shadow(1, epochs, facts, shadows, since=2)
    assert (counts.n_decisions, counts.n_mirrored, counts.mirrored) == (50, 5, 0.1)
    assert counts.pairs == {0: [pairs[ShadowKey(2, 1)], pairs[ShadowKey(3, 1)]], 1: [PairSums(), PairSums()]}
    assert counts.n_pairs == 0, "the other metric has none"
    nothing = count_shadow(1, epochs, NOTHING, None)
    assert (nothing.n_decisions, nothing.mirrored, nothing.n_pairs) == (0, 0.0, 0)


def look(figures: ArmFigures, stage: Stage = SHADOW) -> Look:
    """Return a look at the challenger in this shadow stage, of a launch that takes its own steps."""
    plan = replace(PLAN, stages=(stage, *PLAN.stages[1:]), mode=Mode.AUTOMATIC)
    return Look(at=START, launching=launching(plan=plan), figures={"challenger": figures})


def test_a_shadow_goes_on_once_it_was_mirrored() -> None:
    """With its time, decisions and pairs, and nine tenths of what it saw with an outcome."""
    stage = replace(SHADOW, minimum_decisions=100, minimum_outcomes=50)
    enough = ArmFigures(decisions=100, outcomes=50, mirrored=0.9)
    (ruling,) = rule(look(enough, stage))
    assert (ruling.action, ruling.arm) == (Action.ADVANCE, "challenger")
    assert ruling.figures == {"minimum_decisions": 100, "minimum_outcomes": 50, "minimum_mirrored": 0.9}
    for less in (replace(enough, decisions=99), replace(enough, outcomes=49), replace(enough, mirrored=0.89)):
        assert rule(look(less, stage)) == ()


def test_a_caller_that_never_mirrors_holds_the_shadow() -> None:
    """Its silence is no value: there is no data, and the hold says how much came in."""
    silent = look(ArmFigures(decisions=500, mirrored=0.0, covered=timedelta(days=30)))
    assert rule(silent) == ()
    (hold,) = silent.holds("challenger")
    assert hold.cause is HoldCause.NO_DATA
    assert hold.detail == "no outcome has come in for it"
    some = ArmFigures(decisions=500, mirrored=0.25, covered=timedelta(days=30))
    (hold,) = look(some).holds("challenger")
    assert hold.detail == "outcomes have come in for only 25.0 % of its shadow decisions"
    assert look(replace(some, mirrored=0.95)).holds("challenger") == ()
    assert look(replace(some, decisions=0)).holds("challenger") == (), "it has seen nothing yet"

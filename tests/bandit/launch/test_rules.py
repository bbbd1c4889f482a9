"""Rules of launch plans, each broken once: the message has the field's path, the numbers and the rule."""

from dataclasses import replace
from datetime import timedelta
from math import inf, nan
from typing import Any

import pytest

from bandit.experiment import Arm, Experiment
from bandit.launch.plan import Holdback, LaunchPlan, Stage, StageKind
from bandit.launch.rules import broken_rules
from bandit.limits import Limits
from bandit.metric import Metric
from bandit.validation import InvalidExperimentError, require_valid
from tests.bandit.builders import declare
from tests.bandit.launch.launches import BANDIT, CANARY, PLAN, RAMP, declare_launch

DAY = timedelta(days=1)
HOLDBACK = Holdback(share=0.1)


def violations_of(experiment: Experiment) -> dict[str, str]:
    """Return field to rule of what validation finds; empty if the experiment is valid."""
    try:
        require_valid(experiment)
    except InvalidExperimentError as error:
        return dict(error.violations)
    return {}


def with_stage(stage: Stage, **plan: Any) -> Experiment:
    """Return an experiment whose plan has this stage in place of the plain one of its kind."""
    stages = tuple(stage if plain.kind is stage.kind else plain for plain in PLAN.stages)
    return declare_launch(plan=replace(PLAN, stages=stages, **plan))


def with_plan(**changes: Any) -> Experiment:
    """Return an experiment whose plan differs in this."""
    return declare_launch(plan=replace(PLAN, **changes))


@pytest.mark.parametrize(
    "plan",
    [
        PLAN,
        LaunchPlan(stages=(BANDIT,)),
        LaunchPlan(stages=(CANARY, BANDIT)),
        LaunchPlan(stages=(RAMP, BANDIT), cycle=timedelta(seconds=1), minimum_cycles=1),
        replace(PLAN, stages=(CANARY, RAMP, replace(BANDIT, minimum_outcomes=100, approval=True))),
        replace(PLAN, stages=(replace(CANARY, maximum_duration=2 * DAY), RAMP, BANDIT)),
    ],
)
def test_a_valid_plan_breaks_no_rule(plan: LaunchPlan) -> None:
    """Stages before the bandit may be left out, and a cycle may be a second long."""
    assert violations_of(declare_launch(plan=plan)) == {}


@pytest.mark.parametrize(
    ("experiment", "field", "fragments"),
    [
        (with_plan(stages=()), "launch.stages", ["the last stage must be of kind bandit"]),
        (with_plan(stages=(CANARY, RAMP)), "launch.stages", ["the last stage must be of kind bandit"]),
        (
            with_plan(stages=(RAMP, CANARY, BANDIT)),
            "launch.stages[1].kind",
            ["a canary can't follow a ramp", "canary, ramp, bandit"],
        ),
        (
            with_plan(stages=(CANARY, CANARY, BANDIT)),
            "launch.stages[1].kind",
            ["a canary can't follow a canary"],
        ),
        (with_plan(stages=(BANDIT, BANDIT)), "launch.stages[1].kind", ["a bandit can't follow a bandit"]),
        (with_stage(replace(CANARY, share=0.0)), "launch.stages[0].share", ["in (0, 1)", "got 0"]),
        (with_stage(replace(CANARY, share=1.0)), "launch.stages[0].share", ["in (0, 1)", "got 1"]),
        (with_stage(replace(CANARY, share=-0.1)), "launch.stages[0].share", ["got -0.1"]),
        (with_stage(replace(CANARY, share=nan)), "launch.stages[0].share", ["got nan"]),
        (
            with_stage(replace(RAMP, share=0.1)),
            "launch.stages[1].share",
            ["a ramp has none", "shares, a list"],
        ),
        (with_stage(replace(BANDIT, share=0.1)), "launch.stages[2].share", ["the policy decides"]),
        (with_stage(replace(CANARY, shares=(0.1,))), "launch.stages[0].shares", ["they belong to a ramp"]),
        (with_stage(replace(BANDIT, shares=(0.1,))), "launch.stages[2].shares", ["they belong to a ramp"]),
        (with_stage(replace(RAMP, shares=())), "launch.stages[1].shares", ["1 to 100", "got 0"]),
        (
            with_stage(replace(RAMP, shares=tuple(0.1 + n / 1000 for n in range(101)))),
            "launch.stages[1].shares",
            ["1 to 100", "got 101"],
        ),
        (with_stage(replace(RAMP, shares=(0.1, 1.0))), "launch.stages[1].shares[1]", ["1 must be in (0, 1)"]),
        (
            with_stage(replace(RAMP, shares=(0.1, nan))),
            "launch.stages[1].shares[1]",
            ["nan must be in (0, 1)"],
        ),
        (
            with_stage(replace(RAMP, shares=(0.25, 0.1))),
            "launch.stages[1].shares[1]",
            ["0.1 must be more than the 0.25 before it"],
        ),
        (
            with_stage(replace(RAMP, shares=(0.1, 0.1))),
            "launch.stages[1].shares[1]",
            ["0.1 must be more than the 0.1 before it"],
        ),
        (
            with_stage(replace(CANARY, share=0.05)),
            "launch.stages[1].shares[0]",
            ["0.05 must be more than the 0.05 before it"],
        ),
        (with_stage(replace(CANARY, whole_cycles=1001)), "launch.stages[0].whole_cycles", ["1001", "1000"]),
        (
            with_stage(replace(CANARY, minimum_duration=timedelta())),
            "launch.stages[0].minimum_duration",
            ["0:00:00 must be more than zero"],
        ),
        (
            with_stage(replace(RAMP, maximum_duration=401 * DAY)),
            "launch.stages[1].maximum_duration",
            ["401 days", "at most 400 days"],
        ),
        (with_plan(cycle=timedelta(milliseconds=999)), "launch.cycle", ["at least 1 second"]),
        (with_plan(cycle=91 * DAY), "launch.cycle", ["91 days", "at most 90 days"]),
        (with_plan(minimum_cycles=0), "launch.minimum_cycles", ["0 must be in [1, 1000]"]),
        (with_plan(minimum_cycles=1001), "launch.minimum_cycles", ["1001 must be in [1, 1000]"]),
        (with_plan(holdback=Holdback(share=0.0)), "launch.holdback.share", ["0 must be in (0, 1)"]),
        (with_plan(holdback=Holdback(share=inf)), "launch.holdback.share", ["inf must be in (0, 1)"]),
        (
            with_plan(holdback=Holdback(share=0.1, cycles=0)),
            "launch.holdback.cycles",
            ["0 must be in [1, 1000]"],
        ),
        (
            with_stage(replace(CANARY, maximum_duration=DAY / 2)),
            "launch.stages[0].maximum_duration",
            ["12:00:00 is over before the stage can be", "at least 1 day"],
        ),
        (
            with_stage(replace(CANARY, whole_cycles=2, maximum_duration=13 * DAY)),
            "launch.stages[0].maximum_duration",
            ["13 days", "at least 14 days"],
        ),
        (
            with_stage(replace(BANDIT, maximum_duration=13 * DAY)),
            "launch.stages[2].maximum_duration",
            ["13 days", "at least 14 days"],
        ),
    ],
)
def test_a_broken_rule_of_a_plan_is_one_violation(
    experiment: Experiment, field: str, fragments: list[str]
) -> None:
    """Each broken rule is found alone, under its field, with what was declared and what may be."""
    found = violations_of(experiment)
    assert list(found) == [field]
    for fragment in fragments:
        assert fragment in found[field]


@pytest.mark.parametrize(
    ("limits", "field", "fragments"),
    [
        (Limits(warm_up_duration=DAY), "limits.warm_up_duration", ["in place of a warm-up"]),
        (
            Limits(warm_up_decisions=5, warm_up_duration=DAY),
            "limits.warm_up_duration",
            ["leave warm_up_decisions and warm_up_duration out"],
        ),
        (
            Limits(champion_minimum_share=0.96),
            "launch.stages[1]",
            ["its largest share, 0.25", "reserve, 0.96", "sum to 1.21"],
        ),
        (
            Limits(minimum_shares={"a": 0.96}),
            "launch.stages[1]",
            ["its largest share, 0.25", "reserve, 0.96"],
        ),
        (
            Limits(champion_minimum_share=0.7, minimum_shares={"b": 0.31}),
            "launch.stages[2]",
            ["the champion's reserve, 0.7", "a challenger's floor, 0.31", "sum to 1.01"],
        ),
        (Limits(maximum_share=0.2), "launch.stages[1]", ["0.25, is above limits.maximum_share, 0.2"]),
        (Limits(maximum_share=0.3, minimum_shares={"b": 0.31}), "limits.maximum_share", ["0.3", "0.31"]),
    ],
)
def test_limits_that_leave_a_challenger_no_room_are_refused(
    limits: Limits, field: str, fragments: list[str]
) -> None:
    """A plan that can't be met even by a single challenger is refused with the numbers."""
    found = violations_of(declare_launch(limits=limits))
    assert field in found
    for fragment in fragments:
        assert fragment in found[field]


@pytest.mark.parametrize(
    ("limits", "fragments"),
    [
        (
            Limits(champion_minimum_share=0.6, minimum_share=0.2),
            ["the holdback, 0.3", "reserve, 0.6", "another challenger's floor, 0.2", "sum to 1.1"],
        ),
        (
            Limits(champion_minimum_share=0.1, minimum_shares={"b": 0.75}),
            ["the holdback, 0.3", "another challenger's floor, 0.75", "sum to 1.15"],
        ),
    ],
)
def test_a_holdback_that_fits_beside_no_winner_is_refused(limits: Limits, fragments: list[str]) -> None:
    """Holdback, reserve and floors must fit after a promotion too."""
    found = violations_of(declare_launch(plan=replace(PLAN, holdback=Holdback(share=0.3)), limits=limits))
    assert list(found) == ["launch.holdback.share"]
    for fragment in fragments:
        assert fragment in found["launch.holdback.share"]


def test_the_reserve_after_a_promotion_is_that_of_the_winner() -> None:
    """A winner whose own floor is higher than the role's reserve leaves less for the holdback."""
    limits = Limits(champion_minimum_share=0.02, minimum_shares={"b": 0.96})
    plan = replace(PLAN, holdback=Holdback(share=0.05))
    found = violations_of(declare_launch(["a", "b"], plan=plan, limits=limits))
    assert "reserve, 0.96" in found["launch.holdback.share"]
    champion_alone = Limits(minimum_shares={"a": 0.7})
    assert (
        violations_of(declare_launch(["a", "b"], replace(PLAN, holdback=Holdback(share=0.9)), champion_alone))
        == {}
    )


def test_floors_of_all_challengers_may_sum_to_more_than_one() -> None:
    """Challengers are not all in the bandit stage at once: each waits until there is room."""
    arms = ["a", *(f"b{number}" for number in range(20))]
    assert violations_of(declare_launch(arms, limits=Limits(minimum_share=0.1))) == {}
    assert violations_of(replace(declare_launch(arms, limits=Limits(minimum_share=0.1)), launch=None))


def test_a_stage_that_waits_for_outcomes_needs_a_window() -> None:
    """Without a window of the reward metric, outcomes are never complete."""
    experiment = with_stage(replace(CANARY, minimum_outcomes=100))
    assert violations_of(experiment) == {}
    found = violations_of(replace(experiment, metrics=(Metric(name="clicks"), *experiment.metrics[1:])))
    assert list(found) == ["launch.stages[0].minimum_outcomes"]
    assert "needs a window on metric 'clicks'" in found["launch.stages[0].minimum_outcomes"]


def test_the_reserve_of_the_role_belongs_to_a_launch() -> None:
    """Without a launch it would bound nothing, so it is refused, with what to declare instead."""
    found = violations_of(declare(limits=Limits(champion_minimum_share=0.2)))
    assert list(found) == ["limits.champion_minimum_share"]
    assert "name the champion in minimum_shares" in found["limits.champion_minimum_share"]
    assert "limits.champion_minimum_share" in violations_of(
        declare_launch(limits=Limits(champion_minimum_share=1.0))
    )


def test_rules_can_be_asked_of_an_experiment_that_names_no_metric() -> None:
    """Whatever else is wrong with an experiment, the rules of its launch are found and nothing is raised."""
    experiment = replace(with_plan(minimum_cycles=0), reward_metric="none", champion="nobody", arms=())
    assert [field for field, _ in broken_rules(experiment)] == ["launch.minimum_cycles"]
    assert list(broken_rules(replace(experiment, launch=PLAN, limits=Limits()))) == []


def test_all_broken_rules_are_found_at_once() -> None:
    """One run names every field that a person has to mend."""
    stages = (replace(CANARY, share=2.0), replace(RAMP, shares=()), BANDIT)
    plan = replace(PLAN, stages=stages, cycle=timedelta(), minimum_cycles=0, holdback=Holdback(share=2.0))
    assert set(violations_of(declare_launch([Arm(id="a"), Arm(id="b")], plan=plan))) == {
        "launch.stages[0].share",
        "launch.stages[1].shares",
        "launch.cycle",
        "launch.minimum_cycles",
        "launch.holdback.share",
    }


def test_every_kind_of_stage_has_a_rule_for_its_shares() -> None:
    """A new kind must be given its rule: each is in the plan that the tests above break, or a shadow."""
    assert [StageKind.SHADOW, *(stage.kind for stage in PLAN.stages)] == list(StageKind)

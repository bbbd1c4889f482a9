"""Plans: the steps of stages, and how long each takes at least."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.launch.plan import DAYS_IN_A_CYCLE, LaunchPlan, Mode, Stage, StageKind, steps_of
from tests.bandit.launch.launches import BANDIT, CANARY, PLAN, RAMP

WEEK = timedelta(days=7)


def test_a_ramp_has_a_step_for_each_share() -> None:
    """Other stages have one step; the policy decides in the bandit stage."""
    steps = steps_of(PLAN.stages)
    assert [step.share for step in steps] == [0.01, 0.05, 0.25, None]
    assert [step.stage for step in steps] == [CANARY, RAMP, RAMP, BANDIT]
    assert [step.label for step in steps] == ["canary at 1 %", "ramp at 5 %", "ramp at 25 %", "bandit"]


def test_stages_may_be_left_out() -> None:
    """A plan with the bandit stage alone has one step."""
    assert [step.share for step in steps_of([BANDIT])] == [None]


def test_small_shares_are_named_to_four_digits() -> None:
    """A label shows what was declared, without the noise of binary fractions."""
    stage = Stage(kind=StageKind.RAMP, shares=(0.0005, 0.07, 1 / 3))
    assert [step.label for step in steps_of([stage])] == ["ramp at 0.05 %", "ramp at 7 %", "ramp at 33.33 %"]


@pytest.mark.parametrize(
    ("stage", "least"),
    [
        (Stage(kind=StageKind.BANDIT), WEEK / DAYS_IN_A_CYCLE),
        (Stage(kind=StageKind.BANDIT, minimum_decisions=1), timedelta()),
        (Stage(kind=StageKind.BANDIT, minimum_outcomes=1), timedelta()),
        (Stage(kind=StageKind.BANDIT, minimum_duration=timedelta(hours=1)), timedelta(hours=1)),
        (Stage(kind=StageKind.BANDIT, whole_cycles=2), 2 * WEEK),
        (Stage(kind=StageKind.BANDIT, whole_cycles=1, minimum_duration=timedelta(days=9)), timedelta(days=9)),
        (Stage(kind=StageKind.BANDIT, whole_cycles=2, minimum_duration=timedelta(days=9)), 2 * WEEK),
        (Stage(kind=StageKind.BANDIT, approval=True), WEEK / DAYS_IN_A_CYCLE),
        (Stage(kind=StageKind.BANDIT, maximum_duration=WEEK), WEEK / DAYS_IN_A_CYCLE),
    ],
)
def test_a_step_lasts_as_long_as_its_longest_minimum(stage: Stage, least: timedelta) -> None:
    """Without any minimum it takes a day of a week; approval and a maximum are no minimum."""
    assert stage.least_duration(WEEK) == least


@given(cycle=st.timedeltas(timedelta(seconds=1), timedelta(days=90)), n_cycles=st.integers(1, 50))
def test_whole_cycles_scale_with_the_cycle(cycle: timedelta, n_cycles: int) -> None:
    """Whole cycles mean the plan's cycle, whatever its length."""
    assert Stage(kind=StageKind.BANDIT, whole_cycles=n_cycles).least_duration(cycle) == n_cycles * cycle


def test_a_plan_acts_only_if_asked_to() -> None:
    """Steps and promotions are recommended by default; harm takes an arm out by default."""
    plan = LaunchPlan(stages=(BANDIT,))
    assert plan.mode is Mode.RECOMMEND
    assert plan.guardrail_action.value == "rollback"
    assert (plan.cycle, plan.minimum_cycles, plan.holdback) == (WEEK, 2, None)

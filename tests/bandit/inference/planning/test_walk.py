"""The time that a challenger takes in each step of a plan."""

from dataclasses import replace
from datetime import timedelta
from math import inf, isinf

import pytest

from bandit.inference.planning.walk import Surroundings, longest_bandit, walk
from bandit.launch.plan import LaunchPlan, Stage, StageKind

DAY = timedelta(days=1)
CANARY = Stage(kind=StageKind.CANARY, share=0.01, minimum_decisions=500)
RAMP = Stage(kind=StageKind.RAMP, shares=(0.05, 0.25))
BANDIT = Stage(kind=StageKind.BANDIT)
AROUND = Surroundings(decisions_per_day=4_000, outcomes_per_decision=0.05, reserve=0.2, floor=0.05)


def plan(*stages: Stage, minimum_cycles: int = 2) -> LaunchPlan:
    """Return a plan with these stages before the bandit, and cycles of a week."""
    return LaunchPlan(stages=(*stages, BANDIT), minimum_cycles=minimum_cycles)


def test_steps_follow_one_another() -> None:
    """A canary waits for decisions, each step of a ramp takes a seventh of a cycle, the bandit two cycles."""
    canary, *ramp, bandit = walk(plan(CANARY, RAMP), AROUND)
    assert canary.typical == pytest.approx(500 / (0.01 * 4_000))
    assert (canary.least, canary.waits_for) == (0.0, "minimum_decisions")
    assert [step.typical for step in ramp] == [1.0, 1.0]
    assert [step.starts for step in ramp] == pytest.approx([12.5, 13.5])
    assert [bandit.starts, bandit.typical] == pytest.approx([14.5, 14.0])


@pytest.mark.parametrize(
    ("changes", "days", "waits_for"),
    [
        ({"minimum_duration": 3 * DAY}, 3.0, "minimum_duration"),
        ({"whole_cycles": 1, "minimum_duration": 3 * DAY}, 7.0, "whole_cycles"),
        ({"minimum_decisions": 10_000, "whole_cycles": 1}, 10_000 / (0.05 * 4_000), "minimum_decisions"),
        ({"minimum_outcomes": 1_000}, 1_000 / (0.05 * 0.05 * 4_000), "minimum_outcomes"),
    ],
)
def test_the_longest_of_what_a_step_asks_for_counts(
    changes: dict[str, int | timedelta], days: float, waits_for: str
) -> None:
    """Durations, cycles, decisions and outcomes: a step is over when all are there."""
    stage = replace(RAMP, shares=(0.05,), **changes)  # type: ignore[arg-type]
    step, _ = walk(plan(stage), AROUND)
    assert step.typical == pytest.approx(days)
    assert step.waits_for == waits_for


def test_a_share_that_is_approached_slowly_adds_to_its_step() -> None:
    """The time of a step starts when its share is fully reached."""
    first, second, _ = walk(plan(RAMP), replace(AROUND, maximum_step_per_hour=0.01))
    assert (first.typical, second.typical) == pytest.approx((1 + 5 / 24, 1 + 20 / 24))


def test_a_step_without_the_outcomes_that_it_asks_for_never_ends() -> None:
    """Neither does any step after it begin."""
    stage = replace(CANARY, minimum_outcomes=1)
    step, bandit = walk(plan(stage), replace(AROUND, outcomes_per_decision=0.0))
    assert isinf(step.typical)
    assert bandit.starts == inf


def test_only_as_many_challengers_stand_in_a_step_as_there_is_room_for() -> None:
    """The champion keeps its reserve; the others wait."""
    low, high, _ = walk(plan(RAMP), replace(AROUND, n_challengers=5))
    assert [low.n_beside, low.champion_share] == pytest.approx([4, 0.75])
    assert [high.n_beside, high.champion_share] == pytest.approx([2, 0.25])


def test_a_shadow_sees_a_sample_of_the_champions_decisions_and_waits_for_pairs() -> None:
    """Three at most are in shadow at once; the champion answers everything."""
    shadow = Stage(kind=StageKind.SHADOW, sample=0.5, minimum_outcomes=6_000)
    step, bandit = walk(plan(shadow), replace(AROUND, n_challengers=5))
    assert (step.share, step.champion_share, step.sample, step.n_beside) == (0.0, 1.0, 0.5, 2)
    assert step.typical == pytest.approx(6_000 / (0.5 * 4_000))
    assert bandit.sample == 0.0


def test_a_bandit_stage_without_an_end_is_planned_for_eight_cycles() -> None:
    """With one it is planned until then."""
    assert longest_bandit(plan()) == 56.0
    ends = LaunchPlan(stages=(replace(BANDIT, maximum_duration=30 * DAY),))
    assert longest_bandit(ends) == 30.0

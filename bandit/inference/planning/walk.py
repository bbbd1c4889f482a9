"""How a challenger walks through a launch plan: its share in each step, and the time at a given traffic.

Times are in days of covered time. A step takes its least time, or longer where it waits for decisions or
outcomes at the share that it has. Cycles are taken as whole, although one counts as soon as nine tenths of it
are covered. What people take to approve, and to take the steps in mode `recommend`, is left out.
"""

from dataclasses import dataclass
from datetime import timedelta
from math import inf
from typing import Final

from bandit.launch.plan import MOST_SHADOWS, LaunchPlan, Stage, StageKind, Step, steps_of

MOST_CYCLES: Final = 8
"""A bandit stage without a maximum duration is planned for this many cycles."""

_DAY: Final = timedelta(days=1)
_HOURS: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the time in a step depends on, besides the plan.

    Attributes:
        decisions_per_day: Decisions drawn from the shares, over all arms; positive.
        outcomes_per_decision: Outcomes of the reward metric that callers post for a decision.
        reserve: The champion's minimum share.
        floor: The challenger's minimum share in the bandit stage.
        n_challengers: Challengers that start together; at least 1.
        maximum_step_per_hour: The largest change of a share in an hour; None for no bound.
    """

    decisions_per_day: float
    outcomes_per_decision: float
    reserve: float
    floor: float
    n_challengers: int = 1
    maximum_step_per_hour: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """A step, and how long it takes.

    Attributes:
        step: The step.
        starts: Day on which it begins, from the start of the launch, if those before take their typical time.
        least: Days that it takes at any traffic.
        typical: Days that it takes at this traffic; infinite if it never ends.
        most: Days after which it is inconclusive; infinite without a maximum duration.
        waits_for: The key of the plan that takes longest.
        share: The challenger's share; in the bandit stage its floor.
        sample: The part of the champion's decisions that it sees in shadow; 0 in other steps.
        champion_share: The champion's share; in the bandit stage its reserve.
        n_beside: Other challengers that there is room for in the same step.
    """

    step: Step
    starts: float
    least: float
    typical: float
    most: float
    waits_for: str
    share: float
    sample: float
    champion_share: float
    n_beside: int

    @property
    def ends(self) -> float:
        """Day on which it typically ends."""
        return self.starts + self.typical

    @property
    def is_bandit(self) -> bool:
        """Whether the policy decides."""
        return self.step.stage.kind is StageKind.BANDIT


def walk(plan: LaunchPlan, around: Surroundings) -> tuple[StepTime, ...]:
    """Return the steps of a plan with their times, in order."""
    times: list[StepTime] = []
    starts, before = 0.0, 0.0
    for step in steps_of(plan.stages):
        time = _time(step, plan, around, starts, before)
        times.append(time)
        starts, before = time.ends, time.share
    return tuple(times)


def _time(step: Step, plan: LaunchPlan, around: Surroundings, starts: float, before: float) -> StepTime:
    stage, is_bandit = step.stage, step.stage.kind is StageKind.BANDIT
    share = around.floor if step.share is None else step.share
    n_beside = _n_beside(share, around, is_shadow=stage.kind is StageKind.SHADOW)
    champion = around.reserve if is_bandit else max(1 - share * (1 + n_beside), 0.0)
    cycle = plan.cycle / _DAY
    minima = {
        "minimum_duration": (stage.minimum_duration or timedelta()) / _DAY,
        "whole_cycles": stage.whole_cycles * cycle,
    }
    if is_bandit:
        minima["minimum_cycles"] = plan.minimum_cycles * cycle
    elif not stage.has_minimum:
        minima["minimum_duration"] = stage.least_duration(plan.cycle) / _DAY
    sample = stage.sample if stage.kind is StageKind.SHADOW else 0.0
    seen = around.decisions_per_day * (champion * sample or share)
    waits = minima | {
        "minimum_decisions": _days(stage.minimum_decisions, seen),
        "minimum_outcomes": _days(stage.minimum_outcomes, seen * _posted(stage, around)),
    }
    waits_for = max(waits, key=lambda name: waits[name])
    return StepTime(
        step=step,
        starts=starts,
        least=max(minima.values()),
        typical=_reached(share, before, around, is_bandit=is_bandit) + waits[waits_for],
        most=inf if stage.maximum_duration is None else stage.maximum_duration / _DAY,
        waits_for=waits_for,
        share=share,
        sample=sample,
        champion_share=champion,
        n_beside=n_beside,
    )


def _n_beside(share: float, around: Surroundings, *, is_shadow: bool) -> int:
    """Return how many other challengers fit beside one at this share."""
    others = around.n_challengers - 1
    if share <= 0:
        return min(others, MOST_SHADOWS - 1) if is_shadow else others
    return min(others, int((1 - around.reserve - share) / share + _ROUNDING))


def _posted(stage: Stage, around: Surroundings) -> float:
    """Return the outcomes of a decision that count for `minimum_outcomes`: of a shadow, pairs."""
    return 1.0 if stage.kind is StageKind.SHADOW else around.outcomes_per_decision


def _days(number: float, per_day: float) -> float:
    if not number:
        return 0.0
    return number / per_day if per_day > 0 else inf


def _reached(share: float, before: float, around: Surroundings, *, is_bandit: bool) -> float:
    """Return the days until a step has its full share: its time starts then."""
    if around.maximum_step_per_hour is None or is_bandit:
        return 0.0
    return max(share - before, 0.0) / around.maximum_step_per_hour / _HOURS


def longest_bandit(plan: LaunchPlan) -> float:
    """Return the days that the bandit stage may last: its maximum duration, or eight cycles without one."""
    stage = plan.stages[-1]
    if stage.maximum_duration is not None:
        return stage.maximum_duration / _DAY
    return MOST_CYCLES * plan.cycle / _DAY


_ROUNDING: Final = 1e-9

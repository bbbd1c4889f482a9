"""The outlook: how long a lift takes to be seen at the traffic so far, in numbers and in words."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import fsum, isfinite
from typing import Final

from bandit.allocation import ExperimentState
from bandit.decision_id import Basis
from bandit.experiment import AnalysisUnit
from bandit.facts import Facts
from bandit.facts.grid import FactGrid
from bandit.inference.data.table import ValueScale
from bandit.inference.planning.power import Forecast, Plan, forecast, helpful_minimum_share
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.verdict.claims import ALPHA
from bandit.inference.verdict.families import family_of
from bandit.metric import Direction
from server.wording import counted, duration_text, minimum_share_text, rate_text, signed_percent

_DEFAULT_LIFT: Final = 0.1
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """The time until a relative lift of the reward metric would be seen.

    Attributes:
        lift: The relative lift; positive means more of the metric.
        unit: What evidence counts, and so the traffic.
        decisions_per_day: Decisions or units a day so far, drawn from the shares.
        measured: The time over which they were counted: since the start.
        forecast: When the lift would be seen, from the start.
        minimum_share: A minimum share of every arm that would bring a lift within reach that is out of it;
            None if it is within reach, or no such share helps.
        challenger: Id of the challenger that is planned for, of the smallest floor; empty if there is none.
    """

    lift: float
    unit: AnalysisUnit
    decisions_per_day: float
    measured: timedelta
    forecast: Forecast | CannotSay
    minimum_share: float | None = None
    challenger: str = ""


def look_out(
    state: ExperimentState,
    facts: Facts,
    floors: Mapping[int, float],
    *,
    started_at: datetime,
    grid: FactGrid,
    withheld: CannotSay | None,
    lift: float | None,
    challenger: str = "",
    seeks_remedy: bool = True,
) -> Outlook:
    """Return the outlook of a started experiment.

    Args:
        state: The experiment and its epochs.
        facts: The facts that evidence counts.
        floors: Arm number to its smallest declared floor.
        started_at: When the experiment started.
        grid: The facts by rows, of every arm that the experiment ever had.
        withheld: Why evidence is withheld; None if it is not.
        lift: The relative lift; None for a tenth in the better direction.
        challenger: Id of the challenger; by default that of the smallest floor.
        seeks_remedy: Whether to look for a minimum share that helps, which takes longer than the rest.
    """
    declared = state.experiment
    reward = declared.metric(declared.reward_metric)
    lift = lift or (_DEFAULT_LIFT if reward.direction is Direction.MAXIMIZE else -_DEFAULT_LIFT)
    measured = max(state.now - started_at, timedelta())
    counts = facts.count_decisions().items()
    n_decisions = sum(count for (_, basis), count in counts if basis is Basis.POLICY)
    outlook = Outlook(
        lift=lift,
        unit=declared.analysis_unit,
        decisions_per_day=n_decisions / (measured / _DAY) if measured else 0.0,
        measured=measured,
        forecast=withheld or CannotSay(Reason.NO_CHALLENGER),
        challenger=challenger
        or min(_challengers(state), key=lambda arm: _floor(state, floors, arm), default=""),
    )
    if withheld is not None or not outlook.challenger:
        return outlook
    plan = _plan(replace(state, facts=facts), floors, outlook, grid)
    if isinstance(plan, CannotSay):
        return replace(outlook, forecast=plan)
    remedy = helpful_minimum_share(plan, is_yes_no=reward.is_binary) if seeks_remedy else None
    return replace(outlook, forecast=forecast(plan, is_yes_no=reward.is_binary), minimum_share=remedy)


def _challengers(state: ExperimentState) -> list[str]:
    """Return the ids of the challengers in service."""
    return [arm.id for arm in state.arms if arm.eligible and arm.id != state.experiment.champion]


def _floor(state: ExperimentState, floors: Mapping[int, float], arm: str) -> float:
    return floors.get(state.arm_numbers[arm], 0.0)


def _plan(
    state: ExperimentState, floors: Mapping[int, float], outlook: Outlook, grid: FactGrid
) -> Plan | CannotSay:
    """Return the plan for the outlook's challenger, on the champion's mean so far."""
    declared = state.experiment
    reward, champion = declared.metric(declared.reward_metric), state.arm_numbers[declared.champion]
    if reward.window is None:
        return CannotSay(Reason.NO_WINDOW)
    if outlook.decisions_per_day == 0:
        return CannotSay(Reason.NO_TRAFFIC)
    sums = state.observations(reward, [champion])[champion].sums
    if sums.n == 0:
        return CannotSay(Reason.NOT_OBSERVED)
    scale, challengers = ValueScale.of(reward), _challengers(state)
    number = state.arm_numbers[outlook.challenger]
    family = family_of(state, grid, number, [arm for arm in grid.arms if arm != champion])
    in_service = (declared.champion, *challengers)
    return Plan(
        base_mean=min(max((sums.mean - scale.minimum) / scale.width, 0.0), 1.0),
        lift=outlook.lift,
        decisions_per_day=outlook.decisions_per_day,
        champion_floor=floors.get(champion, 0.0),
        challenger_floor=_floor(state, floors, outlook.challenger),
        rest=max(1 - fsum(_floor(state, floors, arm) for arm in in_service), 0.0),
        is_less_better=reward.direction is Direction.MINIMIZE,
        variance=None if reward.is_binary else sums.centred_squares / sums.n / scale.width**2,
        start=scale.minimum / scale.width,
        n_challengers=len(challengers),
        n_compared=family.n_challengers,
        alpha=ALPHA,
    )


def outlook_text(outlook: Outlook) -> str:
    """Return the outlook in words."""
    lift = f"a lift of {signed_percent(outlook.lift)}"
    if isinstance(outlook.forecast, CannotSay):
        return f"When {lift} would be seen can't be said: {_explanation(outlook, outlook.forecast)}."
    half, most = outlook.forecast.days_at_half, outlook.forecast.days_at_most
    chances = _after(half, "at even odds")
    if isfinite(half):
        chances += f", {_after(most, 'with a chance of four fifths')}"
    seconds = outlook.measured.total_seconds()
    rate = rate_text(outlook.decisions_per_day, seconds, counted(outlook.unit))
    traffic = f"{rate}, as measured over {duration_text(seconds)}"
    text = f"{lift.capitalize()} would be seen {chances}, at the declared floors and {traffic}."
    return f"{text}{_remedy(outlook.minimum_share)}"


def _explanation(outlook: Outlook, missing: CannotSay) -> str:
    if missing.reason is Reason.CHALLENGER_WITHOUT_PLANNED_SHARE:
        return f"{outlook.challenger} gets no share"
    return missing.explanation


def _after(days: float, chance: str) -> str:
    return (
        f"after {duration_text(days * _DAY.total_seconds())} {chance}"
        if isfinite(days)
        else f"never {chance}"
    )


def _remedy(minimum_share: float | None) -> str:
    return "" if minimum_share is None else f" {minimum_share_text(minimum_share)}"

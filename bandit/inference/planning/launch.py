"""Forecasts of launches, before they start: what may go wrong how often, and how long everything takes.

The bounds of errors hold for every launch: they follow from the levels of the hypotheses
(`bandit.inference.verdict.families`). Everything else is simulated for the given traffic, 500 runs a
figure, so that a probability has a standard error of at most .022; see `launch_runs` and `harm_runs`. What
the holdback can see follows from expected sums (`power`), which errs on the long side.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from math import inf, isfinite, log
from typing import Final, TypeVar

import numpy as np

from bandit.inference.data.table import FloatArray
from bandit.inference.planning.expected_sums import CHALLENGER, CHAMPION
from bandit.inference.planning.harm_runs import HarmRuns, SharesOverTime, harmed_rate, simulate_harm
from bandit.inference.planning.launch_forecast import (
    HARMS,
    Guardrail,
    GuardrailForecast,
    HarmForecast,
    HoldbackForecast,
    LaunchForecast,
    PromotionForecast,
    Risk,
)
from bandit.inference.planning.launch_runs import Course, LaunchRuns, simulate
from bandit.inference.planning.power import Plan, forecast
from bandit.inference.planning.walk import StepTime, Surroundings, longest_bandit, walk
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.verdict.claims import N_DIRECTIONS
from bandit.launch.plan import LaunchPlan

N_RUNS: Final = 500
"""Runs of each simulation."""

_Runs = TypeVar("_Runs", LaunchRuns, HarmRuns)
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSetting:
    """A launch that has not started.

    Attributes:
        plan: The launch plan.
        goal: Traffic, base, lift, floors and range of the reward metric. Only the first challenger has the
            lift; the others are like the champion.
        is_yes_no: Whether the reward metric is yes/no.
        window: How long after its decision an outcome of the reward metric counts; None if it never does.
        outcomes_per_decision: Outcomes of it that callers post for a decision.
        guardrails: Yes/no guardrails with their rates.
        n_guardrails: All guardrails: they share the level for a rollback.
        maximum_share: The largest share of a challenger.
        maximum_step_per_hour: The largest change of a share in an hour; None for no bound.
    """

    plan: LaunchPlan
    goal: Plan
    is_yes_no: bool
    window: timedelta | None
    outcomes_per_decision: float
    guardrails: tuple[Guardrail, ...] = ()
    n_guardrails: int = 0
    maximum_share: float = 1.0
    maximum_step_per_hour: float | None = None


def forecast_launch(
    setting: LaunchSetting,
    *,
    seed: int = 1,
    n_runs: int = N_RUNS,
    report: Callable[[int, int], None] | None = None,
) -> LaunchForecast | CannotSay:
    """Forecast a launch, or return the one condition that it breaks.

    Args:
        setting: The launch.
        seed: Seed of the simulations.
        n_runs: Runs of each.
        report: Is called with how many of how many simulations are done.
    """
    planned = forecast(setting.goal, is_yes_no=setting.is_yes_no)
    if isinstance(planned, CannotSay) and planned.reason not in _OF_FLOORS:
        return planned
    return _Forecaster(setting, seed, n_runs, report or (lambda _done, _total: None)).forecast()


_OF_FLOORS: Final = {Reason.CHAMPION_WITHOUT_PLANNED_SHARE, Reason.CHALLENGER_WITHOUT_PLANNED_SHARE}


class _Forecaster:
    """Forecasts one launch."""

    def __init__(
        self, setting: LaunchSetting, seed: int, n_runs: int, report: Callable[[int, int], None]
    ) -> None:
        self._setting = setting
        self._rng = np.random.default_rng(seed)
        self._n_runs = n_runs
        self._report = report
        self._n_done, self._n_all = 0, 2 + (1 + len(HARMS)) * len(setting.guardrails)
        goal = setting.goal
        self._around = Surroundings(
            decisions_per_day=goal.decisions_per_day,
            outcomes_per_decision=setting.outcomes_per_decision,
            reserve=goal.champion_floor,
            floor=goal.challenger_floor,
            n_challengers=goal.n_challengers,
            maximum_step_per_hour=setting.maximum_step_per_hour,
        )

    def forecast(self) -> LaunchForecast:
        steps = self.steps()
        goal, alpha = self._setting.goal, self._setting.goal.alpha
        together = goal.n_challengers / (goal.n_challengers + 1)
        promotion, false, shares = self._promotion(steps)
        guardrails = tuple(self._guardrail(each, shares) for each in self._setting.guardrails)
        rollback = alpha if self._setting.n_guardrails else 0.0
        return LaunchForecast(
            steps=steps,
            promotion=promotion,
            false_promotion=Risk(
                bound=together * alpha / N_DIRECTIONS, bound_of_all=alpha / N_DIRECTIONS, simulated=false
            ),
            false_rollback=Risk(
                bound=together * rollback,
                bound_of_all=rollback,
                simulated=min(sum(each.false for each in guardrails), 1.0) if guardrails else None,
            ),
            guardrails=guardrails,
            holdback=self._holdback(),
            n_runs=self._n_runs,
        )

    def _promotion(
        self, steps: tuple[StepTime, ...]
    ) -> tuple[PromotionForecast | None, float | None, SharesOverTime]:
        """Return the forecast, the probability of a false promotion, and the expected shares."""
        if not isfinite(steps[-1].starts) or self._setting.window is None:
            return None, None, self._stuck(steps)
        course = self.course()
        level = log(N_DIRECTIONS * hypotheses(1) / self._setting.goal.alpha)
        runs = self._done(simulate(course, self._n_runs, self._rng))
        alike = replace(course, means=(course.means[0],) * 2, variances=(course.variances[0],) * 2)
        false = self._done(simulate(alike, self._n_runs, self._rng)).promoted_on(level)
        days = runs.promoted_on(level)
        lower, middle, upper = np.quantile(days, (0.25, 0.5, 0.75), method="inverted_cdf").tolist()
        found = PromotionForecast(
            earliest=course.earliest + course.window,
            ends=course.entry + course.longest,
            probability=float(np.isfinite(days).mean()),
            day=middle,
            quartiles=(lower, upper),
        )
        return found, float(np.isfinite(false).mean()), _mean_shares(runs)

    def steps(self) -> tuple[StepTime, ...]:
        """Return the steps with their times."""
        return walk(self._setting.plan, self._around)

    def course(self) -> Course:
        """Return what is simulated, if no step before the bandit stage takes forever."""
        steps = self.steps()
        setting, goal = self._setting, self._setting.goal
        return Course(
            steps=steps,
            longest=longest_bandit(setting.plan),
            cycle=setting.plan.cycle / _DAY,
            minimum_cycles=setting.plan.minimum_cycles,
            decisions_per_day=goal.decisions_per_day,
            window=_days(setting.window),
            means=goal.means,
            variances=goal.variances,
            is_less_better=goal.is_less_better,
            is_yes_no=setting.is_yes_no,
            reserve=goal.champion_floor,
            floor=goal.challenger_floor,
            maximum_share=setting.maximum_share,
            design=goal.design,
        )

    def _stuck(self, steps: Sequence[StepTime]) -> SharesOverTime:
        """Return the shares of a launch that stays in a step that never ends."""
        reached = [step for step in steps if isfinite(step.starts)]
        days = [step.ends if isfinite(step.ends) else _at_most(step, self._setting.plan) for step in reached]
        return SharesOverTime(
            ends=np.array(days),
            champion=np.array([step.champion_share for step in reached]),
            challenger=np.array([step.share for step in reached]),
            sample=np.array([step.sample for step in reached]),
            decisions_per_day=self._setting.goal.decisions_per_day,
        )

    def _guardrail(self, guardrail: Guardrail, shares: SharesOverTime) -> GuardrailForecast:
        base, metric = guardrail.base, guardrail.metric
        last = float(shares.ends[-1])
        false = self._harm(guardrail, base, shares).fired_on(self._level(1))
        harms = []
        for times in HARMS:
            rate = harmed_rate(metric, base, times)
            runs = self._harm(guardrail, rate, shares)
            days = runs.fired_on(self._level(1))
            middle = _median(days)
            harms.append(
                HarmForecast(
                    times=times,
                    probability=float(np.mean(days <= last)),
                    day=middle,
                    decisions=middle * shares.decisions_per_day,
                    last_day=_median(runs.fired_on(self._level(self._setting.goal.n_challengers))),
                )
            )
        return GuardrailForecast(
            guardrail=guardrail, harms=tuple(harms), false=float(np.isfinite(false).mean())
        )

    def _harm(self, guardrail: Guardrail, rate: float, shares: SharesOverTime) -> HarmRuns:
        rates = guardrail.base, rate
        return self._done(simulate_harm(guardrail.metric, rates, shares, self._n_runs, self._rng))

    def _level(self, number: int) -> float:
        """Return ln of the e-value for a rollback by one guardrail, of the hypothesis with this number."""
        return log(max(self._setting.n_guardrails, 1) * hypotheses(number) / self._setting.goal.alpha)

    def _holdback(self) -> HoldbackForecast | None:
        holdback = self._setting.plan.holdback
        if holdback is None:
            return None
        days = holdback.cycles * self._setting.plan.cycle / _DAY
        visible = max(days - _days(self._setting.window), 0.0)
        losses = [
            visible_loss(self._setting, holdback.share, visible, is_sure=each) for each in (False, True)
        ]
        return HoldbackForecast(days=days, at_half=losses[0], at_most=losses[1])

    def _done(self, runs: _Runs) -> _Runs:
        self._n_done += 1
        self._report(self._n_done, self._n_all)
        return runs


def hypotheses(number: int) -> int:
    """Return what the error rate is divided by for the hypothesis with this number, from 1."""
    return number * (number + 1)


def visible_loss(setting: LaunchSetting, share: float, days: float, *, is_sure: bool) -> float:
    """Return the smallest loss after a promotion that the former champion's share shows within some days.

    Args:
        setting: The launch.
        share: The former champion's share.
        days: The time.
        is_sure: Whether it is seen with a probability of about .8, and not only .5.

    Returns:
        A part of the former champion's mean, exact to a thousandth; infinite if not even .99 is seen.
    """

    def is_seen(loss: float) -> bool:
        found = forecast(_reversed(setting.goal, share, loss), is_yes_no=setting.is_yes_no)
        if isinstance(found, CannotSay):
            return False
        return (found.days_at_most if is_sure else found.days_at_half) <= days

    least, most = 0.0, _LARGEST_LOSS
    if not is_seen(most):
        return inf
    while most - least > _EXACT:
        middle = (least + most) / 2
        least, most = (least, middle) if is_seen(middle) else (middle, most)
    return most


def _reversed(goal: Plan, share: float, loss: float) -> Plan:
    """Return the plan in which a promoted challenger has the loss, and the former champion is compared."""
    sign = 1 if goal.is_less_better else -1
    former = goal.base_mean + goal.start
    promoted = former + sign * loss * abs(former)
    if abs(promoted) < _ZERO:
        promoted = _ZERO
    return replace(
        goal,
        base_mean=promoted - goal.start,
        lift=(former - promoted) / abs(promoted),
        champion_floor=1 - share,
        challenger_floor=share,
        rest=0.0,
        n_challengers=1,
        n_compared=hypotheses(goal.n_challengers + 1),
    )


def _days(window: timedelta | None) -> float:
    return 0.0 if window is None else window / _DAY


def _mean_shares(runs: LaunchRuns) -> SharesOverTime:
    means, steps = runs.shares.mean(axis=0), runs.course.steps
    places = np.searchsorted([step.starts for step in steps], runs.starts, side="right") - 1
    return SharesOverTime(
        ends=runs.ends,
        champion=means[:, CHAMPION],
        challenger=means[:, CHALLENGER],
        sample=np.array([step.sample for step in steps])[places],
        decisions_per_day=runs.course.decisions_per_day,
    )


def _at_most(step: StepTime, plan: LaunchPlan) -> float:
    most = step.most if isfinite(step.most) else longest_bandit(plan)
    return step.starts + most


def _median(days: FloatArray) -> float:
    return float(np.quantile(days, 0.5, method="inverted_cdf"))


_LARGEST_LOSS: Final = 0.99
_EXACT: Final = 1e-3
_ZERO: Final = 1e-9

"""How long until a lift would be seen: a test's expected path, solved for its crossing.

The approximation is deterministic drift: after N decisions the sums of a test lie about their expectation, so
E crosses 1/alpha about when E of the expected sums does (chance .5 or somewhat more), and with chance 1 - b
about when E does at sums that are z_b standard deviations less lucky. The maximum over looks only helps, and
a learning policy gives the losing arm more than its floor until it knows. So plans are on the long side: half
of simulated experiments saw the lift after .7 to .8 of the decisions planned with an even split, .4 to .5 of
them with floors of 20 % and 5 %, and a third with 5 % and 5 %.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, isfinite, log, log1p, sqrt
from typing import Final

import numpy as np
import scipy

from bandit.inference.design import Design
from bandit.inference.odds import PROMOTION_GRID
from bandit.inference.reasons import CannotSay, Reason

MOST_DECISIONS: Final = 1e15
"""What needs more is never seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An experiment as it is planned.

    Attributes:
        base_mean: The champion's mean outcome as a position in [0, 1]: the rate of a yes/no metric.
        lift: The relative lift to be seen, such as .1 or -.1; not 0.
        variance: Variance of one outcome in positions; None: that of a yes/no metric with the mean.
        decisions_per_day: Decisions drawn from the shares, over all arms; positive.
        champion_share: Expected share of the champion; see `expected_shares`.
        challenger_share: Expected share of one challenger; its floor is the most careful choice.
        n_challengers: Holm divides alpha by this many at first.
        design: Error rate and floors, with arm 0 as the champion and 1 as the challenger.
    """

    base_mean: float
    lift: float
    decisions_per_day: float
    champion_share: float
    challenger_share: float
    variance: float | None = None
    n_challengers: int = 1
    design: Design

    @property
    def means(self) -> tuple[float, float]:
        """Of champion and challenger, in positions."""
        return self.base_mean, self.base_mean * (1 + self.lift)

    @property
    def variances(self) -> tuple[float, float]:
        """Of one outcome of champion and challenger."""
        if self.variance is not None:
            return self.variance, self.variance
        champion, challenger = self.means
        return champion * (1 - champion), challenger * (1 - challenger)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Decisions and days until a lift is seen; infinite where it never is.

    Attributes:
        decisions_at_half: Decisions over all arms after which it is seen with a chance of about .5.
        decisions_at_most: The same for .8.
        days_at_half: `decisions_at_half` at the planned traffic.
        days_at_most: `decisions_at_most` at the planned traffic.
    """

    decisions_at_half: float
    decisions_at_most: float
    days_at_half: float
    days_at_most: float


def expected_shares(
    champion: float, challenger: float, rest: float, n_arms: int, *, is_better: bool
) -> tuple[float, float]:
    """Shares of champion and challenger to plan with, where a policy learns; cautious for either.

    If the challenger is better the champion falls to its floor, and the challenger rises from where equal
    arms begin, which is what it is taken to keep; if it is worse, the other way round.

    Args:
        champion: The champion's floor.
        challenger: The challenger's floor.
        rest: One less the sum of all floors: what the policy distributes; 0 for a static split.
        n_arms: All arms in service.
        is_better: Whether the lift is for the better.

    >>> expected_shares(0.2, 0.05, 0.75, 2, is_better=True)
    (0.2, 0.425)
    """
    even = max(rest, 0.0) / n_arms
    return (champion, challenger + even) if is_better else (champion + even, challenger)


def forecast_aipw(plan: Plan) -> Forecast | CannotSay:
    """For the AIPW e-process."""
    if not _is_sound(plan):
        return CannotSay(Reason.NO_EFFECT_PLANNED)
    alpha = plan.design.alpha / plan.n_challengers
    order = (1, 0) if plan.lift > 0 else (0, 1)
    mixture = plan.design.contrast_mixture(*order, plan.design.alpha)
    gain = abs(plan.means[1] - plan.means[0])
    variance = plan.variances[0] / plan.champion_share + plan.variances[1] / plan.challenger_share

    def log_e_value(n: float, luck: float) -> float:
        total = n * gain - luck * sqrt(n * variance)
        return float(mixture.log_e_value(total, n * variance))

    return _forecast(plan, log_e_value, alpha)


def forecast_odds(plan: Plan) -> Forecast | CannotSay:
    """For the conditional-odds e-process of a yes/no metric."""
    if not _is_sound(plan):
        return CannotSay(Reason.NO_EFFECT_PLANNED)
    alpha = plan.design.alpha / plan.n_challengers
    odds = plan.challenger_share / plan.champion_share
    champion, challenger = (plan.champion_share * plan.means[0], plan.challenger_share * plan.means[1])
    grid = np.array(PROMOTION_GRID) ** (1 if plan.lift > 0 else -1)
    surprise = np.array([log1p(odds * (ratio - 1) / (1 + odds)) for ratio in grid])
    won, lost = np.log(grid) - surprise, -surprise
    drift = challenger * won + champion * lost
    spread = np.maximum(challenger * won**2 + champion * lost**2 - drift**2, 0.0)

    def log_e_value(n: float, luck: float) -> float:
        logs = n * drift - luck * np.sqrt(n * spread)
        return float(scipy.special.logsumexp(logs)) - log(len(grid))

    return _forecast(plan, log_e_value, alpha)


def forecast_report(plan: Plan, *, is_yes_no: bool) -> Forecast | CannotSay:
    """For the test of the report: AIPW, or for a yes/no metric the mean of both e-processes.

    The mean of two e-processes reaches a level when one of them reaches its double, so the earlier of both at
    half of alpha is the forecast.
    """
    if not is_yes_no:
        return forecast_aipw(plan)
    careful = replace(plan, design=replace(plan.design, alpha=plan.design.alpha / 2))
    aipw, odds = forecast_aipw(careful), forecast_odds(careful)
    if isinstance(aipw, CannotSay) or isinstance(odds, CannotSay):
        return aipw
    return min(aipw, odds, key=lambda forecast: forecast.decisions_at_half)


def _forecast(plan: Plan, log_e_value: Callable[[float, float], float], alpha: float) -> Forecast:
    luck_of_four_fifths = float(scipy.special.ndtri(0.8))
    half, most = (_crossing(log_e_value, luck, -log(alpha)) for luck in (0.0, luck_of_four_fifths))
    return Forecast(
        decisions_at_half=half,
        decisions_at_most=most,
        days_at_half=half / plan.decisions_per_day,
        days_at_most=most / plan.decisions_per_day,
    )


def _crossing(log_e_value: Callable[[float, float], float], luck: float, target: float) -> float:
    """The last N below which E has not crossed yet, by bisection on ln N; infinite past `MOST_DECISIONS`."""
    lower, upper = 0.0, log(MOST_DECISIONS)
    if log_e_value(MOST_DECISIONS, luck) < target:
        return inf
    for _ in range(_BISECTIONS):
        middle = 0.5 * (lower + upper)
        is_short = log_e_value(float(np.exp(middle)), luck) < target
        lower, upper = (middle, upper) if is_short else (lower, middle)
    return float(np.exp(upper))


def _is_sound(plan: Plan) -> bool:
    """Whether there is a difference to find, and traffic on both arms to find it with."""
    sizes = (plan.base_mean, plan.decisions_per_day, plan.champion_share, plan.challenger_share)
    is_given = all(isfinite(size) and size > 0 for size in sizes) and plan.n_challengers > 0
    return is_given and plan.lift != 0 and all(0 <= mean <= 1 for mean in plan.means)


_BISECTIONS = 80

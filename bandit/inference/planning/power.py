"""Power analysis: how long until a lift would be seen.

A test's sums are followed along the expected path of shares until its e-value E crosses 1/alpha. Shares are
those that a learning policy is expected to give (`share_path`), and determine how the sums drift and spread.
After N decisions the sums lie around their expectation, so E crosses about when E of the expected sums does
(probability .5 or somewhat more), and with probability 1 - b about when E does at sums that are z_b standard
deviations worse. AIPW and odds are lucky or unlucky together, since they see the same outcomes.

The maximum over looks is left out: it would shorten plans by a tenth or so, and too long is better than too
short. In simulations (yes/no metrics at rates of .05 to .3 and lifts of 5 to 20 %, up or down, 400 runs
each) half had seen the lift after .74 to .91 of the planned decisions with an even split, .73 to .85 with
floors of 20 % and 5 %, .66 to .82 with 5 % and 5 %, .59 to .88 with 1 % and 1 %, .87 to .96 among five arms.
If the losing arm has no floor, half had seen it after a third, or later than could be simulated. Medians of a
real-valued metric were at .91 to 1.06: plans ignore what predictions cost until the first epoch has closed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isfinite, log

import numpy as np
import scipy

from bandit.inference.data.table import FloatArray
from bandit.inference.planning.share_path import Race, SharePath, follow
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.odds import PROMOTION_GRID

LogEValues = Callable[[float], FloatArray]
"""From bad luck, in standard deviations, to ln E at the end of each step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A planned experiment: one challenger has the lift, any others are like the champion.

    Attributes:
        base_mean: The champion's mean outcome as a position in [0, 1]: the rate of a yes/no metric.
        lift: The relative lift to be seen, such as .1 or -.1; not 0.
        variance: Variance of one outcome in positions; None: that of a yes/no metric with the mean.
        decisions_per_day: Decisions drawn from the shares, over all arms; positive.
        champion_floor: The champion's share whatever the beliefs: its floor, or its part of a split.
        challenger_floor: The same for the challenger.
        rest: 1 minus the sum of all floors, including other challengers': the part that the policy
            distributes by P(best); 0 for a static split.
        is_less_better: True if the policy favours the smaller mean.
        n_challengers: Holm divides alpha by this number at first.
        design: Error rate and floors, with arm 0 as the champion and 1 as the challenger.
    """

    base_mean: float
    lift: float
    decisions_per_day: float
    champion_floor: float
    challenger_floor: float
    rest: float = 0.0
    is_less_better: bool = False
    variance: float | None = None
    n_challengers: int = 1
    design: Design

    @property
    def means(self) -> tuple[float, float]:
        """Means of champion and challenger, in positions."""
        return self.base_mean, self.base_mean * (1 + self.lift)

    @property
    def variances(self) -> tuple[float, float]:
        """Variances of one outcome of champion and challenger."""
        if self.variance is not None:
            return self.variance, self.variance
        champion, challenger = self.means
        return champion * (1 - champion), challenger * (1 - challenger)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Decisions and days until a lift is seen; infinite if it never is.

    Attributes:
        decisions_at_half: Decisions over all arms after which it is seen with a probability of about .5.
        decisions_at_most: The same for .8.
        days_at_half: `decisions_at_half` at the planned traffic.
        days_at_most: `decisions_at_most` at the planned traffic.
        champion_share: The champion's expected share of `decisions_at_half`; in the long run, if infinite.
        challenger_share: The same for the challenger.
    """

    decisions_at_half: float
    decisions_at_most: float
    days_at_half: float
    days_at_most: float
    champion_share: float
    challenger_share: float


def expected_shares(plan: Plan) -> SharePath:
    """Return the shares of champion and challenger as the policy learns; constant for a static split."""
    n_others = plan.n_challengers - 1
    others = max(1 - plan.rest - plan.champion_floor - plan.challenger_floor, 0.0)
    gap = plan.means[1] - plan.means[0]
    return follow(
        Race(
            floors=(plan.champion_floor, plan.challenger_floor, others / max(n_others, 1)),
            rest=plan.rest,
            gap=-gap if plan.is_less_better else gap,
            variances=(*plan.variances, plan.variances[0]),
            n_others=n_others,
        )
    )


def forecast_aipw(plan: Plan) -> Forecast | CannotSay:
    """Forecast for the AIPW e-process."""
    if not _is_sound(plan):
        return CannotSay(Reason.NO_EFFECT_PLANNED)
    path = expected_shares(plan)
    return _forecast(plan, path, _aipw(plan, path))


def forecast_odds(plan: Plan) -> Forecast | CannotSay:
    """Forecast for the conditional-odds e-process of a yes/no metric."""
    if not _is_sound(plan):
        return CannotSay(Reason.NO_EFFECT_PLANNED)
    path = expected_shares(plan)
    return _forecast(plan, path, _odds(plan, path))


def forecast_report(plan: Plan, *, is_yes_no: bool) -> Forecast | CannotSay:
    """Forecast for the report's test: AIPW, or for a yes/no metric the mean of both e-processes."""
    if not is_yes_no:
        return forecast_aipw(plan)
    if not _is_sound(plan):
        return CannotSay(Reason.NO_EFFECT_PLANNED)
    path = expected_shares(plan)
    aipw, odds = _aipw(plan, path), _odds(plan, path)
    return _forecast(plan, path, lambda luck: np.logaddexp(aipw(luck), odds(luck)) - log(2))


def _aipw(plan: Plan, path: SharePath) -> LogEValues:
    """Return ln E from the sum of differences; steps with a share below the design's floor don't count."""
    shares = (path.champion, path.challenger)
    is_used = np.logical_and(*(share >= plan.design.floor(arm) for arm, share in enumerate(shares)))
    n = path.decisions * is_used
    inverse = [np.divide(1.0, share, out=np.zeros_like(share), where=is_used) for share in shares]
    total = np.cumsum(n) * abs(plan.means[1] - plan.means[0])
    variance = np.cumsum(n * (plan.variances[0] * inverse[0] + plan.variances[1] * inverse[1]))
    order = (1, 0) if plan.lift > 0 else (0, 1)
    mixture = plan.design.contrast_mixture(*order, plan.design.alpha)
    return lambda luck: mixture.log_e_value(total - luck * np.sqrt(variance), variance)


def _odds(plan: Plan, path: SharePath) -> LogEValues:
    """Return ln E from the drift and spread of each ratio's log-wealth, by the odds of each step."""
    grid = np.array(PROMOTION_GRID) ** (1 if plan.lift > 0 else -1)
    champion, challenger = (
        (share * mean)[:, np.newaxis]
        for share, mean in zip((path.champion, path.challenger), plan.means, strict=True)
    )
    part = (path.challenger / (path.champion + path.challenger))[:, np.newaxis]
    surprise = np.log1p(part * (grid - 1))
    won, lost = np.log(grid) - surprise, -surprise
    drift = challenger * won + champion * lost
    spread = np.maximum(challenger * won**2 + champion * lost**2 - drift**2, 0.0)
    n = path.decisions[:, np.newaxis]
    drifts, spreads = np.cumsum(n * drift, axis=0), np.sqrt(np.cumsum(n * spread, axis=0))
    return lambda luck: np.asarray(scipy.special.logsumexp(drifts - luck * spreads, axis=1) - log(len(grid)))


def _forecast(plan: Plan, path: SharePath, log_e_values: LogEValues) -> Forecast:
    target = log(plan.n_challengers / plan.design.alpha)
    luck_of_four_fifths = float(scipy.special.ndtri(0.8))
    half, most = (_crossing(path.ends, log_e_values(luck), target) for luck in (0.0, luck_of_four_fifths))
    champion, challenger = path.mean_shares(half)
    return Forecast(
        decisions_at_half=half,
        decisions_at_most=most,
        days_at_half=half / plan.decisions_per_day,
        days_at_most=most / plan.decisions_per_day,
        champion_share=champion,
        challenger_share=challenger,
    )


def _crossing(ends: FloatArray, log_e_values: FloatArray, target: float) -> float:
    """Return the first N at which ln E reaches the target, interpolated in its step; infinite if never."""
    if not np.any(log_e_values >= target):
        return inf
    last = int(np.argmax(log_e_values >= target))
    step = slice(max(last - 1, 0), last + 1)
    return float(np.interp(target, log_e_values[step], ends[step]))


def _is_sound(plan: Plan) -> bool:
    """True if there is a difference to find, and traffic on both arms."""
    shares = (plan.champion_floor + plan.rest, plan.challenger_floor + plan.rest)
    sizes = (plan.base_mean, plan.decisions_per_day, *shares)
    is_given = all(isfinite(size) and size > 0 for size in sizes) and plan.n_challengers > 0
    return is_given and plan.lift != 0 and all(0 <= mean <= 1 for mean in plan.means)

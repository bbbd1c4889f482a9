"""Power analysis: how long until a lift would be seen.

The sums of the report's test are followed along the expected path of shares until its e-value E reaches the
level of a finding. Shares are those that a learning policy is expected to give (`share_path`), and determine
how the sums drift and spread (`expected_sums`). After N decisions the sums lie around their expectation, so E
crosses about when E of the expected sums does (probability .5 or somewhat more), and with probability 1 - b
about when E does at sums that are z_b standard deviations worse.

The maximum over looks is left out: it would shorten plans, and too long is better than too short. In
simulations (`benchmarks/validity/studies/plans.py`; rates of .05 to .3, lifts of 5 to 20 %, up or down, 400
runs each, so a median errs by some .05) half had seen the lift after this part of the planned decisions:

====================  ===========  ===========================
floors                yes/no       other, by bounded scores
====================  ===========  ===========================
an even split         .76 to .80   .87 to .96
20 % and 5 %          .79 to .84   .88 to .98
5 % and 5 %           .86 to .99   .95 to 1.05
1 % and 1 %           .73 to .97   .98 to 1.02
five arms, 20 and 5   .78 to .94   .93 to 1.05
====================  ===========  ===========================

By the plan for four fifths, .80 to .92 of the runs had. If the losing arm has no floor, plans are unreliable:
the middle half of 200 runs had seen the lift after .05 to 1.3 of the planned decisions.
"""

from dataclasses import dataclass, replace
from math import fsum, inf, isfinite
from typing import Final

import numpy as np
import scipy

from bandit.inference.data.pairs import Pair
from bandit.inference.data.table import FloatArray
from bandit.inference.planning.expected_sums import (
    CHALLENGER,
    CHAMPION,
    OTHERS,
    Outcomes,
    expected_pair,
    unlucky,
)
from bandit.inference.planning.share_path import Race, SharePath, follow
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.bounded_scores import BoundedScores, BoundedTest
from bandit.inference.sequential.centred_odds import CentredOdds
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.results import EProcess
from bandit.inference.sequential.search import Sign

FAR_DAYS: Final = 3_652.5
"""Ten years: a lift that takes longer at even odds is out of reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A planned experiment: one challenger has the lift, any others are like the champion.

    Attributes:
        base_mean: The champion's mean outcome as a position in [0, 1]: the rate of a yes/no metric.
        lift: The relative lift to be seen, such as .1 or -.1; not 0. Of a negative mean, a part of its size.
        decisions_per_day: Decisions drawn from the shares, over all arms; positive.
        champion_floor: The champion's share whatever the beliefs: its floor, or its part of a split.
        challenger_floor: The same for the challenger.
        rest: 1 minus the sum of all floors, including other challengers': the part that the policy
            distributes by P(best); 0 for a static split.
        is_less_better: True if the policy favours the smaller mean.
        variance: Variance of one outcome in positions; None: that of a yes/no metric with the mean.
        start: The range's minimum over its width: the value at position 0, in widths.
        n_challengers: Challengers in service, which share the traffic; at least 1.
        n_compared: Challengers that share the error rate: all that the experiment ever had; None: those in
            service.
        alpha: Error rate of findings, in (0, 0.5).
    """

    base_mean: float
    lift: float
    decisions_per_day: float
    champion_floor: float
    challenger_floor: float
    rest: float = 0.0
    is_less_better: bool = False
    variance: float | None = None
    start: float = 0.0
    n_challengers: int = 1
    n_compared: int | None = None
    alpha: float = 0.05

    @property
    def means(self) -> tuple[float, float]:
        """Means of champion and challenger, in positions."""
        return self.base_mean, self.base_mean + self.lift * abs(self.base_mean + self.start)

    @property
    def variances(self) -> tuple[float, float]:
        """Variances of one outcome of champion and challenger: at most those of yes/no outcomes."""
        champion, challenger = (mean * (1 - mean) for mean in self.means)
        if self.variance is not None:
            return min(self.variance, champion), min(self.variance, challenger)
        return champion, challenger

    @property
    def others_floor(self) -> float:
        """The sum of the floors of all other challengers."""
        return max(1 - fsum((self.rest, self.champion_floor, self.challenger_floor)), 0.0)

    @property
    def design(self) -> Design:
        """The design of the test."""
        floors = {CHAMPION: self.champion_floor, CHALLENGER: self.challenger_floor, OTHERS: self.others_floor}
        n_compared = self.n_challengers if self.n_compared is None else self.n_compared
        return Design(alpha=self.alpha, floors=floors, n_challengers=n_compared)

    def with_minimum_share(self, minimum: float) -> "Plan":
        """Return the plan if every arm has at least this share: additive, as in `bandit.limits`."""
        part = 1 - minimum * (self.n_challengers + 1)
        return replace(
            self,
            champion_floor=minimum + part * self.champion_floor,
            challenger_floor=minimum + part * self.challenger_floor,
            rest=part * self.rest,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Decisions and days until a lift is seen; infinite if it never is.

    It never is if the losing arm runs out of traffic, or the lift is too small for the test: centred odds bet
    at least .003, which gains only on a difference above .0015 of the variance, p (1 - p).

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
    gap = plan.means[1] - plan.means[0]
    return follow(
        Race(
            floors=(plan.champion_floor, plan.challenger_floor, plan.others_floor / max(n_others, 1)),
            rest=plan.rest,
            gap=-gap if plan.is_less_better else gap,
            variances=(*plan.variances, plan.variances[0]),
            n_others=n_others,
        )
    )


def forecast(plan: Plan, *, is_yes_no: bool) -> Forecast | CannotSay:
    """Forecast when the report's test finds the lift, or return the one condition that the plan breaks.

    Args:
        plan: The plan.
        is_yes_no: Whether the test is that of a yes/no metric, centred odds; otherwise bounded scores.
    """
    broken = _broken_condition(plan)
    if broken is not None:
        return CannotSay(broken)
    path, outcomes = expected_shares(plan), Outcomes(means=plan.means, variances=plan.variances)
    pair = expected_pair(path, outcomes)
    if isinstance(pair, CannotSay):
        return pair
    sign: Sign = 1 if plan.lift > 0 else -1
    processes = [
        _process(unlucky(pair, outcomes, sign, luck), sign, plan.design, is_yes_no=is_yes_no)
        for luck in (0.0, _LUCK_OF_FOUR_FIFTHS)
    ]
    half, most = (_crossing(path.ends[pair.rows], each, plan.design.log_level) for each in processes)
    champion, challenger = path.mean_shares(half)
    return Forecast(
        decisions_at_half=half,
        decisions_at_most=most,
        days_at_half=half / plan.decisions_per_day,
        days_at_most=most / plan.decisions_per_day,
        champion_share=champion,
        challenger_share=challenger,
    )


def helpful_minimum_share(plan: Plan, *, is_yes_no: bool) -> float | None:
    """Return the smallest minimum share of every arm that brings a far forecast within reach.

    Returns:
        One of .01, .02, .05 and .1, above the smaller floor: the first at which the lift is seen within
        `FAR_DAYS` at even odds, or, if it is never seen at the plan's floors, ever. None if the plan is
        within reach, has no forecast, or no such share helps.
    """
    found = forecast(plan, is_yes_no=is_yes_no)
    if isinstance(found, CannotSay) or found.days_at_half <= FAR_DAYS:
        return None
    share_to_days = {}
    for share in _MINIMUM_SHARES:
        if min(plan.champion_floor, plan.challenger_floor) < share <= 1 / (plan.n_challengers + 1):
            raised = forecast(plan.with_minimum_share(share), is_yes_no=is_yes_no)
            share_to_days[share] = inf if isinstance(raised, CannotSay) else raised.days_at_half
    near = [share for share, days in share_to_days.items() if days <= FAR_DAYS]
    finite = [share for share, days in share_to_days.items() if isfinite(days)]
    return min(near or (finite if found.days_at_half == inf else []), default=None)


def _broken_condition(plan: Plan) -> Reason | None:
    """Return the first condition of a plan that is broken, if any."""
    base, lifted = plan.means
    is_broken = {
        Reason.NO_CHALLENGER: plan.n_challengers < 1,
        Reason.NO_TRAFFIC: not (isfinite(plan.decisions_per_day) and plan.decisions_per_day > 0),
        Reason.MEAN_OUT_OF_RANGE: not 0 <= base <= 1,
        Reason.NO_LIFT: plan.lift == 0,
        Reason.CHAMPION_AT_ZERO: abs(base + plan.start) < _ZERO,
        Reason.LIFT_OUT_OF_RANGE: not 0 <= lifted <= 1,
        Reason.CHAMPION_WITHOUT_PLANNED_SHARE: not plan.champion_floor + plan.rest > 0,
        Reason.CHALLENGER_WITHOUT_PLANNED_SHARE: not plan.challenger_floor + plan.rest > 0,
    }
    return next((reason for reason, broken in is_broken.items() if broken), None)


def _process(pair: Pair, sign: Sign, design: Design, *, is_yes_no: bool) -> EProcess:
    """Return the report's evidence on the rows, in the direction of the lift."""
    if is_yes_no:
        return CentredOdds(pair).process(sign)
    weight = design.largest_weight(pair.arm, pair.champion)
    return BoundedScores(pair, weight, BoundedTest(weight, design.alpha / 2)).process(sign)


def _crossing(ends: FloatArray, process: EProcess, target: float) -> float:
    """Return the first N at which ln E reaches the target, interpolated in its step; infinite if never."""
    log_values = np.asarray(process.log_values)
    if not np.any(log_values >= target):
        return inf
    last = int(np.argmax(log_values >= target))
    step = slice(max(last - 1, 0), last + 1)
    return float(np.interp(target, log_values[step], ends[step]))


_LUCK_OF_FOUR_FIFTHS: Final = float(scipy.special.ndtri(0.8))
_MINIMUM_SHARES: Final = (0.01, 0.02, 0.05, 0.1)
_ZERO: Final = 1e-12
"""A mean this close to 0, in widths of the range, is 0 but for rounding."""

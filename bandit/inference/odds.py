"""The conditional-odds e-process: of two arms' events, how many ought to be the challenger's.

Only events (outcomes of 1) on the challenger or the champion count. In an epoch with shares pi_k and pi_0 let
``pi = pi_k / (pi_k + pi_0)``. If the rates have the ratio r, the next event is the challenger's with
probability ``p_r = pi r / (1 - pi + pi r)``, whatever the base rate is or does: a common drift cancels, and
no floor is needed. So ``E_g = prod p_(r g)(arm) / p_r(arm)`` over events is a test martingale if the ratio is
r, and for g > 1 a supermartingale if it is at most r (p_r rises with r, and the likelihood ratio with every
event of the challenger's). A weighted mean of E_g over a grid of g is one too; which r are refuted gives
bounds for the ratio. The likelihood of "whose event" is Cox's (1972) partial likelihood; mixtures and
inversion as in Howard et al. (2021).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, inf, log

import numpy as np

from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.results import EProcess, Interval
from bandit.inference.table import EvidenceTable, FloatArray
from bandit.metric import Direction


def _geometric(first: float, last: float, n: int) -> tuple[float, ...]:
    return tuple(float(ratio) for ratio in np.geomspace(first, last, n))


PROMOTION_GRID = _geometric(1.02, 1.6, 10)
"""Ratios mixed over when a better arm is looked for."""

GUARDRAIL_GRID = _geometric(1.02, 3.0, 14)
"""Ratios mixed over when harm is looked for: harm may be large."""

INTERVAL_GRID = _geometric(1.005, 3.0, 20)
"""Ratios mixed over for bounds, their reciprocals downwards; no bound is closer than about .25 %."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Events:
    """Events of two arms by epoch; only epochs in which both have a share.

    Attributes:
        odds: Challenger's share over the champion's, shape (n_epochs,); 1 where the epoch does not count.
        challenger: Events of the challenger, shape (n_epochs,).
        champion: Events of the champion, shape (n_epochs,).
    """

    odds: FloatArray
    challenger: FloatArray
    champion: FloatArray

    @property
    def n(self) -> int:
        """Events of both arms."""
        return int(self.challenger.sum() + self.champion.sum())

    @property
    def occurred(self) -> "Events":
        """The same without epochs in which neither arm had an event: they say nothing about the ratio."""
        has_any = self.challenger + self.champion > 0
        return Events(
            odds=self.odds[has_any], challenger=self.challenger[has_any], champion=self.champion[has_any]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OddsComparison:
    """A challenger's rate of events against the champion's.

    Attributes:
        arm: Number of the challenger.
        champion: Number of the champion.
        better: Evidence against "the challenger is no better"; the metric's direction says what better is.
        worse: Evidence against "the challenger is no worse", over the wider grid of guardrails.
        lift: Bounds of (challenger's rate / champion's rate) - 1 at every look; may be infinite above.
        n_events: Events of both arms that count.
    """

    arm: int
    champion: int
    better: EProcess
    worse: EProcess
    lift: Interval
    n_events: int


def compare_odds(
    table: EvidenceTable, arm: int, champion: int, alpha: float = 0.05
) -> OddsComparison | CannotSay:
    """Both e-processes and the relative lift of a yes/no metric, from a table of closed epochs."""
    events = count_events(table, arm, champion)
    if isinstance(events, CannotSay):
        return events
    maximize = table.scale.direction is Direction.MAXIMIZE
    return OddsComparison(
        arm=arm,
        champion=champion,
        better=ratio_process(events, PROMOTION_GRID if maximize else reciprocal(PROMOTION_GRID)),
        worse=ratio_process(events, reciprocal(GUARDRAIL_GRID) if maximize else GUARDRAIL_GRID),
        lift=lift_bounds(events, alpha),
        n_events=events.n,
    )


def harm_process(table: EvidenceTable, arm: int, champion: int) -> EProcess | CannotSay:
    """Evidence that a guardrail's rate is worse for the challenger; a table with open epochs is welcome.

    Open epochs are right for events that only do harm and come soon (errors): an arm whose events come faster
    than the champion's looks worse until the slower ones are in.
    """
    events = count_events(table, arm, champion)
    if isinstance(events, CannotSay):
        return events
    maximize = table.scale.direction is Direction.MAXIMIZE
    return ratio_process(events, reciprocal(GUARDRAIL_GRID) if maximize else GUARDRAIL_GRID)


def count_events(table: EvidenceTable, arm: int, champion: int) -> Events | CannotSay:
    """Events of two arms by epoch."""
    if not table.scale.is_binary:
        return CannotSay(Reason.NOT_YES_NO)
    if len(table.shares) == 0:
        return CannotSay(Reason.NO_CLOSED_EPOCH)
    own, other = table.column(arm), table.column(champion)
    is_used = (table.shares[:, own] > _NO_SHARE) & (table.shares[:, other] > _NO_SHARE)
    if not np.any(is_used):
        return CannotSay(Reason.ARM_WITHOUT_SHARE)
    odds = np.divide(table.shares[:, own], table.shares[:, other], out=np.ones(len(is_used)), where=is_used)
    challenger = np.where(is_used, table.sums[:, own], 0.0)
    events = Events(odds=odds, challenger=challenger, champion=np.where(is_used, table.sums[:, other], 0.0))
    return events if events.n > 0 else CannotSay(Reason.NO_EVENTS)


def reciprocal(grid: Sequence[float]) -> tuple[float, ...]:
    """The same ratios the other way."""
    return tuple(1 / ratio for ratio in grid)


def ratio_process(events: Events, grid: Sequence[float], ratio: float = 1.0) -> EProcess:
    """Evidence against "the ratio is at most `ratio`" for a grid above 1, "at least" for one below 1."""
    return EProcess.of(_log_mixture(np.cumsum(_log_likelihoods(events, grid, ratio), axis=0)))


def lift_bounds(events: Events, alpha: float = 0.05) -> Interval:
    """Bounds of the ratio less 1: the ratios that neither half of the grid refutes at alpha / 2."""
    lower = _furthest_refuted(events, INTERVAL_GRID, alpha / 2, sign=1.0)
    upper = _furthest_refuted(events, reciprocal(INTERVAL_GRID), alpha / 2, sign=-1.0)
    return Interval(-1.0 if lower is None else exp(lower) - 1, inf if upper is None else exp(upper) - 1)


def _furthest_refuted(events: Events, grid: Sequence[float], alpha: float, sign: float) -> float | None:
    """The log ratio nearest the data that is refuted, looking upwards for `sign` 1; None if none is.

    The e-value is monotone in the ratio, since p_(r g) / p_r is for every event.
    """
    occurred = events.occurred

    def surplus(log_ratio: float) -> float:
        logs = _log_likelihoods(occurred, grid, exp(log_ratio)).sum(axis=0, keepdims=True)
        return float(_log_mixture(logs)[0]) + log(alpha)

    return _last_refuted(surplus, -sign * _LOG_REACH, sign * _LOG_REACH)


def _last_refuted(surplus: Callable[[float], float], refuted: float, unknown: float) -> float | None:
    """Where a monotone function falls below 0 between two ends, on its side of 0 or more.

    Illinois' false position (Dowell & Jarratt 1971), with every third step a bisection: about half the
    evaluations that bisection alone takes.
    """
    height, depth = surplus(refuted), surplus(unknown)
    if height < 0:
        return None
    if depth >= 0:
        return unknown
    for step in range(_MOST_STEPS):
        if abs(unknown - refuted) < _CLOSE_ENOUGH:
            break
        part = 0.5 if step % 3 == 0 else min(max(height / (height - depth), _EDGE), 1 - _EDGE)
        middle = refuted + part * (unknown - refuted)
        value = surplus(middle)
        if value >= 0:
            refuted, height, depth = middle, value, depth / 2
        else:
            unknown, depth, height = middle, value, height / 2
    return refuted


def _log_likelihoods(events: Events, grid: Sequence[float], ratio: float) -> FloatArray:
    """Ln of each epoch's likelihood ratio of `ratio` times g against `ratio`; shape (n_epochs, n_grid)."""
    steps = np.asarray(grid, dtype=float)
    odds = (events.odds * ratio)[:, np.newaxis]
    # 1 - pi + pi r is (1 + odds r) / (1 + odds): the second factor cancels between the two ratios.
    surprise = np.log1p(odds * (steps - 1) / (1 + odds))
    both = (events.challenger + events.champion)[:, np.newaxis]
    return np.asarray(events.challenger[:, np.newaxis] * np.log(steps) - both * surprise)


def _log_mixture(logs: FloatArray) -> FloatArray:
    """Ln of the mean over the grid, the last axis."""
    highest = logs.max(axis=-1, keepdims=True)
    return np.asarray(np.log(np.exp(logs - highest).mean(axis=-1)) + highest[..., 0])


_NO_SHARE = 1e-12
_LOG_REACH = log(1e9)
_MOST_STEPS = 200
_CLOSE_ENOUGH = 1e-7
_EDGE = 1e-3

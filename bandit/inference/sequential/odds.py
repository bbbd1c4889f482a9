"""The conditional-odds e-process: how many of two arms' events should be the challenger's.

Only events (outcomes of 1) on the challenger or the champion count. In an epoch with shares pi_k and pi_0 let
``pi = pi_k / (pi_k + pi_0)``. If the rates have the ratio r, the next event is the challenger's with
probability ``p_r = pi r / (1 - pi + pi r)``, whatever the base rate is and however it changes: a common drift
cancels, and no floor is needed. So ``E_g = prod p_(r g)(arm) / p_r(arm)`` over events is a test martingale if
the ratio is r, and for g > 1 a supermartingale if it is at most r (p_r rises with r, and the likelihood ratio
with every event of the challenger). So is a weighted mean of E_g over a grid of g; the ratios r that are not
refuted give bounds. The likelihood of the event's arm is Cox's (1972) partial likelihood; mixtures and
inversion follow Howard et al. (2021).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, inf

import numpy as np

from bandit.inference.data.table import EvidenceTable, FloatArray
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.odds_events import Events, furthest_refuted, log_mixture
from bandit.inference.sequential.results import EProcess, Interval
from bandit.metric import Direction


def _geometric(first: float, last: float, n: int) -> tuple[float, ...]:
    return tuple(float(ratio) for ratio in np.geomspace(first, last, n))


PROMOTION_GRID = _geometric(1.02, 1.6, 10)
"""Ratios mixed over in the search for a better arm."""

GUARDRAIL_GRID = _geometric(1.02, 3.0, 14)
"""Ratios mixed over in the search for harm, which may be large."""

INTERVAL_GRID = _geometric(1.005, 3.0, 20)
"""Ratios mixed over for bounds, reciprocal for upper ones; no bound is closer than about .25 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OddsComparison:
    """A challenger's rate of events against the champion's.

    Attributes:
        arm: Number of the challenger.
        champion: Number of the champion.
        better: Evidence against "the challenger is no better", by the metric's direction.
        worse: Evidence against "the challenger is no worse", over the wider grid of guardrails.
        lift: Bounds of (challenger's rate / champion's rate) - 1 at every look; may be infinite above.
        n_events: Number of events of both arms that count.
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
    """Return both e-processes and the relative lift of a yes/no metric, from a table of closed epochs."""
    return compare_odds_each(table, [arm], champion, alpha)[arm]


def compare_odds_each(
    table: EvidenceTable, arms: Iterable[int], champion: int, alpha: float = 0.05
) -> dict[int, OddsComparison | CannotSay]:
    """Return arm number to its comparison with the champion."""
    counted = {arm: count_events(table, arm, champion) for arm in arms}
    comparable = {arm: events for arm, events in counted.items() if isinstance(events, Events)}
    maximize = table.scale.direction is Direction.MAXIMIZE
    found = {
        arm: OddsComparison(
            arm=arm,
            champion=champion,
            better=ratio_process(events, PROMOTION_GRID if maximize else reciprocal(PROMOTION_GRID)),
            worse=ratio_process(events, reciprocal(GUARDRAIL_GRID) if maximize else GUARDRAIL_GRID),
            lift=lift,
            n_events=events.n,
        )
        for (arm, events), lift in zip(
            comparable.items(), lift_bounds(list(comparable.values()), alpha), strict=True
        )
    }
    return {arm: events if isinstance(events, CannotSay) else found[arm] for arm, events in counted.items()}


def harm_process(table: EvidenceTable, arm: int, champion: int) -> EProcess | CannotSay:
    """Return evidence that a guardrail's rate is worse for the challenger; the table may have open epochs.

    Use open epochs for events that only do harm and arrive soon (errors): an arm whose events arrive faster
    than the champion's looks worse until the slower ones are in.
    """
    events = count_events(table, arm, champion)
    if isinstance(events, CannotSay):
        return events
    maximize = table.scale.direction is Direction.MAXIMIZE
    return ratio_process(events, reciprocal(GUARDRAIL_GRID) if maximize else GUARDRAIL_GRID)


def count_events(table: EvidenceTable, arm: int, champion: int) -> Events | CannotSay:
    """Count the events of two arms by epoch."""
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
    """Return the reciprocal ratios."""
    return tuple(1 / ratio for ratio in grid)


def ratio_process(events: Events, grid: Sequence[float], ratio: float = 1.0) -> EProcess:
    """Return evidence against "the ratio is at most `ratio`"; with a grid below 1, against "at least"."""
    return EProcess.of(log_mixture(np.cumsum(_log_likelihoods(events, grid, ratio), axis=0)))


def lift_bounds(pairs: Sequence[Events], alpha: float = 0.05) -> list[Interval]:
    """Return bounds of each ratio minus 1: the ratios that neither half of the grid refutes at alpha / 2."""
    lowers = furthest_refuted(pairs, INTERVAL_GRID, alpha / 2, sign=1.0)
    uppers = furthest_refuted(pairs, reciprocal(INTERVAL_GRID), alpha / 2, sign=-1.0)
    return [
        Interval(-1.0 if lower is None else exp(lower) - 1, inf if upper is None else exp(upper) - 1)
        for lower, upper in zip(lowers, uppers, strict=True)
    ]


def _log_likelihoods(events: Events, grid: Sequence[float], ratio: float) -> FloatArray:
    """Return ln of each epoch's likelihood ratio, `ratio` * g against `ratio`; shape (n_epochs, n_grid)."""
    steps = np.asarray(grid, dtype=float)
    odds = (events.odds * ratio)[:, np.newaxis]
    # 1 - pi + pi r is (1 + odds r) / (1 + odds): the second factor cancels between the two ratios.
    surprise = np.log1p(odds * (steps - 1) / (1 + odds))
    both = (events.challenger + events.champion)[:, np.newaxis]
    return np.asarray(events.challenger[:, np.newaxis] * np.log(steps) - both * surprise)


_NO_SHARE = 1e-12

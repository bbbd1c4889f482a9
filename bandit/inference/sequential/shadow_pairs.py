"""Pairs of outcomes of an arm in shadow and of the champion, for the same requests.

The edge is ``ratio`` times the champion's mean plus ``difference``: what the shadow's mean may be. With X_k
and X_0 the outcomes of a pair, let ``Y = X_k - ratio X_0 - difference`` where less is better, and -Y where
more is. As long as the shadow stays on the good side of the edge, E[Y] <= 0 for every pair, whatever the rate
does from pair to pair and however the two depend on each other. So

- for yes/no metrics ``E_lambda = prod (1 + lambda Y)`` is a supermartingale for every lambda in
  [0, 1 / -min Y), and so is its mean over a grid: capital in a betting game (Waudby-Smith & Ramdas 2024,
  *Estimating means of bounded random variables by betting*). Without a margin, pairs that agree do not count,
  as in McNemar (1947). With n_11, n_10 and n_01 the pairs with an event of both, of the shadow and of the
  champion alone, a ratio R where less is better has
  ``ln E = n_10 ln(1 + lambda) + n_11 ln(1 + lambda (1 - R)) + n_01 ln(1 - lambda R)``;
- for amounts and counts ``S = sum Y`` with ``V = sum Y^2`` is a sum of scores that lie no further below 0
  than -min Y, to which the test of `bandit.inference.sequential.bounded_scores` applies.

What the two outcomes have in common cancels: at a correlation of .6 a third of the pairs show as much as two
arms that are not paired.

The decisions of later stages are others, so their e-values against the same edge may be multiplied with
these. A pair counts once both outcomes are known. So where an outcome's time depends on its value, the metric
needs a window, or failures that are fast would seem to be many.
"""

from collections.abc import Sequence
from functools import reduce
from math import log
from typing import Final

import numpy as np

from bandit.facts.shadow_pairs import PairSums
from bandit.inference.data.table import FloatArray
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.bounded_scores import BoundedTest
from bandit.inference.sequential.results import EProcess
from bandit.launch.claims import ShadowPairs
from bandit.metric import Direction, Metric

LOG_QUANTA: Final = 2**20
"""Quanta of the log in the range of a real-valued metric."""

_N_STAKES: Final = 12
_SMALLEST_STAKE: Final = 0.02
_LARGEST_RISK: Final = 0.9
"""The part of its capital that the boldest bet may lose at once."""

_N_HALVINGS: Final = 24


def pair_process(
    rows: Sequence[PairSums],
    metric: Metric,
    *,
    ratio: float = 1.0,
    difference: float = 0.0,
    is_worse: bool = True,
    alpha: float = 0.025,
) -> EProcess | CannotSay:
    """Return evidence that a shadow is beyond an edge; with `is_worse` false, that it is on the good side.

    Args:
        rows: Sums over the pairs, such as one row an epoch, in order.
        metric: The metric; its direction says which side is the good one.
        ratio: How many times the champion's mean the edge is; positive.
        difference: What the edge is beyond that, in the metric's unit.
        is_worse: Whether the evidence is against the good side of the edge.
        alpha: The error rate for which the test of amounts and counts is tuned.

    Returns:
        The e-process after each row; a CannotSay without pairs, for a ratio where values may be negative, and
        for an edge that no mean in the range is beyond.
    """
    if ratio != 1 and metric.minimum < 0:
        return CannotSay(Reason.NO_RATIO_SCALE)
    if not any(row.n for row in rows):
        return CannotSay(Reason.NO_PAIRS)
    sign = 1 if (metric.direction is Direction.MINIMIZE) == is_worse else -1
    corners = _corners(metric, ratio, difference, sign)
    if corners.min() >= 0 or corners.max() <= 0:
        return CannotSay(Reason.EDGE_OUT_OF_RANGE)
    if metric.is_binary:
        return EProcess.of(_bet(rows, corners))
    sums = np.cumsum(np.asarray(rows, dtype=float), axis=0)
    return EProcess.of(_weigh(sums, metric, ratio, difference, sign, BoundedTest(-corners.min(), alpha)))


def paired_means(rows: Sequence[PairSums], metric: Metric, alpha: float = 0.05) -> ShadowPairs | CannotSay:
    """Return both means over the pairs, with bounds of their difference at the level 1 - `alpha`.

    The bounds hold at every look as long as that difference does not change: every edge outside them has been
    rejected.
    """
    total = reduce(PairSums.plus, rows, PairSums())
    if not total.n:
        return CannotSay(Reason.NO_PAIRS)
    unit = _unit(metric)
    estimate = unit * (total.shadow - total.champion) / total.n
    lower, upper = (_bound(total, metric, estimate, sign, alpha / 2) for sign in (1, -1))
    return ShadowPairs(
        n=total.n,
        shadow=metric.offset + unit * total.shadow / total.n,
        champion=metric.offset + unit * total.champion / total.n,
        lower=lower,
        upper=upper,
    )


def _bound(total: PairSums, metric: Metric, estimate: float, sign: int, alpha: float) -> float:
    """Return the last rejected difference from an end of the range: the lower one with `sign` 1."""
    rejected, kept = sign * (metric.minimum - metric.maximum), estimate
    for _ in range(_N_HALVINGS):
        middle = (rejected + kept) / 2
        if _rejects(total, metric, middle, sign, alpha):
            rejected = middle
        else:
            kept = middle
    return rejected


def _rejects(total: PairSums, metric: Metric, difference: float, sign: int, alpha: float) -> bool:
    """Whether the difference is evidently larger than this one; with `sign` -1, smaller."""
    corners = _corners(metric, 1.0, difference, sign)
    if corners.min() >= 0:  # the end of the range: none is beyond it
        return True
    if metric.is_binary:
        (log_value,) = _bet([total], corners)
    else:
        sums = np.asarray([total], dtype=float)
        (log_value,) = _weigh(sums, metric, 1.0, difference, sign, BoundedTest(-corners.min(), alpha))
    return bool(log_value >= -log(alpha))


def _unit(metric: Metric) -> float:
    """Return the value of a quantum of the log."""
    return (metric.maximum - metric.minimum) / LOG_QUANTA if metric.is_real else 1.0


def _corners(metric: Metric, ratio: float, difference: float, sign: int) -> FloatArray:
    """Return Y of the least and largest X_k and X_0: rows by X_k, columns by X_0."""
    ends = np.array([metric.minimum, metric.maximum])
    return np.asarray(sign * (ends[:, np.newaxis] - ratio * ends - difference))


def _bet(rows: Sequence[PairSums], corners: FloatArray) -> FloatArray:
    """Return ln E of yes/no pairs after each row."""
    both, n = np.array([row.products for row in rows]), np.array([row.n for row in rows])
    shadow, champion = np.array([row.shadow for row in rows]), np.array([row.champion for row in rows])
    counts = np.stack([n - shadow - champion + both, champion - both, shadow - both, both], axis=1)
    stakes = np.geomspace(_SMALLEST_STAKE, _LARGEST_RISK / -corners.min(), _N_STAKES)
    logs = np.cumsum(counts, axis=0) @ np.log1p(np.outer(corners.ravel(), stakes))
    return np.asarray(np.logaddexp.reduce(logs, axis=1) - log(_N_STAKES))


def _weigh(
    sums: FloatArray, metric: Metric, ratio: float, difference: float, sign: int, test: BoundedTest
) -> FloatArray:
    """Return ln E of amounts or counts, given the sums after each row."""
    unit = _unit(metric)
    n, shadow, shadow_squares, champion, champion_squares, products = sums.T
    shift = metric.offset * (1 - ratio) - difference
    gap = unit * (shadow - ratio * champion)
    squares = unit**2 * (shadow_squares + ratio**2 * champion_squares - 2 * ratio * products)
    return test.log_e_value(sign * (gap + n * shift), squares + 2 * shift * gap + n * shift**2)

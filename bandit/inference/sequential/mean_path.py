"""An arm's mean at many looks, for a plot over time.

Every look is what `estimate_mean` would have returned then: the running sums are kept anyway, and bounds that
hold at every look hold at all of them at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bandit.inference.data.table import EvidenceTable
from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.aipw import mean_mixtures
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.results import Interval
from bandit.inference.sequential.scores import score


@dataclass(frozen=True, slots=True)
class MeanLook:
    """An arm's mean after a row of the table.

    Attributes:
        row: The row's index, from 0.
        mean: The AIPW mean, in the metric's unit.
        interval: Its interval at that look.
    """

    row: int
    mean: float
    interval: Interval


def look_at_mean(
    table: EvidenceTable, arm: int, design: Design, max_looks: int
) -> tuple[MeanLook, ...] | CannotSay:
    """Return up to `max_looks` looks at an arm's mean, evenly over the epochs that count, with the last.

    Looks begin at the arm's first resolved decision.
    """
    cap = 1.0 if design.prediction_cap is None else design.prediction_cap
    scores = score(table, [arm], design, cap)
    if isinstance(scores, CannotSay):
        return scores
    own = np.cumsum(np.where(scores.is_used, table.n[:, table.column(arm)], 0.0))
    rows = _evenly(np.nonzero(scores.is_used & (own > 0))[0].tolist(), max_looks)
    totals, variances, n = scores.sums[rows, 0], scores.variances[rows, 0], scores.n[rows]
    alpha = design.alpha / 2
    below, above = mean_mixtures(design, arm)
    lowers = (totals - below.boundary(variances, alpha)) / n
    uppers = (totals + above.boundary(variances, alpha)) / n
    means, lowers, uppers = (np.clip(ends, 0.0, 1.0).tolist() for ends in (totals / n, lowers, uppers))
    value = table.scale.to_value
    return tuple(
        MeanLook(row, value(mean), Interval(value(lower), value(upper)))
        for row, mean, lower, upper in zip(rows, means, lowers, uppers, strict=True)
    )


def _evenly(rows: Sequence[int], n_most: int) -> list[int]:
    """Return at most `n_most` of the rows, evenly spaced, with the last.

    >>> _evenly([3, 4, 5, 6, 7], 2)
    [4, 7]
    """
    if len(rows) <= n_most:
        return list(rows)
    return [rows[(index + 1) * len(rows) // n_most - 1] for index in range(n_most)]

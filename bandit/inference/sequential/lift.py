"""Relative lift (uplift) from AIPW means: the ratios r of challenger's to champion's mean not refuted.

For a candidate r the score ``xi_k - r xi_0`` (for r > 1 divided by r) is again a bounded AIPW score whose
mean is at most 0 if the ratio is at most r; its e-process refutes r. This is Fieller's (1954) inversion with
a time-uniform test. Dividing by max(1, r) keeps its scale within that of the difference for every r, so one
mixture serves all r.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, log

import numpy as np
from numpy.typing import NDArray

from bandit.inference.data.table import EvidenceTable, FloatArray, ValueScale
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.mixture import Mixture
from bandit.inference.sequential.results import Interval
from bandit.inference.sequential.scores import Scores, score


def relative_lift(table: EvidenceTable, arm: int, champion: int, design: Design) -> Interval | CannotSay:
    """Return bounds of challenger's mean / champion's mean - 1, at every look with probability 1 - alpha.

    Means are in the metric's own unit and orientation: for a metric to minimise, below 0 is good. The lower
    end is at least -1; the upper one is infinite if the champion's mean may be 0.
    """
    return relative_lifts(table, [arm], champion, design)[arm]


def relative_lifts(
    table: EvidenceTable, arms: Iterable[int], champion: int, design: Design
) -> dict[int, Interval | CannotSay]:
    """Return arm number to its bounds; arms with the same floor are searched together."""
    if table.scale.minimum < 0:
        return dict.fromkeys(arms, CannotSay(Reason.NO_RATIO_SCALE))
    scored = {arm: score(table, [arm, champion], design, design.cap(arm, champion)) for arm in arms}
    found: dict[int, Interval | CannotSay] = {
        arm: scores for arm, scores in scored.items() if isinstance(scores, CannotSay)
    }
    by_floor = defaultdict[float, list[Scores]](list)
    for arm, scores in scored.items():
        if isinstance(scores, Scores):
            by_floor[design.floor(arm)].append(scores)
    for group in by_floor.values():
        found |= _bounds(group, table.scale, design)
    return {arm: found[arm] for arm in scored}


def _bounds(group: Sequence[Scores], scale: ValueScale, design: Design) -> dict[int, Interval]:
    """Return arm number to its bounds, for arms with the same floor."""
    (arm, champion), alpha = group[0].arms, design.alpha / 2
    last = _Last.of(group, scale.minimum / scale.width)
    ratios = _smallest_ratios(last, design.contrast_mixture(arm, champion, alpha), alpha, (0, 1))
    inverses = _smallest_ratios(last, design.contrast_mixture(champion, arm, alpha), alpha, (1, 0))
    return {
        scores.arms[0]: Interval(ratio - 1, 1 / inverse - 1 if inverse > 0 else inf)
        for scores, ratio, inverse in zip(group, ratios.tolist(), inverses.tolist(), strict=True)
    }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Last:
    """The latest scores of challengers and champion.

    Attributes:
        n: Number of resolved decisions, shape (n_arms,).
        sums: S of challenger and champion, shape (2, n_arms).
        variances: V of both, shape (2, n_arms).
        start: The range's minimum over its width.
    """

    n: FloatArray
    sums: FloatArray
    variances: FloatArray
    start: float

    @classmethod
    def of(cls, group: Sequence[Scores], start: float) -> "_Last":
        return cls(
            n=np.array([scores.n[-1] for scores in group]),
            sums=np.array([scores.sums[-1] for scores in group]).T,
            variances=np.array([scores.variances[-1] for scores in group]).T,
            start=start,
        )

    def contrast(self, ratio: FloatArray, order: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
        """Return S and V of the first of `order` minus `ratio` times the second."""
        (first, second), unit = order, np.maximum(1.0, ratio)
        total = self.sums[first] - ratio * self.sums[second] + self.n * self.start * (1 - ratio)
        variance = self.variances[first] + ratio**2 * self.variances[second]
        return total / unit, variance / unit**2


def _smallest_ratios(last: _Last, mixture: Mixture, alpha: float, order: tuple[int, int]) -> FloatArray:
    """Return the ratio of means, first of `order` to second, up to which all are refuted; 0 if none is.

    The e-value falls as r grows: for r <= 1 because S falls and V rises, above because the exponent falls at
    the lambda that dominates the mixture, about S / V. So bisection finds the first ratio not refuted.
    """

    def refutes(log_ratio: FloatArray) -> NDArray[np.bool_]:
        return np.asarray(mixture.log_e_value(*last.contrast(np.exp(log_ratio), order)) >= -log(alpha))

    lower, upper = np.full(last.n.shape, -_LOG_REACH), np.full(last.n.shape, _LOG_REACH)
    refutes_any = refutes(lower)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (lower + upper)
        is_refuted = refutes(middle)
        lower, upper = np.where(is_refuted, middle, lower), np.where(is_refuted, upper, middle)
    return np.where(refutes_any, np.exp(lower), 0.0)


_LOG_REACH = log(1e9)
_BISECTIONS = 60

"""Relative lift from AIPW means: which ratios r of the challenger's mean to the champion's are not refuted.

For a candidate r the score ``xi_k - r xi_0`` (for r > 1 divided by r) is again a bounded AIPW score whose
mean is at most 0 if the ratio is at most r; its e-process refutes r. It is Fieller's (1954) inversion with a
time-uniform test. Dividing by max(1, r) keeps its scale within that of the difference for every r, so one
mixture serves all.
"""

from math import exp, inf, log

from bandit.inference.design import Design
from bandit.inference.mixture import Mixture
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.results import Interval
from bandit.inference.scores import Scores, score
from bandit.inference.table import EvidenceTable


def relative_lift(table: EvidenceTable, arm: int, champion: int, design: Design) -> Interval | CannotSay:
    """Bounds of challenger's mean / champion's mean - 1 that hold at every look, with probability 1 - alpha.

    Means are in the metric's own unit and orientation: for a metric to minimise, below 0 is good. The lower
    end is at least -1; the upper one is infinite where the champion's mean may be 0.
    """
    if table.scale.minimum < 0:
        return CannotSay(Reason.NO_RATIO_SCALE)
    scores = score(table, [arm, champion], design, design.cap(arm, champion))
    if isinstance(scores, CannotSay):
        return scores
    alpha, start = design.alpha / 2, table.scale.minimum / table.scale.width
    ratio = _smallest_ratio(scores, design.contrast_mixture(arm, champion, alpha), alpha, start, (0, 1))
    inverse = _smallest_ratio(scores, design.contrast_mixture(champion, arm, alpha), alpha, start, (1, 0))
    return Interval(ratio - 1, 1 / inverse - 1 if inverse > 0 else inf)


def _smallest_ratio(
    scores: Scores, mixture: Mixture, alpha: float, start: float, order: tuple[int, int]
) -> float:
    """The largest ratio of means, first of `order` to second, up to which all are refuted; 0 if none is.

    The e-value falls as r grows: for r <= 1 because S falls and V rises, above because at the lambda that
    carries the mixture, about S / V, the exponent falls. So the first ratio not refuted is found by
    bisection.
    """

    def refutes(log_ratio: float) -> bool:
        total, variance = _contrast(scores, exp(log_ratio), start, order)
        return float(mixture.log_e_value(total, variance)) >= -log(alpha)

    lower, upper = -_LOG_REACH, _LOG_REACH
    if not refutes(lower):
        return 0.0
    for _ in range(_BISECTIONS):
        middle = 0.5 * (lower + upper)
        lower, upper = (middle, upper) if refutes(middle) else (lower, middle)
    return exp(lower)


def _contrast(scores: Scores, ratio: float, start: float, order: tuple[int, int]) -> tuple[float, float]:
    """S and V of first less `ratio` times second; `start` is the range's minimum over its width."""
    (first, second), unit = order, max(1.0, ratio)
    sums, variances, n = scores.sums[-1], scores.variances[-1], float(scores.n[-1])
    total = float(sums[first]) - ratio * float(sums[second]) + n * start * (1 - ratio)
    variance = float(variances[first]) + ratio**2 * float(variances[second])
    return total / unit, variance / unit**2


_LOG_REACH = log(1e9)
_BISECTIONS = 60

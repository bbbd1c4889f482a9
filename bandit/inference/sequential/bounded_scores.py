"""Bounded scores with overlap weights: differences and ratios of means of amounts and counts.

With pi the challenger's part of both shares and m_a an arm's centre, a row adds to the challenger's and the
champion's sum, with n the decisions of both,

``S_k = n pi (1 - pi) m_k + (1 - pi)(s_k - n_k m_k)`` and ``S_0 = n pi (1 - pi) m_0 + pi (s_0 - n_0 m_0)``,

whose expectations are n pi (1 - pi) times the arms' means: S_k - S_0 less delta times ``W = sum n pi (1 -
pi)`` is a martingale if the weighted mean of the differences is delta, whatever they do from row to row. Its
scores lie within the range times the largest weight of what the centres predict, so with ``V = sum (1 - pi)^2
sum_k (X - m_k)^2 + pi^2 sum_0 (X - m_0)^2`` the mixture of `bandit.inference.sequential.mixture` applies.
Nothing is divided by a share: a small floor costs traffic and not width. For a ratio r the sum is ``(S_k - r
S_0) / max(1, r)``, V likewise; at r = 1 it is the difference at 0.
"""

from dataclasses import dataclass
from functools import cached_property
from math import inf, log
from typing import Final

import numpy as np
import scipy
from numpy.typing import ArrayLike

from bandit.inference.data.pairs import CHALLENGER, CHAMPION, Pair
from bandit.inference.data.table import FloatArray
from bandit.inference.sequential.mixture import Mixture, boundary_of
from bandit.inference.sequential.results import EProcess, Interval
from bandit.inference.sequential.search import Sign, ratio_not_refuted

_TUNED_TO: Final = (0.1, 3.0, 100.0)
"""Variances, in squares of the scale, at which each of three mixtures is tightest."""


class BoundedTest:
    """The mean of three e-processes of a sum of bounded scores, for few, some and many outcomes.

    Args:
        scale: How far a score may lie from its prediction; positive.
        alpha: The error rate for which it is tuned.
    """

    def __init__(self, scale: float, alpha: float) -> None:
        self._scale = scale
        self._mixtures = [
            Mixture.tuned(scale, planned_variance=variance * scale**2, alpha=alpha) for variance in _TUNED_TO
        ]

    def log_e_value(self, total: ArrayLike, variance: ArrayLike) -> FloatArray:
        """Return ln E at S = `total` and V = `variance`, of their common shape."""
        logs = np.stack([mixture.log_e_value(total, variance) for mixture in self._mixtures])
        return np.asarray(scipy.special.logsumexp(logs, axis=0) - log(len(self._mixtures)))

    def boundary(self, variance: ArrayLike, level: float) -> FloatArray:
        """Return the sum S at which ln E reaches `level`."""
        widest = max(mixture.rho for mixture in self._mixtures)
        return boundary_of(self.log_e_value, variance, level, scale=self._scale, rho=widest)


@dataclass(frozen=True, eq=False)
class BoundedScores:
    """The sums of a pair.

    Attributes:
        pair: Rows that count in tests.
        largest_weight: The largest overlap weight that the declared floors allow, in [1/2, 1]. Rows with a
            larger one are scaled down to it, which is known before their first decision.
        test: The test, of that scale.
    """

    pair: Pair
    largest_weight: float
    test: BoundedTest

    @cached_property
    def _scaling(self) -> FloatArray:
        """The factor of each row, at most 1."""
        return np.asarray(np.minimum(1.0, self.largest_weight / self.pair.weights.max(axis=0)))

    @cached_property
    def weight(self) -> FloatArray:
        """W after each row, shape (n_rows,)."""
        part = self.pair.part
        return np.asarray(np.cumsum(self._scaling * self.pair.n.sum(axis=0) * part * (1 - part)))

    @cached_property
    def sums(self) -> FloatArray:
        """S of champion and challenger after each row, shape (2, n_rows)."""
        pair, part = self.pair, self.pair.part
        expected = pair.n.sum(axis=0) * part * (1 - part) * pair.centres
        scores = expected + pair.weights * (pair.sums - pair.n * pair.centres)
        return np.asarray(np.cumsum(self._scaling * scores, axis=1))

    @cached_property
    def variances(self) -> FloatArray:
        """V of champion and challenger after each row, shape (2, n_rows)."""
        pair = self.pair
        squares = pair.squares_about(pair.centres)
        return np.asarray(np.cumsum((self._scaling * pair.weights) ** 2 * squares, axis=1))

    def process(self, sign: int) -> EProcess:
        """Return evidence against "there is no difference" in one direction, over the pair's rows."""
        total, variance = self.about_difference(0.0)
        return EProcess.of(self.test.log_e_value(sign * total, variance))

    def about_difference(self, delta: float) -> tuple[FloatArray, FloatArray]:
        """Return S and V against "the difference is `delta`", in positions, after each row."""
        gap = self.sums[CHALLENGER] - self.sums[CHAMPION]
        return np.asarray(gap - delta * self.weight), np.asarray(self.variances.sum(axis=0))

    def about_ratio(self, ratio: float, start: float) -> tuple[FloatArray, FloatArray]:
        """Return S and V against "the ratio is `ratio`", after each row.

        Args:
            ratio: The ratio, not negative.
            start: The range's minimum over its width, not negative.
        """
        return _about_ratio(self.sums, self.variances, self.weight, ratio, start)

    def difference_interval(self, level: float) -> Interval:
        """Return the differences that neither direction refutes at ln E >= `level`, in positions."""
        if not len(self.pair.rows):
            return Interval(-1.0, 1.0)
        gap, weight = float(self.sums[CHALLENGER, -1] - self.sums[CHAMPION, -1]), float(self.weight[-1])
        margin = float(self.test.boundary(self.variances[:, -1].sum(), level))
        ends = ((gap - margin) / weight, (gap + margin) / weight)
        return Interval(*(min(max(end, -1.0), 1.0) for end in ends))

    def ratio_interval(self, estimate: float, spread: float, start: float, level: float) -> Interval:
        """Return the ratios less 1 that neither direction refutes; infinite where none above is.

        Args:
            estimate: The estimated ratio, from which the search goes outwards.
            spread: Scale of its logarithm, positive.
            start: The range's minimum over its width, not negative.
            level: ln of the e-value that refutes.
        """
        if not len(self.pair.rows):
            return Interval(-1.0, inf)
        last = self.sums[:, -1:], self.variances[:, -1:], self.weight[-1:]

        def surplus(ratio: float, sign: Sign) -> float:
            total, variance = _about_ratio(*last, ratio, start)
            return float(self.test.log_e_value(sign * total, variance)[0]) - level

        return ratio_not_refuted(surplus, estimate, spread, _EXACT * spread)


def _about_ratio(
    sums: FloatArray, variances: FloatArray, weight: FloatArray, ratio: float, start: float
) -> tuple[FloatArray, FloatArray]:
    unit = max(1.0, ratio)
    (s_0, s_k), (v_0, v_k) = sums, variances
    total = s_k - ratio * s_0 + weight * start * (1 - ratio)
    return np.asarray(total / unit), np.asarray((v_k + ratio**2 * v_0) / unit**2)


_EXACT: Final = 1e-3

"""Beta posteriors as curves over z = logit(value)."""

import numpy as np
import scipy

from bandit.posteriors.curves.base import BEND, HALF_LOG_TWO_PI, LOG_TAIL, RELATIVE_WIDTH, stirling_remainder
from bandit.posteriors.curves.panels import FloatArray, Panels, Rows, Widths


class BetaCurves:
    """`Curves` of Beta posteriors; `alpha` and `beta` have shape (n_arms,)."""

    def __init__(self, alpha: FloatArray, beta: FloatArray, *, is_mirrored: bool) -> None:
        self._is_mirrored = is_mirrored
        self._alpha, self._beta = (beta, alpha) if is_mirrored else (alpha, beta)
        a, b = self._alpha, self._beta
        n = a + b
        self._n, self._mean = n, a / n
        # Only the smaller one of p and 1 - p keeps all its digits, so the density is written with that one.
        self._rarer, self._commoner = np.minimum(a, b), np.maximum(a, b)
        self._rare_part = self._rarer / n
        self._towards_rarer = np.where(a < b, 1.0, -1.0)
        self._mode = np.log(a) - np.log(b)
        of_n, of_a, of_b = np.split(stirling_remainder(np.concatenate((n, a, b))), 3)
        self._log_peak = 0.5 * np.log(a / n * b) - HALF_LOG_TWO_PI + of_n - of_a - of_b
        falls = _beta_falls(np.concatenate((a, b)), np.concatenate((b, a)))
        self.lower = self._mode - falls[a.size :]
        self.upper = self._mode + falls[: a.size]
        sd = np.sqrt(scipy.special.zeta(2.0, a) + scipy.special.zeta(2.0, b))
        core = np.where(np.minimum(a, b) < 1, np.minimum(sd, BEND), sd)
        # Where the exponential tails of small parameters meet; otherwise the mode of log-concave curves.
        centre = np.log(np.maximum(a, 1)) - np.log(np.maximum(b, 1))
        self.widths = Widths(sd, core, np.full_like(a, RELATIVE_WIDTH), centre)

    def density(self, panels: Panels, rows: Rows) -> FloatArray:
        """See `Curves.density`: ``p**alpha * q**beta / B(alpha, beta)``, p = expit(z) = 1 - q."""
        offset = panels.offsets_from(self._mode[rows])
        offset *= self._towards_rarer[rows, np.newaxis]
        bounded = np.minimum(offset, _UNDERFLOW)
        bend = np.log1p(self._rare_part[rows, np.newaxis] * np.expm1(bounded))
        exponent = self._rarer[rows, np.newaxis] * bounded - self._n[rows, np.newaxis] * bend
        exponent -= self._commoner[rows, np.newaxis] * (offset - bounded)
        exponent += self._log_peak[rows, np.newaxis]
        return np.asarray(np.exp(exponent, out=exponent))

    def cdf(self, z: FloatArray | float, rows: Rows) -> FloatArray:
        """See `Curves.cdf`."""
        return _beta_cdf(self._alpha[rows], self._beta[rows], z)

    def slopes(self, z: FloatArray) -> FloatArray:
        """See `Curves.slopes`."""
        return np.asarray(scipy.special.expit(z) * scipy.special.expit(-z))

    def scaled(self, z: FloatArray, factor: float) -> FloatArray:
        """See `Curves.scaled`."""
        sign = -1.0 if self._is_mirrored else 1.0
        value = np.minimum(factor * scipy.special.expit(sign * z), 1.0)
        return np.asarray(sign * scipy.special.logit(value))

    def shortfall(self, z: float) -> FloatArray:
        """See `Curves.shortfall`."""
        value = scipy.special.expit(z)
        biased = _beta_cdf(self._alpha + 1, self._beta, z)
        return np.maximum(value * _beta_cdf(self._alpha, self._beta, z) - self._mean * biased, 0.0)

    def excess(self, z: float) -> FloatArray:
        """See `Curves.excess`."""
        value = scipy.special.expit(z)
        biased = _beta_cdf(self._beta, self._alpha + 1, -z)
        return np.maximum(self._mean * biased - value * _beta_cdf(self._beta, self._alpha, -z), 0.0)


def _beta_cdf(a: FloatArray, b: FloatArray, z: FloatArray | float) -> FloatArray:
    """Return P(logit of a Beta(a, b) value < z), by whichever of p and 1 - p keeps its digits."""
    below = scipy.special.betainc(a, b, scipy.special.expit(np.minimum(z, 0.0)))
    above = scipy.special.betaincc(b, a, scipy.special.expit(-np.maximum(z, 0.0)))
    is_far = np.abs(z) > _UNDERFLOW
    if np.any(is_far):
        # expit underflows here, and only the first term of the series, p**a / (a B(a, b)), remains.
        below = np.where(is_far, _far_tail(a, b, z), below)
        above = np.where(is_far, 1 - _far_tail(b, a, -np.asarray(z)), above)
    return np.where(np.less(z, 0), below, above)


def _far_tail(a: FloatArray, b: FloatArray, z: FloatArray | float) -> FloatArray:
    exponent = a * np.maximum(z, -_FAR) - np.log(a) - scipy.special.betaln(a, b)
    return np.asarray(np.exp(np.minimum(exponent, 0.0)))


def _beta_falls(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return how far above its mode a Beta(a, b) density over z falls to `TAIL` times its peak, or more.

    The fall ``h(d) = b d + n ln(1 + q (exp(-d) - 1))`` is convex, so after its first step Newton's method
    approaches the root from above, and stopping early errs on the safe side. The density is log-concave, so
    less than `TAIL` lies beyond.
    """
    n = a + b
    p, q = a / n, b / n
    steepest = np.maximum(BEND, np.log1p(2 * LOG_TAIL / a))
    offset = np.minimum(np.sqrt(2 * LOG_TAIL / (a * q)), steepest)
    for _ in range(_NEWTON_STEPS):
        decay = np.expm1(-offset)
        bend = q * decay
        slope = -b * p * decay / (1 + bend)
        offset = offset + (LOG_TAIL - b * offset - n * np.log1p(bend)) / slope
    return offset


_UNDERFLOW = 700.0
_FAR = 1e300
_NEWTON_STEPS = 5

"""Beta posteriors as curves over z = logit(value)."""

import numpy as np
from scipy import special

from bandit.curves.base import (
    BEND, HALF_LOG_TWO_PI, LOG_TAIL, RELATIVE_WIDTH, FloatArray, Rows, Widths, stirling_remainder
)


class BetaCurves:
    """`Curves` of Beta posteriors; `alpha` and `beta` have shape (n_arms,)."""

    def __init__(self, alpha: FloatArray, beta: FloatArray, *, is_mirrored: bool) -> None:
        self._is_mirrored = is_mirrored
        self._alpha, self._beta = (beta, alpha) if is_mirrored else (alpha, beta)
        a, b = self._alpha, self._beta
        n = a + b
        self._n, self._p, self._q = n, a / n, b / n
        self._mode = np.log(a) - np.log(b)
        remainders = stirling_remainder(n) - stirling_remainder(a) - stirling_remainder(b)
        self._log_peak = 0.5 * np.log(a * self._q) - HALF_LOG_TWO_PI + remainders
        falls = _beta_falls(np.concatenate((a, b)), np.concatenate((b, a)))
        self.lower = self._mode - falls[a.size :]
        self.upper = self._mode + falls[: a.size]
        sd = np.sqrt(special.zeta(2.0, a) + special.zeta(2.0, b))
        core = np.where(np.minimum(a, b) < 1, np.minimum(sd, BEND), sd)
        # Where exponential tails of small parameters meet; the mode of log-concave curves otherwise.
        centre = np.log(np.maximum(a, 1)) - np.log(np.maximum(b, 1))
        self.widths = Widths(sd, core, np.full_like(a, RELATIVE_WIDTH), centre)

    def density(self, z: FloatArray, rows: Rows) -> FloatArray:
        """See `Curves.density`: ``p**alpha * q**beta / B(alpha, beta)``, p = expit(z) = 1 - q."""
        offset = z - self._mode[rows, np.newaxis]
        is_above = offset > 0
        # Of two equal forms, that without exp(large): 1 + p (e**d - 1) = e**d (1 + q (e**-d - 1)).
        weight = np.where(is_above, self._q[rows, np.newaxis], self._p[rows, np.newaxis])
        rate = np.where(is_above, self._beta[rows, np.newaxis], self._alpha[rows, np.newaxis])
        fall = -np.abs(offset, out=offset)
        bend = np.log1p(weight * np.expm1(fall))
        exponent = self._log_peak[rows, np.newaxis] + rate * fall - self._n[rows, np.newaxis] * bend
        return np.exp(exponent, out=exponent)

    def cdf(self, z: FloatArray | float, rows: Rows) -> FloatArray:
        """See `Curves.cdf`."""
        return _beta_cdf(self._alpha[rows], self._beta[rows], z)

    def values(self, z: FloatArray) -> FloatArray:
        """See `Curves.values`."""
        return np.asarray(special.expit(z))

    def slopes(self, z: FloatArray) -> FloatArray:
        """See `Curves.slopes`."""
        return np.asarray(special.expit(z) * special.expit(-z))

    def scaled(self, z: FloatArray, factor: float) -> FloatArray:
        """See `Curves.scaled`."""
        sign = -1.0 if self._is_mirrored else 1.0
        value = np.minimum(factor * special.expit(sign * z), 1.0)
        return np.asarray(sign * special.logit(value))

    def shortfall(self, z: float) -> FloatArray:
        """See `Curves.shortfall`."""
        value = special.expit(z)
        biased = _beta_cdf(self._alpha + 1, self._beta, z)
        return np.maximum(value * _beta_cdf(self._alpha, self._beta, z) - self._p * biased, 0.0)

    def excess(self, z: float) -> FloatArray:
        """See `Curves.excess`."""
        value = special.expit(z)
        biased = _beta_cdf(self._beta, self._alpha + 1, -z)
        return np.maximum(self._p * biased - value * _beta_cdf(self._beta, self._alpha, -z), 0.0)


def _beta_cdf(a: FloatArray, b: FloatArray, z: FloatArray | float) -> FloatArray:
    """P(logit of a Beta(a, b) value < z), by whichever of p and 1 - p keeps its digits."""
    below = special.betainc(a, b, special.expit(np.minimum(z, 0.0)))
    above = special.betaincc(b, a, special.expit(-np.maximum(z, 0.0)))
    # expit underflows here, and only the first term of the series p**a / (a B(a, b)) is left.
    tiny = np.exp(np.minimum(a * np.maximum(z, -_FAR) - np.log(a) - special.betaln(a, b), 0.0))
    return np.where(np.less(z, -_UNDERFLOW), tiny, np.where(np.less(z, 0), below, above))


def _beta_falls(a: FloatArray, b: FloatArray) -> FloatArray:
    """How far above its mode a Beta(a, b) density over z has fallen to `TAIL` times its peak, or a little more.

    The fall ``h(d) = b d + n ln(1 + q (exp(-d) - 1))`` is convex, so after its first step Newton's method comes
    down to the root from above, and stopping early errs on the safe side. Log-concavity bounds the tail beyond.
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

"""Gamma posteriors as curves over z = ln(value)."""

from math import exp, log, pi

import numpy as np
import scipy

from bandit.posteriors.curves.base import BEND, HALF_LOG_TWO_PI, LOG_TAIL, RELATIVE_WIDTH, stirling_remainder
from bandit.posteriors.curves.panels import FloatArray, Panels, Rows, Widths


class GammaCurves:
    """`Curves` of Gamma posteriors; `shape` and `rate` have shape (n_arms,)."""

    def __init__(self, shape: FloatArray, rate: FloatArray, *, is_mirrored: bool) -> None:
        self._shape, self._mean = shape, shape / rate
        self._sign = -1.0 if is_mirrored else 1.0
        self._rate = rate
        self._mode = np.log(shape) - np.log(rate)
        self._log_peak = 0.5 * np.log(shape) - HALF_LOG_TWO_PI - stirling_remainder(shape)
        below, above = _gamma_falls(shape)
        before, after = (above, below) if is_mirrored else (below, above)
        self.lower = self._sign * self._mode - before
        self.upper = self._sign * self._mode + after
        sd = np.sqrt(scipy.special.zeta(2.0, shape))
        core = np.where(shape < 1, np.minimum(sd, BEND), sd)
        centre = self._sign * (np.log(np.maximum(shape, 1)) - np.log(rate))
        self.widths = Widths(sd, core, np.full_like(shape, RELATIVE_WIDTH), centre)

    def density(self, panels: Panels, rows: Rows) -> FloatArray:
        """See `Curves.density`: ``x**shape * exp(-rate x) * rate**shape / Gamma(shape)``, x = exp(z)."""
        # Far above the mode the density is 0; the bound keeps expm1 from overflowing.
        above = self._sign * panels.offsets_from(self._sign * self._mode[rows])
        offset = np.minimum(above, 100.0)
        exponent = self._shape[rows, np.newaxis] * (offset - np.expm1(offset))
        return np.asarray(np.exp(self._log_peak[rows, np.newaxis] + exponent))

    def cdf(self, z: FloatArray | float, rows: Rows) -> FloatArray:
        """See `Curves.cdf`."""
        below, above = _gamma_tails(self._shape[rows], np.log(self._rate[rows]) + self._sign * z)
        return above if self._sign < 0 else below

    def slopes(self, z: FloatArray) -> FloatArray:
        """See `Curves.slopes`."""
        return np.asarray(np.exp(self._sign * z))

    def scaled(self, z: FloatArray, factor: float) -> FloatArray:
        """See `Curves.scaled`."""
        return z + self._sign * log(factor)

    def shortfall(self, z: float) -> FloatArray:
        """See `Curves.shortfall`."""
        lacking, exceeding = self._gaps(self._sign * z)
        return exceeding if self._sign < 0 else lacking

    def excess(self, z: float) -> FloatArray:
        """See `Curves.excess`."""
        lacking, exceeding = self._gaps(self._sign * z)
        return lacking if self._sign < 0 else exceeding

    def _gaps(self, log_count: float) -> tuple[FloatArray, FloatArray]:
        """Return how far the arms' values are expected to lie below a count, and above it."""
        count = exp(log_count)
        log_events = np.log(self._rate) + log_count
        below, above = _gamma_tails(self._shape, log_events)
        biased_below, biased_above = _gamma_tails(self._shape + 1, log_events)
        lacking = np.maximum(count * below - self._mean * biased_below, 0.0)
        exceeding = np.maximum(self._mean * biased_above - count * above, 0.0)
        return lacking, exceeding


def _gamma_tails(shape: FloatArray, log_x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return P(a Gamma(shape, 1) value < x) and P(it > x), given ln x."""
    x = np.exp(np.clip(log_x, -_UNDERFLOW, _UNDERFLOW))
    # exp underflows here, and only the first term of the series, x**shape / Gamma(shape + 1), remains.
    tiny = np.exp(np.minimum(shape * np.maximum(log_x, -_FAR) - scipy.special.gammaln(shape + 1), 0.0))
    is_tiny = log_x < -_UNDERFLOW
    below = np.where(is_tiny, tiny, scipy.special.gammainc(shape, x))
    above = np.where(is_tiny, 1 - tiny, scipy.special.gammaincc(shape, x))
    is_large = shape >= _LARGE
    if not np.any(is_large):
        return below, above
    large_below, large_above = _large_gamma_tails(shape, log_x)
    return np.where(is_large, large_below, below), np.where(is_large, large_above, above)


def _large_gamma_tails(shape: FloatArray, log_x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """`_gamma_tails` for large shapes, where SciPy's functions lose half of their digits.

    Temme's uniform expansion (1979; DLMF 8.12.3 and 8.12.4) with its first coefficient; the next adds less
    than 1e-10. SciPy computes ``x/shape - 1 - ln(x/shape)`` as a difference; here it is summed as a series.
    """
    offset = np.clip(log_x - np.log(shape), -_REACH, _REACH)
    bend = 1 + offset / 3 * (1 + offset / 4 * (1 + offset / 5 * (1 + offset / 6 * (1 + offset / 7))))
    eta = offset * np.sqrt(bend)
    correction = np.exp(-0.5 * shape * eta * eta) / np.sqrt(2 * pi * shape)
    correction *= -1 / 3 + eta / 12 - 2 * eta * eta / 135
    scaled = eta * np.sqrt(shape / 2)
    return scipy.special.erfc(-scaled) / 2 - correction, scipy.special.erfc(scaled) / 2 + correction


def _gamma_falls(shape: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return how far below and above its mode a Gamma density over z falls to `TAIL` times its peak, or more.

    Newton's method on the convex falls ``d + exp(-d) - 1`` and ``exp(d) - 1 - d``, in units of `shape`,
    approaches the roots from above, so stopping early errs on the safe side. The density is log-concave, so
    less than `TAIL` lies beyond.
    """
    depth = LOG_TAIL / shape
    below = np.sqrt(2 * depth)
    above = np.minimum(below, np.maximum(BEND, np.log1p(2 * depth)))
    for _ in range(_NEWTON_STEPS):
        decay = np.expm1(-below)
        below = below + (depth - below - decay) / -decay
        growth = np.expm1(above)
        above = above + (depth + above - growth) / growth
    return below, above


_UNDERFLOW = 700.0
_FAR = 1e300
_LARGE = 1e5
_REACH = 0.2  # in ln(x / shape): for large shapes no probability lies beyond
_NEWTON_STEPS = 5

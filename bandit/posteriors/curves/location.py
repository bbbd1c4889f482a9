"""Normal and Student-t posteriors as curves over the value itself, measured from the mean of one arm."""

from math import log, pi

import numpy as np
import scipy

from bandit.posteriors.curves.base import RELATIVE_WIDTH, TAIL, stirling_remainder
from bandit.posteriors.curves.panels import FloatArray, Panels, Rows, Widths


class LocationCurves:
    """`Curves` of Student-t posteriors; `mean`, `scale`, `df` have shape (n_arms,).

    A Normal equals a Student-t with `NORMAL_DF` degrees of freedom to the last digit.
    """

    def __init__(self, mean: FloatArray, scale: FloatArray, df: FloatArray, *, is_mirrored: bool) -> None:
        centre = -mean if is_mirrored else mean
        # Measured from an arm that can be best: its offset is exactly 0, and its neighbours' offsets are
        # exact too, so scales far below the means lose no digits.
        self._origin = centre[np.argmax(centre - 8 * scale)]
        self._centre = centre - self._origin
        self._scale, self._df = scale, df
        half = df / 2
        remainders = stirling_remainder(half + 0.5) - stirling_remainder(half)
        log_ratio = half * np.log1p(0.5 / half) - 0.5 + remainders
        self._log_peak = log_ratio - 0.5 * log(2 * pi) - np.log(scale)
        self.lower = self._centre - scale * _reach(df, _lower_tails(df))
        self.upper = self._centre + scale * _reach(df, np.full_like(df, TAIL))
        core = scale * np.sqrt(df / (df + 1))
        slope = np.minimum(RELATIVE_WIDTH, 1 / np.sqrt(df))
        self.widths = Widths(np.full_like(mean, np.inf), core, slope, self._centre)

    def density(self, panels: Panels, rows: Rows) -> FloatArray:
        """See `Curves.density`: ``(1 + t**2 / df) ** (-(df + 1) / 2)``, normalised."""
        t = panels.offsets_from(self._centre[rows])
        t /= self._scale[rows, np.newaxis]
        np.clip(t, -_OVERFLOW, _OVERFLOW, out=t)
        df = self._df[rows, np.newaxis]
        exponent = self._log_peak[rows, np.newaxis] - (0.5 * df + 0.5) * np.log1p(t * t / df)
        return np.asarray(np.exp(exponent, out=exponent))

    def cdf(self, z: FloatArray | float, rows: Rows) -> FloatArray:
        """See `Curves.cdf`."""
        return np.asarray(scipy.special.stdtr(self._df[rows], (z - self._centre[rows]) / self._scale[rows]))

    def slopes(self, z: FloatArray) -> FloatArray:
        """See `Curves.slopes`."""
        return np.ones_like(z)

    def scaled(self, z: FloatArray, factor: float) -> FloatArray:
        """See `Curves.scaled`."""
        return np.asarray(factor * z + (factor - 1) * self._origin)

    def shortfall(self, z: float) -> FloatArray:
        """See `Curves.shortfall`."""
        return self._expected_excess((self._centre - z) / self._scale)

    def excess(self, z: float) -> FloatArray:
        """See `Curves.excess`."""
        return self._expected_excess((z - self._centre) / self._scale)

    def _expected_excess(self, t: FloatArray) -> FloatArray:
        """Return ``scale * E[max(0, T - t)]`` of a Student-t variable T; infinite for df <= 1."""
        df = np.where(self._df > 1, self._df, np.nan)
        t = np.clip(t, -_OVERFLOW, _OVERFLOW)
        standard = np.exp(self._log_peak - (0.5 * df + 0.5) * np.log1p(t * t / df)) * self._scale
        ratio = (1 + t * t / df) / (1 - 1 / df)
        excess = self._scale * np.maximum(ratio * standard - t * scipy.special.stdtr(self._df, -t), 0.0)
        return np.where(self._df > 1, excess, np.inf)


def _reach(df: FloatArray, tail: FloatArray) -> FloatArray:
    return np.asarray(np.minimum(-scipy.special.stdtrit(df, tail), _FARTHEST))


def _lower_tails(df: FloatArray) -> FloatArray:
    """Return the probability to cut off below: beyond that quantile a mean loses about `TAIL` scales."""
    exponent = np.where(df > 1, df / np.maximum(df - 1, 1e-9), 1.0)
    return np.asarray(np.maximum(TAIL ** np.minimum(exponent, 100.0), _LEAST_TAIL))


NORMAL_DF = 1e300

_LEAST_TAIL = 1e-100
_FARTHEST = 1e140
_OVERFLOW = 1e150

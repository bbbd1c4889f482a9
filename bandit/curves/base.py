"""Posteriors of many arms as curves over one coordinate in which all of them are smooth.

The coordinate z is logit(value) for Beta posteriors (log-concave and analytic for every alpha, beta > 0, and a rate
of 1e-5 is as wide as any), ln(value) for Gamma, and the value itself for Normal and Student-t. Only posteriors
with the same coordinate can be compared. To look for the *smallest* value the curves are mirrored: then z and
`values` are negated (for Beta, the value becomes 1 - value), so that best always means largest z.

Densities are written around their mode, where counts of 1e7 and more cost no digits, with the remainder of
Stirling's series for ln Gamma (Abramowitz & Stegun 1964, 6.1.41) in place of the difference of huge logarithms.
"""

from dataclasses import dataclass
from math import log, pi
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

FloatArray: TypeAlias = NDArray[np.float64]
Rows: TypeAlias = NDArray[np.intp]

# What is cut off at each end of an arm's density holds about this much probability.
TAIL = 1e-13
LOG_TAIL = -log(TAIL)
HALF_LOG_TWO_PI = 0.5 * log(2 * pi)
# A panel may be this much of its distance from the place where a curve bends, and this wide at that place. Both
# curves that bend, ln(1 + exp(z)) and exp(z), do so within about 1 whatever their parameters are.
RELATIVE_WIDTH = 0.45
BEND = 1.3


@dataclass(frozen=True, slots=True)
class Widths:
    """How wide a quadrature panel may be that starts at z: ``min(cap, max(core, slope * abs(z - centre)))``.

    All arrays have shape (n_arms,).
    """

    cap: FloatArray
    core: FloatArray
    slope: FloatArray
    centre: FloatArray


class Curves(Protocol):
    """Densities of n_arms values over z; `lower` and `upper`, shape (n_arms,), hold all but `TAIL` on each side."""

    lower: FloatArray
    upper: FloatArray
    widths: Widths

    def density(self, z: FloatArray, rows: Rows) -> FloatArray:
        """Density in z of the arms `rows` at each of the points, shape (n_rows, n_points)."""
        ...

    def cdf(self, z: FloatArray | float, rows: Rows) -> FloatArray:
        """P(arm's z is below this one); `z` broadcasts against shape (n_rows,)."""
        ...

    def values(self, z: FloatArray) -> FloatArray:
        """The values at these points, up to a constant that all arms share."""
        ...

    def slopes(self, z: FloatArray) -> FloatArray:
        """d value / d z at these points."""
        ...

    def scaled(self, z: FloatArray, factor: float) -> FloatArray:
        """The points whose values, in the metric's unit, are `factor` times those of `z`; may be infinite."""
        ...

    def shortfall(self, z: float) -> FloatArray:
        """E[max(0, value(z) - value of the arm)], shape (n_arms,)."""
        ...

    def excess(self, z: float) -> FloatArray:
        """E[max(0, value of the arm - value(z))], shape (n_arms,); infinite without an expectation."""
        ...


def stirling_remainder(x: FloatArray) -> FloatArray:
    """``ln Gamma(x) - (x - 1/2) ln x + x - ln(2 pi) / 2`` within 1e-14 times max(1, ln(1/x)), for x > 0."""
    inverse = 1 / np.maximum(x, _SERIES_FROM)
    square = inverse * inverse
    series = inverse * np.polynomial.polynomial.polyval(square, _STIRLING_SERIES)
    small = np.minimum(x, _SERIES_FROM)
    direct = special.gammaln(small) - (small - 0.5) * np.log(small) + small - HALF_LOG_TWO_PI
    return np.where(x < _SERIES_FROM, direct, series)


_SERIES_FROM = 12.0
_STIRLING_SERIES = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)

"""Posteriors of many arms as curves over one coordinate in which all of them are smooth.

The coordinate z is logit(value) for Beta posteriors (log-concave and analytic for every alpha, beta > 0, and
a rate of 1e-5 is as wide as any), ln(value) for Gamma, and the value itself for Normal and Student-t. Only
posteriors with the same coordinate can be compared. To find the *smallest* value, the curves are mirrored: z
is negated, so that best always means largest z.

Densities are written around their mode, where counts of 1e7 and more cost no digits, with the remainder of
Stirling's series for ln Gamma (Abramowitz & Stegun 1964, 6.1.41) instead of differences of huge logarithms.
"""

from math import log, pi
from typing import Protocol

import numpy as np
import scipy

from bandit.posteriors.curves.panels import FloatArray, Panels, Rows, Widths

# About this much probability is cut off at each end of an arm's density.
TAIL = 1e-13
LOG_TAIL = -log(TAIL)
HALF_LOG_TWO_PI = 0.5 * log(2 * pi)
# A panel may be as wide as this part of its distance from the place where a curve bends, and `BEND` wide at
# that place. The curves that bend, ln(1 + exp(z)) and exp(z), bend within about 1 for all parameters.
RELATIVE_WIDTH = 0.45
BEND = 1.3


class Curves(Protocol):
    """Densities of n_arms values over z.

    Attributes:
        lower: where each density begins, shape (n_arms,): about `TAIL` of its probability lies to the left.
        upper: where each density ends, likewise.
        widths: how wide the panels of each density may be.
    """

    lower: FloatArray
    upper: FloatArray
    widths: Widths

    def density(self, panels: Panels, rows: Rows) -> FloatArray:
        """Return the density in z of the arms `rows` at the panels' nodes, shape (n_rows, n_nodes)."""
        ...

    def cdf(self, z: FloatArray | float, rows: Rows) -> FloatArray:
        """Return P(arm's z is below `z`); `z` broadcasts against shape (n_rows,)."""
        ...

    def slopes(self, z: FloatArray) -> FloatArray:
        """Return the derivative of the value with respect to z at these points; either sign."""
        ...

    def scaled(self, z: FloatArray, factor: float) -> FloatArray:
        """Return the points whose values, in the metric's unit, are `factor` times those at `z`.

        They may be infinite.
        """
        ...

    def shortfall(self, z: float) -> FloatArray:
        """Return E[max(0, value(z) - value of the arm)], shape (n_arms,)."""
        ...

    def excess(self, z: float) -> FloatArray:
        """Return E[max(0, value of the arm - value(z))], shape (n_arms,); infinite without an expectation."""
        ...


def stirling_remainder(x: FloatArray) -> FloatArray:
    """Return ``ln Gamma(x) - (x - 1/2) ln x + x - ln(2 pi) / 2``, x > 0, within 1e-14 * max(1, ln(1/x))."""
    inverse = 1 / np.maximum(x, _SERIES_FROM)
    square = inverse * inverse
    series = np.zeros_like(x)
    for coefficient in _STIRLING_SERIES:
        series = series * square + coefficient
    small = np.minimum(x, _SERIES_FROM)
    direct = scipy.special.gammaln(small) - (small - 0.5) * np.log(small) + small - HALF_LOG_TWO_PI
    return np.where(x < _SERIES_FROM, direct, series * inverse)


_SERIES_FROM = 12.0
_STIRLING_SERIES = (-691 / 360360, 1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12)

"""The gamma-exponential mixture: an e-process from a sum of bounded scores, and bounds from it.

Let scores lie at most `scale` below their prediction, S be their sum minus its expectation, and V the sum of
squared distances from their predictions. Then ``exp(lambda S - psi(lambda) V)`` is a supermartingale for
every lambda in [0, 1/scale), with ``psi(lambda) = (-ln(1 - scale lambda) - scale lambda) / scale**2``
(Howard, Ramdas, McAuliffe & Sekhon 2021, *Time-uniform, nonparametric, nonasymptotic confidence sequences*,
Theorem 4). Mixing lambda over a gamma distribution truncated to that range gives a closed form (their
Proposition 9).

With c the scale, ``b = rho / c^2``, ``a = (V + rho) / c^2``, ``u = c S / (V + rho)`` and d the remainder of
Stirling's series, it is written here without cancelling terms:

``ln E = ln(b / a) / 2 + d(a) - d(b) + a (u - ln(1 + u)) + ln P(a, a (1 + u)) - ln P(b, b)``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import e, isfinite, log

import numpy as np
import scipy
from numpy.typing import ArrayLike

from bandit.inference.data.table import FloatArray
from bandit.posteriors.curves.base import stirling_remainder


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """A mixture fixed before the data.

    Attributes:
        scale: How far a score may lie below its prediction; positive.
        rho: Determines the V at which the bound is tightest; positive. See `tuned`.
    """

    scale: float
    rho: float

    def __post_init__(self) -> None:
        if not (isfinite(self.scale) and self.scale > 0 and isfinite(self.rho) and self.rho > 0):
            raise ValueError(f"scale and rho must be positive, got {self.scale:g} and {self.rho:g}")

    @classmethod
    def tuned(cls, scale: float, planned_variance: float, alpha: float) -> "Mixture":
        """Create the mixture with the tightest one-sided bound at `alpha` near V = `planned_variance`.

        See Howard et al. (2021).
        """
        if not 0 < alpha < 0.5:  # noqa: PLR2004 - beyond one half there is no bound to tune
            raise ValueError(f"alpha must be in (0, 0.5), got {alpha:g}")
        branch = float(scipy.special.lambertw(-((2 * alpha) ** 2) / e, -1).real)
        return cls(scale=scale, rho=planned_variance / (-branch - 1))

    def log_e_value(self, total: ArrayLike, variance: ArrayLike) -> FloatArray:
        """Return ln E at S = `total` and V = `variance`, of their common shape; finite for finite arguments.

        Below S = 0, where E < 1, it may be a lower bound of ln E, which is on the safe side.
        """
        s, v = np.broadcast_arrays(np.asarray(total, dtype=float), np.asarray(variance, dtype=float))
        b = self.rho / self.scale**2
        a = (np.maximum(v, 0.0) + self.rho) / self.scale**2
        u = self.scale * s / (np.maximum(v, 0.0) + self.rho)
        fixed = 0.5 * log(b) - _remainder(np.asarray(b)) - np.log(scipy.special.gammainc(b, b))
        varying = np.empty(u.shape)
        is_above = u >= 0
        varying[is_above] = _above(a[is_above], u[is_above])
        varying[~is_above] = _below(a[~is_above], u[~is_above])
        return np.asarray(varying + fixed)

    def boundary(self, variance: ArrayLike, alpha: float) -> FloatArray:
        """Return the sum S at which E, which rises with S, reaches 1 / `alpha`."""
        return boundary_of(self.log_e_value, variance, -log(alpha), scale=self.scale, rho=self.rho)


def boundary_of(
    log_e_value: Callable[[ArrayLike, ArrayLike], FloatArray],
    variance: ArrayLike,
    level: float,
    *,
    scale: float,
    rho: float,
) -> FloatArray:
    """Return the sum S at which ln E, which rises with S, reaches `level`, by repeated sectioning.

    Never below the true root: the result is the upper end of the last bracket.

    Args:
        log_e_value: Function of S and V.
        variance: V, of any shape.
        level: ln of the e-value to reach.
        scale: Scale of the scores.
        rho: Determines, with V, where the search begins.
    """
    v = np.asarray(variance, dtype=float)[..., np.newaxis]
    lower, upper = np.zeros_like(v), scale + np.sqrt(np.maximum(v, 0.0) + rho)
    for _ in range(_DOUBLINGS):
        is_short = log_e_value(upper, v) < level
        if not np.any(is_short):
            break
        lower, upper = np.where(is_short, upper, lower), np.where(is_short, 2 * upper, upper)
    for _ in range(_SECTIONINGS):
        nodes = lower + (upper - lower) * _NODES
        nodes[..., -1:] = upper
        first = np.argmax(log_e_value(nodes, v) >= level, axis=-1, keepdims=True)
        lower = np.take_along_axis(nodes, np.maximum(first - 1, 0), axis=-1)
        upper = np.take_along_axis(nodes, first, axis=-1)
    return np.asarray(upper[..., 0])


def _remainder(shape: FloatArray) -> FloatArray:
    """Return ``ln Gamma(z) - (z - 1/2) ln z + z - ln(2 pi) / 2``."""
    return np.asarray(stirling_remainder(shape))


def _above(a: FloatArray, u: FloatArray) -> FloatArray:
    """Return the part of ln E that varies, for S >= 0: P is between about one half and 1."""
    tail = np.log(scipy.special.gammainc(a, a * (1 + u)))
    return np.asarray(-0.5 * np.log(a) + _remainder(a) + a * (u - np.log1p(u)) + tail)


def _below(a: FloatArray, u: FloatArray) -> FloatArray:
    """Return a lower bound of it for S < 0, where ``P(a, x) = x^a e^-x M(1, a + 1, x) / Gamma(a + 1)``.

    M is at least its first terms where x > 0, and at least ``a / (a - x)`` where x < 0 (by parts).
    """
    x = a * (1 + u)
    right = np.maximum(x, 0.0)
    series = 1 + right / (a + 1) * (1 + right / (a + 2) * (1 + right / (a + 3) * (1 + right / (a + 4))))
    kummer = np.where(x > 0, series, a / (a - np.minimum(x, 0.0)))
    return np.asarray(np.log(kummer) - np.log(a) - _HALF_LOG_TWO_PI)


_HALF_LOG_TWO_PI = 0.5 * log(2 * np.pi)
_DOUBLINGS = 200
_SECTIONINGS = 10
_NODES = np.linspace(0.0, 1.0, 33)  # each round narrows the bracket 32-fold

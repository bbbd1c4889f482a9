"""P(best), expected losses and the value remaining, against references that share no code with them."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special

from bandit import quadrature
from bandit.curves.beta import BetaCurves
from bandit.panels import N_NODES, Panels
from bandit.posteriors import BetaPosterior, GammaPosterior, NormalPosterior, Posterior, StudentTPosterior
from bandit.quadrature import (
    QuadratureError,
    best_arm_probabilities,
    best_arm_summary,
    value_remaining_probability,
)

FloatArray = NDArray[np.float64]

TOLERANCE = 1e-9
"""What the package promises."""

FAMILY_TO_EXAMPLE: dict[str, Posterior] = {
    "beta": BetaPosterior(31, 971),
    "beta, uniform": BetaPosterior(1, 1),
    "beta, small": BetaPosterior(0.01, 0.02),
    "beta, huge": BetaPosterior(1e7, 1e7),
    "normal": NormalPosterior(0.3, 2.0),
    "normal, tiny": NormalPosterior(0.5, 1e-18),
    "student": StudentTPosterior(1e6, 1e-6, 5.0),
    "student, heavy": StudentTPosterior(0.0, 1.0, 1.0),
    "gamma": GammaPosterior(100, 50),
    "gamma, small": GammaPosterior(0.05, 1e-3),
}


def random_posterior(family: str, rng: np.random.Generator) -> Posterior:
    """A posterior whose width and place vary over orders of magnitude, close enough to others to matter."""
    n = 10 ** rng.uniform(0, 4)
    match family:
        case "beta":
            return BetaPosterior(0.3 + rng.uniform(0, 0.2) * n, 0.3 + rng.uniform(0.3, 1) * n)
        case "gamma":
            return GammaPosterior(0.3 + rng.uniform(1, 3) * n, 0.3 + n)
        case "normal":
            return NormalPosterior(rng.normal(), 10 ** rng.uniform(-2, 0.5))
        case _:
            return StudentTPosterior(rng.normal(), 10 ** rng.uniform(-2, 0.5), rng.uniform(3, 100))


class Reference:
    """Posteriors on a fine grid, by the trapezoid rule on textbook formulas: slow, and simple.

    The grid is uniform in the logit, the logarithm, or arcsinh(value); for smooth functions that vanish at both
    ends the trapezoid rule converges exponentially (Trefethen & Weideman 2014).
    """

    def __init__(self, posteriors: Sequence[Posterior], n_points: int = 120_001) -> None:
        low, high = zip(*(self._ends(posterior) for posterior in posteriors), strict=True)
        self.grid, self.step = np.linspace(min(low), max(high), n_points, retstep=True)
        self.density = np.array([self._density(posterior) for posterior in posteriors])
        self.below = np.array([self.cdf(posterior, self.values) for posterior in posteriors])
        self._kind = type(posteriors[0])

    @staticmethod
    def _ends(posterior: Posterior) -> tuple[float, float]:
        tails = np.array([1e-16, 0.5])
        match posterior:
            case BetaPosterior(a, b):
                below, above = special.betaincinv(a, b, tails), special.betaincinv(b, a, tails)
                return float(special.logit(below)[0]), -float(special.logit(above)[0])
            case GammaPosterior(shape, rate):
                low, high = special.gammaincinv(shape, 1e-16), special.gammainccinv(shape, 1e-16)
                return math.log(low / rate), math.log(high / rate)
            case NormalPosterior(mean, sd):
                return math.asinh(mean - 8.5 * sd), math.asinh(mean + 8.5 * sd)
            case StudentTPosterior(mean, scale, df):
                reach = -scale * float(special.stdtrit(df, 1e-16))
                return math.asinh(mean - reach), math.asinh(mean + reach)

    @property
    def values(self) -> FloatArray:
        """Values at the grid's points."""
        raise NotImplementedError

    def _density(self, posterior: Posterior) -> FloatArray:
        raise NotImplementedError

    @staticmethod
    def cdf(posterior: Posterior, values: FloatArray) -> FloatArray:
        """P(value of the posterior < each of the values)."""
        raise NotImplementedError

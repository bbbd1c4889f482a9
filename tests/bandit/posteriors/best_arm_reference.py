"""Posteriors to try, and a textbook reference for their P(best), losses and value remaining."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bandit.posteriors import BetaPosterior, GammaPosterior, NormalPosterior, Posterior, StudentTPosterior

FloatArray = NDArray[np.float64]

TOLERANCE = 1e-9
"""The accuracy that the package documents."""

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
    """Return a posterior whose width and location vary over orders of magnitude, near enough to others."""
    n = 10 ** rng.uniform(0, 4)
    match family:
        case "beta":
            return BetaPosterior(0.3 + rng.uniform(0, 0.2) * n, 1 + rng.uniform(0.3, 1) * n)
        case "gamma":
            return GammaPosterior(0.3 + rng.uniform(1, 3) * n, 0.3 + n)
        case "normal":
            return NormalPosterior(rng.normal(), 10 ** rng.uniform(-2, 0.5))
        case _:
            return StudentTPosterior(rng.normal(), 10 ** rng.uniform(-2, 0.5), rng.uniform(3, 100))


class Reference:
    """Posteriors on a fine uniform grid over logit, log or arcsinh of the value: slow but simple.

    Densities are the textbook's, distribution functions SciPy's. For smooth functions that vanish at both
    ends the trapezoid rule converges exponentially (Trefethen & Weideman 2014), and so does a plain sum.
    """

    def __init__(self, posteriors: Sequence[Posterior], n_points: int = 40_001) -> None:
        low, high = zip(*(_ends(posterior) for posterior in posteriors), strict=True)
        grid = np.linspace(min(low), max(high), n_points)
        self.step = float(grid[1] - grid[0])
        match posteriors[0]:
            case BetaPosterior():
                self.values, self.slope = special.expit(grid), special.expit(grid) * special.expit(-grid)
            case GammaPosterior():
                self.values = self.slope = np.exp(grid)
            case _:
                self.values, self.slope = np.sinh(grid), np.cosh(grid)
        self.density = np.array([_density(posterior, self.values) for posterior in posteriors]) * self.slope
        self.below = np.array([cdf(posterior, self.values) for posterior in posteriors])

    def probabilities(self) -> FloatArray:
        """Return P(arm has the largest value)."""
        others = [np.delete(self.below, arm, axis=0).prod(axis=0) for arm in range(len(self.below))]
        return np.asarray((self.density * np.array(others)).sum(axis=1) * self.step)

    def losses(self) -> FloatArray:
        """Return E[largest value] - E[value of the arm]."""
        lacking = self.below - self.below.prod(axis=0)
        return np.asarray((lacking * self.slope).sum(axis=1) * self.step)

    def remaining(self, posteriors: Sequence[Posterior], arm: int, margin: float) -> float:
        """Return P(largest other value > (1 + margin) * the arm's value), conditioning on the arm's value."""
        others = [other for index, other in enumerate(posteriors) if index != arm]
        below = np.prod([cdf(other, self.values * (1 + margin)) for other in others], axis=0)
        return float((self.density[arm] * (1 - below)).sum() * self.step)


def _ends(posterior: Posterior) -> tuple[float, float]:
    match posterior:
        case BetaPosterior(a, b):
            below, above = special.betaincinv(a, b, 1e-16), special.betaincinv(b, a, 1e-16)
            return float(special.logit(below)), -float(special.logit(above))
        case GammaPosterior(shape, rate):
            low, high = special.gammaincinv(shape, 1e-16), special.gammainccinv(shape, 1e-16)
            return math.log(low / rate), math.log(high / rate)
        case NormalPosterior(mean, sd):
            return math.asinh(mean - 8.5 * sd), math.asinh(mean + 8.5 * sd)
        case StudentTPosterior(mean, scale, df):
            reach = -scale * float(special.stdtrit(df, 1e-22))
            return math.asinh(mean - reach), math.asinh(mean + reach)


def _density(posterior: Posterior, x: FloatArray) -> FloatArray:
    match posterior:
        case BetaPosterior(a, b):
            log_density = special.xlogy(a - 1, x) + special.xlog1py(b - 1, -x) - special.betaln(a, b)
        case GammaPosterior(shape, rate):
            y = rate * x
            log_density = special.xlogy(shape - 1, y) - y - special.gammaln(shape) + math.log(rate)
        case NormalPosterior(mean, sd):
            log_density = -(((x - mean) / sd) ** 2) / 2 - math.log(sd * math.sqrt(2 * math.pi))
        case StudentTPosterior(mean, scale, df):
            norm = special.betaln(0.5, df / 2) + math.log(scale * math.sqrt(df))
            log_density = -(df + 1) / 2 * np.log1p(((x - mean) / scale) ** 2 / df) - norm
    return np.asarray(np.exp(log_density))


def cdf(posterior: Posterior, x: FloatArray | float) -> FloatArray:
    """Return P(value of the posterior < x)."""
    match posterior:
        case BetaPosterior(a, b):
            return np.asarray(special.betainc(a, b, np.clip(x, 0, 1)))
        case GammaPosterior(shape, rate):
            return np.asarray(special.gammainc(shape, rate * np.asarray(x)))
        case NormalPosterior(mean, sd):
            return np.asarray(special.ndtr((x - mean) / sd))
        case StudentTPosterior(mean, scale, df):
            return np.asarray(special.stdtr(df, (x - mean) / scale))

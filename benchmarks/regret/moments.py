"""Means and standard errors over runs, merged block by block without cancellation."""

from dataclasses import dataclass

import numpy as np

from benchmarks.regret.problems.rewards import FloatArray


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and spread of one or more figures over runs.

    Attributes:
        n: Number of runs.
        mean: Mean over runs, of any shape.
        squares: Sum over runs of squared deviations from the mean, of the same shape.
    """

    n: int
    mean: FloatArray
    squares: FloatArray

    @classmethod
    def of(cls, values: FloatArray) -> "Moments":
        """Compute the moments of figures of shape (..., n_runs)."""
        mean = values.mean(axis=-1)
        return cls(values.shape[-1], mean, ((values - mean[..., np.newaxis]) ** 2).sum(axis=-1))

    def merge(self, other: "Moments") -> "Moments":
        """Return the moments of both groups of runs together (Chan, Golub & LeVeque 1979).

        >>> one, two = Moments.of(np.array([1.0, 2.0])), Moments.of(np.array([3.0, 6.0]))
        >>> one.merge(two) == Moments.of(np.array([1.0, 2.0, 3.0, 6.0]))
        True
        """
        n = self.n + other.n
        gap = other.mean - self.mean
        between = gap * gap * (self.n * other.n / n)
        return Moments(n, self.mean + gap * (other.n / n), self.squares + other.squares + between)

    @property
    def standard_error(self) -> FloatArray:
        """Standard error of the mean; NaN for a single run."""
        if self.n == 1:
            return np.full_like(self.mean, np.nan)
        return np.asarray(np.sqrt(self.squares / (self.n - 1) / self.n), dtype=np.float64)

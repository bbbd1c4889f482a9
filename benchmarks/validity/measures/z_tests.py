"""Z-tests and 95 % intervals on plain counts, as other tools print them, read once or after every epoch."""

from dataclasses import dataclass

import numpy as np
import scipy

from benchmarks.validity.worlds.rates import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class ZTests:
    """A two-sided z-test of each challenger against arm 0 after every epoch, with Bonferroni.

    The variance of the test is pooled over all arms, as is right if they are equal.

    Attributes:
        z: Test statistics, shape (n_runs, n_epochs, n_challengers).
        difference: Differences of the plain means, of the same shape.
        standard_error: Standard errors of the differences, of the same shape.
    """

    z: FloatArray
    difference: FloatArray
    standard_error: FloatArray

    @classmethod
    def of(cls, n: FloatArray, sums: FloatArray) -> "ZTests":
        """Compute the tests from decisions and successes, both of shape (n_runs, n_epochs, n_arms)."""
        n_so_far, means = n.cumsum(axis=1), _ratio(sums.cumsum(axis=1), n.cumsum(axis=1))
        pooled = _ratio(sums.sum(axis=2).cumsum(axis=1), n.sum(axis=2).cumsum(axis=1))[..., np.newaxis]
        inverse = _ratio(np.ones_like(n_so_far), n_so_far)
        spread = np.sqrt(pooled * (1 - pooled) * (inverse[..., 1:] + inverse[..., :1]))
        variances = means * (1 - means) * inverse
        difference = means[..., 1:] - means[..., :1]
        return cls(_ratio(difference, spread), difference, np.sqrt(variances[..., 1:] + variances[..., :1]))

    def once(self, alpha: float) -> FloatArray:
        """Return for each run whether the last look finds a difference."""
        return self._found(alpha)[:, -1].astype(float)

    def peeked(self, alpha: float) -> FloatArray:
        """Return for each run whether any look finds a difference."""
        return self._found(alpha).any(axis=1).astype(float)

    def covers(self, truth: FloatArray, alpha: float) -> FloatArray:
        """Return for each run whether the first challenger's interval covers `truth` after every epoch."""
        margin = -scipy.special.ndtri(alpha / 2) * self.standard_error[..., 0]
        return np.asarray((abs(self.difference[..., 0] - truth) <= margin).all(axis=1), dtype=float)

    def _found(self, alpha: float) -> FloatArray:
        limit = -scipy.special.ndtri(alpha / 2 / self.z.shape[2])
        return np.asarray((abs(self.z) > limit).any(axis=2))


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Return the ratio, or 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)

"""Outcomes: yes/no, or amounts and counts on a few positions of their range, whose sums are cheap to draw."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy

from bandit.inference.data.table import ValueScale
from benchmarks.validity.worlds.rates import FloatArray


@dataclass(frozen=True, eq=False)
class Amounts:
    """Outcomes with the same distribution under every arm.

    Attributes:
        values: Positions in [0, 1], shape (n_values,).
        chances: Their probabilities, which sum to 1.
    """

    values: FloatArray
    chances: FloatArray

    @property
    def mean(self) -> float:
        """The mean, a position."""
        return float(self.values @ self.chances)

    @property
    def deviation(self) -> float:
        """The standard deviation: the range is 1 / `deviation` times it."""
        return float((self.values**2 @ self.chances - self.mean**2) ** 0.5)

    def draw(self, counts: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw the sums, and the sums of squares, of that many outcomes each."""
        drawn = rng.multinomial(counts.astype(int), self.chances)
        return drawn @ self.values, drawn @ self.values**2


def amounts(ranges: float) -> Amounts:
    """Return amounts whose range is `ranges` times their standard deviation: skewed, as revenue is.

    For two standard deviations there is only the coin at the ends of the range.

    >>> round(1 / amounts(30).deviation, 6)
    30.0
    """
    if ranges <= _COIN:
        return Amounts(np.array([0.0, 1.0]), np.array([0.5, 0.5]))
    middles = (np.arange(_N_VALUES) + 0.5) / _N_VALUES
    skewed = -np.log1p(-middles)
    chances = np.full(_N_VALUES, 1 / _N_VALUES)
    return Amounts(skewed / (skewed.std() * ranges), chances)


def counts(mean: float, most: int) -> Amounts:
    """Return Poisson counts of a range from 0 to `most`; larger ones count as the most.

    >>> counts(2.0, 14).chances.sum().round(9)
    np.float64(1.0)
    """
    numbers = np.arange(most + 1)
    chances = scipy.stats.poisson.pmf(numbers, mean)
    chances[-1] += 1 - chances.sum()
    return Amounts(numbers / most, chances)


YES_NO: Final = ValueScale()
REAL: Final = ValueScale(is_binary=False)
_COIN: Final = 2.0
_N_VALUES: Final = 16

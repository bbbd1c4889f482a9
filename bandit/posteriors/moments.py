"""Moments of an arm's outcomes, from which posteriors are computed."""

from dataclasses import dataclass
from math import isfinite


@dataclass(frozen=True, slots=True)
class OutcomeMoments:
    """Count, mean and centred squares of the resolved outcomes of one arm.

    Plain sums would not do: ``sum of squares - n * mean**2`` loses every digit if the spread is small
    compared with the mean. The default is no outcome at all.

    Attributes:
        n: number of resolved decisions, weighted; not negative.
        mean: mean outcome, in the metric's unit; meaningless if `n` is 0.
        centred_squares: sum of ``weight * (outcome - mean)**2``; not negative.

    Raises:
        ValueError: a value is not finite, or `n` or `centred_squares` is negative.
    """

    n: float = 0.0
    mean: float = 0.0
    centred_squares: float = 0.0

    def __post_init__(self) -> None:
        if not (isfinite(self.n) and self.n >= 0):
            raise ValueError(f"n must be finite and not negative, got {self.n}")
        if not isfinite(self.mean):
            raise ValueError(f"mean must be finite, got {self.mean}")
        if not (isfinite(self.centred_squares) and self.centred_squares >= 0):
            raise ValueError(f"centred_squares must be finite and not negative, got {self.centred_squares}")

    @classmethod
    def from_integers(
        cls, n: int, total: int, squares: int, *, quantum: float = 1.0, offset: float = 0.0
    ) -> "OutcomeMoments":
        """Create from exact integer sums of outcomes ``offset + quantum * i``.

        Args:
            n: number of outcomes, not negative.
            total: sum of the integers i.
            squares: sum of their squares; at least ``total**2 / n``.
            quantum: the metric's unit per integer step, positive.
            offset: the outcome at integer 0.

        Raises:
            ValueError: no set of `n` integers has these sums, or `quantum` is not positive and finite.

        >>> OutcomeMoments.from_integers(3, 3_000_006, 3_000_012_000_014, quantum=0.5)
        OutcomeMoments(n=3.0, mean=500001.0, centred_squares=0.5)
        """
        if not (isfinite(quantum) and quantum > 0):
            raise ValueError(f"quantum must be positive and finite, got {quantum}")
        if n < 0:
            raise ValueError(f"n must not be negative, got {n}")
        # n * sum (i - mean)**2, in integers of any length: the subtraction is exact.
        scaled = n * squares - total * total
        if scaled < 0 or (n == 0 and squares != 0):
            raise ValueError(f"no {n} integers have the sum {total} and the sum of squares {squares}")
        if n == 0:
            return cls()
        return cls(float(n), offset + quantum * (total / n), scaled / n * quantum * quantum)

    @classmethod
    def from_successes(cls, n: float, successes: float) -> "OutcomeMoments":
        """Create from yes/no outcomes: `successes` ones and ``n - successes`` zeros.

        Raises:
            ValueError: `successes` is not in [0, n].
        """
        if not 0 <= successes <= n:
            raise ValueError(f"successes must be in [0, {n}], got {successes}")
        if n == 0:
            return cls()
        return cls(float(n), successes / n, successes * (n - successes) / n)

    @property
    def total(self) -> float:
        """Sum of the outcomes, weighted, in the metric's unit."""
        return self.n * self.mean

    def weighted(self, weight: float) -> "OutcomeMoments":
        """The same outcomes, each counting `weight` times: decay by age, or 0 to forget.

        Raises:
            ValueError: `weight` is negative or not finite.

        >>> OutcomeMoments(10.0, 0.3, 2.1).weighted(0.5)
        OutcomeMoments(n=5.0, mean=0.3, centred_squares=1.05)
        """
        if not (isfinite(weight) and weight >= 0):
            raise ValueError(f"weight must be finite and not negative, got {weight}")
        return OutcomeMoments(self.n * weight, self.mean, self.centred_squares * weight)

    def merge(self, other: "OutcomeMoments") -> "OutcomeMoments":
        """Merge with other outcomes, without cancellation (Chan, Golub & LeVeque 1979, eq. 2.1).

        >>> OutcomeMoments.from_successes(2, 1).merge(OutcomeMoments.from_successes(2, 2))
        OutcomeMoments(n=4.0, mean=0.75, centred_squares=0.75)
        """
        n = self.n + other.n
        if n == 0:
            return OutcomeMoments()
        gap = other.mean - self.mean if self.n and other.n else 0.0
        anchor = self.mean if self.n else other.mean
        between = gap * gap * self.n * (other.n / n)
        return OutcomeMoments(
            n, anchor + gap * (other.n / n), self.centred_squares + other.centred_squares + between
        )

"""Conversion from whole numbers of quanta to a metric's unit, rounded once."""

from fractions import Fraction

from bandit.facts import Tally
from bandit.metric import Metric


class MetricScale:
    """Converts the quanta of one metric to its unit.

    Sums are computed exactly and rounded to the nearest double: those of yes/no values and counts are whole
    numbers, and those of real values are off by at most half a unit in the last place.

    Args:
        metric: The metric whose values are stored as quanta.
    """

    __slots__ = ("_is_whole", "_offset", "_quantum")

    def __init__(self, metric: Metric) -> None:
        self._is_whole = not metric.is_real
        self._quantum = Fraction(metric.quantum)
        self._offset = Fraction(metric.offset)

    def sums(self, tally: Tally) -> tuple[float, float]:
        """Return the sum and the sum of squares of the outcomes in time.

        >>> from bandit.metric import MetricKind
        >>> spend = Metric(name="spend", kind=MetricKind.REAL, minimum=-1.0)
        >>> MetricScale(spend).sums(Tally(n=2, total=2**40, squares=2**80))
        (0.0, 2.0)
        """
        return self._sums(tally.n, tally.total, tally.squares)

    def late_sums(self, tally: Tally) -> tuple[float, float]:
        """Return the sum and the sum of squares of the late outcomes."""
        return self._sums(tally.late_n, tally.late_total, tally.late_squares)

    def _sums(self, n: int, total: int, squares: int) -> tuple[float, float]:
        if self._is_whole:
            return float(total), float(squares)
        low, step = self._offset, self._quantum
        return float(n * low + step * total), float(
            n * low * low + 2 * low * step * total + step * step * squares
        )

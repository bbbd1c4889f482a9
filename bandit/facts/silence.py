"""The rule of silence: how a decision without an outcome in time is counted.

Posteriors, evidence and exports all apply it, and only to closed epochs, where outcomes and silence are known
together.
"""

from typing import Any, TypeAlias, overload

from numpy.typing import NDArray

from bandit.metric import Metric

_Numbers: TypeAlias = tuple[int, int, int]
_Arrays: TypeAlias = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


def silence_of(metric: Metric) -> int | None:
    """Return the quanta that silence counts as; None if it counts for nothing.

    >>> from datetime import timedelta
    >>> silence_of(Metric(name="click", window=timedelta(hours=1), default_value=0.0))
    0
    >>> silence_of(Metric(name="click", window=timedelta(hours=1))) is None
    True
    """
    if metric.window is None or metric.default_value is None:
        return None
    return metric.quantise(metric.default_value)


@overload
def with_silence(moments: _Numbers, n_decisions: int, quanta: int) -> _Numbers: ...


@overload
def with_silence(moments: _Arrays, n_decisions: NDArray[Any], quanta: float) -> _Arrays: ...


def with_silence(moments: Any, n_decisions: Any, quanta: float) -> Any:
    """Add `quanta` once for every decision without an outcome in time.

    A late outcome was silence when its window closed. A crash loses up to a second of decision counts, so
    there may be more outcomes than decisions: then there was no silence.

    Args:
        moments: Number, sum and sum of squares of the outcomes in time, in quanta; numbers, or arrays of one
            shape whose numbers have room for the sums.
        n_decisions: The number of decisions, with and without an outcome.
        quanta: The value of silence; of the arrays' kind of number, in which it is squared.

    >>> with_silence((4, 3, 3), 10, 1)
    (10, 9, 9)
    >>> with_silence((4, 3, 3), 2, 1)
    (4, 3, 3)
    """
    n, total, squares = moments
    n_silent = (n_decisions - n) * (n_decisions > n)  # the maximum of the difference and 0
    return n + n_silent, total + n_silent * quanta, squares + n_silent * (quanta * quanta)

"""True rates of a simulated world, for every row and arm; arm 0 is the champion.

Times are the parts of a run's decisions before the middle of each row, in (0, 1).
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]


def still(rates: Sequence[float], n_rows: int) -> FloatArray:
    """Return rates that never change, shape (n_rows, n_arms)."""
    return np.tile(np.asarray(rates, dtype=float), (n_rows, 1))


def drifting(rates: Sequence[float], times: FloatArray) -> FloatArray:
    """Return rates that rise together from .5 to 1.5 times their mean, with constant ratios."""
    return still(rates, len(times)) * (0.5 + times)[:, np.newaxis]


def seasonal(rates: Sequence[float], times: FloatArray, *, n_cycles: int = 4) -> FloatArray:
    """Return rates that swing together by 60 %, in whole cycles."""
    return still(rates, len(times)) * (1 + 0.6 * np.sin(2 * np.pi * n_cycles * times))[:, np.newaxis]


def crossing(rate: float, times: FloatArray) -> FloatArray:
    """Return rates of two arms, one falling from 1.5 to .5 times the rate, the other rising."""
    slope = 0.5 - times
    return rate * (1 + np.stack([slope, -slope], axis=1))


def turning(before: Sequence[float], after: Sequence[float], times: FloatArray, *, at: float) -> FloatArray:
    """Return rates that change once, at the time `at`."""
    is_after = (times >= at)[:, np.newaxis]
    return np.where(is_after, still(after, len(times)), still(before, len(times)))


def fading(rates: Sequence[float], times: FloatArray, *, novelty: float = 0.5) -> FloatArray:
    """Return rates of two arms, the challenger's raised by a novelty that is gone after half the time."""
    truth = still(rates, len(times))
    truth[:, 1] *= 1 + novelty * np.maximum(1 - 2 * times, 0.0)
    return truth


def weekly(rates: Sequence[float], times: FloatArray, swing: float, *, n_days: int = 28) -> FloatArray:
    """Return rates of two arms with a weekly rhythm; day 0 is a Monday.

    The challenger gains `swing` of its rate on five days and loses 2.5 times that on two, so over whole weeks
    it gains nothing.
    """
    day = (times * n_days).astype(int) % _WEEK
    effect = np.where(day < _WORKDAYS, swing, -swing * _WORKDAYS / (_WEEK - _WORKDAYS))
    truth = still(rates, len(times))
    truth[:, 1] *= 1 + effect
    return truth


_WEEK = 7
_WORKDAYS = 5

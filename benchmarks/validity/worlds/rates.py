"""True rates of a simulated world, for every epoch and arm; arm 0 is the champion."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]


def still(rates: Sequence[float], n_epochs: int) -> FloatArray:
    """Return rates that never change, shape (n_epochs, n_arms)."""
    return np.tile(np.asarray(rates, dtype=float), (n_epochs, 1))


def drifting(rates: Sequence[float], n_epochs: int) -> FloatArray:
    """Return rates that rise together from .5 to 1.5 times their mean, with constant ratios."""
    return still(rates, n_epochs) * np.linspace(0.5, 1.5, n_epochs)[:, np.newaxis]


def seasonal(rates: Sequence[float], n_epochs: int, *, n_cycles: int = 4) -> FloatArray:
    """Return rates that swing together by 60 %, in whole cycles."""
    turn = 2 * np.pi * n_cycles * np.arange(n_epochs) / n_epochs
    return still(rates, n_epochs) * (1 + 0.6 * np.sin(turn))[:, np.newaxis]


def crossing(rate: float, n_epochs: int) -> FloatArray:
    """Return rates of two arms, one falling from 1.5 to .5 times the rate, the other rising."""
    slope = np.linspace(0.5, -0.5, n_epochs)
    return rate * (1 + np.stack([slope, -slope], axis=1))


def turning(before: Sequence[float], after: Sequence[float], n_epochs: int, *, at: int) -> FloatArray:
    """Return rates that change once, at epoch `at`."""
    return np.concatenate([still(before, at), still(after, n_epochs - at)])


def weekly(rates: Sequence[float], n_days: int, epochs_a_day: int, swing: float) -> FloatArray:
    """Return rates of two arms with a weekly rhythm; day 0 is a Monday.

    The challenger gains `swing` of its rate on five days and loses 2.5 times that on two, so over whole weeks
    it gains nothing.
    """
    day = np.repeat(np.arange(n_days), epochs_a_day) % _WEEK
    effect = np.where(day < _WORKDAYS, swing, -swing * _WORKDAYS / (_WEEK - _WORKDAYS))
    truth = still(rates, n_days * epochs_a_day)
    truth[:, 1] *= 1 + effect
    return truth


_WEEK = 7
_WORKDAYS = 5

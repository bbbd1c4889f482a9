"""What is true in a simulated world: the rate of every arm in every epoch, arm 0 being the champion."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]


def still(rates: Sequence[float], n_epochs: int) -> FloatArray:
    """Rates that never change, shape (n_epochs, n_arms)."""
    return np.tile(np.asarray(rates, dtype=float), (n_epochs, 1))


def drifting(rates: Sequence[float], n_epochs: int) -> FloatArray:
    """All rates rise together from .5 to 1.5 times their mean: ratios stay as they are."""
    return still(rates, n_epochs) * np.linspace(0.5, 1.5, n_epochs)[:, np.newaxis]


def seasonal(rates: Sequence[float], n_epochs: int, *, n_cycles: int = 4) -> FloatArray:
    """All rates swing together by 60 %, in whole cycles."""
    turn = 2 * np.pi * n_cycles * np.arange(n_epochs) / n_epochs
    return still(rates, n_epochs) * (1 + 0.6 * np.sin(turn))[:, np.newaxis]


def crossing(rate: float, n_epochs: int) -> FloatArray:
    """Two arms, one falling from 1.5 to .5 times the rate, the other rising: each is better half the time."""
    slope = np.linspace(0.5, -0.5, n_epochs)
    return rate * (1 + np.stack([slope, -slope], axis=1))


def turning(before: Sequence[float], after: Sequence[float], n_epochs: int, *, at: int) -> FloatArray:
    """Rates that change once, at an epoch."""
    return np.concatenate([still(before, at), still(after, n_epochs - at)])


def weekly(rates: Sequence[float], n_days: int, epochs_a_day: int, swing: float) -> FloatArray:
    """Two arms; the challenger gains by `swing` of its rate on five days and loses 2.5 times that on two.

    Over whole weeks that nets to zero. Day 0 is a Monday.
    """
    day = np.repeat(np.arange(n_days), epochs_a_day) % _WEEK
    effect = np.where(day < _WORKDAYS, swing, -swing * _WORKDAYS / (_WEEK - _WORKDAYS))
    truth = still(rates, n_days * epochs_a_day)
    truth[:, 1] *= 1 + effect
    return truth


_WEEK = 7
_WORKDAYS = 5

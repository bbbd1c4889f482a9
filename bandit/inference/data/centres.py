"""Centres: what the rows before a row say about its outcomes, folded and never stored.

A test compares outcomes with what was to be expected of them. It may expect anything that is fixed before the
row's first draw. The shares of an epoch follow from outcomes of earlier epochs only, so given *all* outcomes
of earlier epochs, whenever they came in, the epoch's draws are still independent and have its shares. So the
centre of a row is the mean of all rows before it, in the order of epochs and not of time: a window of a week
costs nothing, and old epochs get a better centre without being touched.
"""

from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

_FloatArray = NDArray[np.float64]

LEAST_BEFORE: Final = 32
"""Resolved decisions that must lie before a row for it to count in a test: fewer make no centre."""

_POOLED_WEIGHT: Final = 50.0
"""Decisions at the pooled mean that an arm's own mean starts from."""


class Centres:
    """The centres of a table's rows, in positions of its range.

    Args:
        n: Resolved decisions of each row and arm, shape (n_rows, n_arms).
        sums: Sums of their outcomes, of that shape.
    """

    def __init__(self, n: _FloatArray, sums: _FloatArray) -> None:
        self._n, self._sums = n, sums

    @cached_property
    def n_before(self) -> _FloatArray:
        """Resolved decisions of all arms in the rows before each, shape (n_rows,)."""
        return _before(self._n.sum(axis=1))

    @cached_property
    def is_tested(self) -> NDArray[np.bool_]:
        """Whether a row counts in tests, shape (n_rows,)."""
        return np.asarray(self.n_before >= LEAST_BEFORE)

    @cached_property
    def pooled(self) -> _FloatArray:
        """Mean outcome of all arms before each row, shape (n_rows,); 1/2 where there was none."""
        sums = _before(self._sums.sum(axis=1))
        return np.divide(sums, self.n_before, out=np.full_like(sums, 0.5), where=self.n_before > 0)

    @cached_property
    def of_arms(self) -> _FloatArray:
        """Mean outcome of each arm before each row, drawn to the pooled mean, shape (n_rows, n_arms)."""
        n, sums = _before(self._n), _before(self._sums)
        pooled = self.pooled[:, np.newaxis]
        return np.asarray((sums + _POOLED_WEIGHT * pooled) / (n + _POOLED_WEIGHT))


def _before(values: _FloatArray) -> _FloatArray:
    """Return the sums over the rows before each."""
    return np.asarray(np.cumsum(values, axis=0) - values)

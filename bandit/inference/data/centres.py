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

from bandit.inference.data.table import EvidenceTable, FloatArray

LEAST_BEFORE: Final = 32
"""Resolved decisions that must lie before a row for it to count in a test: fewer make no centre."""

_POOLED_WEIGHT: Final = 50.0
"""Decisions at the pooled mean that an arm's own mean starts from."""


class Centres:
    """The centres of a table's rows, in positions of its range.

    Args:
        table: The table.
    """

    def __init__(self, table: EvidenceTable) -> None:
        self._table = table

    @cached_property
    def n_before(self) -> FloatArray:
        """Resolved decisions of all arms in the rows before each, shape (n_rows,)."""
        return _before(self._table.totals)

    @cached_property
    def is_tested(self) -> NDArray[np.bool_]:
        """Whether a row counts in tests, shape (n_rows,)."""
        return np.asarray(self.n_before >= LEAST_BEFORE)

    @cached_property
    def pooled(self) -> FloatArray:
        """Mean outcome of all arms before each row, shape (n_rows,); 1/2 where there was none."""
        sums = _before(self._table.sums.sum(axis=1))
        return np.divide(sums, self.n_before, out=np.full_like(sums, 0.5), where=self.n_before > 0)

    @cached_property
    def of_arms(self) -> FloatArray:
        """Mean outcome of each arm before each row, drawn to the pooled mean, shape (n_rows, n_arms)."""
        n, sums = _before(self._table.n), _before(self._table.sums)
        pooled = self.pooled[:, np.newaxis]
        return np.asarray((sums + _POOLED_WEIGHT * pooled) / (n + _POOLED_WEIGHT))


def _before(values: FloatArray) -> FloatArray:
    """Return the sums over the rows before each."""
    return np.asarray(np.cumsum(values, axis=0) - values)

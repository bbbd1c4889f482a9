"""Facts laid out by epoch and arm, from which folds and the tables of an assessment are sliced.

Closed epochs come first, so for any metric, whatever its window, the rows that count are the first rows of
the same arrays. An assessment reads the facts once, and not again for the next metric, arm or check.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit.decision_id import Basis
from bandit.facts import Epoch, Facts
from bandit.facts.columns import NO_OUTCOMES, Cells, look_up, positions

_FloatArray = NDArray[np.float64]
_DRAWN = frozenset({Basis.POLICY})


class FactGrid:
    """Decisions and their outcomes over some epochs and arms.

    Args:
        facts: The counts, of decisions or of units at their first exposure.
        epochs: The epochs of one segment, in order of number.
        arms: Numbers of the arms; for evidence all that ever had a share, so that no decision is left out.
        bases: The kinds of decisions that count; others are left out.
        is_exact: Whether counts and sums are whole numbers as in the facts, of 64 bits or of any size;
            otherwise they are floating-point numbers.

    Attributes:
        epochs: The epochs: the rows.
        arms: The arms: the columns.
    """

    def __init__(
        self,
        facts: Facts,
        epochs: Sequence[Epoch],
        arms: Sequence[int],
        *,
        bases: Collection[Basis] = _DRAWN,
        is_exact: bool = False,
    ) -> None:
        self.epochs = tuple(epochs)
        self.arms = tuple(arms)
        self._facts = facts
        self._bases = bases
        self._is_exact = is_exact
        self._row_of = positions([epoch.number for epoch in epochs])
        self._segments = np.array([epoch.segment for epoch in epochs], dtype=np.int64)
        self._column_of = positions(arms)

    @property
    def shape(self) -> tuple[int, int]:
        """The number of epochs, and of arms."""
        return len(self.epochs), len(self.arms)

    @cached_property
    def shares(self) -> _FloatArray:
        """The probability of each arm in each epoch, 0 where it had none; shape (n_epochs, n_arms)."""
        return self._spread([epoch.shares for epoch in self.epochs], missing=0.0)

    @cached_property
    def decided(self) -> NDArray[Any]:
        """Decisions; shape (n_epochs, n_arms)."""
        columns = self._facts.decision_columns
        return np.asarray(self._lay_out(columns.cells, columns.counts[:, np.newaxis])[0])

    def moments(self, metric: int) -> NDArray[Any]:
        """Return n, sum and sum of squares, in quanta, of outcomes in time; shape (3, n_epochs, n_arms)."""
        columns = self._facts.outcome_columns.get(metric, NO_OUTCOMES)
        return self._lay_out(columns.cells, columns.tallies[:, :3])

    def means(self, metric: int, n_epochs: int, *, missing: float) -> _FloatArray:
        """Return the posterior means at the start of the first epochs; shape (n_epochs, n_arms)."""
        return self._spread(
            [epoch.means.get(metric, {}) for epoch in self.epochs[:n_epochs]], missing=missing
        )

    def _lay_out(self, cells: Cells, values: NDArray[Any]) -> NDArray[Any]:
        """Lay out the values that count, of shape (n_rows, n), as (n, n_epochs, n_arms)."""
        n_epochs, n_arms = self.shape
        dtype = values.dtype if self._is_exact else np.dtype(float)
        laid_out = np.zeros((values.shape[1], n_arms * n_epochs), dtype=dtype)
        rows, columns = look_up(self._row_of, cells.epoch), look_up(self._column_of, cells.arm)
        is_known = (rows >= 0) & (columns >= 0)
        if len(self.epochs):
            is_known &= cells.segment == self._segments[rows]
        places = columns * n_epochs + rows
        for basis in sorted(self._bases):  # a cell has one row of each basis
            own = np.flatnonzero(is_known & (cells.basis == basis))
            laid_out[:, places[own]] += values[own].T.astype(dtype, copy=False)
        return laid_out.reshape(values.shape[1], n_arms, n_epochs).swapaxes(1, 2)

    def _spread(self, rows: Sequence[Mapping[int, float]], *, missing: float) -> _FloatArray:
        """Return mappings from arm to number as an array of shape (n_rows, n_arms)."""
        values = np.full((len(self.arms), len(rows)), missing).T
        for row, by_arm in zip(values, rows, strict=True):
            columns = look_up(self._column_of, np.fromiter(by_arm.keys(), dtype=np.int64, count=len(by_arm)))
            is_known = columns >= 0
            numbers = np.fromiter(by_arm.values(), dtype=float, count=len(by_arm))
            row[columns[is_known]] = numbers[is_known]
        return values

"""Facts laid out by epoch and arm, from which folds and the tables of an assessment are sliced.

Closed epochs come first, so for any metric, whatever its window, the rows that count are the first rows of
the same arrays. An assessment reads the facts once, and not again for the next metric, arm or check.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bandit.decision_id import Basis
from bandit.facts import Epoch, Facts
from bandit.facts.columns import NO_OUTCOMES, Cells, look_up, positions
from bandit.facts.parts import SPLIT_BASIS, SPLIT_EPOCH

_FloatArray = NDArray[np.float64]
DRAWN: Final = frozenset({Basis.POLICY})
"""The bases whose decisions were drawn from the shares."""


class FactGrid:
    """Decisions and their outcomes over some epochs and arms.

    Args:
        facts: The counts, of decisions or of units at their first exposure.
        epochs: The epochs of one segment, in order of number.
        arms: Numbers of the arms; for evidence all that ever had a share, so that no decision is left out.
        bases: The kinds of decisions that count; others are left out.
        is_exact: Whether counts and sums are whole numbers as in the facts, of 64 bits or of any size;
            otherwise they are floating-point numbers.
        splits_first: Whether the first epoch has a row for each of its parts, in their order, where it is
            number 1, is known by part and only policy decisions count. Otherwise an epoch is a row.

    Attributes:
        epochs: The epochs: the rows, but for a first one that is split.
        arms: The arms: the columns.
    """

    def __init__(
        self,
        facts: Facts,
        epochs: Sequence[Epoch],
        arms: Sequence[int],
        *,
        bases: Collection[Basis] = DRAWN,
        is_exact: bool = False,
        splits_first: bool = False,
    ) -> None:
        self.epochs = tuple(epochs)
        self.arms = tuple(arms)
        self._facts = facts
        self._bases = bases
        self._is_exact = is_exact
        self._row_of = positions([epoch.number for epoch in epochs])
        self._segments = np.array([epoch.segment for epoch in epochs], dtype=np.int64)
        self._column_of = positions(arms)
        is_first = bool(self.epochs) and self.epochs[0].number == SPLIT_EPOCH
        parts = facts.parts if splits_first and is_first and set(bases) == {SPLIT_BASIS} else ()
        self._parts = [FactGrid(part, self.epochs[:1], arms, is_exact=is_exact) for part in parts]

    @property
    def shape(self) -> tuple[int, int]:
        """The number of rows, and of arms."""
        return self.n_rows, len(self.arms)

    @property
    def n_rows(self) -> int:
        """The number of rows: of epochs, and four more if the first is split."""
        return self.rows_of(len(self.epochs))

    def rows_of(self, n_epochs: int) -> int:
        """Return how many rows the first `n_epochs` epochs have."""
        return n_epochs + len(self._parts) - 1 if n_epochs and self._parts else n_epochs

    @cached_property
    def row_epochs(self) -> tuple[Epoch, ...]:
        """The epoch of each row."""
        return (*(self.epochs[0] for _ in self._parts[1:]), *self.epochs)

    @cached_property
    def shares(self) -> _FloatArray:
        """The probability of each arm in each row, 0 where it had none; shape (n_rows, n_arms)."""
        return self._spread([epoch.shares for epoch in self.epochs], missing=0.0)

    @cached_property
    def decided(self) -> NDArray[Any]:
        """Decisions; shape (n_rows, n_arms)."""
        columns = self._facts.decision_columns
        whole = self._lay_out(columns.cells, columns.counts[:, np.newaxis])[0]
        return self._with_parts(whole, [part.decided for part in self._parts])

    def moments(self, metric: int) -> NDArray[Any]:
        """Return n, sum and sum of squares, in quanta, of outcomes in time; shape (3, n_rows, n_arms)."""
        columns = self._facts.outcome_columns.get(metric, NO_OUTCOMES)
        whole = self._lay_out(columns.cells, columns.tallies[:, :3])
        return self._with_parts(whole, [part.moments(metric) for part in self._parts])

    def means(self, metric: int, n_epochs: int, *, missing: float) -> _FloatArray:
        """Return the posterior means at the start of the first epochs; shape (rows of them, n_arms)."""
        return self._spread(
            [epoch.means.get(metric, {}) for epoch in self.epochs[:n_epochs]], missing=missing
        )

    def _lay_out(self, cells: Cells, values: NDArray[Any]) -> NDArray[Any]:
        """Lay out the values that count, of shape (n_rows, n), as (n, n_epochs, n_arms)."""
        n_epochs, n_arms = len(self.epochs), len(self.arms)
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

    def _with_parts(self, whole: NDArray[Any], parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Return an array of shape (…, n_epochs, n_arms) with the rows of the parts for the first epoch."""
        return np.concatenate([*parts, whole[..., 1:, :]], axis=-2) if parts else whole

    def _spread(self, of_epochs: Sequence[Mapping[int, float]], *, missing: float) -> _FloatArray:
        """Return mappings from arm to number, one for each epoch, as an array of shape (n_rows, n_arms)."""
        rows = [*(of_epochs[0] for _ in of_epochs[:1] for _ in self._parts[1:]), *of_epochs]
        values = np.full((len(self.arms), len(rows)), missing).T
        for row, by_arm in zip(values, rows, strict=True):
            columns = look_up(self._column_of, np.fromiter(by_arm.keys(), dtype=np.int64, count=len(by_arm)))
            is_known = columns >= 0
            numbers = np.fromiter(by_arm.values(), dtype=float, count=len(by_arm))
            row[columns[is_known]] = numbers[is_known]
        return values

"""Facts as columns: the counts in the mappings of `bandit.facts`, as arrays for fast folds.

A thousand arms over two thousand epochs are millions of cells. Every fold over a mapping of them costs
seconds; the arrays are made once, and a fold is then a few operations on them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
N_SUMS: Final = 6
"""Numbers of a tally."""

_HIGH_BITS: Final = 32
_LOW_MASK: Final = (1 << _HIGH_BITS) - 1


def whole_numbers(rows: Sequence[Sequence[int]], n_columns: int) -> NDArray[Any]:
    """Return rows of whole numbers as an array of shape (n_rows, n_columns), of 64-bit integers if they fit.

    Otherwise, as for large sums of squares, they are Python integers.
    """
    try:
        flat = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=len(rows) * n_columns)
    except OverflowError:
        flat = np.array([int(value) for row in rows for value in row], dtype=object)
    return flat.reshape(len(rows), n_columns)


def exact_sums(values: NDArray[Any]) -> list[int]:
    """Sum whole numbers over the first axis, exactly even beyond 64 bits.

    >>> exact_sums(np.array([[2**62, 1], [2**62, 1], [2**62, 1]]))
    [13835058055282163712, 3]
    """
    if values.dtype == object:
        return [int(total) for total in values.sum(axis=0)]
    high = (values >> _HIGH_BITS).sum(axis=0).tolist()
    low = (values & _LOW_MASK).sum(axis=0).tolist()
    return [(int(above) << _HIGH_BITS) + int(below) for above, below in zip(high, low, strict=True)]


def positions(numbers: Sequence[int]) -> IntArray:
    """Return an array from number to its position in the sequence; -1 for numbers that are not in it."""
    known = np.array(numbers, dtype=np.int64)
    places = np.full(int(known.max(initial=-1)) + 2, -1)
    places[known] = np.arange(len(known))
    return places


def look_up(places: IntArray, numbers: IntArray) -> IntArray:
    """Return the positions of many numbers, -1 for those without one.

    >>> look_up(positions([7, 3]), np.array([3, 7, 5, 99])).tolist()
    [1, 0, -1, -1]
    """
    return np.asarray(places[np.minimum(numbers, len(places) - 1)])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cells:
    """The keys of counts, as columns; all of shape (n_rows,).

    Attributes:
        epoch: Number of the epoch.
        segment: Number of the segment.
        arm: Number of the arm.
        basis: The kind of decision.
    """

    epoch: IntArray
    segment: IntArray
    arm: IntArray
    basis: IntArray

    @classmethod
    def of(cls, keys: NDArray[Any]) -> "Cells":
        """Make cells of rows of epoch, segment, arm and basis; always of 64 bits, as `look_up` needs."""
        epoch, segment, arm, basis = np.ascontiguousarray(keys.T, dtype=np.int64)
        return cls(epoch=epoch, segment=segment, arm=arm, basis=basis)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecisionColumns:
    """Counts of decisions, a row for each key.

    Attributes:
        cells: The keys.
        counts: Decisions, shape (n_rows,).
    """

    cells: Cells
    counts: NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutcomeColumns:
    """The tallies of one metric, a row for each key.

    Attributes:
        cells: The keys.
        tallies: Whole numbers of shape (n_rows, 6), in the order of a tally's fields; of 64 bits, or of any
            size for sums over real values.
    """

    cells: Cells
    tallies: NDArray[Any]


NO_OUTCOMES: Final = OutcomeColumns(
    cells=Cells.of(np.zeros((0, 4), dtype=np.int64)), tallies=np.zeros((0, N_SUMS), dtype=np.int64)
)


def decision_columns(rows: NDArray[Any]) -> DecisionColumns:
    """Make columns of rows of epoch, segment, arm, basis and count."""
    return DecisionColumns(cells=Cells.of(rows[:, :4]), counts=rows[:, 4])


def outcome_columns(parts: Iterable[NDArray[Any]]) -> dict[int, OutcomeColumns]:
    """Return the columns of each metric number, from rows of epoch, segment, arm, basis, metric and tally.

    Args:
        parts: Arrays of shape (n_rows, 11); all rows of a metric are in one of them.
    """
    by_metric = {}
    for rows in parts:
        metrics = rows[:, 4].astype(np.int64)
        for metric in np.unique(metrics).tolist():
            own = rows[metrics == metric]
            by_metric[metric] = OutcomeColumns(cells=Cells.of(own[:, :4]), tallies=_narrowed(own[:, 5:]))
    return by_metric


def _narrowed(tallies: NDArray[Any]) -> NDArray[Any]:
    """Return the same numbers, in 64 bits if they fit."""
    if tallies.dtype == object and _fits(tallies):
        return tallies.astype(np.int64)
    return tallies


def _fits(values: NDArray[Any]) -> bool:
    """True if whole numbers of any size fit in 64 bits."""
    return not values.size or bool(values.min() >= -(1 << 63) and values.max() < 1 << 63)

"""Facts as columns: the same counts as the mappings of `bandit.facts`, laid out for folds over many of them.

A thousand arms over two thousand epochs are millions of cells. A mapping of them costs seconds for every fold
that goes through it; arrays are made once, and every fold is a few operations on them.
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
    """Rows of whole numbers as an array of shape (n_rows, n_columns): 64 bits where they suffice.

    Beyond 64 bits, as sums of squares may be, they are Python's own.
    """
    try:
        flat = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=len(rows) * n_columns)
    except OverflowError:
        flat = np.array([int(value) for row in rows for value in row], dtype=object)
    return flat.reshape(len(rows), n_columns)


def exact_sums(values: NDArray[Any]) -> list[int]:
    """Sums over the first axis of whole numbers, exact though they may exceed 64 bits.

    >>> exact_sums(np.array([[2**62, 1], [2**62, 1], [2**62, 1]]))
    [13835058055282163712, 3]
    """
    if values.dtype == object:
        return [int(total) for total in values.sum(axis=0)]
    high = (values >> _HIGH_BITS).sum(axis=0).tolist()
    low = (values & _LOW_MASK).sum(axis=0).tolist()
    return [(int(above) << _HIGH_BITS) + int(below) for above, below in zip(high, low, strict=True)]


def positions(numbers: Sequence[int]) -> IntArray:
    """Number to its place in the sequence, as an array to look up; -1 for numbers that are not in it."""
    known = np.array(numbers, dtype=np.int64)
    places = np.full(int(known.max(initial=-1)) + 2, -1)
    places[known] = np.arange(len(known))
    return places


def look_up(places: IntArray, numbers: IntArray) -> IntArray:
    """Places of many numbers, -1 where they have none.

    >>> look_up(positions([7, 3]), np.array([3, 7, 5, 99])).tolist()
    [1, 0, -1, -1]
    """
    return np.asarray(places[np.minimum(numbers, len(places) - 1)])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cells:
    """Where counts belong; all of shape (n_rows,).

    Attributes:
        epoch: Number of the epoch.
        segment: Number of the segment.
        arm: Number of the arm.
        basis: What kind of decision it was.
    """

    epoch: IntArray
    segment: IntArray
    arm: IntArray
    basis: IntArray

    @classmethod
    def of(cls, keys: NDArray[Any]) -> "Cells":
        """From rows of epoch, segment, arm and basis; they are looked up, so they are of 64 bits always."""
        epoch, segment, arm, basis = np.ascontiguousarray(keys.T, dtype=np.int64)
        return cls(epoch=epoch, segment=segment, arm=arm, basis=basis)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecisionColumns:
    """How many decisions were made, a row for each key.

    Attributes:
        cells: What the rows are about.
        counts: Decisions, shape (n_rows,).
    """

    cells: Cells
    counts: NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutcomeColumns:
    """The tallies of one metric, a row for each key.

    Attributes:
        cells: What the rows are about.
        tallies: Whole numbers of shape (n_rows, 6), in the order of a tally's fields; of 64 bits, or of any
            size, as sums over real values are.
    """

    cells: Cells
    tallies: NDArray[Any]


NO_OUTCOMES: Final = OutcomeColumns(
    cells=Cells.of(np.zeros((0, 4), dtype=np.int64)), tallies=np.zeros((0, N_SUMS), dtype=np.int64)
)


def decision_columns(rows: NDArray[Any]) -> DecisionColumns:
    """From rows of epoch, segment, arm, basis and count."""
    return DecisionColumns(cells=Cells.of(rows[:, :4]), counts=rows[:, 4])


def outcome_columns(parts: Iterable[NDArray[Any]]) -> dict[int, OutcomeColumns]:
    """Metric number to its tallies, from rows of epoch, segment, arm, basis, metric and the tally.

    Args:
        parts: Of shape (n_rows, 11); the rows of a metric are all in one of them.
    """
    by_metric = {}
    for rows in parts:
        metrics = rows[:, 4].astype(np.int64)
        for metric in np.unique(metrics).tolist():
            own = rows[metrics == metric]
            by_metric[metric] = OutcomeColumns(cells=Cells.of(own[:, :4]), tallies=_narrowed(own[:, 5:]))
    return by_metric


def _narrowed(tallies: NDArray[Any]) -> NDArray[Any]:
    """The same numbers in 64 bits if they fit."""
    if tallies.dtype == object and _fits(tallies):
        return tallies.astype(np.int64)
    return tallies


def _fits(values: NDArray[Any]) -> bool:
    """Whether whole numbers of any size fit in 64 bits."""
    return not values.size or bool(values.min() >= -(1 << 63) and values.max() < 1 << 63)

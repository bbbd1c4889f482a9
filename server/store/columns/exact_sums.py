"""Sums of any size in columns of 64 bits, added to by increments that commute.

The log and the facts are also read and written by servers of version 0.2, which know a real value as a number
of *quanta*, range / 2^20, and sums of quanta. What those columns mean stays. A value counts in *steps* of
2^-20 quanta, and what a sum has beyond its column is its *rest*, in two more columns of which the
low one carries into the high one:

    sum in steps = (column << 20) + low + (high << 62),  low in [0, 2^62)

and the same with 40 in place of 20 for sums of squares. A column that has grown past 2^61 is moved into its
rest by the next increment, so no column overflows before a sum reaches 2^125 steps. Increments may be
negative.

A step is the quantum of a real metric, and 2^-20 quanta of a metric of whole numbers, whose rests are zero
unless a sum was moved. Nothing here needs to know which metric is which, up to `in_quanta`, which ends the
story for readers.
"""

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from bandit.facts import Tally

STEP_BITS: Final = 20
"""A quantum of the log is 2^20 steps."""

_SQUARE_BITS: Final = 2 * STEP_BITS
_HALF_STEP: Final = (1 << STEP_BITS - 1) - 1
_LOW_BITS: Final = 62
_LOW_MASK: Final = (1 << _LOW_BITS) - 1
_PORTION_BITS: Final = 61
_PORTION: Final = 1 << _PORTION_BITS
"""What is moved from a column into its rest at once: two columns of less than this have a sum in 64 bits."""

SUM_BITS: Final = {
    "total": STEP_BITS,
    "squares": _SQUARE_BITS,
    "late_total": STEP_BITS,
    "late_squares": _SQUARE_BITS,
}
"""The sums of a tally, and by how many bits a quantum (or its square) is more than a step (or its square)."""

REST_COLUMNS: Final = tuple(f"{name}_{part}" for name in SUM_BITS for part in ("low", "high"))
SUM_COLUMNS: Final = (*Tally._fields, *REST_COLUMNS)
"""The columns of a tally in a table of facts, in their order there."""

_values_in: Final = itemgetter(*SUM_COLUMNS)
_N_SUMS: Final = len(Tally._fields)
_NO_RESTS: Final = (0,) * len(REST_COLUMNS)

QUANTA_OF_STEPS: Final = f"((steps + {_HALF_STEP} + ((steps >> {STEP_BITS}) & 1)) >> {STEP_BITS})"
"""`quanta_of` in SQL, of a column `steps`."""


class StoredTally(NamedTuple):
    """What a row of facts holds: sums of quanta, which version 0.2 reads too, and the rest of each in steps.

    A `Tally` of steps could not be stored so: each value was rounded to quanta before it was added.
    """

    n: int = 0
    total: int = 0
    squares: int = 0
    late_n: int = 0
    late_total: int = 0
    late_squares: int = 0
    total_rest: int = 0
    squares_rest: int = 0
    late_total_rest: int = 0
    late_squares_rest: int = 0

    @classmethod
    def of(cls, quanta: int, steps: int | None, *, is_late: bool) -> Self:
        """The tally of one row of the log."""
        rest, square_rest = rests_of(steps)
        if is_late:
            return cls(0, 0, 0, 1, quanta, quanta * quanta, 0, 0, rest, square_rest)
        return cls(1, quanta, quanta * quanta, 0, 0, 0, rest, square_rest)

    @classmethod
    def of_columns(cls, values: Sequence[Any]) -> Self:
        """From the values of `SUM_COLUMNS`, whatever kind of number the database makes of them."""
        sums, limbs = [int(value) for value in values[:6]], [int(value) for value in values[6:]]
        rests = [low + (high << _LOW_BITS) for low, high in zip(limbs[::2], limbs[1::2], strict=True)]
        return cls(*sums, *rests)

    def plus(self, other: "StoredTally") -> "StoredTally":
        """The tally of both."""
        return StoredTally(*map(int.__add__, self, other))

    def minus(self, other: "StoredTally") -> "StoredTally":
        """What is to be added to the other tally for this one."""
        return StoredTally(*map(int.__sub__, self, other))

    def in_steps(self) -> Tally:
        """The exact sums, in steps."""
        n, total, squares, late_n, late_total, late_squares, *rests = self
        return Tally(
            n,
            (total << STEP_BITS) + rests[0],
            (squares << _SQUARE_BITS) + rests[1],
            late_n,
            (late_total << STEP_BITS) + rests[2],
            (late_squares << _SQUARE_BITS) + rests[3],
        )

    def to_columns(self) -> dict[str, int]:
        """Name to value of `SUM_COLUMNS`: the increment that adds this tally."""
        columns = {"n": self.n, "late_n": self.late_n}
        sums = (self.total, self.squares, self.late_total, self.late_squares)
        for (name, bits), value, rest in zip(SUM_BITS.items(), sums, self[6:], strict=True):
            columns |= to_columns(name, bits, value, rest)
        return columns

    def to_row(self) -> tuple[int, ...]:
        """As `to_columns`, the values alone. Most tallies are of small whole numbers, and have no rests."""
        if not any(self[_N_SUMS:]) and -_PORTION < min(self) <= max(self) < _PORTION:
            return self[:_N_SUMS] + _NO_RESTS
        values: tuple[int, ...] = _values_in(self.to_columns())
        return values


def quanta_of(steps: int) -> int:
    """Steps rounded to quanta, to the even one from the middle.

    >>> quanta_of(5 << 19), quanta_of(7 << 19), quanta_of((5 << 19) + 1)
    (2, 4, 3)
    """
    return (steps + _HALF_STEP + ((steps >> STEP_BITS) & 1)) >> STEP_BITS


def rests_of(steps: int | None) -> tuple[int, int]:
    """What a value in steps and its square have beyond its quanta and their square; both may be negative.

    They follow from the steps alone. So what a row of the log adds to the facts is the same whether they are
    those of its quanta, or a server of version 0.2 has revised the quanta since.
    """
    if steps is None:
        return 0, 0
    quanta = quanta_of(steps)
    rest = steps - (quanta << STEP_BITS)
    return rest, rest * ((quanta << STEP_BITS + 1) + rest)


def to_columns(name: str, bits: int, value: int, rest: int) -> dict[str, int]:
    """Name to value of the three columns of one sum: the increment that adds it."""
    if abs(value) >= _PORTION:
        kept = value % _PORTION
        value, rest = kept, rest + ((value - kept) << bits)
    return {name: value, f"{name}_low": rest & _LOW_MASK, f"{name}_high": rest >> _LOW_BITS}


def addition_to(table: str, name: str, bits: int) -> str:
    """What an upsert sets so that the three columns of one sum become those of the sum of both rows.

    Both databases divide whole numbers towards zero, shift them arithmetically, and set all columns from what
    the row was.
    """
    low = f"({table}.{name}_low + excluded.{name}_low)"
    moved = f"{table}.{name} / {_PORTION} * {1 << bits + _PORTION_BITS - _LOW_BITS}"
    return f"""
        {name} = {table}.{name} % {_PORTION} + excluded.{name},
        {name}_low = {low} & {_LOW_MASK},
        {name}_high = {table}.{name}_high + excluded.{name}_high + ({low} >> {_LOW_BITS}) + {moved}"""


def addition_of_tallies(table: str, key: Sequence[str], *, rows: str | None = None) -> str:
    """The upsert that adds tallies to the rows of a table with this primary key.

    Args:
        table: Name of the table.
        key: Its primary key.
        rows: What gives the rows; None for one of named parameters.
    """
    columns = [*key, *SUM_COLUMNS]
    sums = (addition_to(table, name, bits) for name, bits in SUM_BITS.items())
    counts = (f"{name} = {table}.{name} + excluded.{name}" for name in ("n", "late_n"))
    return f"""
        INSERT INTO {table} ({", ".join(columns)}) {rows or f"VALUES (:{', :'.join(columns)})"}
        ON CONFLICT ({", ".join(key)}) DO UPDATE SET {", ".join([*counts, *sums])}
    """


def in_quanta(in_steps: Tally, *, is_real: bool) -> Tally:
    """Sums in steps as those of a metric's own quanta.

    >>> in_quanta(Tally(1, 3 << 20, 9 << 40), is_real=False)
    Tally(n=1, total=3, squares=9, late_n=0, late_total=0, late_squares=0)
    """
    if is_real:
        return in_steps
    bits = (SUM_BITS.get(name, 0) for name in Tally._fields)
    return Tally(*(value >> by for value, by in zip(in_steps, bits, strict=True)))


def tallies_in_steps(columns: NDArray[np.int64]) -> NDArray[Any]:
    """Rows of `SUM_COLUMNS` as tallies in steps, in Python's numbers; shape (n_rows, 6)."""
    tallies = columns[:, : len(Tally._fields)].astype(object)
    for place, bits, at in _places():
        low, high = columns[:, at], columns[:, at + 1]
        if low.any() or high.any() or columns[:, place].any():
            rests = low.astype(object) + (high.astype(object) << _LOW_BITS)
            tallies[:, place] = (tallies[:, place] << bits) + rests
    return tallies


def tallies_in_quanta(tallies: NDArray[Any], is_whole: NDArray[np.bool_]) -> None:
    """Turn tallies in steps into those of their metrics' quanta, which are larger where `is_whole`."""
    if is_whole.any():
        for place, bits, _ in _places():
            tallies[is_whole, place] >>= bits


def _places() -> Iterator[tuple[int, int, int]]:
    """Of each sum its place in a tally, its bits, and its rest's place in `SUM_COLUMNS`."""
    for number, (name, bits) in enumerate(SUM_BITS.items()):
        yield Tally._fields.index(name), bits, len(Tally._fields) + 2 * number

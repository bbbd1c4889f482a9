"""Layouts: how a run's decisions fall into epochs, and those of the first epoch into its parts.

The service splits the first epoch by random bits of the decision id, so that its later parts have a centre in
the earlier ones. Below 100,000 decisions an epoch ends once it has a quarter of the decisions before it.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from benchmarks.validity.worlds.rates import FloatArray

PARTS: Final = (1 / 16, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Parts of the first epoch's decisions, in the order of its rows."""

_LEAST: Final = 32
_GROWTH: Final = 0.25


@dataclass(frozen=True, eq=False)
class Layout:
    """Epochs and rows.

    Attributes:
        sizes: Decisions of each epoch.
        is_split: Whether the first epoch has a row for each of its parts.
    """

    sizes: tuple[int, ...]
    is_split: bool = True

    @property
    def total(self) -> int:
        """Decisions of a run."""
        return sum(self.sizes)

    @cached_property
    def epochs(self) -> tuple[int, ...]:
        """The epoch of each row, from 0."""
        n_first = len(PARTS) if self.is_split else 1
        return (*(0 for _ in range(n_first)), *range(1, len(self.sizes)))

    @cached_property
    def ends(self) -> FloatArray:
        """Decisions by the end of each row's epoch, shape (n_rows,)."""
        return np.cumsum(np.array(self.sizes, dtype=float))[list(self.epochs)]

    @cached_property
    def times(self) -> FloatArray:
        """The middle of each row's epoch as a part of all decisions, in (0, 1), shape (n_rows,)."""
        sizes = np.array(self.sizes, dtype=float)[list(self.epochs)]
        return np.asarray((self.ends - sizes / 2) / self.total)

    def draw(self, rng: np.random.Generator, n_runs: int) -> FloatArray:
        """Draw the decisions of each row, shape (n_runs, n_rows)."""
        rest = np.tile(self.sizes[1:], (n_runs, 1))
        first = np.full((n_runs, 1), self.sizes[0])
        if self.is_split:
            first = rng.multinomial(self.sizes[0], PARTS, size=n_runs)
        return np.asarray(np.concatenate([first, rest], axis=1), dtype=float)


def growing(total: int, *, largest: int | None = None) -> Layout:
    """Return epochs that grow by a quarter of the decisions before them, up to a size.

    >>> growing(200).sizes
    (32, 32, 32, 32, 32, 40)
    >>> growing(200, largest=32).sizes
    (32, 32, 32, 32, 32, 32, 8)
    """
    sizes: list[int] = []
    while (before := sum(sizes)) < total:
        size = max(_LEAST, round(_GROWTH * before))
        sizes.append(min(size, largest or size, total - before))
    return Layout(tuple(sizes))


def burst(total: int) -> Layout:
    """Return one epoch: everything is decided before any outcome can steer.

    >>> burst(2_000).epochs
    (0, 0, 0, 0, 0)
    """
    return Layout((total,))


def even(n_epochs: int, size: int) -> Layout:
    """Return epochs of one size, each one row.

    >>> even(3, 500).times.round(2).tolist()
    [0.17, 0.5, 0.83]
    """
    return Layout((size,) * n_epochs, is_split=False)

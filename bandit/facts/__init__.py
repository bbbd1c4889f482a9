"""Epochs and facts: the two tables that everything else is folded from.

An epoch holds the shares that decisions were drawn from. Facts hold how many decisions there were and their
outcomes, keyed by the decision's own epoch and arm. Facts only grow by increments, so they add in any order.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import accumulate
from typing import Any, Final, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from bandit.decision_id import Basis
from bandit.facts.columns import (
    N_SUMS,
    DecisionColumns,
    OutcomeColumns,
    decision_columns,
    outcome_columns,
    whole_numbers,
)

MOST_AHEAD: Final = timedelta(minutes=5)
"""How far in the future an epoch may start, for clocks that disagree, before it is capped."""

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """A numbered stretch of an experiment's life in which its shares are constant.

    Attributes:
        experiment: The store's number of the experiment.
        segment: Number of the segment.
        number: Counted from 1 in each experiment and segment.
        nonce: A random number in [0, 2^32) that tells it from the epoch of the same number in a restored
            database.
        revision: The revision of the configuration that the shares were computed from.
        started_at: When it began; the next epoch's start is its end.
        champion: Number of the arm in production.
        shares: Arm number to the probability of being chosen; sums to 1 within 1e-9.
        warming_up: Numbers of the arms whose share was set by their warm-up.
        means: Metric number to the posterior mean of every arm at the start, for inference.
        is_cap: Whether it was begun because an earlier epoch started in the future, by a wrong clock. Then no
            earlier epoch ended later than its start.
        shadows: Number of each arm in shadow to the part of the champion's decisions that it sees, in (0, 1].
    """

    experiment: int
    segment: int
    number: int
    nonce: int
    revision: int
    started_at: datetime
    champion: int
    shares: Mapping[int, float]
    warming_up: frozenset[int] = frozenset()
    means: Mapping[int, Mapping[int, float]] = field(default_factory=dict)
    is_cap: bool = False
    shadows: Mapping[int, float] = field(default_factory=dict)

    def is_ahead(self, now: datetime) -> bool:
        """True if it starts so far in the future that the clock that dated it must have been wrong."""
        return self.started_at - now > MOST_AHEAD

    def start_of_next(self, now: datetime) -> tuple[datetime, bool]:
        """Return when the next epoch starts if it begins now, and whether it is a cap.

        Never before this one's start, unless this one is ahead.
        """
        is_cap = self.is_ahead(now)
        return now if is_cap else max(now, self.started_at), is_cap


class DecisionKey(NamedTuple):
    """The key of a count of decisions."""

    experiment: int
    epoch: int
    segment: int
    arm: int
    basis: Basis


class OutcomeKey(NamedTuple):
    """The key of a tally of outcomes."""

    experiment: int
    epoch: int
    segment: int
    arm: int
    basis: Basis
    metric: int


class Tally(NamedTuple):
    """Outcomes in quanta: number, sum, sum of squares; and the same of those that were late."""

    n: int = 0
    total: int = 0
    squares: int = 0
    late_n: int = 0
    late_total: int = 0
    late_squares: int = 0

    def plus(self, other: "Tally") -> "Tally":
        """Return the sum of both tallies.

        >>> Tally.of(3, is_late=False).plus(Tally.of(2, is_late=True))
        Tally(n=1, total=3, squares=9, late_n=1, late_total=2, late_squares=4)
        """
        return Tally(*map(int.__add__, self, other))

    @classmethod
    def of(cls, quanta: int, *, is_late: bool) -> Self:
        """Return the tally of one outcome."""
        if is_late:
            return cls(late_n=1, late_total=quanta, late_squares=quanta * quanta)
        return cls(n=1, total=quanta, squares=quanta * quanta)


class RowMapping(Mapping[_Key, _Value]):
    """A mapping that is kept as rows of whole numbers, and becomes a dict on first access.

    Args:
        parts: Arrays of shape (n_rows, n_columns), with distinct keys; of 64-bit or Python integers.
        to_item: Returns the key and value of a row.
    """

    def __init__(
        self, parts: Sequence[NDArray[Any]], to_item: Callable[[list[int]], tuple[_Key, _Value]]
    ) -> None:
        self.parts = parts
        self._to_item = to_item

    @cached_property
    def _items(self) -> dict[_Key, _Value]:
        return dict(self._to_item(row) for part in self.parts for row in part.tolist())

    def __getitem__(self, key: _Key) -> _Value:
        return self._items[key]

    def __iter__(self) -> Iterator[_Key]:
        return iter(self._items)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __repr__(self) -> str:
        return repr(self._items)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything counted for one experiment, read in one database snapshot.

    Attributes:
        decisions: The number of decisions by key.
        outcomes: Tallies of their outcomes.
        parts: The policy rows of the first epoch, split by `bandit.facts.parts` into five facts whose sums
            they are; empty if any count of it is not known by part, or there is none.
    """

    decisions: Mapping[DecisionKey, int]
    outcomes: Mapping[OutcomeKey, Tally]
    parts: tuple["Facts", ...] = ()

    @classmethod
    def of_rows(
        cls, experiment: int, decisions: NDArray[Any], outcomes: NDArray[Any], *more: NDArray[Any]
    ) -> Self:
        """Make facts of rows with distinct keys; no row becomes a Python object before it is read.

        Args:
            experiment: Number of the experiment.
            decisions: Epoch, segment, arm, basis and count; shape (n_rows, 5).
            outcomes: Epoch, segment, arm, basis, metric and tally; shape (n_rows, 11).
            more: The same of other metrics, in separate arrays since their sums may need more than 64 bits.
        """

        def to_count(row: list[int]) -> tuple[DecisionKey, int]:
            epoch, segment, arm, basis, count = row
            return DecisionKey(experiment, epoch, segment, arm, Basis(basis)), count

        def to_tally(row: list[int]) -> tuple[OutcomeKey, Tally]:
            epoch, segment, arm, basis, metric, *tally = row
            return OutcomeKey(experiment, epoch, segment, arm, Basis(basis), metric), Tally(*tally)

        return cls(
            decisions=RowMapping([decisions], to_count), outcomes=RowMapping([outcomes, *more], to_tally)
        )

    @cached_property
    def decision_columns(self) -> DecisionColumns:
        """The decisions as columns."""
        if isinstance(self.decisions, RowMapping):
            return decision_columns(self.decisions.parts[0])
        rows = [(*key[1:], count) for key, count in self.decisions.items()]
        return decision_columns(whole_numbers(rows, _N_PLACES + 1))

    def count_decisions(self) -> Counter[tuple[int, Basis]]:
        """Return the number of decisions by arm and basis, over all epochs."""
        columns, counts = self.decision_columns, Counter[tuple[int, Basis]]()
        pairs, places = np.unique([columns.cells.arm, columns.cells.basis], axis=1, return_inverse=True)
        totals = np.zeros(pairs.shape[1], dtype=columns.counts.dtype)
        np.add.at(totals, places, columns.counts)
        for arm, basis, total in zip(*pairs.tolist(), totals.tolist(), strict=True):
            counts[arm, Basis(basis)] += total
        return counts

    def count_outcomes(self, basis: Basis) -> int:
        """Return the number of outcomes of one basis, late ones included."""
        numbers = [Tally._fields.index(name) for name in ("n", "late_n")]
        return sum(
            int(columns.tallies[columns.cells.basis == basis][:, numbers].sum())
            for columns in self.outcome_columns.values()
        )

    @cached_property
    def outcome_columns(self) -> Mapping[int, OutcomeColumns]:
        """Metric number to its outcomes as columns; metrics without outcomes are missing."""
        if isinstance(self.outcomes, RowMapping):
            return outcome_columns(self.outcomes.parts)
        rows = [(*key[1:], *tally) for key, tally in self.outcomes.items()]
        return outcome_columns([whole_numbers(rows, _N_PLACES + 1 + N_SUMS)])


def n_closed(epochs: Iterable[Epoch], window: timedelta | None, lag: timedelta, now: datetime) -> int:
    """Return how many of the epochs, from the first, are closed for a metric with this window.

    An epoch is closed once none of its outcomes can be in time any more: at the next epoch's start, plus the
    lag allowed to replicas that still use the old one, plus the window. Without a window all count as closed.

    Args:
        epochs: The epochs of one segment, in order of number.
        window: The metric's window.
        lag: How long a replica may go on with an epoch after its end.
        now: The moment to ask for.
    """
    known = list(epochs)
    if window is None:
        return len(known)
    return sum(ended_at + lag + window <= now for ended_at in ends_of(known))


def ends_of(epochs: Iterable[Epoch]) -> list[datetime]:
    """Return when each epoch but the last ended: at the next one's start.

    Clocks jump back, and those of two replicas differ. So no end lies before an earlier epoch's start:
    silence may then wait for longer than its window, and is never counted sooner. Only a cap ends epochs that
    a wrong clock dated in the future.

    Args:
        epochs: The epochs of one segment, in order of number.
    """
    known = list(epochs)
    latest: list[datetime] = []
    for epoch in known:
        is_first = epoch.is_cap or not latest
        latest.append(epoch.started_at if is_first else max(latest[-1], epoch.started_at))
    return _cut_by_caps(known, latest)[1:]


def starts_of(epochs: Iterable[Epoch]) -> list[datetime]:
    """Return when each epoch started: as recorded, but no later than a cap that came after it.

    Args:
        epochs: The epochs of one segment, in order of number.
    """
    known = list(epochs)
    return _cut_by_caps(known, [epoch.started_at for epoch in known])


def _cut_by_caps(epochs: Sequence[Epoch], instants: Sequence[datetime]) -> list[datetime]:
    """Limit the instant of each epoch to the start of the earliest cap at or after it."""
    bounds = (epoch.started_at if epoch.is_cap else _NEVER for epoch in reversed(epochs))
    limits = list(accumulate(bounds, min))
    return list(map(min, instants, reversed(limits)))


_NEVER = datetime.max.replace(tzinfo=UTC)
_N_PLACES = 4
"""Epoch, segment, arm and basis."""

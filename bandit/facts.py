"""Epochs and facts: the two tables that everything else is a fold over.

An epoch says with which shares decisions were made; facts say how many there were and what came of them,
keyed by the decision's own epoch and arm. Facts only ever grow by increments, so they add in any order.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import takewhile
from typing import NamedTuple, Self

from bandit.decision import Basis


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """A numbered stretch of an experiment's life in which its shares are constant.

    Attributes:
        experiment: The store's number of the experiment.
        segment: Number of the segment.
        number: Counted from 1 in each experiment and segment.
        nonce: A random mark in [0, 2^32): tells it from an epoch of its number in a restored database.
        revision: The revision of the configuration that the shares were computed from.
        started_at: When it began; the next epoch's start is its end.
        champion: Number of the arm in production.
        shares: Arm number to the probability of being chosen; sums to 1 within 1e-9.
        warming_up: Numbers of the arms whose share was set by their warm-up.
        means: Metric number to the posterior mean of every arm at the start, for inference.
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


class DecisionKey(NamedTuple):
    """Which decisions were counted."""

    experiment: int
    epoch: int
    segment: int
    arm: int
    basis: Basis


class OutcomeKey(NamedTuple):
    """Which outcomes were summed."""

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
        """The tally of both.

        >>> Tally.of(3, is_late=False).plus(Tally.of(2, is_late=True))
        Tally(n=1, total=3, squares=9, late_n=1, late_total=2, late_squares=4)
        """
        return Tally(*map(int.__add__, self, other))

    @classmethod
    def of(cls, quanta: int, *, is_late: bool) -> Self:
        """The tally of one outcome."""
        if is_late:
            return cls(late_n=1, late_total=quanta, late_squares=quanta * quanta)
        return cls(n=1, total=quanta, squares=quanta * quanta)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything counted for one experiment, read in one database snapshot.

    Attributes:
        decisions: How many decisions of each kind were made.
        outcomes: What came of them.
    """

    decisions: Mapping[DecisionKey, int]
    outcomes: Mapping[OutcomeKey, Tally]


def n_closed(epochs: Iterable[Epoch], window: timedelta | None, lag: timedelta, now: datetime) -> int:
    """How many of the epochs, from the first, are closed for a metric of this window.

    An epoch is closed once no outcome of it can be in time any more: at the next epoch's start, plus the lag
    allowed to replicas that still use the old one, plus the window. Without a window all count as closed.

    Args:
        epochs: Of one segment, in order of number.
        window: The metric's window.
        lag: How long a replica may go on with an epoch after its end.
        now: The moment to ask for.
    """
    starts = [epoch.started_at for epoch in epochs]
    if window is None:
        return len(starts)
    latest_end = now - lag - window
    return sum(1 for _ in takewhile(lambda ended_at: ended_at <= latest_end, starts[1:]))

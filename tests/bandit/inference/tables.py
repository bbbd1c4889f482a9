"""Evidence tables for tests, and the events from which they are replayed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandit.inference.data.pairs import Pair, pair_of
from bandit.inference.data.table import EvidenceTable, FloatArray, ValueScale
from bandit.metric import Direction

YES_NO = ValueScale()
AMOUNT = ValueScale(is_binary=False)


def make_table(
    shares: Sequence[Sequence[float]] | FloatArray,
    n: Sequence[Sequence[float]] | FloatArray,
    sums: Sequence[Sequence[float]] | FloatArray,
    *,
    squares: FloatArray | None = None,
    scale: ValueScale = YES_NO,
) -> EvidenceTable:
    """Return a table whose arms are numbered in their order; yes/no outcomes unless squares are given."""
    table = np.asarray(shares, dtype=float)
    return EvidenceTable(
        arms=tuple(range(table.shape[1])),
        shares=table,
        n=np.asarray(n, dtype=float),
        sums=np.asarray(sums, dtype=float),
        squares=np.asarray(sums, dtype=float) if squares is None else squares,
        scale=scale,
    )


def first_rows(table: EvidenceTable, n_rows: int) -> EvidenceTable:
    """Return the table as it was after its first rows."""
    parts = (values[:n_rows] for values in (table.shares, table.n, table.sums))
    return make_table(*parts, squares=table.squares[:n_rows], scale=table.scale)


def pair_in(table: EvidenceTable, arm: int = 1) -> Pair:
    """Return an arm and the champion, arm 0, who must have rows in common."""
    pair = pair_of(table, arm, 0)
    assert isinstance(pair, Pair)
    return pair


@dataclass(frozen=True, slots=True)
class Event:
    """One resolved decision."""

    epoch: int
    arm: int
    outcome: float


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """Single decisions, in the order of epochs, with the shares fixed before them."""

    shares: FloatArray
    events: tuple[Event, ...]

    def table(self, scale: ValueScale = YES_NO) -> EvidenceTable:
        """Return the stream as sums."""
        n, sums, squares = (np.zeros(self.shares.shape) for _ in range(3))
        for event in self.events:
            n[event.epoch, event.arm] += 1
            sums[event.epoch, event.arm] += event.outcome
            squares[event.epoch, event.arm] += event.outcome**2
        return make_table(self.shares, n, sums, squares=squares, scale=scale)

    def before(self, epoch: int) -> list[Event]:
        """Return the decisions of earlier epochs."""
        return [event for event in self.events if event.epoch < epoch]

    def part(self, epoch: int, arm: int, champion: int = 0) -> float:
        """Return the arm's part of its and the champion's share."""
        own, other = self.shares[epoch, arm], self.shares[epoch, champion]
        return float(own / (own + other))


def draw_stream(
    seed: int, *, n_arms: int = 3, n_epochs: int = 6, is_binary: bool = True, floor: float = 0.1
) -> Stream:
    """Return a stream with random shares above the floor, rates and sizes of epochs."""
    rng = np.random.default_rng(seed)
    shares = floor + (1 - n_arms * floor) * rng.dirichlet(np.ones(n_arms), size=n_epochs)
    rates = rng.uniform(size=n_arms)
    events = []
    for epoch in range(n_epochs):
        for arm in rng.choice(n_arms, size=int(rng.integers(20, 60)), p=shares[epoch] / shares[epoch].sum()):
            is_success = float(rng.uniform() < rates[arm])
            events.append(Event(epoch, int(arm), is_success if is_binary else is_success * rng.uniform()))
    return Stream(shares=shares, events=tuple(events))


def draw_table(seed: int) -> EvidenceTable:
    """Return a random table: 2 to 6 arms, up to 20 rows, shares that move or not, any metric.

    Yes/no outcomes have rates that are moderate, rare, alike, or certain; amounts and counts, on ranges that
    begin at 0, above or below, are spread, rare, or all at an end. Either direction is better.
    """
    rng = np.random.default_rng(seed)
    n_arms, n_rows = int(rng.integers(2, 7)), int(rng.integers(1, 21))
    moving = rng.dirichlet(np.full(n_arms, rng.choice([0.3, 1.0, 5.0])), size=n_rows)
    shares = np.maximum(moving if rng.uniform() < 0.7 else np.tile(moving[0], (n_rows, 1)), 1e-4)
    shares /= shares.sum(axis=1, keepdims=True)
    n = rng.poisson(10 ** rng.uniform(0, 5) * shares * rng.uniform(0.1, 2, (n_rows, 1)))
    rates = [
        rng.uniform(size=n_arms),
        rng.uniform(0, 0.02, size=n_arms),
        np.full(n_arms, rng.uniform()),
        rng.choice([0.0, 0.5, 1.0], size=n_arms),
    ][rng.integers(4)]
    wins = rng.binomial(n, rates)
    is_binary, direction = bool(rng.uniform() < 0.5), rng.choice(list(Direction))
    minimum = 0.0 if is_binary else float(rng.choice([0.0, 5.0, -3.0]))
    maximum = 1.0 if is_binary else minimum + float(rng.choice([1.0, 10.0, 1e4]))
    # The successes of an amount are large or small ones, so that sums and squares are possible.
    n_large = rng.binomial(wins, 0.5) if not is_binary else wins
    sums, squares = (n_large + (wins - n_large) * 0.3**k for k in (1, 2))
    scale = ValueScale(minimum=minimum, maximum=maximum, is_binary=is_binary, direction=Direction(direction))
    return make_table(shares, n.astype(float), sums, squares=squares, scale=scale)


def split_rows(values: NDArray[np.float64], part: float) -> NDArray[np.float64]:
    """Return each row as two rows that sum to it."""
    return np.stack([values * part, values * (1 - part)], axis=1).reshape(-1, values.shape[1])

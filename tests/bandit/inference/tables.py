"""Evidence tables for tests, and the events from which they are replayed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bandit.inference.data.table import EvidenceTable, FloatArray, ValueScale

YES_NO = ValueScale()


def make_table(
    shares: Sequence[Sequence[float]] | FloatArray,
    n: Sequence[Sequence[float]] | FloatArray,
    sums: Sequence[Sequence[float]] | FloatArray,
    *,
    squares: FloatArray | None = None,
    predictions: Sequence[Sequence[float]] | FloatArray | None = None,
    scale: ValueScale = YES_NO,
) -> EvidenceTable:
    """Return a table whose arms are numbered in their order; yes/no outcomes unless squares are given."""
    table = np.asarray(shares, dtype=float)
    return EvidenceTable(
        arms=tuple(range(table.shape[1])),
        shares=table,
        predictions=np.full(table.shape, 0.1)
        if predictions is None
        else np.asarray(predictions, dtype=float),
        n=np.asarray(n, dtype=float),
        sums=np.asarray(sums, dtype=float),
        squares=np.asarray(sums, dtype=float) if squares is None else squares,
        scale=scale,
    )


@dataclass(frozen=True, slots=True)
class Event:
    """One resolved decision."""

    epoch: int
    arm: int
    outcome: float


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """Single decisions with the shares and predictions fixed before them, in the table's layout."""

    shares: FloatArray
    predictions: FloatArray
    events: tuple[Event, ...]

    def table(self, scale: ValueScale = YES_NO) -> EvidenceTable:
        """Return the stream as sums."""
        n, sums, squares = (np.zeros(self.shares.shape) for _ in range(3))
        for event in self.events:
            n[event.epoch, event.arm] += 1
            sums[event.epoch, event.arm] += event.outcome
            squares[event.epoch, event.arm] += event.outcome**2
        return make_table(self.shares, n, sums, squares=squares, predictions=self.predictions, scale=scale)


def draw_stream(
    seed: int, *, n_arms: int = 3, n_epochs: int = 6, is_binary: bool = True, floor: float = 0.1
) -> Stream:
    """Return a stream with random shares above the floor, predictions, rates and sizes of epochs."""
    rng = np.random.default_rng(seed)
    shares = floor + (1 - n_arms * floor) * rng.dirichlet(np.ones(n_arms), size=n_epochs)
    predictions, rates = rng.uniform(size=(n_epochs, n_arms)), rng.uniform(size=n_arms)
    events = []
    for epoch in range(n_epochs):
        for arm in rng.choice(n_arms, size=int(rng.integers(20, 60)), p=shares[epoch] / shares[epoch].sum()):
            is_success = float(rng.uniform() < rates[arm])
            events.append(Event(epoch, int(arm), is_success if is_binary else is_success * rng.uniform()))
    return Stream(shares=shares, predictions=predictions, events=tuple(events))

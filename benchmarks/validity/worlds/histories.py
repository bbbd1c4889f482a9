"""Histories of a bandit in a world: shares and outcomes by row, for many runs at once.

Shares are fixed, or Thompson sampling's P(best), on a grid for all runs at once; floors are additive as in
`bandit.limits`. Decisions of an epoch are multinomial, successes binomial.
"""

from dataclasses import dataclass

import numpy as np

from bandit.inference.data.table import EvidenceTable, ExposureTable, ValueScale
from bandit.inference.sequential.design import Design
from benchmarks.validity.measures.beliefs import believe
from benchmarks.validity.measures.decisions import ALPHA
from benchmarks.validity.worlds.layouts import Layout, even
from benchmarks.validity.worlds.outcomes import REAL, YES_NO, Amounts
from benchmarks.validity.worlds.rates import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaping:
    """Source of the shares.

    Attributes:
        floors: Minimum share of every arm, shape (n_arms,).
        fixed: Fixed shares; None: Thompson sampling above the floors.
        lag: Epochs between the end of an epoch and the time when its outcomes steer; the window.
    """

    floors: tuple[float, ...]
    fixed: tuple[float, ...] | None = None
    lag: int = 0

    def shares_after(self, successes: FloatArray, failures: FloatArray) -> FloatArray:
        """Return the shares from the outcomes so far, all of shape (n_runs, n_arms)."""
        is_first = self.fixed is not None or not np.any(successes + failures)
        alike = np.full(successes.shape, 1 / successes.shape[1])
        return self.shares(alike if is_first else believe(successes, failures).best)

    def shares(self, best: FloatArray) -> FloatArray:
        """Return the shares from P(best) of every arm, both of shape (n_runs, n_arms)."""
        if self.fixed is not None:
            return np.tile(np.asarray(self.fixed), (len(best), 1))
        floors = np.asarray(self.floors)
        return np.asarray(floors + (1 - floors.sum()) * best)

    @property
    def design(self) -> Design:
        """The design of the report's tests, with arm 0 as champion of all others."""
        return Design(
            alpha=ALPHA, floors=dict(enumerate(self.floors)), n_challengers=max(len(self.floors) - 1, 1)
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class History:
    """Collected data, as arrays of shape (n_runs, n_rows, n_arms).

    Attributes:
        shares: Probability of each arm.
        n: Decisions drawn from the shares.
        sums: Sums of their outcomes within the window: successes, if they are yes/no.
        squares: Sums of squares of their outcomes.
        scale: The scale of outcomes.
    """

    shares: FloatArray
    n: FloatArray
    sums: FloatArray
    squares: FloatArray
    scale: ValueScale = YES_NO

    def table(self, run: int, n_rows: int | None = None) -> EvidenceTable:
        """Return the evidence of one run, up to a row."""
        part = (run, slice(n_rows))
        return EvidenceTable(
            arms=tuple(range(self.n.shape[2])),
            shares=self.shares[part],
            n=self.n[part],
            sums=self.sums[part],
            squares=self.squares[part],
            scale=self.scale,
        )

    def tables(self) -> list[EvidenceTable]:
        """Return the evidence of every run."""
        return [self.table(run) for run in range(len(self.n))]

    def exposures(self, run: int) -> ExposureTable:
        """Return the decisions and shares of one run."""
        return ExposureTable(arms=tuple(range(self.n.shape[2])), shares=self.shares[run], counts=self.n[run])


def collect(
    truth: FloatArray,
    layout: Layout | int,
    shaping: Shaping,
    n_runs: int,
    rng: np.random.Generator,
    outcomes: Amounts | None = None,
) -> History:
    """Simulate runs.

    Args:
        truth: Rates, shape (n_rows, n_arms).
        layout: The rows; or the size of epochs of one row each.
        shaping: Source of the shares.
        n_runs: Number of runs.
        rng: Generator of all random numbers.
        outcomes: Distribution of outcomes; None: yes/no, with the rates of `truth`.
    """
    n_rows, n_arms = truth.shape
    rows = even(n_rows, layout) if isinstance(layout, int) else layout
    sizes = rows.draw(rng, n_runs).astype(int)
    shares, n, sums, squares = np.zeros((4, n_runs, n_rows, n_arms))
    for row, epoch in enumerate(rows.epochs):
        if row == 0 or epoch > rows.epochs[row - 1]:
            closed = slice(int(np.searchsorted(rows.epochs, epoch - shaping.lag)))
            won = sums[:, closed].sum(axis=1)
            now = shaping.shares_after(won, n[:, closed].sum(axis=1) - won)
        shares[:, row] = now
        n[:, row] = rng.multinomial(sizes[:, row], now / now.sum(axis=1, keepdims=True))
        if outcomes is None:
            sums[:, row] = squares[:, row] = rng.binomial(n[:, row].astype(int), truth[row])
        else:
            sums[:, row], squares[:, row] = outcomes.draw(n[:, row], rng)
    scale = YES_NO if outcomes is None else REAL
    return History(shares=shares, n=n, sums=sums, squares=squares, scale=scale)

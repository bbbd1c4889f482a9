"""Histories of a bandit in a world: shares, predictions and outcomes by epoch, for many runs at once.

Shares are fixed, or Thompson sampling's P(best), on a grid for all runs at once; floors are additive as in
`bandit.limits`. Decisions of an epoch are multinomial, successes binomial.
"""

from dataclasses import dataclass

import numpy as np

from bandit.inference.data.table import EvidenceTable, ExposureTable, ValueScale
from benchmarks.validity.measures.beliefs import believe
from benchmarks.validity.worlds.rates import FloatArray

_SCALE = ValueScale()


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

    def shares(self, best: FloatArray) -> FloatArray:
        """Return the shares from P(best) of every arm, both of shape (n_runs, n_arms)."""
        if self.fixed is not None:
            return np.tile(np.asarray(self.fixed), (len(best), 1))
        floors = np.asarray(self.floors)
        return np.asarray(floors + (1 - floors.sum()) * best)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class History:
    """Collected data, as arrays of shape (n_runs, n_epochs, n_arms).

    Attributes:
        shares: Probability of each arm.
        best: P(arm is best) when the epoch began.
        predictions: Posterior means when the epoch began.
        n: Decisions drawn from the shares.
        sums: Their successes within the window.
    """

    shares: FloatArray
    best: FloatArray
    predictions: FloatArray
    n: FloatArray
    sums: FloatArray

    def table(self, run: int, n_epochs: int | None = None) -> EvidenceTable:
        """Return the evidence of one run, up to an epoch."""
        part = (run, slice(n_epochs))
        return EvidenceTable(
            arms=tuple(range(self.n.shape[2])),
            shares=self.shares[part],
            predictions=self.predictions[part],
            n=self.n[part],
            sums=self.sums[part],
            squares=self.sums[part],
            scale=_SCALE,
        )

    def exposures(self, run: int) -> ExposureTable:
        """Return the decisions and shares of one run."""
        return ExposureTable(arms=tuple(range(self.n.shape[2])), shares=self.shares[run], counts=self.n[run])


def collect(truth: FloatArray, size: int, shaping: Shaping, n_runs: int, rng: np.random.Generator) -> History:
    """Simulate runs.

    Args:
        truth: Rates, shape (n_epochs, n_arms).
        size: Decisions per epoch.
        shaping: Source of the shares.
        n_runs: Number of runs.
        rng: Generator of all random numbers.
    """
    n_epochs, n_arms = truth.shape
    made = {name: np.zeros((n_runs, n_epochs, n_arms)) for name in History.__slots__}
    for epoch in range(n_epochs):
        closed = slice(max(epoch - shaping.lag, 0))
        successes = made["sums"][:, closed].sum(axis=1)
        failures = made["n"][:, closed].sum(axis=1) - successes
        best = np.full((n_runs, n_arms), 1 / n_arms)
        if shaping.fixed is None:
            best = believe(successes, failures).best
        shares = shaping.shares(best)
        counts = rng.multinomial(size, shares / shares.sum(axis=1, keepdims=True))
        made["shares"][:, epoch], made["best"][:, epoch] = shares, best
        made["predictions"][:, epoch] = (1 + successes) / (2 + successes + failures)
        made["n"][:, epoch], made["sums"][:, epoch] = counts, rng.binomial(counts, truth[epoch])
    return History(**made)

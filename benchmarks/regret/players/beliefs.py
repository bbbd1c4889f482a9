"""Beliefs of many runs as arrays: pending outcomes, sums of known outcomes, and posteriors."""

from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bandit.posteriors.batches import FloatArray, PosteriorBatch, SumsBatch, updated
from bandit.posteriors.priors import NormalInverseGammaPrior, Prior

IntArray: TypeAlias = NDArray[np.int64]

NO_ARM = -1
"""Stands for a replaced arm, whose outcomes are not learnt from."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Outcomes of consecutive rounds that had the same posteriors.

    Attributes:
        first: The first of the rounds.
        epoch: The round in which their posteriors were refreshed, from which their age counts.
        arms: Index of the chosen arm, shape (n_rounds, n_runs); NO_ARM if it was replaced since.
        rewards: Its outcome, of the same shape.
    """

    first: int
    epoch: int
    arms: IntArray
    rewards: FloatArray


class Pending:
    """Outcomes that are not known yet, oldest first."""

    def __init__(self) -> None:
        self._waiting: deque[Outcomes] = deque()

    def add(self, outcomes: Outcomes) -> None:
        """Append the outcomes of the next rounds."""
        self._waiting.append(outcomes)

    def take_before(self, end: int) -> list[Outcomes]:
        """Remove and return the outcomes of rounds before `end`."""
        taken = []
        while self._waiting and self._waiting[0].first < end:
            oldest = self._waiting.popleft()
            n = end - oldest.first
            taken.append(Outcomes(oldest.first, oldest.epoch, oldest.arms[:n], oldest.rewards[:n]))
            if n < len(oldest.arms):
                self._waiting.appendleft(Outcomes(end, oldest.epoch, oldest.arms[n:], oldest.rewards[n:]))
        return taken

    def drop(self, runs: IntArray, arms: IntArray) -> None:
        """Drop the pending outcomes of these arms of these runs."""
        for outcomes in self._waiting:
            for run, arm in zip(runs, arms, strict=True):
                column = outcomes.arms[:, run]
                column[column == arm] = NO_ARM


class Beliefs:
    """Sums of the known outcomes, by run and arm.

    Args:
        n_runs: Number of runs.
        n_arms: Number of arms.
        prior: Prior of every arm.
        half_life: Rounds after which an outcome counts half; None: outcomes keep their weight.
    """

    def __init__(self, n_runs: int, n_arms: int, prior: Prior, half_life: float | None) -> None:
        self._shape = (n_runs, n_arms)
        self._rows = np.arange(n_runs) * n_arms
        self._prior = prior
        self._half_life = half_life
        self._as_of = 0
        # Sums are taken about the prior's mean, as squares cancel if the spread is small next to the mean.
        self._is_real = isinstance(prior, NormalInverseGammaPrior)
        self._reference = prior.mean if isinstance(prior, NormalInverseGammaPrior) else 0.0
        self._n = np.zeros(n_runs * n_arms)
        self._total = np.zeros(n_runs * n_arms)
        self._squares = np.zeros(n_runs * n_arms)

    @property
    def n_observations(self) -> FloatArray:
        """Weighted number of known outcomes in each run, shape (n_runs,)."""
        return np.asarray(self._n.reshape(self._shape).sum(axis=-1), dtype=np.float64)

    def learn(self, news: list[Outcomes], now: int) -> None:
        """Add the outcomes that became known by round `now`, and discount all outcomes up to then."""
        if self._half_life is not None and now > self._as_of:
            fading = 2.0 ** ((self._as_of - now) / self._half_life)
            self._n *= fading
            self._total *= fading
            self._squares *= fading
        self._as_of = now
        for outcomes in news:
            weight = 1.0 if self._half_life is None else 2.0 ** ((outcomes.epoch - now) / self._half_life)
            self._add(outcomes, weight)

    def forget(self, runs: IntArray, arms: IntArray) -> None:
        """Reset these arms of these runs to the prior."""
        cells = self._rows[runs] + arms
        for sums in (self._n, self._total, self._squares):
            sums[cells] = 0.0

    def posteriors(self) -> PosteriorBatch:
        """Return the posterior of every arm, shape (n_runs, n_arms)."""
        n, total = self._n.reshape(self._shape), self._total.reshape(self._shape)
        if not self._is_real:
            return updated(self._prior, SumsBatch(n, total))
        squares = self._squares.reshape(self._shape)
        between = np.divide(total * total, n, out=np.zeros_like(n), where=n > 0)
        return updated(
            self._prior,
            SumsBatch(n, total + n * self._reference, np.maximum(squares - between, 0.0)),
        )

    def _add(self, outcomes: Outcomes, weight: float) -> None:
        cells, rewards = outcomes.arms + self._rows, outcomes.rewards
        if (is_gone := outcomes.arms == NO_ARM).any():
            cells, rewards = cells[~is_gone], rewards[~is_gone]
        values = rewards - self._reference if self._reference else rewards
        if len(outcomes.arms) == 1:  # one round has one outcome per run: no cell occurs twice
            cells, values = cells.reshape(-1), values.reshape(-1)
            self._n[cells] += weight
            self._total[cells] += weight * values
            if self._is_real:
                self._squares[cells] += weight * values * values
            return
        cells, values = cells.reshape(-1), weight * values.reshape(-1)
        self._n += weight * np.bincount(cells, minlength=self._n.size)
        self._total += np.bincount(cells, values, self._n.size)
        if self._is_real:
            self._squares += np.bincount(cells, values * values / weight, self._n.size)

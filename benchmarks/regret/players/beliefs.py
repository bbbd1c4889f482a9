"""What many runs have learnt: sums of outcomes as arrays, outcomes under way, and the posteriors of both."""

from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bandit.posteriors.batches import FloatArray, PosteriorBatch, SumsBatch, updated
from bandit.posteriors.priors import NormalInverseGammaPrior, Prior

IntArray: TypeAlias = NDArray[np.int64]

NO_ARM = -1
"""In place of an arm that is gone: its outcome teaches nothing."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What came of consecutive rounds that had the same posteriors.

    Attributes:
        first: The first of the rounds.
        epoch: The round in which their posteriors were refreshed, from which their age counts.
        arms: Which arm was chosen, shape (n_rounds, n_runs); NO_ARM for none that is still there.
        rewards: What came of it, of the same shape.
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
        """Takes the outcomes of the rounds after those that it has."""
        self._waiting.append(outcomes)

    def take_before(self, end: int) -> list[Outcomes]:
        """Hands out the outcomes of rounds before `end`."""
        taken = []
        while self._waiting and self._waiting[0].first < end:
            oldest = self._waiting.popleft()
            n = end - oldest.first
            taken.append(Outcomes(oldest.first, oldest.epoch, oldest.arms[:n], oldest.rewards[:n]))
            if n < len(oldest.arms):
                self._waiting.appendleft(Outcomes(end, oldest.epoch, oldest.arms[n:], oldest.rewards[n:]))
        return taken

    def drop(self, runs: IntArray, arms: IntArray) -> None:
        """Forgets what is under way for these arms of these runs."""
        for outcomes in self._waiting:
            for run, arm in zip(runs, arms, strict=True):
                column = outcomes.arms[:, run]
                column[column == arm] = NO_ARM


class Beliefs:
    """Sums of the outcomes that are known, by run and arm.

    Args:
        n_runs: How many runs.
        n_arms: How many arms.
        prior: What is believed before any outcome.
        half_life: After how many rounds an outcome weighs half; None: none is forgotten.
    """

    def __init__(self, n_runs: int, n_arms: int, prior: Prior, half_life: float | None) -> None:
        self._shape = (n_runs, n_arms)
        self._rows = np.arange(n_runs) * n_arms
        self._prior = prior
        self._half_life = half_life
        self._as_of = 0
        # About the prior's mean, so that squares don't cancel where the spread is small beside the mean.
        self._is_real = isinstance(prior, NormalInverseGammaPrior)
        self._reference = prior.mean if isinstance(prior, NormalInverseGammaPrior) else 0.0
        self._n = np.zeros(n_runs * n_arms)
        self._total = np.zeros(n_runs * n_arms)
        self._squares = np.zeros(n_runs * n_arms)

    @property
    def n_observations(self) -> FloatArray:
        """How many outcomes each run knows, weighted, shape (n_runs,)."""
        return np.asarray(self._n.reshape(self._shape).sum(axis=-1), dtype=np.float64)

    def learn(self, news: list[Outcomes], now: int) -> None:
        """Adds what became known by round `now`, and lets all of it age up to then."""
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
        """Puts these arms of these runs back to the prior."""
        cells = self._rows[runs] + arms
        for sums in (self._n, self._total, self._squares):
            sums[cells] = 0.0

    def posteriors(self) -> PosteriorBatch:
        """The posterior of every arm, shape (n_runs, n_arms)."""
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
        if len(outcomes.arms) == 1:  # each run has one cell: no sum of several is needed
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

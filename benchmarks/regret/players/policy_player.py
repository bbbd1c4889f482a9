"""Player of this library's policies: its beliefs in many runs, refreshed on the problem's clock."""

from typing import Final

import numpy as np

from bandit.posteriors.batches import PosteriorBatch
from benchmarks.regret.players.beliefs import Beliefs, IntArray, Outcomes, Pending
from benchmarks.regret.players.contestants import Contestant
from benchmarks.regret.problems.problem import Problem
from benchmarks.regret.problems.rewards import FloatArray

_MOST_CELLS: Final = 250_000
"""Most cells drawn at once: rounds x runs x arms, at 8 bytes each in about five arrays."""


class PolicyPlayer:
    """Plays a contestant with the library's posteriors and its policy's own `draw`.

    With `refresh_every` = N, posteriors are updated before the rounds 0, N, 2N and so on with the known
    outcomes: those of decisions at least `delay` + 1 rounds ago. Success and silence count on that one clock.

    Args:
        problem: The problem to play.
        contestant: The contestant.
        n_runs: Number of runs.
        rng: Generator of its choices.
    """

    def __init__(
        self, problem: Problem, contestant: Contestant, n_runs: int, rng: np.random.Generator
    ) -> None:
        self._problem = problem
        self._contestant = contestant
        self._rng = rng
        floors = np.array(contestant.floors(problem))
        self._floors = floors if floors.any() else None
        prior = problem.metric.effective_prior
        self._beliefs = Beliefs(n_runs, problem.n_arms, prior, contestant.half_life)
        self._pending = Pending()
        self._epoch = 0
        self._most_rounds = max(1, _MOST_CELLS // (n_runs * problem.n_arms))
        self._take_stock()

    def refresh(self, now: int) -> None:
        """Update the posteriors with the known outcomes if a refresh is due; see `Player.refresh`."""
        if self._contestant.learns and now and now % self._problem.refresh_every == 0:
            self._epoch = now
            self._beliefs.learn(self._pending.take_before(now - self._problem.delay), now)
            self._take_stock()

    def forget(self, runs: IntArray, arms: IntArray) -> None:
        """Reset new arms to the prior, and drop their predecessors' outcomes; see `Player.forget`."""
        self._beliefs.forget(runs, arms)
        self._pending.drop(runs, arms)
        self._take_stock()

    def stretch(self, first: int) -> int:
        """Return the number of rounds with the same posteriors that fit into memory; see `Player.stretch`."""
        if not self._contestant.learns:
            return self._most_rounds
        every = self._problem.refresh_every
        return min(every - first % every, self._most_rounds)

    def choose(self, n_rounds: int) -> IntArray:
        """Draw arms for the next rounds; see `Player.choose`."""
        return self._contestant.draw(
            self._posteriors, n_rounds, self._floors, self._rng, self._n_observations
        )

    def observe(self, first: int, arms: IntArray, rewards: FloatArray) -> None:
        """Keep the outcomes of some rounds until they are known; see `Player.observe`."""
        if self._contestant.learns:
            self._pending.add(Outcomes(first, self._epoch, arms, rewards))

    def _take_stock(self) -> None:
        self._posteriors: PosteriorBatch = self._beliefs.posteriors()
        self._n_observations = self._beliefs.n_observations

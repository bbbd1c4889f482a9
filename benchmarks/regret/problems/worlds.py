"""Worlds: the means of all arms of a problem in each run and round."""

from typing import Final

import numpy as np

from benchmarks.regret.problems.problem import DAYS_OF_WEEK, N_WORKDAYS, Problem
from benchmarks.regret.problems.rewards import FloatArray, RewardKind

_REFLECTING_PERIOD: Final = 2.0


class World:
    """Means over time, which must be read in the order of rounds.

    Args:
        problem: The problem.
        n_runs: Number of runs; they share one array of means unless the problem draws means at random.
        rng: Generator of the world's random numbers. Policies have another, so that all of them meet the same
            worlds.
    """

    def __init__(self, problem: Problem, n_runs: int, rng: np.random.Generator) -> None:
        self._problem = problem
        self._n_runs = n_runs
        self._rng = rng
        if problem.means_beta is None:
            self._base = np.array(problem.means)[np.newaxis]
        else:
            self._base = rng.beta(*problem.means_beta, size=(n_runs, problem.n_drawn))
        self._walk = np.zeros((n_runs, problem.n_arms))

    def means(self, first: int, n_rounds: int) -> FloatArray:
        """Return means from round `first` on, shape (n_rounds or 1, n_runs or 1, n_arms); 1 if all equal."""
        problem = self._problem
        means = self._base[np.newaxis]
        rounds = np.arange(first, first + n_rounds)[:, np.newaxis, np.newaxis]
        if problem.switch_at is not None:
            means = np.where(rounds < problem.switch_at, means, np.array(problem.switch_means))
        if problem.weekend_means is not None:
            is_weekend = rounds // problem.rounds_per_day % DAYS_OF_WEEK >= N_WORKDAYS
            means = np.where(is_weekend, np.array(problem.weekend_means), means)
        if problem.weekly_swing:
            week = rounds / (problem.rounds_per_day * DAYS_OF_WEEK)
            means = means * (1 + problem.weekly_swing * np.sin(2 * np.pi * week))
        return self._drifted(means, n_rounds) if problem.drift else means

    def renew(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Replace arms for one more round; return the indices of runs and of their new arms."""
        if not self._problem.turnover or self._problem.means_beta is None:
            return None
        runs = np.flatnonzero(self._rng.random(self._n_runs) < self._problem.turnover)
        if not runs.size:
            return None
        arms = self._rng.integers(self._problem.n_drawn, size=runs.size)
        self._base[runs, arms] = self._rng.beta(*self._problem.means_beta, size=runs.size)
        return runs, arms

    def _drifted(self, means: FloatArray, n_rounds: int) -> FloatArray:
        step = self._problem.drift / np.sqrt(self._problem.horizon)
        steps = step * self._rng.standard_normal((n_rounds, *self._walk.shape))
        walks = self._walk + np.cumsum(steps, axis=0)
        self._walk = walks[-1]
        return _reflected(means + walks, self._problem.reward)


def _reflected(means: FloatArray, kind: RewardKind) -> FloatArray:
    """Reflect means at the bounds of their range, as a random walk with reflecting barriers does."""
    match kind:
        case RewardKind.BERNOULLI:
            folded = np.mod(means, _REFLECTING_PERIOD)
            return np.minimum(folded, _REFLECTING_PERIOD - folded)
        case RewardKind.POISSON:
            return np.abs(means)
        case RewardKind.GAUSSIAN:
            return means

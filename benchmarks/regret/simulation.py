"""Simulation of runs in lockstep: a player in a world, and its regret."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from benchmarks.regret.moments import Moments
from benchmarks.regret.players.beliefs import IntArray
from benchmarks.regret.problems.problem import Problem
from benchmarks.regret.problems.rewards import FloatArray, draw_rewards
from benchmarks.regret.problems.worlds import World

_N_CHECKPOINTS: Final = 60
_TENTH: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Measurements of a group of runs.

    Attributes:
        checkpoints: Numbers of rounds after which the curves were read, the last being the horizon.
        regret: Regret up to each checkpoint.
        share_of_best: Fraction of the rounds up to each checkpoint that chose a best arm.
        slope: (R(T) - R(T/10)) / ln 10.
    """

    checkpoints: tuple[int, ...]
    regret: Moments
    share_of_best: Moments
    slope: Moments

    def merge(self, other: "Measured") -> "Measured":
        """Return the measurements of both groups of runs together."""
        return Measured(
            checkpoints=self.checkpoints,
            regret=self.regret.merge(other.regret),
            share_of_best=self.share_of_best.merge(other.share_of_best),
            slope=self.slope.merge(other.slope),
        )


def checkpoints_of(horizon: int) -> tuple[int, ...]:
    """Return the rounds at which curves are read, spaced evenly and logarithmically, with T/10 and T.

    >>> checkpoints_of(5)
    (1, 2, 3, 4, 5)
    """
    evenly = np.linspace(1, horizon, _N_CHECKPOINTS)
    by_logarithm = np.geomspace(1, horizon, _N_CHECKPOINTS)
    rounds = np.rint(np.concatenate([evenly, by_logarithm])).astype(int).tolist()
    return tuple(sorted({*rounds, horizon, tenth_of(horizon)}))


def tenth_of(horizon: int) -> int:
    """Return the round from which the slope is taken."""
    return max(1, horizon // _TENTH)


class Ledger:
    """Cumulative regret and number of choices of a best arm, recorded at the checkpoints."""

    def __init__(self, horizon: int, n_runs: int) -> None:
        self._checkpoints = checkpoints_of(horizon)
        self._n_read = 0
        self._n_rounds = 0
        self._sums = np.zeros((2, n_runs))
        self._readings = np.zeros((2, len(self._checkpoints), n_runs))

    def add(self, regrets: FloatArray) -> None:
        """Add the regret of the next rounds, shape (n_rounds, n_runs); 0 where a best arm was chosen."""
        end = self._n_rounds + len(regrets)
        while self._n_read < len(self._checkpoints) and self._checkpoints[self._n_read] <= end:
            n = self._checkpoints[self._n_read] - self._n_rounds
            self._advance(regrets[:n])
            regrets = regrets[n:]
            self._readings[:, self._n_read] = self._sums
            self._n_read += 1
        self._advance(regrets)

    def measured(self) -> Measured:
        """Return the measurements over all rounds."""
        regret, n_best = self._readings
        rounds = np.array(self._checkpoints, dtype=np.float64)
        tenth = self._checkpoints.index(tenth_of(self._checkpoints[-1]))
        return Measured(
            checkpoints=self._checkpoints,
            regret=Moments.of(regret),
            share_of_best=Moments.of(n_best / rounds[:, np.newaxis]),
            slope=Moments.of((regret[-1] - regret[tenth]) / math.log(_TENTH)),
        )

    def _advance(self, regrets: FloatArray) -> None:
        self._n_rounds += len(regrets)
        self._sums[0] += regrets.sum(axis=0)
        self._sums[1] += (regrets == 0).sum(axis=0)


class Player(Protocol):
    """Chooses arms, in several runs at once."""

    def refresh(self, now: int) -> None:
        """Learn the outcomes known before round `now`, if a refresh is due then."""
        ...

    def forget(self, runs: IntArray, arms: IntArray) -> None:
        """Forget these arms of these runs, which new arms replace."""
        ...

    def stretch(self, first: int) -> int:
        """Return the number of rounds from `first` on until the next refresh."""
        ...

    def choose(self, n_rounds: int) -> IntArray:
        """Return the arms of the next rounds, shape (n_rounds, n_runs)."""
        ...

    def observe(self, first: int, arms: IntArray, rewards: FloatArray) -> None:
        """Take the outcomes of rounds from `first` on, which it may use only after their delay."""
        ...


def simulate(
    problem: Problem,
    player: Player,
    n_runs: int,
    generators: tuple[np.random.Generator, np.random.Generator],
    on_rounds: Callable[[int], None] = lambda _: None,
) -> Measured:
    """Play a problem in `n_runs` independent runs, in lockstep.

    Args:
        problem: The problem to play.
        player: The player that chooses arms.
        n_runs: Number of runs.
        generators: Generators of the worlds and of outcomes.
        on_rounds: Called with the number of rounds played since its last call.
    """
    world_rng, rng = generators
    world = World(problem, n_runs, world_rng)
    ledger = Ledger(problem.horizon, n_runs)
    first = 0
    while first < problem.horizon:
        player.refresh(first)
        if (renewed := world.renew()) is not None:
            player.forget(*renewed)
        n_rounds = 1 if problem.turnover else min(problem.horizon - first, player.stretch(first))
        means = world.means(first, n_rounds)
        arms = player.choose(n_rounds)
        chosen = _pick(means, arms)
        player.observe(first, arms, draw_rewards(problem.reward, chosen, problem.standard_deviation, rng))
        ledger.add(means.max(axis=-1) - chosen)
        first += n_rounds
        on_rounds(n_rounds * n_runs)
    return ledger.measured()


def _pick(values: FloatArray, arms: IntArray) -> FloatArray:
    """Return the value of each chosen arm, shape (n_rounds, n_runs)."""
    n_rounds, n_runs = arms.shape
    rounds = np.arange(n_rounds)[:, np.newaxis] if len(values) > 1 else 0
    runs = np.arange(n_runs) if values.shape[1] > 1 else 0
    return np.asarray(values[rounds, runs, arms], dtype=np.float64)

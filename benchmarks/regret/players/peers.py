"""Policies of other libraries, MABWiser and river, on the same problems and the same clock.

Both break ties by the first arm, so every run shuffles the arms that they see. One difference remains: while
ties last, as before the first delayed outcome, their greedy policies stay with one arm and ours takes each in
turn. To be comparable, their epsilon-greedy starts as ours does, from a mean of 1/2 worth two outcomes, as
after Beta(1, 1). (MABWiser learns one success and one failure of each arm first; river has a `BayesianMean`.)
Their Thompson sampling starts from Beta(1, 1) by default. They choose and learn one run at a time, which
takes 20 to 600 times as long.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Final, Protocol

import numpy as np

from benchmarks.regret.players.beliefs import IntArray, Outcomes, Pending
from benchmarks.regret.problems.problem import Problem, ProblemError
from benchmarks.regret.problems.rewards import FloatArray, RewardKind

_DEFAULT_EPSILON: Final = 0.1
_LARGEST_SEED: Final = 2**31
_FASTER: Final = 10


class Peer(Protocol):
    """A bandit of another library, in one run."""

    def choose(self) -> int:
        """Return the index of an arm."""
        ...

    def learn(self, arms: Sequence[int], rewards: Sequence[float]) -> None:
        """Learn the outcomes, 0 or 1, that became known since the last call."""
        ...


class _MabWiser:
    def __init__(self, learning_policy: str, n_arms: int, seed: int, **settings: float) -> None:
        mab = importlib.import_module("mabwiser.mab")
        policy = getattr(mab.LearningPolicy, learning_policy)(**settings)
        self._mab = mab.MAB(arms=list(range(n_arms)), learning_policy=policy, seed=seed)
        start = [arm for arm in range(n_arms) for _ in range(2)] if settings else []
        self._mab.fit(np.array(start, dtype=np.int64), np.array([0.0, 1.0] * (len(start) // 2)))

    def choose(self) -> int:
        return int(self._mab.predict())

    def learn(self, arms: Sequence[int], rewards: Sequence[float]) -> None:
        if arms:
            self._mab.partial_fit(np.array(arms), np.array(rewards))


class _River:
    def __init__(self, policy: str, n_arms: int, seed: int, **settings: float) -> None:
        bandit, proba, stats = (
            importlib.import_module(f"river.{name}") for name in ("bandit", "proba", "stats")
        )
        reward = stats.BayesianMean(prior=0.5, prior_weight=2) if settings else proba.Beta()
        self._policy = getattr(bandit, policy)(reward_obj=reward, seed=seed, **settings)
        self._arms = list(range(n_arms))

    def choose(self) -> int:
        return int(self._policy.pull(self._arms))

    def learn(self, arms: Sequence[int], rewards: Sequence[float]) -> None:
        for arm, reward in zip(arms, rewards, strict=True):
            self._policy.update(arm, reward)


def _mabwiser_thompson(n_arms: int, seed: int, _epsilon: float) -> Peer:
    return _MabWiser("ThompsonSampling", n_arms, seed)


def _mabwiser_greedy(n_arms: int, seed: int, epsilon: float) -> Peer:
    return _MabWiser("EpsilonGreedy", n_arms, seed, epsilon=epsilon)


def _river_thompson(n_arms: int, seed: int, _epsilon: float) -> Peer:
    return _River("ThompsonSampling", n_arms, seed)


def _river_greedy(n_arms: int, seed: int, epsilon: float) -> Peer:
    return _River("EpsilonGreedy", n_arms, seed, epsilon=epsilon)


MakePeer = Callable[[int, int, float], Peer]
"""Name to a function of the number of arms, a seed and an epsilon, which only greedy policies use."""

PEERS: Final[Mapping[str, MakePeer]] = {
    "mabwiser-thompson": _mabwiser_thompson,
    "mabwiser-epsilon-greedy": _mabwiser_greedy,
    "river-thompson": _river_thompson,
    "river-epsilon-greedy": _river_greedy,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerContestant:
    """A policy of another library.

    Attributes:
        label: Its text on the command line, such as `river-epsilon-greedy:0.05`.
        name: Its key in `PEERS`.
        epsilon: Its share of exploration, if it has one.
    """

    label: str
    name: str
    epsilon: float = _DEFAULT_EPSILON

    @property
    def runs_factor(self) -> int:
        """Runs that it plays in the time of one run of the slowest."""
        return _FASTER if self.name.startswith("river") else 1

    @property
    def ours(self) -> str:
        """Label of this library's contestant that should have the same regret."""
        return self.label.partition("-")[2]

    def make(self, n_arms: int, seed: int) -> Peer:
        """Make a bandit that has learnt nothing yet."""
        return PEERS[self.name](n_arms, seed, self.epsilon)


def parse_peer(text: str, problem: Problem) -> PeerContestant | None:
    """Parse a contestant of another library; None if the text does not start with the name of one.

    Raises:
        ProblemError: It can't play this problem, or its value is invalid.
    """
    name, *values = text.split(":")
    if name not in PEERS:
        return None
    if problem.reward is not RewardKind.BERNOULLI or problem.turnover:
        rule = f"{text!r} only plays problems with --reward bernoulli and without --turnover"
        raise ProblemError("policies", rule)
    if not values:
        return PeerContestant(label=text, name=name)
    try:
        (epsilon,) = map(float, values)
    except ValueError:
        epsilon = -1.0
    if not name.endswith("greedy") or not 0 <= epsilon <= 1:
        rule = f"{text!r} must have no value but an epsilon in [0, 1], if it is epsilon-greedy"
        raise ProblemError("policies", rule)
    return PeerContestant(label=text, name=name, epsilon=epsilon)


def missing_package(contestant: PeerContestant) -> str | None:
    """Return the package to install before it can play; None if it is installed."""
    package = contestant.name.partition("-")[0]
    try:
        version(package)
    except PackageNotFoundError:
        return package
    return None


class PeerPlayer:
    """Plays a peer in several runs, each with its own order of arms.

    Args:
        problem: The problem to play.
        make: Makes a peer from the number of arms and a seed.
        n_runs: Number of runs.
        rng: Generator of orders and seeds.
    """

    def __init__(
        self, problem: Problem, make: Callable[[int, int], Peer], n_runs: int, rng: np.random.Generator
    ) -> None:
        self._problem = problem
        self._peers = [make(problem.n_arms, int(rng.integers(_LARGEST_SEED))) for _ in range(n_runs)]
        # Row r maps the arms 0, 1, ... of run r's peer to the problem's arms.
        self._arms = rng.permuted(np.tile(np.arange(problem.n_arms), (n_runs, 1)), axis=1)
        self._theirs = np.argsort(self._arms, axis=1)
        self._pending = Pending()

    def refresh(self, now: int) -> None:
        """Let every peer learn the known outcomes if a refresh is due; see `Player.refresh`."""
        if not now or now % self._problem.refresh_every:
            return
        news = self._pending.take_before(now - self._problem.delay)
        if not news:
            return
        arms = np.concatenate([outcomes.arms for outcomes in news])
        rewards = np.concatenate([outcomes.rewards for outcomes in news])
        for run, peer in enumerate(self._peers):
            peer.learn(self._theirs[run, arms[:, run]].tolist(), rewards[:, run].tolist())

    def forget(self, runs: IntArray, arms: IntArray) -> None:  # noqa: ARG002 - part of the protocol
        """Raise ValueError, as peers do not play problems with turnover; see `Player.forget`."""
        raise ValueError("problems with turnover can't be played by other libraries' policies")

    def stretch(self, first: int) -> int:
        """Return the number of rounds until the next refresh; see `Player.stretch`."""
        every = self._problem.refresh_every
        return every - first % every

    def choose(self, n_rounds: int) -> IntArray:
        """Ask each peer for `n_rounds` choices; see `Player.choose`."""
        theirs = [[peer.choose() for _ in range(n_rounds)] for peer in self._peers]
        return np.take_along_axis(self._arms, np.array(theirs, dtype=np.int64), axis=1).T

    def observe(self, first: int, arms: IntArray, rewards: FloatArray) -> None:
        """Keep the outcomes of some rounds until they are known; see `Player.observe`."""
        self._pending.add(Outcomes(first, first, arms, rewards))

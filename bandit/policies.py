"""Policies: pure functions from posteriors to shares.

A policy is a value that holds only its settings. `shares` returns the probability with which the policy would
choose each arm; `draw` chooses arms with those probabilities, vectorised over simulated runs. Both take arms
in any order and treat them alike. Pass only arms that may be chosen: `bandit.limits` applies limits
afterwards.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bandit.posteriors import Posterior
from bandit.posteriors.batches import PosteriorBatch
from bandit.posteriors.best_arm import best_arm_probabilities
from bandit.wrong_types import require, require_number

Shares: TypeAlias = NDArray[np.float64]
ArmIndices: TypeAlias = NDArray[np.int64]


class Policy(Protocol):
    """Turns an experiment's beliefs into shares."""

    def shares(
        self, posteriors: Sequence[Posterior], *, maximize: bool = True, n_observations: float = 0.0
    ) -> Shares:
        """Return the probability of each arm, shape (n_arms,), summing to 1 within 1e-9.

        `maximize` is True if large values are good; `n_observations` is the number of decisions over all arms
        of the experiment, for policies whose exploration decays.

        Raises:
            ValueError: there is no posterior, or the policy's own weights differ from them in number.
        """
        ...

    def draw(
        self,
        batch: PosteriorBatch,
        rng: np.random.Generator,
        *,
        maximize: bool = True,
        n_observations: ArrayLike = 0.0,
    ) -> ArmIndices:
        """Draw one arm per run with the probabilities of `shares`.

        Returns the arms' indices, of shape (...) for a batch of shape (..., n_arms). `n_observations`
        broadcasts to the shape of the result.
        """
        ...


@dataclass(frozen=True, slots=True)
class ThompsonSampling:
    """Chooses each arm with the probability that it is the best one (Thompson 1933).

    >>> from bandit.posteriors import BetaPosterior
    >>> ThompsonSampling().shares([BetaPosterior(31, 971), BetaPosterior(37, 965)]).round(6).tolist()
    [0.228077, 0.771923]
    """

    def shares(
        self,
        posteriors: Sequence[Posterior],
        *,
        maximize: bool = True,
        n_observations: float = 0.0,  # noqa: ARG002 - part of the protocol
    ) -> Shares:
        """Return P(arm is best), exact within 1e-9; see `Policy.shares`."""
        return best_arm_probabilities(posteriors, maximize=maximize)

    def draw(
        self,
        batch: PosteriorBatch,
        rng: np.random.Generator,
        *,
        maximize: bool = True,
        n_observations: ArrayLike = 0.0,  # noqa: ARG002 - part of the protocol
    ) -> ArmIndices:
        """Return the best arm of one posterior sample per run; see `Policy.draw`."""
        samples = batch.sample(rng)
        best = samples.argmax(axis=-1) if maximize else samples.argmin(axis=-1)
        return np.asarray(best, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class EpsilonGreedy:
    """Chooses any arm with probability epsilon, else the arm with the best posterior mean; ties split evenly.

    With `decay_observations` D, epsilon falls with the number n of observations as ``epsilon / (1 + n / D)``,
    to half after D. For large n that is the ``min(1, c K / (d**2 n))`` of Auer, Cesa-Bianchi & Fischer
    (2002, figure 3), whose regret grows with ln n if ``epsilon * D = c K / d**2`` for K arms, c > 5 and a gap
    of at least d between the best arm and the next. Without `decay_observations` epsilon is constant.

    Attributes:
        epsilon: probability of exploring, in [0, 1].
        decay_observations: observations after which epsilon has halved; positive and finite, or None.

    Raises:
        TypeError: a setting is not a number.
        ValueError: a setting is outside its range.

    >>> policy = EpsilonGreedy(epsilon=0.2, decay_observations=1000)
    >>> [policy.epsilon_at(n) for n in (0, 1000, 9000)]
    [0.2, 0.1, 0.02]
    """

    epsilon: float = 0.1
    decay_observations: float | None = None

    def __post_init__(self) -> None:
        require_number("epsilon", self.epsilon)
        if self.decay_observations is not None:
            require_number("decay_observations", self.decay_observations)
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"epsilon must be in [0, 1], got {self.epsilon}")
        decay = self.decay_observations
        if decay is not None and not (isfinite(decay) and decay > 0):
            raise ValueError(f"decay_observations must be positive and finite, got {decay}")

    def epsilon_at(self, n_observations: float) -> float:
        """Return the probability of exploring after `n_observations`."""
        if self.decay_observations is None:
            return self.epsilon
        return self.epsilon / (1 + n_observations / self.decay_observations)

    def shares(
        self, posteriors: Sequence[Posterior], *, maximize: bool = True, n_observations: float = 0.0
    ) -> Shares:
        """Spread epsilon over all arms and the rest over those with the best mean; see `Policy.shares`."""
        _require_arms(posteriors)
        means = np.array([posterior.mean for posterior in posteriors])
        is_best = means == (means.max() if maximize else means.min())
        epsilon = self.epsilon_at(n_observations)
        return np.asarray(epsilon / means.size + (1 - epsilon) * is_best / is_best.sum(), dtype=np.float64)

    def draw(
        self,
        batch: PosteriorBatch,
        rng: np.random.Generator,
        *,
        maximize: bool = True,
        n_observations: ArrayLike = 0.0,
    ) -> ArmIndices:
        """Draw per run whether to explore, then an arm; see `Policy.draw`."""
        means = batch.means if maximize else -batch.means
        is_best = means == means.max(axis=-1, keepdims=True)
        decay = np.inf if self.decay_observations is None else self.decay_observations
        epsilon = self.epsilon / (1 + np.asarray(n_observations) / decay)
        explores = rng.random(means.shape[:-1]) < epsilon
        # Each arm that may be chosen is equally likely to have the largest of independent uniforms.
        lots = np.where(is_best | explores[..., np.newaxis], rng.random(means.shape), -1.0)
        return np.asarray(lots.argmax(axis=-1), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class StaticSplit:
    """Fixed shares, whatever the posteriors: an A/B test, or a gradual rollout by hand.

    Attributes:
        weights: one per arm, in the order of the posteriors, in any unit; not negative, not all 0. None for
            equal shares.

    Raises:
        TypeError: a weight is not a number.
        ValueError: a weight is negative or not finite, or no weight is positive.

    >>> from bandit.posteriors import BetaPosterior
    >>> StaticSplit(weights=(90, 10)).shares([BetaPosterior(1, 1), BetaPosterior(1, 1)]).tolist()
    [0.9, 0.1]
    """

    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.weights is None:
            return
        require("weights", self.weights, Iterable, "a sequence of numbers")
        object.__setattr__(self, "weights", tuple(self.weights))
        for position, weight in enumerate(self.weights):
            require_number(f"weights[{position}]", weight)
        if not all(isfinite(weight) and weight >= 0 for weight in self.weights):
            raise ValueError("weights must be finite and not negative")
        if not any(self.weights):
            raise ValueError("at least one weight must be positive")

    def shares(
        self,
        posteriors: Sequence[Posterior],
        *,
        maximize: bool = True,  # noqa: ARG002 - part of the protocol
        n_observations: float = 0.0,  # noqa: ARG002 - part of the protocol
    ) -> Shares:
        """Return the weights scaled to sum to 1; see `Policy.shares`."""
        _require_arms(posteriors)
        return self.fixed_shares(len(posteriors))

    def draw(
        self,
        batch: PosteriorBatch,
        rng: np.random.Generator,
        *,
        maximize: bool = True,  # noqa: ARG002 - part of the protocol
        n_observations: ArrayLike = 0.0,  # noqa: ARG002 - part of the protocol
    ) -> ArmIndices:
        """Draw one arm per run by the weights; see `Policy.draw`."""
        *runs, n_arms = batch.means.shape
        return rng.choice(n_arms, size=tuple(runs), p=self.fixed_shares(n_arms))

    def fixed_shares(self, n_arms: int) -> Shares:
        """Return the shares of `n_arms` arms, shape (n_arms,); ValueError if weights differ in number."""
        weights = np.ones(n_arms) if self.weights is None else np.array(self.weights, dtype=np.float64)
        if weights.size != n_arms:
            raise ValueError(f"{n_arms} arms need as many weights, got {weights.size}")
        return np.asarray(weights / weights.sum(), dtype=np.float64)


def _require_arms(posteriors: Sequence[Posterior]) -> None:
    if not posteriors:
        raise ValueError("at least one posterior is needed")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedSplit:
    """A static split declared by arm id, independent of the order of arms.

    Attributes:
        weights: Arm id to weight, at least zero, with a positive sum; arms not named have weight zero.
    """

    weights: Mapping[str, float]


LearningPolicy: TypeAlias = ThompsonSampling | EpsilonGreedy
DeclaredPolicy: TypeAlias = LearningPolicy | WeightedSplit

POLICIES: Final[Mapping[str, type[DeclaredPolicy]]] = {
    "thompson_sampling": ThompsonSampling,
    "epsilon_greedy": EpsilonGreedy,
    "static_split": WeightedSplit,
}
"""Every policy that can be declared, by its kind: its name on the wire, in experiment files and in the store.

The message of that name in `experiment.proto` has the fields of the class; a field whose default is None is
None where the message has 0.
"""


def policy_over(policy: DeclaredPolicy, arm_ids: tuple[str, ...]) -> LearningPolicy | StaticSplit:
    """Return the policy as it applies to these arms in this order.

    A static split that gives none of them a weight splits evenly, so taking arms out never stops traffic.
    """
    if not isinstance(policy, WeightedSplit):
        return policy
    weights = tuple(policy.weights.get(arm_id, 0.0) for arm_id in arm_ids)
    return StaticSplit(weights if sum(weights) > 0 else (1.0,) * len(arm_ids))

"""Policies: pure functions from posteriors to shares.

A policy is a value that holds only its settings. `shares` gives each arm the probability with which the
policy would choose it; `draw` chooses arms by the same law, vectorised over simulated runs. Both take arms in
any order and treat them alike. Pass only arms that may be chosen: limits are applied afterwards, by
`bandit.limits`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bandit.posteriors import Posterior
from bandit.posteriors.batches import PosteriorBatch
from bandit.posteriors.best_arm import best_arm_probabilities

Shares: TypeAlias = NDArray[np.float64]
ArmIndices: TypeAlias = NDArray[np.int64]


class Policy(Protocol):
    """How an experiment turns beliefs into shares."""

    def shares(
        self, posteriors: Sequence[Posterior], *, maximize: bool = True, n_observations: float = 0.0
    ) -> Shares:
        """The probability of each arm, shape (n_arms,), summing to 1 within 1e-9.

        `maximize` says whether large values are good; `n_observations` is how many decisions the experiment
        has seen over all arms, for policies that explore less and less.

        Raises:
            ValueError: there is no posterior, or their number is not that of the policy's own weights.
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
        """An arm's index per run, shape (...) for a batch of shape (..., n_arms), by the law of `shares`.

        `n_observations` broadcasts to the shape of the result.
        """
        ...


@dataclass(frozen=True, slots=True)
class ThompsonSampling:
    """Each arm gets the probability that it is the best one (Thompson 1933).

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
        """P(arm is best), exact within 1e-9; see `Policy.shares`."""
        return best_arm_probabilities(posteriors, maximize=maximize)

    def draw(
        self,
        batch: PosteriorBatch,
        rng: np.random.Generator,
        *,
        maximize: bool = True,
        n_observations: ArrayLike = 0.0,  # noqa: ARG002 - part of the protocol
    ) -> ArmIndices:
        """The best arm of one posterior sample per run; see `Policy.draw`."""
        samples = batch.sample(rng)
        best = samples.argmax(axis=-1) if maximize else samples.argmin(axis=-1)
        return np.asarray(best, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class EpsilonGreedy:
    """Any arm with probability epsilon, else the arm with the best posterior mean; ties are split evenly.

    With `decay_observations` D, epsilon falls with the number n of observations: ``epsilon / (1 + n / D)``,
    half of it after D. For large n that is the ``min(1, c K / (d**2 n))`` of Auer, Cesa-Bianchi & Fischer
    (2002, figure 3), whose regret grows with ln n if ``epsilon * D = c K / d**2`` for K arms, c > 5 and a gap
    of at least d between the best arm and the next. Without `decay_observations` epsilon is constant.

    Attributes:
        epsilon: probability of exploring, in [0, 1].
        decay_observations: observations after which epsilon has halved; positive and finite, or None.

    Raises:
        ValueError: a setting is outside its range.

    >>> policy = EpsilonGreedy(epsilon=0.2, decay_observations=1000)
    >>> [policy.epsilon_at(n) for n in (0, 1000, 9000)]
    [0.2, 0.1, 0.02]
    """

    epsilon: float = 0.1
    decay_observations: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"epsilon must be in [0, 1], got {self.epsilon}")
        decay = self.decay_observations
        if decay is not None and not (isfinite(decay) and decay > 0):
            raise ValueError(f"decay_observations must be positive and finite, got {decay}")

    def epsilon_at(self, n_observations: float) -> float:
        """The probability of exploring after so many observations."""
        if self.decay_observations is None:
            return self.epsilon
        return self.epsilon / (1 + n_observations / self.decay_observations)

    def shares(
        self, posteriors: Sequence[Posterior], *, maximize: bool = True, n_observations: float = 0.0
    ) -> Shares:
        """Epsilon spread over all arms, the rest over those with the best mean; see `Policy.shares`."""
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
        """A coin per run for exploring or not, then an arm; see `Policy.draw`."""
        means = batch.means if maximize else -batch.means
        is_best = means == means.max(axis=-1, keepdims=True)
        decay = np.inf if self.decay_observations is None else self.decay_observations
        epsilon = self.epsilon / (1 + np.asarray(n_observations) / decay)
        explores = rng.random(means.shape[:-1]) < epsilon
        # The largest of independent uniforms is equally often any of the arms that may be chosen.
        lots = np.where(is_best | explores[..., np.newaxis], rng.random(means.shape), -1.0)
        return np.asarray(lots.argmax(axis=-1), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class StaticSplit:
    """Fixed shares that learn nothing: an A/B test, or a gradual rollout by hand.

    Attributes:
        weights: one per arm, in the order of the posteriors, in any unit; not negative, not all 0. None for
            equal shares.

    Raises:
        ValueError: a weight is negative or not finite, or none is positive.

    >>> from bandit.posteriors import BetaPosterior
    >>> StaticSplit(weights=(90, 10)).shares([BetaPosterior(1, 1), BetaPosterior(1, 1)]).tolist()
    [0.9, 0.1]
    """

    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.weights is None:
            return
        object.__setattr__(self, "weights", tuple(self.weights))
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
        """The weights scaled to sum to 1; see `Policy.shares`."""
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
        """An arm by the weights per run; see `Policy.draw`."""
        *runs, n_arms = batch.means.shape
        return rng.choice(n_arms, size=tuple(runs), p=self.fixed_shares(n_arms))

    def fixed_shares(self, n_arms: int) -> Shares:
        """The shares of so many arms, shape (n_arms,); ValueError if there are not as many weights."""
        weights = np.ones(n_arms) if self.weights is None else np.array(self.weights, dtype=np.float64)
        if weights.size != n_arms:
            raise ValueError(f"{n_arms} arms need as many weights, got {weights.size}")
        return np.asarray(weights / weights.sum(), dtype=np.float64)


def _require_arms(posteriors: Sequence[Posterior]) -> None:
    if not posteriors:
        raise ValueError("at least one posterior is needed")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedSplit:
    """A static split declared by arm id, before it meets an order of arms.

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
    """The policy as it applies to these arms in this order.

    A static split whose weights name none of them splits evenly, so that taking arms out never stops traffic.
    """
    if not isinstance(policy, WeightedSplit):
        return policy
    weights = tuple(policy.weights.get(arm_id, 0.0) for arm_id in arm_ids)
    return StaticSplit(weights if sum(weights) > 0 else (1.0,) * len(arm_ids))

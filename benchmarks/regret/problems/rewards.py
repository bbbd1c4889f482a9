"""Kinds of reward: the distribution of outcomes, the metric to declare, and the divergence of arms."""

import enum
import math
from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bandit.metric import Metric, MetricKind
from bandit.posteriors.priors import NormalInverseGammaPrior

FloatArray: TypeAlias = NDArray[np.float64]

METRIC: Final = "reward"
_RANGE_SDS: Final = 6.0
"""Standard deviations that a Gaussian metric's range adds on either side of the means; 1e-9 lie outside."""

_LARGEST_COUNT: Final = 1_000_000.0


class RewardKind(enum.StrEnum):
    """Distribution of an arm's outcomes, given its mean."""

    BERNOULLI = "bernoulli"
    GAUSSIAN = "gaussian"
    POISSON = "poisson"


def draw_rewards(
    kind: RewardKind, means: FloatArray, standard_deviation: float, rng: np.random.Generator
) -> FloatArray:
    """Draw one outcome for each mean; only Gaussian outcomes use the standard deviation."""
    match kind:
        case RewardKind.BERNOULLI:
            return (rng.random(means.shape) < means).astype(np.float64)
        case RewardKind.GAUSSIAN:
            return means + standard_deviation * rng.standard_normal(means.shape)
        case RewardKind.POISSON:
            return rng.poisson(means).astype(np.float64)


def metric_of(kind: RewardKind, lowest: float, highest: float, standard_deviation: float) -> Metric:
    """Return the metric that an operator would declare for arms whose means lie in [lowest, highest].

    Its prior is the product's default. Gaussian outcomes have no natural range, so theirs is worth one
    outcome in the middle of the means, with the outcomes' standard deviation.
    """
    match kind:
        case RewardKind.BERNOULLI:
            return Metric(name=METRIC)
        case RewardKind.POISSON:
            return Metric(name=METRIC, kind=MetricKind.COUNT, maximum=_LARGEST_COUNT)
        case RewardKind.GAUSSIAN:
            reach = _RANGE_SDS * standard_deviation
            prior = NormalInverseGammaPrior(
                mean=(lowest + highest) / 2, pseudo_observations=1.0, shape=1.0, scale=standard_deviation**2
            )
            return Metric(
                name=METRIC,
                kind=MetricKind.REAL,
                minimum=lowest - reach,
                maximum=highest + reach,
                clip=True,
                prior=prior,
            )


def divergence(kind: RewardKind, mean: float, best: float, standard_deviation: float) -> float:
    """Return the least Kullback-Leibler divergence from an arm of this mean to any arm with the mean `best`.

    For Gaussian outcomes the policy does not know the variance, and ours does not. The divergence then is
    ``ln(1 + (best - mean)**2 / sd**2) / 2`` (Burnetas & Katehakis 1996).

    >>> round(divergence(RewardKind.BERNOULLI, 0.2, 0.25, 1.0), 6)
    0.007002
    """
    match kind:
        case RewardKind.BERNOULLI:
            return _plogq(mean, best) + _plogq(1 - mean, 1 - best)
        case RewardKind.GAUSSIAN:
            return math.log1p(((best - mean) / standard_deviation) ** 2) / 2
        case RewardKind.POISSON:
            return best - mean + _plogq(mean, best)


def lai_robbins(kind: RewardKind, means: Sequence[float], standard_deviation: float = 1.0) -> float:
    """Return the constant C of Lai & Robbins 1985: no consistent policy's regret grows slower than C ln T.

    ``C = sum (best - mean) / KL(mean, best)`` over the arms that are not best. The bound holds as T tends to
    infinity; at a finite T, C ln T is not a lower bound, but the slope of regret in ln T tends to C.

    >>> round(lai_robbins(RewardKind.BERNOULLI, [0.2, 0.25]), 3)
    7.141
    """
    best = max(means)
    worse = [mean for mean in means if mean < best]
    return math.fsum((best - mean) / divergence(kind, mean, best, standard_deviation) for mean in worse)


def _plogq(p: float, q: float) -> float:
    """Return p ln(p/q), or its limit."""
    if p == 0:
        return 0.0
    return p * math.log(p / q) if q > 0 else math.inf

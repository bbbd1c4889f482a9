"""Posteriors of many runs at once, for simulation: arrays instead of values, one array per parameter.

A batch has the shape ``(..., n_arms)``: any leading axes (such as runs), then the arms. Parameters broadcast
against one another. Elements are not validated, since every simulated round makes a new batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Protocol, TypeAlias, assert_never

import numpy as np
from numpy.typing import NDArray

from bandit.posteriors import BetaPosterior, GammaPosterior, NormalPosterior, Posterior, StudentTPosterior
from bandit.posteriors.priors import BetaPrior, GammaPrior, NormalInverseGammaPrior, Prior

FloatArray: TypeAlias = NDArray[np.float64]


class PosteriorBatch(Protocol):
    """The interface that a policy needs to draw arms for many runs in lockstep."""

    @property
    def means(self) -> FloatArray:
        """Posterior means, shape (..., n_arms)."""
        ...

    def sample(self, rng: np.random.Generator) -> FloatArray:
        """One independent draw per posterior, shape (..., n_arms)."""
        ...


@dataclass(frozen=True, slots=True)
class BetaBatch:
    """Beta posteriors; see `BetaPosterior`.

    >>> BetaBatch(np.array([[1.0, 3.0], [2.0, 2.0]]), np.array(1.0)).means.round(3).tolist()
    [[0.5, 0.75], [0.667, 0.667]]
    """

    alpha: FloatArray
    beta: FloatArray

    @property
    def means(self) -> FloatArray:
        """Posterior means, shape (..., n_arms)."""
        return self.alpha / (self.alpha + self.beta)

    def sample(self, rng: np.random.Generator) -> FloatArray:
        """One independent draw per posterior, shape (..., n_arms)."""
        return rng.beta(self.alpha, self.beta)


@dataclass(frozen=True, slots=True)
class NormalBatch:
    """Normal posteriors; see `NormalPosterior`."""

    mean: FloatArray
    sd: FloatArray

    @property
    def means(self) -> FloatArray:
        """Posterior means, shape (..., n_arms)."""
        return np.broadcast_arrays(self.mean, self.sd)[0]

    def sample(self, rng: np.random.Generator) -> FloatArray:
        """One independent draw per posterior, shape (..., n_arms)."""
        return rng.normal(self.mean, self.sd)


@dataclass(frozen=True, slots=True)
class StudentTBatch:
    """Student-t posteriors; see `StudentTPosterior`."""

    mean: FloatArray
    scale: FloatArray
    df: FloatArray

    @property
    def means(self) -> FloatArray:
        """Posterior means, shape (..., n_arms)."""
        return np.broadcast_arrays(self.mean, self.scale, self.df)[0]

    def sample(self, rng: np.random.Generator) -> FloatArray:
        """One independent draw per posterior, shape (..., n_arms)."""
        shape = np.broadcast_shapes(self.mean.shape, self.scale.shape, self.df.shape)
        return self.mean + self.scale * rng.standard_t(self.df, shape)


@dataclass(frozen=True, slots=True)
class GammaBatch:
    """Gamma posteriors; see `GammaPosterior`."""

    shape: FloatArray
    rate: FloatArray

    @property
    def means(self) -> FloatArray:
        """Posterior means, shape (..., n_arms)."""
        return self.shape / self.rate

    def sample(self, rng: np.random.Generator) -> FloatArray:
        """One independent draw per posterior, shape (..., n_arms)."""
        return rng.gamma(self.shape, 1 / self.rate)


@dataclass(frozen=True, slots=True)
class SumsBatch:
    """Sums of the outcomes of many runs; see `OutcomeMoments`, whose mean is ``total / n``.

    Attributes:
        n: number of outcomes, weighted, shape (..., n_arms).
        total: their weighted sum, in the metric's unit, shape (..., n_arms).
        centred_squares: sum of weighted squared distances from their mean, shape (..., n_arms); needed for
            real outcomes only.
    """

    n: FloatArray
    total: FloatArray
    centred_squares: FloatArray | None = None


def updated(prior: Prior, sums: SumsBatch) -> PosteriorBatch:
    """Return the posteriors of many runs after their outcomes: `prior.update` on arrays.

    Raises:
        ValueError: the prior is one of real outcomes, and `centred_squares` are missing.

    >>> updated(BetaPrior(), SumsBatch(np.array([2.0, 0.0]), np.array([1.0, 0.0]))).means.tolist()
    [0.5, 0.5]
    """
    match prior:
        case BetaPrior():
            return BetaBatch(prior.alpha + sums.total, prior.beta + (sums.n - sums.total))
        case GammaPrior():
            return GammaBatch(prior.shape + sums.total, prior.rate + sums.n)
        case NormalInverseGammaPrior():
            return _updated_normal(prior, sums)
        case _:
            assert_never(prior)


def repeated(batch: PosteriorBatch, n_rounds: int) -> PosteriorBatch:
    """Return the same posteriors in each of `n_rounds` rounds: shape (n_rounds, ..., n_arms), not copied."""
    columns = [getattr(batch, field.name) for field in fields(batch)]  # type: ignore[arg-type]
    shape = (n_rounds, *np.broadcast_shapes(*(column.shape for column in columns)))
    return type(batch)(*(np.broadcast_to(column, shape) for column in columns))


def stacked(posteriors: Sequence[Posterior], n_runs: int) -> PosteriorBatch:
    """Return the same posteriors in each of `n_runs` runs: a batch of shape (n_runs, n_arms).

    Raises:
        ValueError: there is no posterior, or they are of different families.
    """
    if not posteriors:
        raise ValueError("a batch needs at least one posterior")
    (family, *others) = {type(posterior) for posterior in posteriors}
    if others:
        raise ValueError("all posteriors of a batch must be of one family")
    shape = (n_runs, len(posteriors))
    columns = zip(*(astuple(posterior) for posterior in posteriors), strict=True)
    return _FAMILY_TO_BATCH[family](*(np.broadcast_to(np.array(column), shape) for column in columns))


def _updated_normal(prior: NormalInverseGammaPrior, sums: SumsBatch) -> StudentTBatch:
    """Murphy 2007, eqs. 141 to 153, as in `NormalInverseGammaPrior.update`."""
    if sums.centred_squares is None:
        raise ValueError("the posterior of real outcomes needs their centred squares")
    weight = prior.pseudo_observations + sums.n
    gap = np.divide(sums.total, sums.n, out=np.full_like(weight, prior.mean), where=sums.n > 0) - prior.mean
    shape = prior.shape + sums.n / 2
    between = prior.pseudo_observations * (sums.n / weight) * gap * gap
    scale = prior.scale + (sums.centred_squares + between) / 2
    return StudentTBatch(prior.mean + gap * (sums.n / weight), np.sqrt(scale / (shape * weight)), 2 * shape)


_FAMILY_TO_BATCH: dict[type[Posterior], Callable[..., PosteriorBatch]] = {
    BetaPosterior: BetaBatch,
    NormalPosterior: NormalBatch,
    StudentTPosterior: StudentTBatch,
    GammaPosterior: GammaBatch,
}

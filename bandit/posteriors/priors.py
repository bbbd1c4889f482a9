"""Priors of an arm, and their update by outcomes.

A prior is kept separate from the facts, and a posterior is always computed from both: ``prior.update(sums)``.
"""

from dataclasses import dataclass
from math import isfinite, sqrt
from typing import TypeAlias

from bandit.posteriors import BetaPosterior, GammaPosterior, StudentTPosterior, require_positive
from bandit.posteriors.moments import OutcomeMoments


@dataclass(frozen=True, slots=True)
class BetaPrior:
    """Prior of a success rate: worth `alpha` successes and `beta` failures. The default is uniform.

    Raises:
        ValueError: a parameter is not positive and finite.
    """

    alpha: float = 1.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        require_positive(self, "alpha", "beta")

    def update(self, sums: OutcomeMoments) -> BetaPosterior:
        """Return the posterior after outcomes in [0, 1], usually 0 or 1.

        Raises:
            ValueError: the outcomes' mean is not in [0, 1].

        >>> BetaPrior().update(OutcomeMoments.from_successes(n=1000, successes=30))
        BetaPosterior(alpha=31.0, beta=971.0)
        """
        if sums.n and not 0 <= sums.mean <= 1:
            raise ValueError(f"the mean of yes/no outcomes must be in [0, 1], got {sums.mean}")
        return BetaPosterior(self.alpha + sums.n * sums.mean, self.beta + sums.n * (1 - sums.mean))


@dataclass(frozen=True, slots=True)
class NormalInverseGammaPrior:
    """Prior of the mean of real outcomes with unknown variance (Murphy 2007, section 6).

    The variance is InverseGamma(shape, scale) and, given the variance, the mean outcome is Normal around
    `mean` with that variance divided by `pseudo_observations`.

    Attributes:
        mean: the expected outcome, in the metric's unit.
        pseudo_observations: how many outcomes that expectation is worth; positive.
        shape: half the number of outcomes that the expected variance is worth; positive. Before any outcome
            the posterior has ``2 * shape`` degrees of freedom: with a shape of 0.5 or less its mean does not
            exist.
        scale: `shape` times the expected variance, in the metric's unit squared; positive.

    Raises:
        ValueError: `mean` is not finite, or another parameter is not positive and finite.
    """

    mean: float
    pseudo_observations: float
    shape: float
    scale: float

    def __post_init__(self) -> None:
        if not isfinite(self.mean):
            raise ValueError(f"mean must be finite, got {self.mean}")
        require_positive(self, "pseudo_observations", "shape", "scale")

    def update(self, sums: OutcomeMoments) -> StudentTPosterior:
        """Return the posterior of the mean after real-valued outcomes (Murphy 2007, eqs. 141 to 153).

        >>> prior = NormalInverseGammaPrior(mean=0.0, pseudo_observations=1.0, shape=1.0, scale=1.0)
        >>> prior.update(OutcomeMoments(n=3.0, mean=4.0, centred_squares=2.0))
        StudentTPosterior(mean=3.0, scale=0.894427190999915..., df=5.0)
        """
        weight = self.pseudo_observations + sums.n
        gap = sums.mean - self.mean if sums.n else 0.0
        shape = self.shape + sums.n / 2
        between = self.pseudo_observations * (sums.n / weight) * gap * gap
        scale = self.scale + (sums.centred_squares + between) / 2
        return StudentTPosterior(
            mean=self.mean + gap * (sums.n / weight), scale=sqrt(scale / (shape * weight)), df=2 * shape
        )


@dataclass(frozen=True, slots=True)
class GammaPrior:
    """Prior of a mean count per decision: worth `shape` events in `rate` decisions.

    Raises:
        ValueError: a parameter is not positive and finite.
    """

    shape: float = 1.0
    rate: float = 1.0

    def __post_init__(self) -> None:
        require_positive(self, "shape", "rate")

    def update(self, sums: OutcomeMoments) -> GammaPosterior:
        """Return the posterior after counts.

        Raises:
            ValueError: the counts' mean is negative.

        >>> GammaPrior().update(OutcomeMoments(n=9.0, mean=2.0, centred_squares=4.0))
        GammaPosterior(shape=19.0, rate=10.0)
        """
        if sums.n and sums.mean < 0:
            raise ValueError(f"the mean of counts must not be negative, got {sums.mean}")
        return GammaPosterior(self.shape + sums.n * sums.mean, self.rate + sums.n)


Prior: TypeAlias = BetaPrior | NormalInverseGammaPrior | GammaPrior

"""Posteriors of an arm: the four families, as values.

Each family describes the number that a policy compares between arms, called the *value* here: the success
rate (Beta), the mean outcome (Normal, Student-t) or the mean count per decision (Gamma). Priors and their
updates are in `bandit.posteriors.priors`; many arms at once are in `bandit.posteriors.curves` and
`bandit.posteriors.batches`.
"""

from dataclasses import dataclass, fields
from math import inf, isfinite, nan, sqrt
from typing import Protocol, TypeAlias

import scipy


class _Distribution(Protocol):
    def quantile(self, q: float) -> float: ...


def require_positive(values: object, *names: str) -> None:
    """Raise ValueError unless these attributes are positive and finite."""
    for name in names:
        number = getattr(values, name)
        if not (isfinite(number) and number > 0):
            raise ValueError(f"{name} must be positive and finite, got {number}")


def _require_probability(name: str, number: float) -> None:
    if not 0 < number < 1:
        raise ValueError(f"{name} must be in (0, 1), got {number}")


def _interval(distribution: _Distribution, level: float) -> tuple[float, float]:
    _require_probability("level", level)
    tail = (1 - level) / 2
    return distribution.quantile(tail), distribution.quantile(1 - tail)


def _as_floats(values: object) -> None:
    """Store integers as floats, so that equal posteriors print and compare alike and no int overflows."""
    for field in fields(values):  # type: ignore[arg-type]
        object.__setattr__(values, field.name, float(getattr(values, field.name)))


@dataclass(frozen=True, slots=True)
class BetaPosterior:
    """A success rate in (0, 1), with `alpha` successes and `beta` failures, prior included.

    Raises:
        ValueError: a parameter is not positive and finite.

    >>> BetaPosterior(31, 971).mean
    0.030938123752...
    """

    alpha: float
    beta: float

    def __post_init__(self) -> None:
        _as_floats(self)
        require_positive(self, "alpha", "beta")

    @property
    def mean(self) -> float:
        """Expected value."""
        return self.alpha / (self.alpha + self.beta)

    @property
    def variance(self) -> float:
        """Variance of the value."""
        n = self.alpha + self.beta
        return self.alpha / n * (self.beta / n) / (n + 1)

    @property
    def sd(self) -> float:
        """Standard deviation of the value."""
        return sqrt(self.variance)

    def quantile(self, q: float) -> float:
        """The value below which the rate lies with probability `q`, in (0, 1)."""
        _require_probability("q", q)
        return float(scipy.special.betaincinv(self.alpha, self.beta, q))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The equal-tailed credible interval that holds the value with probability `level`, in (0, 1)."""
        return _interval(self, level)


@dataclass(frozen=True, slots=True)
class NormalPosterior:
    """A mean outcome with Gaussian uncertainty: of many outcomes, or of outcomes with known variance.

    Raises:
        ValueError: `mean` is not finite, or `sd` is not positive and finite.

    >>> NormalPosterior(0.0, 1.0).quantile(0.975)
    1.95996398...
    """

    mean: float
    sd: float

    def __post_init__(self) -> None:
        _as_floats(self)
        if not isfinite(self.mean):
            raise ValueError(f"mean must be finite, got {self.mean}")
        require_positive(self, "sd")

    @property
    def variance(self) -> float:
        """Variance of the value."""
        return self.sd * self.sd

    def quantile(self, q: float) -> float:
        """The value below which the mean outcome lies with probability `q`, in (0, 1)."""
        _require_probability("q", q)
        return self.mean + self.sd * float(scipy.special.ndtri(q))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The equal-tailed credible interval that holds the value with probability `level`, in (0, 1)."""
        return _interval(self, level)


@dataclass(frozen=True, slots=True)
class StudentTPosterior:
    """A mean of outcomes with unknown variance: ``mean + scale * t`` with `df` degrees of freedom.

    With `df` <= 1 there is no expectation: `mean` is then only the median, and expected losses are infinite.

    Raises:
        ValueError: `mean` is not finite, or `scale` or `df` is not positive and finite.

    >>> StudentTPosterior(0.0, 1.0, 4.0).variance
    2.0
    """

    mean: float
    scale: float
    df: float

    def __post_init__(self) -> None:
        _as_floats(self)
        if not isfinite(self.mean):
            raise ValueError(f"mean must be finite, got {self.mean}")
        require_positive(self, "scale", "df")

    @property
    def variance(self) -> float:
        """Variance of the value: infinite for `df` in (1, 2], NaN for `df` <= 1."""
        if self.df <= 1:
            return nan
        return self.scale * self.scale * self.df / (self.df - 2) if self.df > 2 else inf  # noqa: PLR2004

    @property
    def sd(self) -> float:
        """Standard deviation of the value, infinite or NaN as `variance` is."""
        return sqrt(self.variance)

    def quantile(self, q: float) -> float:
        """The value below which the mean outcome lies with probability `q`, in (0, 1)."""
        _require_probability("q", q)
        return self.mean + self.scale * float(scipy.special.stdtrit(self.df, q))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The equal-tailed credible interval that holds the value with probability `level`, in (0, 1)."""
        return _interval(self, level)


@dataclass(frozen=True, slots=True)
class GammaPosterior:
    """A mean count per decision, positive, with `shape` events in `rate` decisions, prior included.

    Raises:
        ValueError: a parameter is not positive and finite.

    >>> GammaPosterior(6, 3).mean
    2.0
    """

    shape: float
    rate: float

    def __post_init__(self) -> None:
        _as_floats(self)
        require_positive(self, "shape", "rate")

    @property
    def mean(self) -> float:
        """Expected value."""
        return self.shape / self.rate

    @property
    def variance(self) -> float:
        """Variance of the value."""
        return self.shape / self.rate / self.rate

    @property
    def sd(self) -> float:
        """Standard deviation of the value."""
        return sqrt(self.shape) / self.rate

    def quantile(self, q: float) -> float:
        """The value below which the mean count lies with probability `q`, in (0, 1)."""
        _require_probability("q", q)
        return float(scipy.special.gammaincinv(self.shape, q)) / self.rate

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The equal-tailed credible interval that holds the value with probability `level`, in (0, 1)."""
        return _interval(self, level)


Posterior: TypeAlias = BetaPosterior | NormalPosterior | StudentTPosterior | GammaPosterior

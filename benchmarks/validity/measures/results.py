"""Figures with standard errors, from one value per run."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.validity.worlds.rates import FloatArray


class Kind(enum.StrEnum):
    """Kind of a column's figures."""

    RATE = "rate"
    MEAN = "mean"
    MEDIAN = "median"
    SPREAD = "spread"
    """Standard deviation of the first of two columns over that of the second."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A required figure.

    >>> str(Limit(0.05)), Limit(0.05).holds(0.06)
    ('≤ .05', False)
    >>> str(Limit(0.74, is_least=True))
    '≥ .74'
    """

    value: float
    is_least: bool = False

    def holds(self, figure: float) -> bool:
        """True if a figure keeps to it, but for rounding."""
        sign = -1 if self.is_least else 1
        return sign * (figure - self.value) <= _ROUNDING

    def __str__(self) -> str:
        number = f"{self.value:,.2f}".removeprefix("0")
        return f"{'≥' if self.is_least else '≤'} {number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure over runs.

    Attributes:
        value: The rate, mean or median.
        standard_error: Standard error of a rate (never 0, see `of_rate`), mean or spread; None for a median.
        quartiles: Quartiles around a median.
        limit: What it must not exceed, or reach at least; None if there is no limit.
    """

    value: float
    standard_error: float | None = None
    quartiles: tuple[float, float] | None = None
    limit: "Limit | None" = None

    @property
    def is_missed(self) -> bool:
        """True if it is beyond its limit."""
        return self.limit is not None and not self.limit.holds(self.value)

    def as_json(self) -> dict[str, object]:
        """Return it for JSON; infinite values (a median of runs that mostly never end) become None."""
        values: dict[str, object] = {"value": _finite(self.value)}
        if self.limit is not None:
            values |= {"limit": str(self.limit), "is_missed": self.is_missed}
        if self.quartiles is None:
            return values | {"standard_error": self.standard_error}
        return values | {"quartiles": [_finite(quartile) for quartile in self.quartiles]}


def figure_of(values: FloatArray, kind: Kind) -> Figure:
    """Return the figure of one column; of a spread, `values` has two columns."""
    if kind is Kind.RATE:
        return of_rate(values)
    if kind is Kind.SPREAD:
        return of_spread(values)
    if kind is Kind.MEAN:
        error = float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else np.nan
        return Figure(value=float(values.mean()), standard_error=error)
    lower, middle, upper = np.quantile(values, (0.25, 0.5, 0.75), method="inverted_cdf").tolist()
    return Figure(value=middle, quartiles=(lower, upper))


def of_rate(values: FloatArray) -> Figure:
    """Return a share of runs; its standard error is that of (x + 1/2) / (n + 1), so that 0 of n has one."""
    n, x = len(values), float(values.sum())
    smoothed = (x + 0.5) / (n + 1)
    return Figure(value=x / n, standard_error=(smoothed * (1 - smoothed) / n) ** 0.5)


def of_spread(values: FloatArray) -> Figure:
    """Return the ratio of two standard deviations, from values of shape (n_runs, 2).

    Its standard error is that of the delta method, which knows that both columns are of the same runs.
    """
    squares = (values - values.mean(axis=0)) ** 2
    variances = squares.mean(axis=0)
    if not variances[1] > 0:
        return Figure(value=np.nan, standard_error=np.nan)
    ratio = float(variances[0] / variances[1]) ** 0.5
    influence = squares[:, 0] / max(variances[0], _TINY) - squares[:, 1] / variances[1]
    return Figure(value=ratio, standard_error=ratio / 2 * float(influence.std()) / len(values) ** 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One cell's figures.

    Attributes:
        group: The cell's group.
        cell: The cell's name.
        runs: Number of runs.
        figures: Column to figure.
    """

    group: str
    cell: str
    runs: int
    figures: Mapping[str, Figure]

    def as_json(self) -> dict[str, object]:
        """Return it for JSON."""
        figures = {key: figure.as_json() for key, figure in self.figures.items()}
        return {"group": self.group, "cell": self.cell, "runs": self.runs, "figures": figures}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


_ROUNDING = 1e-9
_TINY = 1e-300

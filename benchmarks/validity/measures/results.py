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


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure over runs.

    Attributes:
        value: The rate, mean or median.
        standard_error: Standard error of a rate (never 0, see `of_rate`) or mean; None for a median.
        quartiles: Quartiles around a median.
    """

    value: float
    standard_error: float | None = None
    quartiles: tuple[float, float] | None = None

    def as_json(self) -> dict[str, object]:
        """Return it for JSON; infinite values (a median of runs that mostly never end) become None."""
        values: dict[str, object] = {"value": _finite(self.value)}
        if self.quartiles is None:
            return values | {"standard_error": self.standard_error}
        return values | {"quartiles": [_finite(quartile) for quartile in self.quartiles]}


def figure_of(values: FloatArray, kind: Kind) -> Figure:
    """Return the figure of one column."""
    if kind is Kind.RATE:
        return of_rate(values)
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

"""Results of estimators: intervals and e-processes."""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log

import numpy as np
from numpy.typing import ArrayLike

from bandit.inference.data.table import FloatArray


@dataclass(frozen=True, slots=True)
class Interval:
    """A closed interval; an end that the data do not bound is `math.inf` or the end of the range."""

    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class EProcess:
    """Evidence against a null hypothesis, looked at after every epoch.

    Attributes:
        log_values: ln E after each row of the table, in order; finite. Eight bytes each, since there may be
            thousands of arms and rows.
    """

    log_values: Sequence[float]

    @classmethod
    def of(cls, log_values: ArrayLike) -> "EProcess":
        """Create from an array of shape (n_epochs,)."""
        return cls(array("d", np.ascontiguousarray(log_values, dtype=float).tobytes()))

    @property
    def log_value(self) -> float:
        """Ln E now; 0 before the first epoch."""
        return self.log_values[-1] if self.log_values else 0.0

    @property
    def log_maximum(self) -> float:
        """The largest ln E so far, at least 0: E began at 1."""
        return float(np.max(np.asarray(self.log_values, dtype=float), initial=0.0))

    @property
    def value(self) -> float:
        """E now, for display: capped at e^700, so that it stays finite."""
        return exp(min(self.log_value, _LARGEST_LOG))

    @property
    def largest(self) -> float:
        """The largest E so far, for display: at least 1, at most e^700."""
        return exp(min(self.log_maximum, _LARGEST_LOG))

    @property
    def p_value(self) -> float:
        """Anytime-valid p-value, the smallest 1/E so far, in (0, 1] (Ville's inequality)."""
        return exp(-min(self.log_maximum, _LARGEST_LOG))

    def rejects(self, alpha: float) -> bool:
        """True if E has ever reached 1 / `alpha`."""
        return self.log_maximum >= -log(alpha)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RowwiseProcess:
    """An e-process that depends on rows only through sums of terms, so that it can begin anew before any row.

    Attributes:
        rows: The rows of the table at which it is looked at, ascending.
        terms: What each of these rows adds, shape (n_rows, n_terms).
        log_e_value: Returns ln E of sums of terms, from shape (n, n_terms) to shape (n,).
    """

    rows: tuple[int, ...]
    terms: FloatArray
    log_e_value: Callable[[FloatArray], FloatArray]

    def log_values(self, start: int = 0) -> FloatArray:
        """Return ln E after each row from place `start` on, as if no row were before it."""
        return self.log_e_value(np.cumsum(self.terms[start:], axis=0))

    def process(self) -> EProcess:
        """Return it over all rows."""
        return EProcess.of(self.log_values())


_LARGEST_LOG = 700.0

"""An approximate interval of a difference that needs no range, for amounts whose range dwarfs their spread.

If the greatest possible value is a thousand times what is usual, no exact interval can be narrow: a value
that few decisions earn may simply not have been seen. This one trusts what was seen. With c the pooled
centre,

``S = sum [(1 - pi)(s_k - n_k (c + delta)) - pi (s_0 - n_0 c)]``,
``V = max(sum kappa (Q_k + Q_0), sum [(1 - pi)^2 Q_k + pi^2 Q_0])``, ``kappa = (1 - 2 pi) / (2 ln((1 - pi) /
pi))``,

where Q are squares about c (about c + delta for the challenger), ``E = mean sqrt(rho / (V + rho)) e^(S^2 / (2
(V + rho)))`` over rho. It is exact for any tails if the challenger changes nothing or shifts every outcome by
the same amount: kappa is the best constant for a centred coin (Kearns & Saul 1998). Where shapes differ and
means do not, it misses more often than it says. So it is marked as approximate, and nothing is concluded from
it.
"""

from math import log
from typing import Final

import numpy as np
import scipy

from bandit.inference.data.pairs import CHALLENGER, CHAMPION, Pair
from bandit.inference.data.table import FloatArray
from bandit.inference.sequential.results import Interval
from bandit.inference.sequential.search import interval_not_refuted

HEAVY: Final = 30.0
"""Range over standard deviation from which exact intervals are much wider than what was seen suggests."""

_PLANNED: Final = (100.0, 2_000.0, 40_000.0)
"""Decisions at which each of three mixtures is tightest."""


def is_heavy(pair: Pair) -> bool:
    """True if the range is more than `HEAVY` standard deviations of the outcomes seen."""
    n, total, squares = float(pair.n.sum()), float(pair.sums.sum()), float(pair.squares.sum())
    variance = squares / n - (total / n) ** 2
    return variance * HEAVY**2 < 1


def approximate_interval(pair: Pair, level: float) -> Interval | None:
    """Return the differences that are not refuted at ln E >= `level`, in positions; None if there are none.

    There are none without any spread, without tested decisions of the challenger, or if these few are far
    from what their rows lead to expect.

    Args:
        pair: All rows of the pair, the first included: they give the scale.
        level: ln of the e-value that refutes a difference, in either direction.
    """
    tested = pair.tested()
    spread, middle = _first_variance(pair), _balance(tested)
    if spread is None or middle is None:
        return None
    rhos = spread * np.array(_PLANNED) / 4
    step = max(pair.standard_error, spread**0.5 / pair.n_decisions)
    return interval_not_refuted(
        lambda delta, _: _log_e_value(tested, delta, rhos) - level, middle, step, 1.0, _EXACT * step
    )


def _first_variance(pair: Pair) -> float | None:
    """Return the variance of the outcomes that only serve as centre; None if they are all alike."""
    first = ~pair.is_tested
    n, total = float(pair.n[:, first].sum()), float(pair.sums[:, first].sum())
    if n == 0:
        return None
    variance = float(pair.squares[:, first].sum()) / n - (total / n) ** 2
    return variance if variance > _NO_SPREAD else None


def _balance(pair: Pair) -> float | None:
    """Return the difference at which S is 0, which nothing refutes; None if it is beyond the range."""
    weight = float((pair.weights[CHALLENGER] * pair.n[CHALLENGER]).sum())
    middle = _total(pair, 0.0) / weight if weight > 0 else 1.0
    return middle if abs(middle) < 1 else None


def _total(pair: Pair, delta: float) -> float:
    """Return S."""
    gaps = pair.weights * (pair.sums - pair.n * _centres(pair, delta))
    return float(gaps[CHALLENGER].sum() - gaps[CHAMPION].sum())


def _centres(pair: Pair, delta: float) -> FloatArray:
    return np.stack([pair.centre, pair.centre + delta])


def _log_e_value(pair: Pair, delta: float, rhos: FloatArray) -> float:
    part, centres, total = pair.part, _centres(pair, delta), _total(pair, delta)
    squares = pair.squares_about(centres)
    variance = max(
        float((_kappa(part) * squares.sum(axis=0)).sum()), float((pair.weights**2 * squares).sum())
    )
    logs = 0.5 * np.log(rhos / (variance + rhos)) + total**2 / (2 * (variance + rhos))
    return float(scipy.special.logsumexp(logs) - log(len(rhos)))


def _kappa(part: FloatArray) -> FloatArray:
    """Return the best variance proxy of a centred coin with this chance; 1/4 at one half."""
    odds = np.log((1 - part) / part)
    is_even = np.abs(odds) < _NEARLY_EVEN
    return np.where(is_even, 0.25, (1 - 2 * part) / (2 * np.where(is_even, 1.0, odds)))


_EXACT: Final = 1e-3
_NO_SPREAD: Final = 1e-18
_NEARLY_EVEN: Final = 1e-4

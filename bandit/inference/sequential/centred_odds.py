"""The centred-odds e-process of a yes/no metric: differences and ratios of two arms' rates.

In a row let pi be the challenger's part of both shares, c the centre, lambda a bet whose sign is its
direction. Against the hypothesis "the difference is delta" it predicts ``m_0 = c - pi delta`` and ``m_k = c +
(1 - pi) delta``; against "the ratio is r", ``m_0 = c / (1 - pi + pi r)`` and ``m_k = r m_0``; cut to [0, 1].
A decision's factor is

- ``u_1 e^(lambda (1 - pi)(1 - m_k))`` for a success of the challenger, ``u_0 e^(-lambda (1 - pi) m_k)`` for a
  failure,
- ``u_1 e^(-lambda pi (1 - m_0))`` for a success of the champion, ``u_0 e^(lambda pi m_0)`` for a failure.

Its expectation is linear in the champion's rate p_0 along the line of rates that the hypothesis allows. u_1
and u_0 are chosen so that it is 1 at both ends of that line, so it is 1 everywhere: the product over
decisions is an exact martingale, whatever the base rate does from row to row. For lambda > 0 the factor rises
with the challenger's rate, so the product is a supermartingale under "at most". No floor is needed and no
range; with c = 0 it is the conditional-odds process of `bandit.inference.sequential.odds`. Both hypotheses
are the same at delta = 0 and r = 1, so a difference, a ratio and a p-value never contradict one another.
Weighted means over bets are again e-processes (Ville 1939; betting as in Waudby-Smith & Ramdas 2024,
*Estimating means of bounded random variables by betting*).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, sqrt
from typing import Final

import numpy as np

from bandit.inference.data.pairs import CHALLENGER, CHAMPION, Pair
from bandit.inference.data.table import FloatArray
from bandit.inference.sequential.results import EProcess, Interval
from bandit.inference.sequential.search import Sign, interval_not_refuted, ratio_not_refuted

BETS: Final = np.array([*np.linspace(0.02, 0.47, 10), 0.003, 0.008, 0.7, 1.1, 1.8, 3.0])
"""The absolute bets: small ones for many decisions, large ones for few events."""

WEIGHTS: Final = np.array([*[0.078] * 10, 0.02, 0.04, 0.06, 0.04, 0.04, 0.02])
"""Their weights in the mixture; they sum to 1."""


@dataclass(frozen=True, slots=True)
class _Line:
    """The rates that a hypothesis allows: a line of pairs (p_0, p_k), and its predictions.

    Attributes:
        predictions: m_0 and m_k of each row, shape (2, n_rows).
        start: The rates p_0 and p_k at one end.
        slope: How p_0 and p_k rise along the line, not negative.
    """

    predictions: tuple[FloatArray, FloatArray]
    start: tuple[float, float]
    slope: tuple[float, float]


def _of_difference(pair: Pair, delta: float) -> _Line:
    predictions = pair.centre - pair.part * delta, pair.centre + (1 - pair.part) * delta
    return _Line(_cut(*predictions), (max(0.0, -delta), max(0.0, delta)), (1.0, 1.0))


def _of_ratio(pair: Pair, ratio: float) -> _Line:
    base = pair.centre / (1 - pair.part + pair.part * ratio)
    return _Line(_cut(base, ratio * base), (0.0, 0.0), (1.0, ratio))


def _cut(champion: FloatArray, challenger: FloatArray) -> tuple[FloatArray, FloatArray]:
    return np.clip(champion, 0.0, 1.0), np.clip(challenger, 0.0, 1.0)


class CentredOdds:
    """The e-processes of one pair.

    Args:
        pair: Rows that count in tests, of a yes/no metric: sums are successes.
    """

    def __init__(self, pair: Pair) -> None:
        self._pair, self._weights = pair, pair.weights
        self._wins = pair.sums.sum(axis=0)
        self._losses = np.maximum(pair.n - pair.sums, 0.0).sum(axis=0)
        self._tilts: dict[Sign, list[_Tilts]] = {}

    def process(self, sign: Sign) -> EProcess:
        """Return evidence against "there is no difference" in one direction, over the pair's rows."""
        return EProcess.of(mixed(np.cumsum(self.log_factors(0.0, sign), axis=0)))

    def log_factors(self, delta: float, sign: Sign) -> FloatArray:
        """Return ln of each row's factor against a difference, for each bet; shape (n_rows, n_bets).

        A row's factors depend on that row only, so rows of many pairs may be handed over as those of one.
        `mixed` sums over a pair's rows are its ln E.
        """
        return self._log_factors(_of_difference(self._pair, delta), sign)

    def log_factors_of_ratio(self, ratio: float, sign: Sign) -> FloatArray:
        """Return the same against a ratio."""
        return self._log_factors(_of_ratio(self._pair, ratio), sign)

    def log_e_value(self, delta: float, sign: Sign) -> float:
        """Return ln E against "the difference is at most `delta`" (sign 1), or "at least" (sign -1)."""
        return self._total(_of_difference(self._pair, delta), sign)

    def log_e_value_of_ratio(self, ratio: float, sign: Sign) -> float:
        """Return ln E against "the ratio is at most `ratio`", or "at least"."""
        return self._total(_of_ratio(self._pair, ratio), sign)

    def _log_factors(self, line: _Line, sign: Sign) -> FloatArray:
        logs = np.outer(self._gaps(line), sign * BETS)
        for rows, log_1, log_0 in self._log_normalisers(line, sign):
            logs[rows] += self._wins[rows, np.newaxis] * log_1 + self._losses[rows, np.newaxis] * log_0
        return logs

    def _total(self, line: _Line, sign: Sign) -> float:
        logs = self._gaps(line).sum() * sign * BETS
        for rows, log_1, log_0 in self._log_normalisers(line, sign):
            logs += self._wins[rows] @ log_1 + self._losses[rows] @ log_0
        return float(mixed(logs))

    def _gaps(self, line: _Line) -> FloatArray:
        """Return ``(1 - pi)(s_k - n_k m_k) - pi (s_0 - n_0 m_0)`` of each row: ln of its tilts per lambda."""
        gaps = self._weights * (self._pair.sums - self._pair.n * np.array(line.predictions))
        return np.asarray(gaps[CHALLENGER] - gaps[CHAMPION])

    def _log_normalisers(self, line: _Line, sign: Sign) -> Iterator[tuple[slice, FloatArray, FloatArray]]:
        """Yield ln u_1 and ln u_0 for each bet, shape (n, n_bets), of few enough rows for the cache."""
        blocks = [slice(start, start + _BLOCK) for start in range(0, len(self._pair.rows), _BLOCK)]
        if sign not in self._tilts:
            self._tilts[sign] = [_Tilts.of(self._pair.part[rows], sign) for rows in blocks]
        m_0, m_k = line.predictions
        for rows, tilts in zip(blocks, self._tilts[sign], strict=True):
            yield rows, *tilts.log_normalisers(m_0[rows], m_k[rows], line)


@dataclass(frozen=True, slots=True, eq=False)
class _Tilts:
    """What bets of one sign make of a success, whatever the hypothesis; shape (n_rows, n_bets).

    Attributes:
        part: The challenger's part of both shares, shape (n_rows, 1).
        up: lambda (1 - pi), the exponent that a success of the challenger adds.
        down: lambda pi, the exponent that a success of the champion takes away.
        rise: e^up.
        fall: e^-down.
    """

    part: FloatArray
    up: FloatArray
    down: FloatArray
    rise: FloatArray
    fall: FloatArray

    @classmethod
    def of(cls, part: FloatArray, sign: Sign) -> "_Tilts":
        column = part[:, np.newaxis]
        up, down = sign * BETS * (1 - column), sign * BETS * column
        return cls(column, up, down, np.exp(up), np.exp(-down))

    def log_normalisers(self, m_0: FloatArray, m_k: FloatArray, line: _Line) -> tuple[FloatArray, FloatArray]:
        """Solve ``u_1 won + u_0 lost = 1`` at both ends of the line; return ln u_1 and ln u_0.

        Along the line `won` rises by D_1 and `lost` falls by D_0, so ``u_1 D_1 = u_0 D_0``. All are positive,
        and so are u_1 and u_0: a bet is never lost.
        """
        own = self.part * np.exp(-self.up * m_k[:, np.newaxis])
        other = (1 - self.part) * np.exp(self.down * m_0[:, np.newaxis])
        won_k, won_0 = own * self.rise, other * self.fall
        (p_0, p_k), (slope_0, slope_k) = line.start, line.slope
        rise, fall = slope_k * won_k + slope_0 * won_0, slope_k * own + slope_0 * other
        won, lost = p_k * won_k + p_0 * won_0, (1 - p_k) * own + (1 - p_0) * other
        whole = won * fall + lost * rise
        return np.log(fall / whole), np.log(rise / whole)


def mixed(logs: FloatArray) -> FloatArray:
    """Return ln of the weighted mean over the bets, the last axis."""
    highest = np.maximum(logs.max(axis=-1, keepdims=True), -_FAR)
    return np.asarray(np.log(np.maximum(np.exp(logs - highest) @ WEIGHTS, exp(-_FAR))) + highest[..., 0])


def difference_interval(odds: CentredOdds, estimate: float, spread: float, level: float) -> Interval:
    """Return the differences that neither direction refutes at ln E >= `level`.

    Args:
        odds: The pair's e-processes.
        estimate: The estimated difference, from which the search goes outwards.
        spread: Its standard error or another guess of its scale, positive.
        level: ln of the e-value that refutes.
    """
    return interval_not_refuted(
        lambda delta, sign: odds.log_e_value(delta, sign) - level,
        estimate,
        _first_step(level) * spread,
        1.0,
        _EXACT * spread,
    )


def ratio_interval(odds: CentredOdds, means: tuple[float, float], spread: float, level: float) -> Interval:
    """Return the ratios less 1 that neither direction refutes; infinite where none above is refuted.

    Args:
        odds: The pair's e-processes.
        means: The means of champion and challenger; the champion's is positive.
        spread: Scale of the logarithm of their ratio, positive.
        level: ln of the e-value that refutes.
    """
    return ratio_not_refuted(
        lambda ratio, sign: odds.log_e_value_of_ratio(ratio, sign) - level,
        means[CHALLENGER] / means[CHAMPION],
        _first_step(level) * spread,
        _EXACT * spread,
    )


def _first_step(level: float) -> float:
    """Return where an end is looked for first, in spreads: just beyond where most ends are."""
    return sqrt(2 * level) + 1


_EXACT: Final = 1e-3
"""An end is found to this part of the spread."""

_FAR: Final = 700.0
_BLOCK: Final = 1024
"""Rows at a time."""

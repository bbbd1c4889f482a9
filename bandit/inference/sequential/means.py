"""One arm's mean by overlap weights, and its interval at every look.

A row of the arm counts with a weight w that is fixed before it: the other arms' part of the share, the
champion's part of both shares where the arm is a challenger. The mean is ``M = sum w s / sum w n``.

For a yes/no metric ``ln E = lambda sum w s - sum n ln(1 - mu + mu e^(lambda w))`` is an exact martingale if
the rate is mu, and a supermartingale if it is less and lambda > 0. As that logarithm is convex in w, M itself
is never refuted; and splitting a row's n between two neighbouring weights makes E smaller and leaves ``sum w
n`` as it is. So rows are gathered at a few weights, which makes a path of many looks cheap and stays on the
safe side. Other metrics use bounded scores. Means of amounts leave out the first rows, which are their
centre.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bandit.inference.data.table import EvidenceTable, FloatArray, squares_about
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.bounded_scores import BoundedTest
from bandit.inference.sequential.centred_odds import BETS, mixed
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.results import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanEstimate:
    """The mean of one arm.

    Attributes:
        arm: Its number.
        mean: The mean by overlap weights, in the metric's unit.
        standard_error: Its asymptotic standard error, for description; the interval does not use it.
        interval: Holds the weighted mean over all decisions so far at every look, with probability 1 - alpha.
        n: The arm's own resolved decisions.
    """

    arm: int
    mean: float
    standard_error: float
    interval: Interval
    n: int


@dataclass(frozen=True, slots=True)
class MeanLook:
    """An arm's mean after a row of the table.

    Attributes:
        row: The row's index, from 0.
        mean: The mean, in the metric's unit.
        interval: Its interval at that look.
    """

    row: int
    mean: float
    interval: Interval


def overlap_weights(table: EvidenceTable, arm: int, champion: int) -> FloatArray:
    """Return the weight of an arm in each row, in [0, 1], shape (n_rows,).

    A challenger weighs by the champion's part of both shares, the champion by all others' part. All weigh 1
    if the arm was never compared.
    """
    own = table.shares[:, table.column(arm)]
    other = 1 - own if arm == champion else table.shares[:, table.column(champion)]
    both = own + np.maximum(other, 0.0)
    weights = np.divide(np.maximum(other, 0.0), both, out=np.zeros_like(both), where=(own > 0) & (both > 0))
    has_any = np.any(weights * table.n[:, table.column(arm)] > _NO_WEIGHT)
    return np.asarray(np.where(own > 0, weights, 0.0) if has_any else np.ones_like(own))


def estimate_mean(table: EvidenceTable, arm: int, champion: int, design: Design) -> MeanEstimate | CannotSay:
    """Return one arm's mean with bounds that hold at every look, alpha / 2 on each side.

    Args:
        table: The evidence.
        arm: Number of the arm.
        champion: Number of the champion, which may be the same.
        design: Error rate and floors.
    """
    n = table.n[:, table.column(arm)]
    if len(n) == 0:
        return CannotSay(Reason.NO_CLOSED_EPOCH)
    if n.sum() == 0:
        return CannotSay(_why_empty(table, arm))
    looks = _Looks(table, arm, champion, design)
    last = looks.at([len(n) - 1])
    (interval,) = last.intervals()
    return MeanEstimate(
        arm=arm,
        mean=table.scale.to_value(float(last.means[0])),
        standard_error=table.scale.width * looks.standard_error(float(last.means[0])),
        interval=interval,
        n=int(n.sum()),
    )


def _why_empty(table: EvidenceTable, arm: int) -> Reason:
    """Return why an arm has no resolved decision."""
    if not np.any(table.shares[:, table.column(arm)] > 0):
        return Reason.ARM_WITHOUT_SHARE
    return Reason.ARM_WITHOUT_OUTCOMES if np.any(table.totals > 0) else Reason.NO_DECISIONS


def look_at_mean(
    table: EvidenceTable,
    arm: int,
    champion: int,
    design: Design,
    max_looks: int,
) -> tuple[MeanLook, ...]:
    """Return up to `max_looks` looks at an arm's mean, evenly over the rows that count, with the last.

    Every look is what `estimate_mean` would have returned then.
    """
    looks = _Looks(table, arm, champion, design)
    rows = _evenly(looks.counted_rows(), max_looks)
    if not rows:
        return ()
    seen = looks.at(rows)
    return tuple(map(MeanLook, rows, map(table.scale.to_value, seen.means.tolist()), seen.intervals()))


class _Looks:
    """The running sums of one arm.

    Args:
        table: The table.
        arm: Number of the arm.
        champion: Number of the champion.
        design: Error rate and floors.
    """

    def __init__(self, table: EvidenceTable, arm: int, champion: int, design: Design) -> None:
        column = table.column(arm)
        self.scale, self.alpha = table.scale, design.alpha
        self.weights = overlap_weights(table, arm, champion)
        self.n, self.sums, self.squares = table.n[:, column], table.sums[:, column], table.squares[:, column]
        is_compared = not np.all(self.weights == 1)
        self._largest = design.largest_weight_of(arm, champion) if is_compared else 1.0
        self._centre, self._is_tested = table.centres.of_arms[:, column], table.centres.is_tested

    def counted_rows(self) -> list[int]:
        """Return the rows from the arm's first resolved decision on."""
        return np.flatnonzero(np.cumsum(self.weights * self.n) > 0).tolist()

    def at(self, rows: Sequence[int]) -> "_Seen":
        """Return the sums after these rows, ascending."""
        return _Seen(self, np.array(rows))

    def standard_error(self, mean: float) -> float:
        """Return the standard error of the mean over all rows, in positions."""
        squares = squares_about(mean, self.n, self.sums, self.squares)
        return float((self.weights**2 * squares).sum() ** 0.5 / (self.weights * self.n).sum())

    def gather(self) -> tuple[FloatArray, FloatArray]:
        """Return a few weights, and after each row how many decisions are gathered at each of them."""
        nodes = np.linspace(0.0, 1.0, _N_NODES)
        places = self.weights * (_N_NODES - 1)
        below = np.minimum(places.astype(int), _N_NODES - 2)
        above = places - below
        counts = np.zeros((len(self.n), _N_NODES))
        rows = np.arange(len(self.n))
        counts[rows, below] += self.n * (1 - above)
        counts[rows, below + 1] += self.n * above
        return nodes, np.cumsum(counts, axis=0)

    def bounded(self) -> tuple[FloatArray, FloatArray, FloatArray, BoundedTest]:
        """Return the sums of weights, of weighted outcomes and V after each row, and the test of them."""
        largest = self._largest
        weights = np.where(self._is_tested, np.minimum(self.weights, largest), 0.0)
        squares = squares_about(self._centre, self.n, self.sums, self.squares)
        weighed, won = np.cumsum(weights * self.n), np.cumsum(weights * self.sums)
        return weighed, won, np.cumsum(weights**2 * squares), BoundedTest(largest, self.alpha / 2)


class _Seen:
    """What was seen after some rows.

    Args:
        looks: The running sums.
        rows: The rows, ascending.

    Attributes:
        means: The means by then, in positions.
    """

    def __init__(self, looks: _Looks, rows: NDArray[np.intp]) -> None:
        self._looks, self._rows, self._level = looks, rows, log(2 / looks.alpha)
        self._won = np.cumsum(looks.weights * looks.sums)[rows]
        self.means = np.asarray(self._won / np.cumsum(looks.weights * looks.n)[rows])

    def intervals(self) -> list[Interval]:
        """Return the interval at each look, in the metric's unit."""
        scale = self._looks.scale
        ends = self._exact() if scale.is_binary else self._bounded()
        lowers, uppers = (np.clip(each, 0.0, 1.0).tolist() for each in ends)
        return [
            Interval(scale.to_value(lower), scale.to_value(upper))
            for lower, upper in zip(lowers, uppers, strict=True)
        ]

    def _exact(self) -> tuple[FloatArray, FloatArray]:
        """Return the rates of a yes/no metric that are not refuted."""
        nodes, gathered = self._looks.gather()
        counts = gathered[self._rows]
        is_used = np.any(counts > 0, axis=0)  # a static split has two weights at most
        nodes, counts = nodes[is_used], counts[:, is_used]
        return self._end(nodes, counts, 1), self._end(nodes, counts, -1)

    def _end(self, nodes: FloatArray, counts: FloatArray, sign: int) -> FloatArray:
        """Return the lower (sign 1) or the upper ends, from inside: what is refuted lies beyond."""
        bets = sign * BETS
        rise = np.expm1(bets[:, np.newaxis] * nodes)

        def refutes(rates: FloatArray) -> NDArray[np.bool_]:
            costs = np.log1p(rates[:, np.newaxis, np.newaxis] * rise) @ counts[:, :, np.newaxis]
            logs = bets * self._won[:, np.newaxis] - costs[..., 0]
            return np.asarray(mixed(logs) >= self._level)

        inside, outside = self.means, np.full_like(self.means, 0.0 if sign > 0 else 1.0)
        for _ in range(_HALVINGS):
            middle = 0.5 * (inside + outside)
            is_refuted = refutes(middle)
            inside, outside = np.where(is_refuted, inside, middle), np.where(is_refuted, middle, outside)
        return np.asarray(outside)

    def _bounded(self) -> tuple[FloatArray, FloatArray]:
        """Return the means of any other metric that are not refuted."""
        *totals, test = self._looks.bounded()
        weighed, won, variances = (each[self._rows] for each in totals)
        has_any = weighed > 0
        means = np.divide(won, weighed, out=self.means.copy(), where=has_any)
        margins = test.boundary(variances, self._level)
        margins = np.divide(margins, weighed, out=np.ones_like(margins), where=has_any)
        return np.minimum(means - margins, self.means), np.maximum(means + margins, self.means)


def _evenly(rows: Sequence[int], n_most: int) -> list[int]:
    """Return at most `n_most` of the rows, evenly spaced, with the last.

    >>> _evenly([3, 4, 5, 6, 7], 2)
    [4, 7]
    """
    if len(rows) <= n_most:
        return list(rows)
    return [rows[(index + 1) * len(rows) // n_most - 1] for index in range(n_most)]


_N_NODES: Final = 65
_HALVINGS: Final = 30
_NO_WEIGHT: Final = 1e-9

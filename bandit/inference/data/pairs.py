"""A challenger and the champion, row by row, and their means by overlap weights.

Let pi be the challenger's part of the share that both have, n, s the number and sum of resolved decisions of
a row. The means weigh the challenger's rows by 1 - pi and the champion's by pi (overlap weights; Li, Morgan &
Zaslavsky 2018, *Balancing covariates via propensity score weighting*):

``M_k = sum (1 - pi) s_k / sum (1 - pi) n_k`` and ``M_0 = sum pi s_0 / sum pi n_0``.

In expectation both arms then weigh a row by n pi (1 - pi), so a drift that they share cancels. Under a
constant split these are the plain means, which anyone can check. Nothing is divided by a share, so no floor
is needed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandit.inference.data.table import EvidenceTable, FloatArray, squares_about
from bandit.inference.reasons import CannotSay, Reason

CHAMPION, CHALLENGER = 0, 1
"""The rows of a pair's arrays."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pair:
    """The rows of the table in which both arms had a share and at least one of them was chosen.

    Attributes:
        arm: Number of the challenger.
        champion: Number of the champion.
        rows: The rows in the table, ascending, shape (n_rows,).
        part: The challenger's part of both shares, in (0, 1), shape (n_rows,).
        n: Resolved decisions of champion and challenger, shape (2, n_rows).
        sums: Sums of their outcomes in positions of the range, shape (2, n_rows).
        squares: Sums of squares, shape (2, n_rows).
        centre: The pooled centre, shape (n_rows,).
        centres: The centres of champion and challenger, shape (2, n_rows).
        is_tested: Whether the row counts in tests, shape (n_rows,).
    """

    arm: int
    champion: int
    rows: NDArray[np.intp]
    part: FloatArray
    n: FloatArray
    sums: FloatArray
    squares: FloatArray
    centre: FloatArray
    centres: FloatArray
    is_tested: NDArray[np.bool_]

    @property
    def weights(self) -> FloatArray:
        """The overlap weights of champion and challenger, shape (2, n_rows)."""
        return np.stack([self.part, 1 - self.part])

    @property
    def means(self) -> tuple[float, float]:
        """The means of champion and challenger, in positions."""
        means = (self.weights * self.sums).sum(axis=1) / (self.weights * self.n).sum(axis=1)
        return float(means[CHAMPION]), float(means[CHALLENGER])

    @property
    def standard_error(self) -> float:
        """The asymptotic standard error of the difference of the means, in positions; for description."""
        means = np.array(self.means)[:, np.newaxis]
        squares = self.squares_about(means)
        variances = (self.weights**2 * squares).sum(axis=1) / (self.weights * self.n).sum(axis=1) ** 2
        return float(variances.sum() ** 0.5)

    def squares_about(self, centres: FloatArray) -> FloatArray:
        """Return the sums of squared distances from centres that broadcast to shape (2, n_rows)."""
        return squares_about(centres, self.n, self.sums, self.squares)

    @property
    def n_decisions(self) -> int:
        """Resolved decisions of both arms."""
        return int(self.n.sum())

    def tested(self) -> "Pair":
        """Return the pair without the rows that only serve as centre."""
        kept = self.is_tested
        return Pair(
            arm=self.arm,
            champion=self.champion,
            rows=self.rows[kept],
            part=self.part[kept],
            n=self.n[:, kept],
            sums=self.sums[:, kept],
            squares=self.squares[:, kept],
            centre=self.centre[kept],
            centres=self.centres[:, kept],
            is_tested=kept[kept],
        )


def pair_of(table: EvidenceTable, arm: int, champion: int) -> Pair | CannotSay:
    """Return the rows of two arms, or why they can't be compared."""
    if len(table.shares) == 0:
        return CannotSay(Reason.NO_CLOSED_EPOCH)
    columns = [table.column(champion), table.column(arm)]
    shares, n = table.shares[:, columns], table.n[:, columns]
    is_shared = np.all(shares > _NO_SHARE, axis=1)
    if not np.any(is_shared):
        return CannotSay(Reason.ARM_WITHOUT_SHARE)
    missing = _missing(n[is_shared], table.totals[is_shared])
    if missing is not None:
        return missing
    rows = np.flatnonzero(is_shared & np.any(n > 0, axis=1))
    shares = shares[rows]
    picked = rows[:, np.newaxis], np.array(columns)
    return Pair(
        arm=arm,
        champion=champion,
        rows=rows,
        part=np.asarray(shares[:, CHALLENGER] / shares.sum(axis=1)),
        n=table.n[picked].T,
        sums=table.sums[picked].T,
        squares=table.squares[picked].T,
        centre=table.centres.pooled[rows],
        centres=table.centres.of_arms[picked].T,
        is_tested=table.centres.is_tested[rows],
    )


def _missing(n: FloatArray, totals: FloatArray) -> CannotSay | None:
    """Return what is missing for means, from the counts of both arms in the rows that they share."""
    if not np.any(totals > 0):
        return CannotSay(Reason.NO_DECISIONS)
    if not np.all(n.sum(axis=0) > 0):
        return CannotSay(Reason.ARM_WITHOUT_OUTCOMES)
    return None


_NO_SHARE = 1e-12

"""AIPW scores as running sums for every arm, from which the values of static splits are computed.

Let m be the arm's centre in a row, w one over its share, n, s, ss the number, sum and sum of
squares of its resolved decisions, and n_e the row's resolved decisions over all arms:

- ``S_a = sum_e [ n_e m + w (s - n m) ]``: its expectation is the sum of the arm's means over the decisions.
- ``V_a = sum_e w^2 (ss - 2 m s + n m^2)``: the sum of squared distances from the centres.

(Robins, Rotnitzky & Zhao 1994 for the estimator; Waudby-Smith, Wu, Ramdas, Karampatziakis & Mineiro 2024,
*Anytime-valid off-policy inference for contextual bandits*, for its use at any look.)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandit.inference.data.table import EvidenceTable, FloatArray, squares_about
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.design import Design

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """Running sums after every row, over the rows in which all of the arms count.

    Attributes:
        arms: Numbers of the arms, in the order of the columns.
        n: Resolved decisions of all arms so far, shape (n_rows,).
        sums: S of each arm so far, shape (n_rows, n_arms).
        variances: V of each arm so far, shape (n_rows, n_arms).
        is_used: True for rows that count, shape (n_rows,); others add nothing.
        n_below: Resolved decisions of rows in which an arm was below its floor.
        n_centre: Resolved decisions of the other rows that only serve as centre.
        predicted: The centres of every arm of the table, shape (n_rows, n_table_arms).
    """

    arms: tuple[int, ...]
    n: FloatArray
    sums: FloatArray
    variances: FloatArray
    is_used: BoolArray
    n_below: int
    n_centre: int
    predicted: FloatArray


def usable_epochs(table: EvidenceTable, arms: Sequence[int], design: Design) -> BoolArray | CannotSay:
    """Return in which rows each of these arms had at least its floor."""
    columns = [table.column(arm) for arm in arms]
    if len(table.shares) == 0:
        return CannotSay(Reason.NO_CLOSED_EPOCH)
    if not np.any(np.all(table.shares[:, columns] > 0, axis=1)):
        return CannotSay(Reason.ARM_WITHOUT_SHARE)
    floors = np.array([design.floor(arm) for arm in arms])
    is_used = np.all(table.shares[:, columns] >= floors, axis=1)
    if not np.any(is_used):
        return CannotSay(Reason.SHARES_BELOW_FLOOR)
    if not np.any(table.totals[is_used] > 0):
        return CannotSay(Reason.NO_DECISIONS)
    if np.any(table.n[np.ix_(is_used, columns)].sum(axis=0) == 0):
        return CannotSay(Reason.ARM_WITHOUT_OUTCOMES)
    return np.asarray(is_used)


def score(table: EvidenceTable, arms: Sequence[int], design: Design) -> Scores | CannotSay:
    """Return running sums of the arms' scores."""
    has_floors = usable_epochs(table, arms, design)
    if isinstance(has_floors, CannotSay):
        return has_floors
    centres = table.centres
    is_used = has_floors & centres.is_tested
    if not np.any(table.totals[is_used] > 0):
        return CannotSay(Reason.FEW_DECISIONS)
    columns = [table.column(arm) for arm in arms]
    predicted = centres.of_arms[:, columns]
    weights = weights_of(table, columns, is_used)
    n, sums = table.n[:, columns], table.sums[:, columns]
    totals = np.where(is_used, table.totals, 0.0)
    scores = totals[:, np.newaxis] * predicted + weights * (sums - n * predicted)
    squares = squared_distances(table, columns, predicted)
    return Scores(
        arms=tuple(arms),
        n=np.cumsum(totals),
        sums=np.cumsum(scores, axis=0),
        variances=np.cumsum(weights**2 * squares, axis=0),
        is_used=is_used,
        n_below=int(table.totals[~has_floors].sum()),
        n_centre=int(table.totals[has_floors & ~is_used].sum()),
        predicted=centres.of_arms,
    )


def weights_of(table: EvidenceTable, columns: Sequence[int], is_used: BoolArray) -> FloatArray:
    """Return one over the share, 0 where the epoch does not count or the arm had no share."""
    shares = table.shares[:, columns]
    counts = is_used[:, np.newaxis] & (shares > 0)
    return np.divide(1.0, shares, out=np.zeros_like(shares), where=counts)


def squared_distances(table: EvidenceTable, columns: Sequence[int], predicted: FloatArray) -> FloatArray:
    """Return sums of squared distances of outcomes from their prediction, never negative."""
    return squares_about(predicted, *(each[:, columns] for each in (table.n, table.sums, table.squares)))

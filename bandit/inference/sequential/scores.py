"""AIPW scores as running sums for every arm, from which means, comparisons and split values are computed.

Let m be the prediction of an arm in an epoch, w one over its share, n, s, ss the number, sum and sum of
squares of its resolved decisions, and n_e the epoch's resolved decisions over all arms:

- ``S_a = sum_e [ n_e m + w (s - n m) ]``: its expectation is the sum of the arm's means over the decisions.
- ``V_a = sum_e w^2 (ss - 2 m s + n m^2)``: the sum of squared distances from the predictions.

(Robins, Rotnitzky & Zhao 1994 for the estimator; Waudby-Smith, Wu, Ramdas, Karampatziakis & Mineiro 2024,
*Anytime-valid off-policy inference for contextual bandits*, for its use at any look.)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandit.inference.data.table import EvidenceTable, FloatArray
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.design import Design

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """Running sums after every epoch, over the epochs in which all of the arms count.

    Attributes:
        arms: Numbers of the arms, in the order of the columns.
        n: Resolved decisions of all arms so far, shape (n_epochs,).
        sums: S of each arm so far, shape (n_epochs, n_arms).
        variances: V of each arm so far, shape (n_epochs, n_arms).
        is_used: True for epochs that count, shape (n_epochs,); others add nothing.
    """

    arms: tuple[int, ...]
    n: FloatArray
    sums: FloatArray
    variances: FloatArray
    is_used: BoolArray


def usable_epochs(table: EvidenceTable, arms: Sequence[int], design: Design) -> BoolArray | CannotSay:
    """Return which epochs count for these arms together: those in which each had at least its floor."""
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


def score(table: EvidenceTable, arms: Sequence[int], design: Design, cap: float) -> Scores | CannotSay:
    """Return running sums of the arms' scores, with predictions cut to `cap`."""
    is_used = usable_epochs(table, arms, design)
    if isinstance(is_used, CannotSay):
        return is_used
    columns = [table.column(arm) for arm in arms]
    predicted = np.minimum(table.predictions[:, columns], cap)
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
    )


def weights_of(table: EvidenceTable, columns: Sequence[int], is_used: BoolArray) -> FloatArray:
    """Return one over the share, 0 where the epoch does not count or the arm had no share."""
    shares = table.shares[:, columns]
    counts = is_used[:, np.newaxis] & (shares > 0)
    return np.divide(1.0, shares, out=np.zeros_like(shares), where=counts)


def squared_distances(table: EvidenceTable, columns: Sequence[int], predicted: FloatArray) -> FloatArray:
    """Return sums of squared distances of outcomes from their prediction, never negative."""
    n, sums, squares = table.n[:, columns], table.sums[:, columns], table.squares[:, columns]
    return np.maximum(squares - 2 * predicted * sums + n * predicted**2, 0.0)

"""Coverage of the report's intervals after every epoch, without computing their ends.

An interval ends where an e-value reaches 2 / alpha, so it misses a value exactly if the e-value at that value
is larger; tests compare this with the ends that the library prints.
"""

from math import log

import numpy as np

from bandit.inference.data.table import EvidenceTable
from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.mixture import Mixture
from bandit.inference.sequential.odds import INTERVAL_GRID, count_events, ratio_process, reciprocal
from bandit.inference.sequential.scores import Scores, score
from benchmarks.validity.worlds.rates import FloatArray


def covers_mean(table: EvidenceTable, truth: FloatArray, arm: int, design: Design) -> bool:
    """True if the arm's mean is covered; `truth` has the rates, shape (n_epochs, n_arms)."""
    return covers_split(table, truth, {arm: 1.0}, design)


def covers_split(table: EvidenceTable, truth: FloatArray, split: dict[int, float], design: Design) -> bool:
    """True if the value of a static split is covered."""
    scores = score(table, tuple(split), design, cap=1.0)
    if isinstance(scores, CannotSay):
        return True
    weights = np.array(list(split.values()))
    steepest = max(weight / design.floor(arm) for arm, weight in split.items())
    planned = design.planned_variance * sum(q**2 / design.floor(arm) for arm, q in split.items())
    mixture = design.mixture(steepest, planned, design.alpha / 2)
    gap = scores.sums @ weights - _so_far(scores, truth[:, list(split)] @ weights)
    return _holds(mixture, mixture, gap, scores.variances @ weights**2, design)


def covers_difference(
    table: EvidenceTable, truth: FloatArray, arm: int, champion: int, design: Design
) -> bool:
    """True if the difference of two arms' means is covered."""
    scores = score(table, [arm, champion], design, design.cap(arm, champion))
    if isinstance(scores, CannotSay):
        return True
    gap = scores.sums[:, 0] - scores.sums[:, 1] - _so_far(scores, truth[:, arm] - truth[:, champion])
    below = design.contrast_mixture(arm, champion, design.alpha / 2)
    above = design.contrast_mixture(champion, arm, design.alpha / 2)
    return _holds(below, above, gap, scores.variances.sum(axis=1), design)


def covers_ratio(table: EvidenceTable, ratio: float, arm: int, champion: int, design: Design) -> bool:
    """True if the bounds of the relative lift cover a constant ratio of rates."""
    events = count_events(table, arm, champion)
    if isinstance(events, CannotSay):
        return True
    grids = INTERVAL_GRID, reciprocal(INTERVAL_GRID)
    return not any(ratio_process(events, grid, ratio).rejects(design.alpha / 2) for grid in grids)


def _so_far(scores: Scores, truth: FloatArray) -> FloatArray:
    """Return the sum of the true values over the decisions that count, after every epoch."""
    n = np.diff(scores.n, prepend=0.0)
    return np.asarray((n * truth).cumsum())


def _holds(below: Mixture, above: Mixture, gap: FloatArray, variance: FloatArray, design: Design) -> bool:
    """True if neither side's e-value at the truth has reached 2 / alpha; `gap` is the sum less its truth."""
    level = -log(design.alpha / 2)
    sides = (below.log_e_value(gap, variance), above.log_e_value(-gap, variance))
    return bool(max(side.max() for side in sides) < level)

"""Coverage of the report's intervals after every row, without computing their ends.

An interval ends where an e-value reaches the level, so it misses a value exactly if the e-value at that value
is larger; tests compare this with the ends that the library prints.
"""

from math import log

import numpy as np
import scipy

from bandit.inference.data.table import EvidenceTable
from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.centred_odds import BETS, WEIGHTS
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.means import overlap_weights
from bandit.inference.sequential.scores import Scores, score
from benchmarks.validity.measures.stacks import Stack
from benchmarks.validity.worlds.rates import FloatArray


def covers_truth(stack: Stack, truth: FloatArray) -> FloatArray:
    """Return whether differences, shape (n_rows,), are held: at every look if constant, else at the last.

    The test's hypothesis is "at most so much in every row". Of a difference that varies, it is only measured
    whether the last interval holds the mean by overlap weights.
    """
    return covers_last(stack, truth) if np.ptp(truth) > _ROUNDING else covers_difference(stack, truth[0])


def covers_difference(stack: Stack, delta: float) -> FloatArray:
    """Return 1 for each run whose intervals of the difference hold `delta` at every look."""
    return _holds([stack.against_difference(delta, sign) for sign in (1, -1)], stack.design.log_level)


def covers_ratio(stack: Stack, ratio: float) -> FloatArray:
    """Return 1 for each run whose bounds of the relative change hold a constant ratio at every look."""
    return _holds([stack.against_ratio(ratio, sign) for sign in (1, -1)], stack.design.log_level)


def covers_last(stack: Stack, truth: FloatArray) -> FloatArray:
    """Return 1 for each run whose last interval holds the difference by overlap weights.

    Args:
        stack: The pairs.
        truth: The difference of the rates in each row, shape (n_rows,).
    """
    return np.array([_last_holds(stack, run, truth) for run in range(stack.n_runs)])


def _last_holds(stack: Stack, run: int, truth: FloatArray) -> float:
    pair = stack.pairs.get(run)
    if pair is None:
        return 1.0
    weights = pair.n.sum(axis=0) * pair.part * (1 - pair.part)
    delta = float(weights @ truth[pair.rows] / weights.sum())
    alone = Stack({0: pair}, 1, stack.n_rows, stack.is_binary, stack.design)
    ends = [alone.against_difference(delta, sign)[:, -1:] for sign in (1, -1)]
    return float(_holds(ends, stack.design.log_level)[0])


def covers_mean(table: EvidenceTable, truth: FloatArray, arm: int, design: Design) -> bool:
    """True if the mean of a yes/no metric is covered; `truth` has the rates, shape (n_rows, n_arms).

    Rows keep their own weights here, while the report gathers them at a few, which makes E smaller: so this
    misses at least as often.
    """
    column, weights = table.column(arm), overlap_weights(table, arm, 0)
    n, sums = weights * table.n[:, column], weights * table.sums[:, column]
    weighed = n.cumsum()
    means = np.divide(
        (n * truth[:, column]).cumsum(), weighed, out=np.full_like(weighed, 0.5), where=weighed > 0
    )
    bets = np.concatenate([BETS, -BETS])[:, np.newaxis, np.newaxis]
    costs = np.log1p(means[:, np.newaxis] * np.expm1(bets * weights))
    seen = np.tril(np.ones((len(n), len(n)))) * table.n[:, column]
    logs = bets[..., 0] * sums.cumsum() - (costs * seen).sum(axis=2)
    sides = [scipy.special.logsumexp(half, b=WEIGHTS[:, np.newaxis], axis=0) for half in np.split(logs, 2)]
    return bool(np.max(sides) < log(2 / design.alpha))


def covers_split(table: EvidenceTable, truth: FloatArray, split: dict[int, float], design: Design) -> bool:
    """True if the value of a static split is covered."""
    scores = score(table, tuple(split), design)
    if isinstance(scores, CannotSay):
        return True
    weights = np.array(list(split.values()))
    steepest = max(weight / design.floor(arm) for arm, weight in split.items())
    planned = design.planned_variance * sum(q**2 / design.floor(arm) for arm, q in split.items())
    mixture = design.mixture(steepest, planned, design.alpha / 2)
    gap = scores.sums @ weights - _so_far(scores, truth[:, list(split)] @ weights)
    variance = scores.variances @ weights**2
    sides = [mixture.log_e_value(sign * gap, variance)[np.newaxis] for sign in (1, -1)]
    return bool(_holds(sides, log(2 / design.alpha))[0])


def _so_far(scores: Scores, truth: FloatArray) -> FloatArray:
    """Return the sum of the true values over the decisions that count, after every row."""
    n = np.diff(scores.n, prepend=0.0)
    return np.asarray((n * truth).cumsum())


def _holds(sides: list[FloatArray], level: float) -> FloatArray:
    """Return 1 for each run in which neither side's ln E has reached the level, shape (n_runs,)."""
    return np.asarray(np.max(sides, axis=(0, 2)) < level, dtype=float)


_ROUNDING = 1e-9

"""Off-policy values of static splits, doubly robust and naive, and the bandit's gain over them."""

import numpy as np

from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.scores import Scores, score
from benchmarks.validity.measures.coverage import covers_split
from benchmarks.validity.measures.measurements import Sample, per_run
from benchmarks.validity.worlds.histories import Shaping, collect
from benchmarks.validity.worlds.layouts import Layout
from benchmarks.validity.worlds.rates import FloatArray


def value_split(
    truth: FloatArray,
    layout: Layout,
    shaping: Shaping,
    split: tuple[float, float],
    rng: np.random.Generator,
    n_runs: int,
) -> Sample:
    """Measure the errors of both estimates per thousand decisions, and the bandit's gain, true and estimated.

    The truth is the mean over the decisions that count, which are all but those of the first epoch.
    """
    history, design = collect(truth, layout, shaping, n_runs, rng), shaping.design
    weights = np.array(split)
    naive = (history.sums.sum(axis=1) / history.n.sum(axis=1)) @ weights

    def of_run(run: int) -> dict[str, float]:
        table = history.table(run)
        scores = score(table, (0, 1), design)
        if isinstance(scores, CannotSay):
            return dict.fromkeys(_COLUMNS, np.nan)
        counted = np.diff(scores.n, prepend=0.0) / scores.n[-1]
        worth = float(counted @ (truth @ weights))
        earned = float(table.sums[scores.is_used].sum() / scores.n[-1])
        expected = float(counted @ (history.shares[run] * truth).sum(axis=1))
        value, error = _robust(scores, weights)
        return {
            "robust_error": _SCALE * (value - worth),
            "naive_error": _SCALE * (naive[run] - worth),
            "gain": _SCALE * (expected - worth),
            "robust_gain": _SCALE * (earned - value),
            "naive_gain": _SCALE * (earned - naive[run]),
            "within_two": abs(value - worth) <= _TWO_SIDED * error,
            "holds": covers_split(table, truth, dict(enumerate(split)), design),
        }

    return per_run(n_runs, of_run)


def _robust(scores: Scores, weights: FloatArray) -> tuple[float, float]:
    """Return the doubly robust value and its standard error, as `value_of_split` does."""
    n = float(scores.n[-1])
    return float(weights @ scores.sums[-1]) / n, float(weights**2 @ scores.variances[-1]) ** 0.5 / n


_COLUMNS = (
    "robust_error",
    "naive_error",
    "gain",
    "robust_gain",
    "naive_gain",
    "within_two",
    "holds",
)
_SCALE = 1_000
_TWO_SIDED = 1.959964

"""Off-policy values of static splits, doubly robust and naive, and the bandit's gain over them."""

import numpy as np

from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.scores import Scores, score
from benchmarks.validity.measures.coverage import covers_split
from benchmarks.validity.measures.decisions import ALPHA
from benchmarks.validity.measures.measurements import Sample, per_run
from benchmarks.validity.worlds.histories import Shaping, collect
from benchmarks.validity.worlds.rates import FloatArray


def value_split(
    truth: FloatArray,
    size: int,
    shaping: Shaping,
    split: tuple[float, float],
    rng: np.random.Generator,
    n_runs: int,
) -> Sample:
    """Measure the errors of both estimates per thousand decisions, and the bandit's gain, true and estimated.

    The truth is the mean over the decisions made, which all count alike, as epochs have a fixed size.
    """
    history = collect(truth, size, shaping, n_runs, rng)
    design = Design(alpha=ALPHA, floors=dict(enumerate(shaping.floors)))
    weights, worth = np.array(split), float(truth.mean(axis=0) @ np.array(split))
    earned = history.sums.sum(axis=(1, 2)) / history.n.sum(axis=(1, 2))
    expected = (history.shares * truth).sum(axis=2).mean(axis=1)
    naive = (history.sums.sum(axis=1) / history.n.sum(axis=1)) @ weights

    def of_run(run: int) -> dict[str, float]:
        table = history.table(run)
        scores = score(table, (0, 1), design, 1.0)
        value, error = (np.nan, np.nan) if isinstance(scores, CannotSay) else _robust(scores, weights)
        return {
            "robust_error": _SCALE * (value - worth),
            "naive_error": _SCALE * (naive[run] - worth),
            "gain": _SCALE * (expected[run] - worth),
            "robust_gain": _SCALE * (earned[run] - value),
            "naive_gain": _SCALE * (earned[run] - naive[run]),
            "within_two": abs(value - worth) <= _TWO_SIDED * error,
            "holds": covers_split(table, truth, dict(enumerate(split)), design),
        }

    return per_run(n_runs, of_run)


def _robust(scores: Scores, weights: FloatArray) -> tuple[float, float]:
    """Return the doubly robust value and its standard error, as `value_of_split` does."""
    n = float(scores.n[-1])
    return float(weights @ scores.sums[-1]) / n, float(weights**2 @ scores.variances[-1]) ** 0.5 / n


_SCALE = 1_000
_TWO_SIDED = 1.959964

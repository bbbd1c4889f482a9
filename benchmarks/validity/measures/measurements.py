"""All measurements of each run: verdicts, coverage, and z-tests for comparison."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from bandit.inference.data.table import ExposureTable
from bandit.inference.sequential.sample_ratio import SampleRatio, check_sample_ratio
from benchmarks.validity.measures.coverage import covers_mean, covers_ratio, covers_split, covers_truth
from benchmarks.validity.measures.decisions import ALPHA, BETTER, WORSE, Verdicts, decide
from benchmarks.validity.measures.z_tests import ZTests
from benchmarks.validity.worlds.histories import History, Shaping
from benchmarks.validity.worlds.layouts import Layout
from benchmarks.validity.worlds.rates import FloatArray

Sample: TypeAlias = dict[str, FloatArray]
"""Column to one value per run, or to a pair of them; NaN or infinity if the run has no value."""

EVEN_SPLIT = {0: 0.5, 1: 0.5}


def per_run(n_runs: int, measure: Callable[[int], Mapping[str, float]]) -> Sample:
    """Measure each run, and return the figures as columns."""
    rows = [measure(run) for run in range(n_runs)]
    return {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}


def measure(history: History, truth: FloatArray, shaping: Shaping, layout: Layout) -> Sample:
    """Return all figures of a history.

    Args:
        history: The history.
        truth: Rates, shape (n_rows, n_arms); arm 0 is the champion.
        shaping: Source of the shares.
        layout: The rows.
    """
    tables, design = history.tables(), shaping.design
    verdicts = decide(tables, design)

    def of_run(run: int) -> dict[str, float]:
        return {
            "alarm": is_alarming(history.exposures(run)),
            "holds_champion": covers_mean(tables[run], truth, 0, design),
            "holds_challenger": covers_mean(tables[run], truth, 1, design),
            "holds_split": covers_split(tables[run], truth, EVEN_SPLIT, design),
        }

    naive, size = ZTests.of(history.n, history.sums), np.diff(layout.ends, prepend=0.0)
    return {
        **per_run(len(tables), of_run),
        **verdict_figures(verdicts, layout),
        "holds_difference": covers_truth(verdicts.stacks[0], truth[:, 1] - truth[:, 0]),
        "holds_lift": covers_ratio(verdicts.stacks[0], truth[0, 1] / truth[0, 0]),
        "naive_once": naive.once(ALPHA),
        "naive_peeked": naive.peeked(ALPHA),
        "naive_holds": naive.covers(running_difference(truth, size), ALPHA),
        "regret": (history.n * (truth.max(axis=1, keepdims=True) - truth)).sum(axis=(1, 2)),
    }


def verdict_figures(verdicts: Verdicts, layout: Layout) -> Sample:
    """Return which differences were established, and when."""
    found, stands = verdicts.found, verdicts.stands
    others = np.ones(found.shape[1:], dtype=bool)
    others[0, BETTER] = False
    ends = np.append(layout.ends, np.inf)
    rows = np.minimum(verdicts.first_rows, len(layout.ends)).astype(int)
    return {
        "any": verdicts.is_any,
        "stands": stands.max(axis=(1, 2)),
        "better": found[..., BETTER].max(axis=1),
        "worse": found[..., WORSE].max(axis=1),
        "first_better": found[:, 0, BETTER],
        "first_stands": stands[:, 0, BETTER],
        "wrong": found[:, others].max(axis=1),
        "decisions": ends[rows],
    }


def is_alarming(exposures: ExposureTable) -> bool:
    """True if the check for sample ratio mismatch alarms."""
    check = check_sample_ratio(exposures)
    return isinstance(check, SampleRatio) and check.is_alarming()


def running_difference(truth: FloatArray, sizes: FloatArray) -> FloatArray:
    """Return the mean difference of challenger and champion over the decisions so far, by row."""
    gap, counted = truth[:, 1] - truth[:, 0], sizes.cumsum()
    mean = np.divide((sizes * gap).cumsum(), counted, out=gap.copy(), where=counted > 0)
    return np.asarray(mean)

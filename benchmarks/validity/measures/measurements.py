"""All measurements of each run: verdicts, coverage, and z-tests for comparison."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from bandit.inference.data.table import ExposureTable
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.sample_ratio import SampleRatio, check_sample_ratio
from benchmarks.validity.measures.coverage import covers_difference, covers_mean, covers_ratio, covers_split
from benchmarks.validity.measures.decisions import ALPHA, Verdict, decide
from benchmarks.validity.measures.z_tests import ZTests
from benchmarks.validity.worlds.histories import History
from benchmarks.validity.worlds.rates import FloatArray

Sample: TypeAlias = dict[str, FloatArray]
"""Column to one value per run; NaN or infinity if the run has no value."""

EVEN_SPLIT = {0: 0.5, 1: 0.5}


def per_run(n_runs: int, measure: Callable[[int], Mapping[str, float]]) -> Sample:
    """Measure each run, and return the figures as columns."""
    rows = [measure(run) for run in range(n_runs)]
    return {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}


def measure(history: History, truth: FloatArray, floors: tuple[float, ...], size: int) -> Sample:
    """Return all figures of a history.

    Args:
        history: The history.
        truth: Rates, shape (n_epochs, n_arms); arm 0 is the champion.
        floors: Declared floors of the arms.
        size: Decisions per epoch.
    """
    design = Design(alpha=ALPHA, floors=dict(enumerate(floors)))

    def of_run(run: int) -> dict[str, float]:
        table = history.table(run)
        verdict = decide(table, design)
        return {
            **verdict_figures(verdict, size),
            "alarm": is_alarming(history.exposures(run)),
            "holds_champion": covers_mean(table, truth, 0, design),
            "holds_challenger": covers_mean(table, truth, 1, design),
            "holds_difference": covers_difference(table, truth, 1, 0, design),
            "holds_lift": covers_ratio(table, truth[0, 1] / truth[0, 0], 1, 0, design),
            "holds_split": covers_split(table, truth, EVEN_SPLIT, design),
        }

    naive = ZTests.of(history.n, history.sums)
    return {
        **per_run(len(history.n), of_run),
        "naive_once": naive.once(ALPHA),
        "naive_peeked": naive.peeked(ALPHA),
        "naive_holds": naive.covers(running_difference(truth), ALPHA),
        "regret": (history.n * (truth.max(axis=1, keepdims=True) - truth)).sum(axis=(1, 2)),
    }


def verdict_figures(verdict: Verdict, size: int) -> dict[str, float]:
    """Return which differences were established, by which test, and when."""
    first_better = verdict.processes[1][0]
    level = ALPHA / len(verdict.processes)
    return {
        "any": verdict.is_any,
        "better": bool(verdict.better),
        "first_better": 1 in verdict.better,
        "wrong": bool(verdict.worse | verdict.better - {1}),
        "aipw": any(pair[0].aipw.rejects(level) for pair in verdict.processes.values()),
        "odds": any(pair[0].odds.rejects(level) for pair in verdict.processes.values()),
        "aipw_first": first_better.aipw.rejects(level),
        "odds_first": first_better.odds.rejects(level),
        "mean_first": first_better.mean.rejects(level),
        "decisions": (verdict.row + 1) * size,
    }


def is_alarming(exposures: ExposureTable) -> bool:
    """True if the check for sample ratio mismatch alarms."""
    check = check_sample_ratio(exposures)
    return isinstance(check, SampleRatio) and check.is_alarming()


def running_difference(truth: FloatArray) -> FloatArray:
    """Return the mean difference of challenger and champion over the epochs so far, all of one size."""
    gap = truth[:, 1] - truth[:, 0]
    return np.asarray(gap.cumsum() / np.arange(1, len(gap) + 1))

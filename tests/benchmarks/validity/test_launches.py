"""The studies of launches as a whole: their evidence is the library's, and their rules do what they say."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest

from bandit.inference.data.table import EvidenceTable, ValueScale
from bandit.inference.sequential.odds import harm_process
from bandit.inference.sequential.results import EProcess
from bandit.metric import Direction
from benchmarks.validity.studies import launches
from benchmarks.validity.studies.launches import EQUAL, WORLDS, launch_five
from benchmarks.validity.studies.rollback_rules import _in_a_row, take_out

N_RUNS = 60


def test_harm_over_all_looks_is_that_of_the_librarys_process() -> None:
    """The largest value over the rows since a challenger's start is the process's maximum."""
    rng = np.random.default_rng(5)
    history, _ = launches._played(EQUAL, rng, 2)
    errors = launches._errors(EQUAL, history, rng)
    largest = launches._harm(EQUAL, history, errors, 2, 1.0)
    for run in range(2):
        sums = errors[0, run][:, [0, 3]]
        table = EvidenceTable(
            arms=(0, 3),
            shares=history.shares[run][:, [0, 3]],
            n=history.n[run][:, [0, 3]],
            sums=sums,
            squares=sums,
            scale=ValueScale(direction=Direction.MINIMIZE),
        )
        process = harm_process(table, 3, 0)
        assert isinstance(process, EProcess)
        assert max(largest[run], 0) == pytest.approx(process.log_maximum)


def test_shares_sum_to_one_and_a_challenger_has_none_before_its_week() -> None:
    """Ramps are as declared, and the champion keeps its reserve in the bandit."""
    history, _ = launches._played(EQUAL, np.random.default_rng(5), 2)
    assert history.shares.sum(axis=2) == pytest.approx(1.0)
    assert not history.shares[:, : 2 * 28, 3].any()
    assert history.shares[0, 2 * 28 : 2 * 28 + 8, 3] == pytest.approx(0.01)
    assert history.shares[:, -1].min() >= 0.03 - 1e-9
    assert history.shares[:, :, 0].min() >= 0.2 - 1e-9


def test_late_errors_are_the_same_errors() -> None:
    """Half of them come in later; none is lost or counted twice by the last look."""
    rng = np.random.default_rng(5)
    late = replace(EQUAL, late=4)
    history, _ = launches._played(late, rng, 4)
    at_once, later = launches._errors(late, history, rng)
    assert later.sum() == pytest.approx(at_once.sum(), rel=5 / sqrt(at_once.sum()))


def test_a_better_challenger_is_promoted_and_equal_ones_are_not() -> None:
    """In nearly all runs, and in at most .025 of them."""
    rng = np.random.default_rng(5)
    better = launch_five(WORLDS["the second 10 % better"], rng, N_RUNS)
    assert better["best_promoted"].mean() >= 0.8
    assert np.median(better["day"]) < 84
    equal = launch_five(EQUAL, rng, N_RUNS)
    slack = 5 * sqrt(0.025 * 0.975 / N_RUNS)
    assert equal["promoted"].mean() <= 0.025 + slack
    assert equal["rolled_back"].mean() <= 0.05 + 5 * sqrt(0.05 * 0.95 / N_RUNS)
    assert (equal["each_rolled_back"] >= equal["rolled_back"]).all()
    assert (equal["rolled_back"] >= equal["margin_rolled_back"]).mean() > 0.9


def test_a_break_in_failed_checks_starts_the_count_again() -> None:
    """Three in a row, none, and one."""
    failed = np.array([[True, True, True, False, True]])
    assert _in_a_row(failed).tolist() == [[1, 2, 3, 0, 1]]


def test_a_threshold_takes_out_challengers_without_harm_and_a_guardrail_does_not() -> None:
    """Five failed checks in all come sooner or later, whatever the errors are; five-fold errors are found."""
    rng = np.random.default_rng(5)
    equal, harmful = take_out(1.0, rng, N_RUNS), take_out(5.0, rng, N_RUNS)
    assert equal["in_all_fires"].mean() > 0.9
    assert equal["guardrail_fires"].mean() <= 0.025 + 5 * sqrt(0.025 * 0.975 / N_RUNS)
    for rule in ("guardrail", "margin", "in_all", "in_a_row", "mann_whitney"):
        assert harmful[f"{rule}_fires"].all()
    assert np.median(harmful["guardrail_day"]) < np.median(harmful["mann_whitney_day"])

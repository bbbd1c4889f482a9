"""Simulated bandits: e-processes keep their error rates at every look, and intervals their coverage.

A bandit with floors of 20 % and 5 % follows its luck, so a naive test would fail. Bounds on counts are
one-sided binomial at a false-alarm rate of 1e-6: mean plus 4.9 standard deviations.
"""

from dataclasses import replace
from functools import lru_cache
from math import exp, log, sqrt
from typing import Literal

import numpy as np
import pytest

from bandit.inference.data.pairs import Pair, pair_of
from bandit.inference.data.table import FloatArray, ValueScale
from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.centred_odds import CentredOdds
from bandit.inference.sequential.comparison import Comparison, compare
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.means import MeanEstimate, estimate_mean
from bandit.inference.sequential.off_policy import SplitValue, value_of_split
from benchmarks.validity.measures.coverage import covers_ratio, covers_truth
from benchmarks.validity.measures.decisions import BETTER, decide
from benchmarks.validity.measures.z_tests import ZTests
from benchmarks.validity.worlds.histories import History, Shaping, collect
from benchmarks.validity.worlds.layouts import PARTS, growing
from benchmarks.validity.worlds.outcomes import REAL
from benchmarks.validity.worlds.rates import drifting, seasonal, still
from tests.bandit.inference.tables import make_table

ALPHA = 0.05
LAYOUT = growing(10_000)
SHAPING = Shaping(floors=(0.2, 0.05))
N_RUNS = 300
ROUNDING = 1e-7
SIGNS: tuple[Literal[1, -1], ...] = (1, -1)
SCALES = [ValueScale(), REAL]
SCALE_NAMES = ["centred odds", "bounded scores"]


@lru_cache
def simulate(rates: tuple[float, float], *, is_seasonal: bool = False, n_runs: int = N_RUNS) -> History:
    """Simulate Thompson sampling on 10,000 decisions; both rates may swing together by 60 %."""
    return collect(
        truth_of(rates, is_seasonal=is_seasonal), LAYOUT, SHAPING, n_runs, np.random.default_rng(5)
    )


def truth_of(rates: tuple[float, float], *, is_seasonal: bool) -> FloatArray:
    """Return the rates of every row."""
    return seasonal(rates, LAYOUT.times) if is_seasonal else still(rates, len(LAYOUT.times))


def most(probability: float, n_runs: int = N_RUNS) -> float:
    """Return the largest count that this probability yields, exceeded with probability 1e-6."""
    return n_runs * probability + 4.9 * sqrt(n_runs * probability * (1 - probability))


@pytest.mark.parametrize("is_seasonal", [False, True])
@pytest.mark.parametrize("scale", SCALES, ids=SCALE_NAMES)
def test_false_positives_keep_to_alpha_at_every_look(scale: ValueScale, *, is_seasonal: bool) -> None:
    """With equal arms, a difference in either direction is found at some look in at most alpha of runs."""
    history = replace(simulate((0.1, 0.1), is_seasonal=is_seasonal), scale=scale)
    assert decide(history.tables(), SHAPING.design).is_any.sum() <= most(ALPHA)


def test_a_peeked_naive_test_fails_on_the_same_runs() -> None:
    """The check above can fail: z-tests of plain means at every look err far more often."""
    history = simulate((0.1, 0.1), is_seasonal=True)
    assert ZTests.of(history.n, history.sums).peeked(ALPHA).sum() > most(ALPHA)


@pytest.mark.parametrize("rates", [(0.1, 0.1), (0.3, 0.2)])
@pytest.mark.parametrize("scale", SCALES, ids=SCALE_NAMES)
def test_e_processes_are_supermartingales(scale: ValueScale, rates: tuple[float, float]) -> None:
    """If the challenger is no better, the mean E at the end is at most 1, within five standard errors."""
    verdicts = decide(replace(simulate(rates), scale=scale).tables(), SHAPING.design)
    finals = np.exp(verdicts.paths[:, 0, BETTER, -1])
    assert finals.mean() <= 1 + 5 * finals.std() / sqrt(N_RUNS)


@pytest.mark.parametrize("scale", SCALES, ids=SCALE_NAMES)
def test_the_true_difference_is_refuted_in_at_most_alpha_of_runs(scale: ValueScale) -> None:
    """At every look of 300 runs; by centred odds the true ratio as well, while both rates swing by 60 %."""
    rates = (0.3, 0.36)
    stack = decide(replace(simulate(rates), scale=scale).tables(), SHAPING.design).stacks[0]
    assert N_RUNS - covers_truth(stack, np.full(len(LAYOUT.times), 0.06)).sum() <= most(ALPHA)
    if scale.is_binary:
        swinging = decide(simulate(rates, is_seasonal=True).tables(), SHAPING.design).stacks[0]
        assert N_RUNS - covers_ratio(swinging, 1.2).sum() <= most(ALPHA)


@pytest.mark.parametrize("scale", SCALES, ids=SCALE_NAMES)
def test_printed_intervals_cover_over_time(scale: ValueScale) -> None:
    """Over two looks, every interval of the report misses in at most alpha of runs."""
    rates, n_runs, missed = (0.3, 0.36), 8, np.zeros(5)
    history = replace(simulate(rates, n_runs=n_runs), scale=scale)
    truths = rates[0], rates[1], rates[1] - rates[0], rates[1] / rates[0] - 1, sum(rates) / 2
    for run in range(n_runs):
        looks = [intervals(history, run, n_rows) for n_rows in (12, None)]
        for column, truth in enumerate(truths):
            ends = [look[column] for look in looks]
            missed[column] += any(not lower <= truth <= upper for lower, upper in ends)
    assert missed.max() <= most(ALPHA, n_runs)


def intervals(history: History, run: int, n_rows: int | None) -> list[tuple[float, float]]:
    """Return the ends of both means, the difference, the relative change and an even split."""
    table, design = history.table(run, n_rows), SHAPING.design
    pair, split = compare(table, 1, 0, design), value_of_split(table, {0: 1.0, 1: 1.0}, design)
    means = [estimate_mean(table, arm, 0, design) for arm in (0, 1)]
    assert isinstance(pair, Comparison)
    assert isinstance(split, SplitValue)
    assert not isinstance(pair.lift, CannotSay)
    found = [mean.interval for mean in means if isinstance(mean, MeanEstimate)]
    assert len(found) == len(means)
    return [(ends.lower, ends.upper) for ends in (*found, pair.interval, pair.lift, split.interval)]


def test_a_lift_is_found_as_often_as_is_required() -> None:
    """From .10 to .12, .78 of runs with floors 20/5 find it within 20,000 decisions; .03 of worse arms do."""
    layout, n_runs = growing(20_000), 200
    truth = still((0.1, 0.12), len(layout.times))
    history = collect(truth, layout, SHAPING, n_runs, np.random.default_rng(6))
    verdicts = decide(history.tables(), SHAPING.design)
    found = verdicts.reaches(1, BETTER, log(2 / ALPHA)).sum()
    assert found >= 0.78 * n_runs - 4.9 * sqrt(0.78 * 0.22 * n_runs)
    assert verdicts.found[:, 0, 1].sum() <= most(0.03, n_runs)


def test_split_values_are_unbiased_where_naive_means_are_not() -> None:
    """Under a drift, doubly robust values of splits are unbiased within five standard errors; naive not."""
    n_runs, truth = 100, drifting((0.1, 0.12), LAYOUT.times)
    history = collect(truth, LAYOUT, SHAPING, n_runs, np.random.default_rng(7))
    counted = np.diff(LAYOUT.ends, prepend=0.0)[len(PARTS) :]
    for split in ({0: 0.5, 1: 0.5}, {0: 0.9, 1: 0.1}):
        weights = np.array(list(split.values()))
        worth = float(counted @ truth[len(PARTS) :] @ weights / counted.sum())
        results = [value_of_split(history.table(run), split, SHAPING.design) for run in range(0, n_runs, 4)]
        values = np.array([result.value for result in results if isinstance(result, SplitValue)])
        assert abs(values.mean() - worth) <= 5 * values.std() / sqrt(len(values))
    naive = history.sums.sum(axis=1) / history.n.sum(axis=1) @ weights
    assert abs(naive.mean() - worth) > 5 * naive.std() / sqrt(n_runs)


def test_with_twenty_arms_p_value_interval_and_finding_are_one_statement() -> None:
    """At the level of 19 challengers, p is at most .05 exactly if one is found and both leave out 0."""
    rng, seen = np.random.default_rng(8), set()
    for _ in range(20):
        shares = rng.dirichlet(np.full(20, 5.0), size=3)
        n = np.array(
            [rng.multinomial(size, row) for size, row in zip((400, 2_000, 6_000), shares, strict=True)]
        )
        sums = rng.binomial(n, 0.2 * rng.uniform(0.2, 2.5, 20)).astype(float)
        table, design = make_table(shares, n.astype(float), sums), Design(n_challengers=19)
        for arm in (1, 2, 3):
            found = compare(table, arm, 0, design)
            assert isinstance(found, Comparison)
            sides = [process.log_value >= design.log_level for process in (found.better, found.worse)]
            p_values = [38 * exp(-process.log_value) for process in (found.better, found.worse)]
            assert [p_value <= ALPHA for p_value in p_values] == sides
            for ends in (found.interval, found.lift):
                assert not isinstance(ends, CannotSay)
                assert [ends.lower > 0, ends.upper < 0] == sides
            seen.add(tuple(sides))
    assert seen == {(True, False), (False, True), (False, False)}


@pytest.mark.parametrize("seed", range(10))
def test_e_rises_away_from_the_estimate(seed: int) -> None:
    """Scans of the difference and of the ratio, in both directions, over rows that drift; none falls."""
    rng = np.random.default_rng(seed)
    history = collect(drifting((0.1, 0.14), LAYOUT.times), LAYOUT, SHAPING, 1, rng)
    table = history.table(0, int(rng.integers(8, len(LAYOUT.times))))
    pair = pair_of(table, 1, 0)
    assert isinstance(pair, Pair)
    odds, (base, own) = CentredOdds(pair.tested()), pair.means
    for sign in SIGNS:
        scans = [
            [odds.log_e_value(gap, sign) for gap in np.linspace(own - base, -0.98 * sign, 40).tolist()],
            [
                odds.log_e_value_of_ratio(ratio, sign)
                for ratio in np.geomspace((own + 1e-3) / (base + 1e-3), 20.0**-sign, 40).tolist()
            ],
        ]
        for scan in scans:
            assert np.all(np.diff(scan) >= -ROUNDING * (1 + np.abs(scan[1:])))

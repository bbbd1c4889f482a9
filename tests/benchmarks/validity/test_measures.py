"""Measures of the validity benchmark: its shortcuts agree with the library, and figures are right."""

from datetime import timedelta
from math import inf, log

import numpy as np
import pytest
from statsmodels.stats.proportion import proportions_ztest

from bandit.allocation import ExperimentState
from bandit.decision_id import Basis
from bandit.experiment import Arm, Experiment
from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.comparison import Comparison, compare
from bandit.inference.sequential.means import MeanEstimate, estimate_mean
from bandit.inference.sequential.off_policy import SplitValue, value_of_split
from bandit.inference.verdict.assessment import assess
from bandit.inference.verdict.claims import Claim
from bandit.posteriors import BetaPosterior
from bandit.posteriors.best_arm import best_arm_summary
from benchmarks.validity.cell import Cell
from benchmarks.validity.groups import row_of
from benchmarks.validity.measures.beliefs import believe
from benchmarks.validity.measures.coverage import (
    covers_difference,
    covers_last,
    covers_mean,
    covers_ratio,
    covers_split,
)
from benchmarks.validity.measures.decisions import Verdicts, decide
from benchmarks.validity.measures.results import Kind, Limit, figure_of, of_rate, of_spread
from benchmarks.validity.measures.stacks import Stack, stack_of
from benchmarks.validity.measures.z_tests import ZTests
from benchmarks.validity.worlds.histories import History, Shaping, collect
from benchmarks.validity.worlds.layouts import even, growing
from benchmarks.validity.worlds.logs import METRIC_NUMBER, Log, tables
from benchmarks.validity.worlds.outcomes import amounts
from benchmarks.validity.worlds.rates import drifting, still

SHAPING = Shaping(floors=(0.2, 0.05, 0.05))
DESIGN = SHAPING.design
EPOCHS = even(12, 500)
IDS = ("a", "b", "c")


def history(rates: tuple[float, ...] = (0.1, 0.16, 0.1), *, seed: int = 3, n_runs: int = 1) -> History:
    """Twelve epochs of 500 decisions over three arms."""
    return collect(drifting(rates, EPOCHS.times), EPOCHS, SHAPING, n_runs, np.random.default_rng(seed))


def log_of(seen: History, *, is_messy: bool = False) -> Log:
    """The first run as facts; if messy, with fallbacks and late outcomes, which count for nothing."""
    extra = np.where(np.arange(3) == 0, 40.0, 0.0) * np.ones_like(seen.n[0]) * is_messy
    return Log(
        shares=seen.shares[0],
        n={Basis.POLICY: seen.n[0], Basis.FALLBACK: extra},
        sums={Basis.POLICY: seen.sums[0], Basis.FALLBACK: extra // 2},
        late=(seen.n[0] - seen.sums[0]) // 10 if is_messy else None,
    )


def state_of(log: Log) -> ExperimentState:
    """Return the experiment that would have kept this log, once its last epoch has closed."""
    return ExperimentState(
        experiment=Experiment(
            name="x",
            arms=tuple(Arm(id=arm) for arm in IDS),
            champion="a",
            metrics=(log.metric,),
            reward_metric=log.metric.name,
            salt=bytes(16),
        ),
        arm_numbers={arm: number for number, arm in enumerate(IDS)},
        metric_numbers={log.metric.name: METRIC_NUMBER},
        epochs=log.epochs(),
        facts=log.facts(),
        lag=timedelta(),
        now=log.now(),
    )


@pytest.mark.parametrize("is_messy", [False, True])
def test_verdicts_are_those_of_a_whole_assessment(*, is_messy: bool) -> None:
    """E-values and what is established are the same from facts as by the shortcut."""
    log = log_of(history(), is_messy=is_messy)
    table, exposures = tables(log)
    short, whole = decide([table], DESIGN), assess(state_of(log), DESIGN.floors)
    established = np.zeros((2, 2))
    for arm in (1, 2):
        seen = whole.reward.challengers[arm]
        for side, claim in enumerate((seen.better, seen.worse)):
            assert isinstance(claim, Claim)
            assert claim.log_level == pytest.approx(short.log_level)
            np.testing.assert_allclose(
                short.paths[0, arm - 1, side, list(claim.rows)], claim.process.log_values
            )
            established[arm - 1, side] = claim.is_established
    np.testing.assert_array_equal(short.stands[0], established)
    assert established[0, 0]
    assert exposures.counts.sum() == 12 * 500


def test_the_log_gives_the_table_of_the_history() -> None:
    """Fallbacks and late outcomes leave no trace; the last epoch is open while its window is."""
    seen = history()
    table, _ = tables(log_of(seen, is_messy=True))
    for name in ("shares", "n", "sums"):
        np.testing.assert_allclose(getattr(table, name), getattr(seen.table(0, 11), name))


def first_pairs(seen: History) -> Stack:
    """Return the first challenger in every run."""
    made = seen.tables()
    return stack_of(made, 1, 0, DESIGN)


def test_stacked_runs_are_those_of_the_library_one_by_one() -> None:
    """In each of five runs, yes/no or amounts, every path is that of `compare`, and so is the last margin."""
    truth = still((0.1, 0.16, 0.1), len(growing(2_000).epochs))
    for outcomes in (None, amounts(10)):
        seen = collect(truth, growing(2_000), SHAPING, 5, np.random.default_rng(8), outcomes)
        stack = first_pairs(seen)
        for run in range(5):
            alone = compare(seen.table(run), 1, 0, DESIGN)
            assert isinstance(alone, Comparison)
            for sign, process in ((1, alone.better), (-1, alone.worse)):
                path = stack.against_difference(0.0, 1 if sign == 1 else -1)[run, list(alone.rows)]
                np.testing.assert_allclose(path, process.log_values, atol=1e-9)
            if outcomes is not None:
                margin = stack.margins(DESIGN.log_level)[run]
                assert (alone.interval.upper - alone.interval.lower) / 2 == pytest.approx(margin, rel=0.02)


@pytest.mark.parametrize("offset", [-0.12, -0.03, 0.0, 0.03, 0.12])
def test_coverage_is_that_of_the_printed_intervals(offset: float) -> None:
    """The ends hold a value at all looks exactly if the shortcut says so, whether or not it is true."""
    seen = collect(still((0.1, 0.13, 0.1), 12), EPOCHS, SHAPING, 1, np.random.default_rng(3))
    truth = still((0.1, 0.13 + offset / 2, 0.1), 12)
    delta, ratio, held = 0.03 + offset, 1.3 * (1 + 5 * offset), np.ones(4, dtype=bool)
    for look in range(1, 13):
        table = seen.table(0, look)
        mean, pair = estimate_mean(table, 1, 0, DESIGN), compare(table, 1, 0, DESIGN)
        split = value_of_split(table, {0: 0.5, 1: 0.5}, DESIGN)
        assert isinstance(mean, MeanEstimate)
        assert isinstance(pair, Comparison)
        assert not isinstance(pair.lift, CannotSay)
        values = [truth[0, 1], delta, ratio - 1]
        intervals = [mean.interval, pair.interval, pair.lift]
        if isinstance(split, SplitValue):
            values.append(truth[0, :2].mean())
            intervals.append(split.interval)
        for place, (ends, value) in enumerate(zip(intervals, values, strict=True)):
            held[place] &= ends.lower <= value <= ends.upper
    stack, table = first_pairs(seen), seen.table(0)
    assert held.tolist() == [
        covers_mean(table, truth, 1, DESIGN),
        bool(covers_difference(stack, delta)[0]),
        bool(covers_ratio(stack, ratio)[0]),
        covers_split(table, truth, {0: 0.5, 1: 0.5}, DESIGN),
    ]
    assert held.all() or offset != 0.0
    assert not held.all() or abs(offset) < 0.1


@pytest.mark.parametrize("side", ["lower", "upper"])
def test_what_is_covered_ends_where_the_intervals_end(side: str) -> None:
    """A value a thousandth inside an end is covered at the last look, and one as far outside is not."""
    seen = collect(still((0.3, 0.39, 0.3), 12), EPOCHS, SHAPING, 1, np.random.default_rng(3))
    pair, stack = compare(seen.table(0), 1, 0, DESIGN), first_pairs(seen)
    assert isinstance(pair, Comparison)
    inwards = 1e-3 if side == "lower" else -1e-3
    for step, is_held in ((inwards, True), (-inwards, False)):
        value = getattr(pair.interval, side) + step
        assert covers_last(stack, np.full(12, value)).tolist() == [is_held]


def test_a_verdict_is_reached_when_the_first_process_is_at_the_level() -> None:
    """Of two hypotheses one has to reach ln 40, and the first row that does is the time to verdict."""
    short, enough = log(39.0), log(41.0)
    paths = np.array([[[[short, short, enough, 0.0], [short] * 4]], [[[short] * 4, [0.0] * 4]]])
    verdicts = Verdicts(paths=paths, log_level=log(40.0), stacks=())
    assert verdicts.first_rows.tolist() == [2, inf]
    assert verdicts.is_any.tolist() == [1, 0]
    assert verdicts.stands.sum() == 0


def test_grid_beliefs_agree_with_the_quadrature() -> None:
    """P(best) agrees within 2e-3 and relative loss within 2 % if counts differ less than a hundredfold."""
    rng = np.random.default_rng(7)
    n = 10 ** rng.uniform(2, 4, (60, 3))
    successes = np.floor(n * rng.uniform(0.05, 0.15, (60, 3)))
    failures = np.floor(n - successes)
    seen = believe(successes, failures)
    for run in range(60):
        pairs = zip(successes[run], failures[run], strict=True)
        beliefs = [BetaPosterior(1 + won, 1 + lost) for won, lost in pairs]
        exact = best_arm_summary(beliefs)
        losses = exact.expected_losses / [belief.mean for belief in beliefs]
        np.testing.assert_allclose(seen.best[run], exact.probabilities, atol=2e-3)
        np.testing.assert_allclose(seen.relative_loss[run], losses, rtol=0.02, atol=2e-4)


def test_the_naive_test_is_the_textbooks() -> None:
    """The naive test is the pooled two-proportion z of statsmodels, from all counts so far."""
    shaping = Shaping(floors=(0.2, 0.05))
    seen = collect(still((0.1, 0.12), 12), 500, shaping, 1, np.random.default_rng(4))
    naive = ZTests.of(seen.n, seen.sums)
    n, sums = seen.n[0].sum(axis=0), seen.sums[0].sum(axis=0)
    z, _ = proportions_ztest([sums[1], sums[0]], [n[1], n[0]])
    assert naive.z[0, -1, 0] == pytest.approx(z)


def test_the_spread_of_two_columns_has_a_standard_error() -> None:
    """Of independent normal columns it is that of a ratio of standard deviations, sd(log) = 1/sqrt(n)."""
    values = np.random.default_rng(1).normal(size=(20_000, 2)) * (2.0, 1.0)
    figure = of_spread(values)
    assert figure.value == pytest.approx(2.0, rel=0.04)
    assert figure.standard_error == pytest.approx(2 / 20_000**0.5, rel=0.05)


def test_a_figure_beyond_its_limit_is_marked() -> None:
    """In the row, in JSON, at most or at least; on the limit it is kept."""
    limits = {"any": Limit(0.05), "alarm": Limit(0.5, is_least=True)}
    cell = Cell(group="equal", name="x", play=lambda _rng, _n_runs: {}, limits=limits)
    values = np.repeat([1.0, 0.0], [1, 9])
    row = row_of(cell, {"any": values, "alarm": np.repeat([0.0, 1.0], 5), "better": values})
    assert {key: figure.is_missed for key, figure in row.figures.items()} == {
        "any": True,
        "alarm": False,
        "better": False,
    }
    assert (
        row.figures["any"].as_json() | {"limit": "≤ .05", "is_missed": True} == row.figures["any"].as_json()
    )
    assert "limit" not in row.figures["better"].as_json()


def test_rates_have_a_standard_error_even_at_zero() -> None:
    """A rate of no false positives in a hundred runs still has a standard error."""
    assert of_rate(np.zeros(100)).value == 0.0
    assert of_rate(np.zeros(100)).standard_error == pytest.approx(0.00702, abs=1e-5)
    assert of_rate(np.repeat([0.0, 1.0], 500)).standard_error == pytest.approx(0.0158, abs=1e-4)


def test_medians_of_runs_that_never_end_are_null() -> None:
    """Infinite medians are null, since JSON has no infinity."""
    figure = figure_of(np.array([3.0, np.inf, np.inf, np.inf]), Kind.MEDIAN)
    assert figure.as_json() == {"value": None, "quartiles": [3.0, None]}

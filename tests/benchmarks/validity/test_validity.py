"""The validity benchmark: its shortcuts agree with the library, and its figures are what they claim."""

import json
from dataclasses import replace
from datetime import timedelta
from math import log
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from statsmodels.stats.proportion import proportions_ztest

from bandit.allocation import ExperimentState
from bandit.decision_id import Basis
from bandit.experiment import Arm, Experiment
from bandit.inference.data.table import EvidenceTable
from bandit.inference.sequential.aipw import Comparison, MeanEstimate, compare_means, estimate_mean
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.odds import OddsComparison, compare_odds
from bandit.inference.sequential.off_policy import SplitValue, value_of_split
from bandit.inference.sequential.results import EProcess
from bandit.inference.verdict.assessment import assess
from bandit.inference.verdict.claims import Claim
from bandit.limits import ArmStanding, Limits, apply_limits
from bandit.posteriors import BetaPosterior
from bandit.posteriors.best_arm import best_arm_summary
from benchmarks.harness.parallel import run_all
from benchmarks.validity.cells import all_cells
from benchmarks.validity.command import main
from benchmarks.validity.groups import GROUPS, row_of
from benchmarks.validity.measures.beliefs import believe
from benchmarks.validity.measures.coverage import covers_difference, covers_mean, covers_ratio, covers_split
from benchmarks.validity.measures.decisions import decide, first_crossing
from benchmarks.validity.measures.results import Kind, figure_of, of_rate
from benchmarks.validity.measures.z_tests import ZTests
from benchmarks.validity.pieces import pieces_of
from benchmarks.validity.worlds.histories import History, Shaping, collect
from benchmarks.validity.worlds.logs import METRIC_NUMBER, Log, tables
from benchmarks.validity.worlds.rates import drifting, still, weekly
from benchmarks.validity.worlds.returning_units import Population, simulate_visits

SHAPING = Shaping(floors=(0.2, 0.05, 0.05))
DESIGN = Design(floors=dict(enumerate(SHAPING.floors)))
IDS = ("a", "b", "c")


def history(rates: tuple[float, ...] = (0.1, 0.16, 0.1), *, seed: int = 3, n_runs: int = 1) -> History:
    """Twelve epochs of 500 decisions over three arms."""
    return collect(drifting(rates, 12), 500, SHAPING, n_runs, np.random.default_rng(seed))


def log_of(seen: History, *, is_messy: bool = False) -> Log:
    """The first run as facts; if messy, with fallbacks and late outcomes, which count for nothing."""
    extra = np.where(np.arange(3) == 0, 40.0, 0.0) * np.ones_like(seen.n[0]) * is_messy
    return Log(
        shares=seen.shares[0],
        predictions=seen.predictions[0],
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
    """E-values, adjusted p-values and what is established are the same from facts as by the shortcut."""
    log = log_of(history(), is_messy=is_messy)
    table, exposures = tables(log)
    short, whole = decide(table, DESIGN), assess(state_of(log), DESIGN.floors)
    established = set()
    for arm, pair in short.processes.items():
        seen = whole.reward.challengers[arm]
        for side, claim in enumerate((seen.better, seen.worse)):
            assert isinstance(claim, Claim)
            assert claim.process.log_values == pytest.approx(pair[side].mean.log_values)
            established |= {(arm, side)} if claim.p_value <= DESIGN.alpha else set()
    assert established == {(arm, 0) for arm in short.better} | {(arm, 1) for arm in short.worse}
    assert (1, 0) in established
    assert exposures.counts.sum() == 12 * 500


def test_the_log_gives_the_table_of_the_history() -> None:
    """Fallbacks and late outcomes leave no trace; the last epoch is open while its window is."""
    seen = history()
    table, _ = tables(log_of(seen, is_messy=True))
    for name in ("shares", "predictions", "n", "sums"):
        np.testing.assert_allclose(getattr(table, name), getattr(seen.table(0, 11), name))


@pytest.mark.parametrize("offset", [-0.05, -0.02, 0.0, 0.05])
def test_coverage_is_that_of_the_printed_intervals(offset: float) -> None:
    """The ends hold a value at all looks exactly if the shortcut says so, whether or not it is true."""
    seen, truth = history((0.1, 0.13, 0.1)), drifting((0.1, 0.13, 0.1), 12)
    truth[:, 1] += offset
    so_far = truth.cumsum(axis=0) / np.arange(1, 13)[:, np.newaxis]
    ratio, held = 1.3 * (1 + 9 * offset), np.ones(4, dtype=bool)
    for look in range(1, 13):
        table, now = seen.table(0, look), so_far[look - 1]
        mean, contrast = estimate_mean(table, 1, DESIGN), compare_means(table, 1, 0, DESIGN)
        odds, split = compare_odds(table, 1, 0), value_of_split(table, {0: 0.5, 1: 0.5}, DESIGN)
        assert isinstance(mean, MeanEstimate)
        assert isinstance(contrast, Comparison)
        assert isinstance(odds, OddsComparison)
        assert isinstance(split, SplitValue)
        intervals = mean.interval, contrast.interval, odds.lift, split.interval
        values = now[1], now[1] - now[0], ratio - 1, now[:2].mean()
        held &= [end.lower <= value <= end.upper for end, value in zip(intervals, values, strict=True)]
    table = seen.table(0)
    assert held.tolist() == [
        covers_mean(table, truth, 1, DESIGN),
        covers_difference(table, truth, 1, 0, DESIGN),
        covers_ratio(table, ratio, 1, 0, DESIGN),
        covers_split(table, truth, {0: 0.5, 1: 0.5}, DESIGN),
    ]
    assert held.all() or offset != 0.0
    assert not held.all() or abs(offset) < 0.05


@pytest.mark.parametrize("side", ["lower", "upper"])
def test_what_is_covered_ends_where_the_intervals_end(side: str) -> None:
    """A value a ten-thousandth inside an end is covered, and one as far outside is not."""
    seen = history((0.3, 0.39, 0.3))
    table = only_epoch(seen, 11)
    mean, contrast = estimate_mean(table, 1, DESIGN), compare_means(table, 1, 0, DESIGN)
    odds, split = compare_odds(table, 1, 0), value_of_split(table, {0: 0.5, 1: 0.5}, DESIGN)
    assert isinstance(mean, MeanEstimate)
    assert isinstance(contrast, Comparison)
    assert isinstance(odds, OddsComparison)
    assert isinstance(split, SplitValue)
    inwards = 1e-4 if side == "lower" else -1e-4
    for step, is_held in ((inwards, True), (-inwards, False)):
        value = getattr(mean.interval, side) + step
        assert covers_mean(table, np.full((1, 3), value), 1, DESIGN) is is_held
        value = getattr(contrast.interval, side) + step
        assert covers_difference(table, np.array([[0.0, value, 0.0]]), 1, 0, DESIGN) is is_held
        value = getattr(odds.lift, side) + step
        assert covers_ratio(table, 1 + value, 1, 0, DESIGN) is is_held
        value = getattr(split.interval, side) + step
        assert covers_split(table, np.full((1, 3), value), {0: 0.5, 1: 0.5}, DESIGN) is is_held


def only_epoch(seen: History, row: int) -> EvidenceTable:
    """Return one epoch of the first run, with ten times its counts: a table with one look."""
    table = seen.table(0)
    only = slice(row, row + 1)
    return replace(
        table,
        shares=table.shares[only],
        predictions=table.predictions[only],
        n=10 * table.n[only],
        sums=10 * table.sums[only],
        squares=10 * table.squares[only],
    )


def test_a_verdict_is_reached_when_holm_first_rejects() -> None:
    """Of two hypotheses one has to reach ln 40, and the first row that does is the time to verdict."""
    short, enough = log(39.0), log(41.0)
    paths = {(1, 0): EProcess((short, short, enough)), (1, 1): EProcess((short, short, short))}
    assert first_crossing(paths, 0.05) == 2
    assert first_crossing({(1, 0): EProcess((short,)), (1, 1): EProcess((0.0,))}, 0.05) == np.inf


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


def test_shares_are_shaped_as_limits_shape_them() -> None:
    """Floors are additive, arm by arm."""
    best = np.array([[0.1, 0.7, 0.2], [1.0, 0.0, 0.0]])
    limits = Limits(minimum_share=0.05, minimum_shares={"a": 0.2})
    standings = [ArmStanding(id=arm) for arm in IDS]
    expected = [apply_limits(row, standings, limits) for row in best]
    np.testing.assert_allclose(SHAPING.shares(best), expected)


def test_the_naive_test_is_the_textbooks() -> None:
    """The naive test is the pooled two-proportion z of statsmodels, from all counts so far."""
    shaping = Shaping(floors=(0.2, 0.05))
    seen = collect(still((0.1, 0.12), 12), 500, shaping, 1, np.random.default_rng(4))
    naive = ZTests.of(seen.n, seen.sums)
    n, sums = seen.n[0].sum(axis=0), seen.sums[0].sum(axis=0)
    z, _ = proportions_ztest([sums[1], sums[0]], [n[1], n[0]])
    assert naive.z[0, -1, 0] == pytest.approx(z)


def test_weekday_effects_net_to_zero_over_whole_weeks() -> None:
    """Arms that are equal over a week differ on every day of it."""
    truth = weekly((0.05, 0.05), 28, 4, 0.2)
    assert truth[:, 1].mean() == pytest.approx(0.05)
    assert np.all(truth[:, 1] != truth[:, 0])


def test_a_unit_is_counted_once_however_often_it_comes() -> None:
    """Units are at most those that came, decisions many times as many, and no unit has two arms."""
    population = Population(visits=20, size=200, rhythm=np.ones(20), is_messy=True)
    visited = simulate_visits(population, SHAPING, np.random.default_rng(5))
    n_units = visited.units.n[Basis.POLICY].sum()
    decisions = visited.decisions.n
    assert n_units <= 20 * 200 / 20
    assert decisions[Basis.POLICY].sum() > 10 * n_units
    assert np.all(visited.units.sums[Basis.POLICY] <= visited.units.n[Basis.POLICY])
    assert decisions[Basis.FALLBACK][:, 1:].sum() == 0
    assert sum(visited.groups.values()) == decisions[Basis.POLICY].sum()


def test_rates_have_a_standard_error_even_at_zero() -> None:
    """A rate of no false positives in a hundred runs still has a standard error."""
    assert of_rate(np.zeros(100)).value == 0.0
    assert of_rate(np.zeros(100)).standard_error == pytest.approx(0.00702, abs=1e-5)
    assert of_rate(np.repeat([0.0, 1.0], 500)).standard_error == pytest.approx(0.0158, abs=1e-4)


def test_medians_of_runs_that_never_end_are_null() -> None:
    """Infinite medians are null, since JSON has no infinity."""
    figure = figure_of(np.array([3.0, np.inf, np.inf, np.inf]), Kind.MEDIAN)
    assert figure.as_json() == {"value": None, "quartiles": [3.0, None]}


def test_every_cell_fills_its_tables() -> None:
    """Each column has a figure in each of its rows, except where arms cross or an assumption is broken."""
    for cell in all_cells():
        row = row_of(cell, cell.play(np.random.default_rng(1), 2))
        for group in (group for group in GROUPS if cell.group in group.cells):
            missing = {column.key for column in group.columns} - row.figures.keys()
            broken = {"stands", "aipw", "odds", "alarm"} if cell.group == "broken" else set()
            assert missing <= {"holds_lift", "withheld", "unwithheld"} | broken
            assert row.figures


def test_titles_of_cells_are_unique() -> None:
    """A title names a cell, and seeds it."""
    titles = [cell.title for cell in all_cells()]
    assert len(set(titles)) == len(titles)


def test_results_depend_on_the_seed_and_not_on_the_number_of_processes() -> None:
    """One process and two find the same figures; another seed finds others."""
    cells = [cell for cell in all_cells() if cell.group == "rollback"]

    def played(seed: int, jobs: int) -> dict[tuple[str, int], list[float]]:
        pieces = pieces_of(cells, 60, seed)
        measured = run_all([piece.play for piece in pieces], jobs, lambda _n_pieces: None)
        return {
            (piece.cell, piece.number): sample["decisions"].tolist()
            for piece, (sample, _) in zip(pieces, measured, strict=True)
        }

    assert played(1, 1) == played(1, 2)
    assert played(1, 1) != played(2, 1)


def test_the_command_prints_tables_and_writes_json(tmp_path: Path) -> None:
    """The output has figures with standard errors, their cost, and the command and seed that repeat them."""
    file = tmp_path / "figures.json"
    arguments = ["--runs", "4", "--cells", "equal: 2 arms, 50/50*", "--seed", "7", "--jobs", "1"]
    result = CliRunner().invoke(main, [*arguments, "--json", str(file)])
    assert result.exit_code == 0, result.output
    assert "2 arms, 50/50, drift" in result.output
    assert "±" in result.output
    content = json.loads(file.read_text())
    assert (content["seed"], content["runs"], len(content["rows"])) == (7, 4, 3)
    assert content["rows"][0]["figures"]["any"].keys() == {"value", "standard_error"}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--cells", "nothing*"], "--list shows them"),
        (["--runs", "1"], "--runs"),
        (["--json", "/no/such/folder/x.json"], "a folder that exists"),
    ],
)
def test_an_invalid_option_is_refused_before_any_work(arguments: list[str], complaint: str) -> None:
    """An invalid option is refused at once, with what would be valid."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert complaint in result.output


def test_cells_can_be_listed() -> None:
    """Every cell is named, and none is simulated."""
    result = CliRunner().invoke(main, ["--list"])
    assert result.output.splitlines() == [cell.title for cell in all_cells()]


def test_fixed_shares_and_rates_are_as_declared() -> None:
    """Fixed shares and rates are as declared within five standard errors, over a hundred runs."""
    fixed = Shaping(floors=(0.7, 0.3), fixed=(0.7, 0.3))
    seen = collect(still((0.1, 0.2), 5), 400, fixed, 100, np.random.default_rng(2))
    n, sums = seen.n.sum(axis=(0, 1)), seen.sums.sum(axis=(0, 1))
    total = 100 * 5 * 400
    assert abs(n[1] - 0.3 * total) < 5 * (0.21 * total) ** 0.5
    assert np.all(abs(sums / n - (0.1, 0.2)) < 5 * np.sqrt(np.array([0.09, 0.16]) / n))

"""Simulated bandits: e-processes keep their error rates at every look, and intervals their coverage.

A bandit with floors of 20 % and 5 % follows its luck, so a naive test would fail. Bounds on counts are
one-sided binomial at a false-alarm rate of 1e-6: mean plus 4.9 standard deviations.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import log, sqrt

import numpy as np
import pytest
from scipy import special

from bandit.inference.data.table import EvidenceTable, FloatArray
from bandit.inference.planning.power import Forecast, Plan, forecast_aipw, forecast_odds
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.aipw import (
    Comparison,
    MeanEstimate,
    compare_means,
    contrast_process,
    estimate_mean,
)
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.lift import relative_lift
from bandit.inference.sequential.multiplicity import mean_process
from bandit.inference.sequential.odds import (
    PROMOTION_GRID,
    OddsComparison,
    compare_odds,
    count_events,
    ratio_process,
)
from bandit.inference.sequential.off_policy import SplitValue, value_of_split
from bandit.inference.sequential.results import EProcess, Interval
from bandit.inference.sequential.scores import score
from tests.bandit.inference.tables import make_table

ALPHA = 0.05
DESIGN = Design(alpha=ALPHA, floors={0: 0.2, 1: 0.05}, planned_decisions=10_000.0)
N_EPOCHS, SIZE, N_RUNS = 40, 250, 400


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Runs of a Thompson-like bandit, arrays of shape (n_epochs, n_runs, 2)."""

    shares: FloatArray
    predictions: FloatArray
    n: FloatArray
    sums: FloatArray

    def table(self, run: int, n_epochs: int = N_EPOCHS) -> EvidenceTable:
        """Return one run up to an epoch."""
        part = (slice(n_epochs), run)
        return make_table(
            self.shares[part], self.n[part], self.sums[part], predictions=self.predictions[part]
        )


@lru_cache
def simulate(rates: tuple[float, float], drift: float = 0.0, n_runs: int = N_RUNS, seed: int = 5) -> World:
    """Simulate shares above the floors by P(best), in the normal approximation; both rates drift together."""
    rng, floors = np.random.default_rng(seed), np.array([0.2, 0.05])
    shares, predictions, n, sums = (np.zeros((N_EPOCHS, n_runs, 2)) for _ in range(4))
    for epoch in range(N_EPOCHS):
        seen, won = n.sum(axis=0) + 2, sums.sum(axis=0) + 1
        means = won / seen
        spread = np.sqrt((means * (1 - means) / seen).sum(axis=1))
        best = special.ndtr((means[:, 1] - means[:, 0]) / spread)
        shares[epoch] = floors + 0.75 * np.stack([1 - best, best], axis=1)
        predictions[epoch] = means
        n[epoch, :, 1] = rng.binomial(SIZE, shares[epoch, :, 1])
        n[epoch, :, 0] = SIZE - n[epoch, :, 1]
        now = np.clip(np.array(rates) * (1 + drift * np.sin(epoch / 6)), 0, 1)
        sums[epoch] = rng.binomial(n[epoch].astype(int), now)
    return World(shares=shares, predictions=predictions, n=n, sums=sums)


def processes_of(table: EvidenceTable, design: Design) -> tuple[EProcess, EProcess]:
    """Return the e-processes of "better" by AIPW and by odds, without the costly intervals."""
    scores, events = score(table, [1, 0], design, design.cap(1, 0)), count_events(table, 1, 0)
    assert not isinstance(scores, CannotSay)
    assert not isinstance(events, CannotSay)
    mixture = design.contrast_mixture(1, 0, design.alpha)
    return contrast_process(scores, mixture, 1.0), ratio_process(events, PROMOTION_GRID)


def most(probability: float, n_runs: int = N_RUNS) -> float:
    """Return the largest count that this probability yields, exceeded with probability 1e-6."""
    return n_runs * probability + 4.9 * sqrt(n_runs * probability * (1 - probability))


@pytest.mark.parametrize("drift", [0.0, 0.6])
def test_false_positives_keep_to_alpha_at_every_look(drift: float) -> None:
    """With equal arms and 40 looks, AIPW, odds and their mean find a better arm in at most alpha of runs."""
    world, found = simulate((0.1, 0.1), drift), np.zeros(3)
    for run in range(N_RUNS):
        means, odds = processes_of(world.table(run), DESIGN)
        processes = [means, odds, mean_process([means, odds])]
        found += [process.rejects(ALPHA) for process in processes]
    assert found.max() <= most(ALPHA)


def test_a_peeked_naive_test_fails_on_the_same_runs() -> None:
    """The check above can fail: z-tests of plain means at every look err far more often."""
    world = simulate((0.1, 0.1), 0.6)
    n, sums = world.n.cumsum(axis=0), world.sums.cumsum(axis=0)
    means = sums / np.maximum(n, 1)
    spread = np.sqrt((means * (1 - means) / np.maximum(n, 1)).sum(axis=2))
    z = (means[:, :, 1] - means[:, :, 0]) / np.maximum(spread, 1e-9)
    assert (z > special.ndtri(1 - ALPHA)).any(axis=0).sum() > most(ALPHA)


@pytest.mark.parametrize("rates", [(0.1, 0.1), (0.3, 0.2)])
def test_e_processes_are_supermartingales(rates: tuple[float, float]) -> None:
    """If the challenger is no better, the mean E at the end is at most 1, within five standard errors."""
    world = simulate(rates)
    finals = np.zeros((N_RUNS, 2))
    for run in range(N_RUNS):
        finals[run] = [process.value for process in processes_of(world.table(run), DESIGN)]
    assert np.all(finals.mean(axis=0) <= 1 + 5 * finals.std(axis=0) / sqrt(N_RUNS))


def test_intervals_cover_over_time() -> None:
    """Over two looks, every interval of the report misses in at most alpha of runs."""
    rates, n_runs = (0.3, 0.36), 40
    world, missed = simulate(rates, n_runs=n_runs), np.zeros(6)
    for run in range(n_runs):
        looks = [intervals(world.table(run, n_epochs)) for n_epochs in (3, N_EPOCHS)]
        lift, even = rates[1] / rates[0] - 1, sum(rates) / 2
        for column, truth in enumerate((rates[1], rates[1] - rates[0], lift, lift, even)):
            missed[column] += any(not look[column].lower <= truth <= look[column].upper for look in looks)
        expected = (world.shares[:, run] @ np.array(rates)).mean() - even
        missed[5] += not looks[-1][5].lower <= expected <= looks[-1][5].upper
    assert missed.max() <= most(ALPHA, n_runs)


def intervals(table: EvidenceTable) -> list[Interval]:
    """Return the intervals of mean, difference, lift by means, lift by odds, an even split, and the gain."""
    mean, contrast = estimate_mean(table, 1, DESIGN), compare_means(table, 1, 0, DESIGN)
    lift, odds = relative_lift(table, 1, 0, DESIGN), compare_odds(table, 1, 0)
    split = value_of_split(table, {0: 1.0, 1: 1.0}, DESIGN)
    assert isinstance(mean, MeanEstimate)
    assert isinstance(contrast, Comparison)
    assert isinstance(lift, Interval)
    assert isinstance(odds, OddsComparison)
    assert isinstance(split, SplitValue)
    return [mean.interval, contrast.interval, lift, odds.lift, split.interval, split.gain_interval]


def test_split_values_are_unbiased_where_naive_means_are_not() -> None:
    """Under drift, doubly robust values of three splits are unbiased within five standard errors."""
    rates, drift = (0.3, 0.3), 0.6
    world = simulate(rates, drift)
    truth = float(np.mean([0.3 * (1 + drift * np.sin(epoch / 6)) for epoch in range(N_EPOCHS)]))
    for split in ({0: 0.5, 1: 0.5}, {0: 0.9, 1: 0.1}, {1: 1.0}):
        results = [value_of_split(world.table(run), split, DESIGN) for run in range(0, N_RUNS, 8)]
        values = np.array([result.value for result in results if isinstance(result, SplitValue)])
        assert abs(values.mean() - truth) <= 5 * values.std() / sqrt(len(values))
    naive = (world.sums.sum(axis=0) / world.n.sum(axis=0))[:, 1]
    assert abs(naive.mean() - truth) > 5 * naive.std() / sqrt(N_RUNS)


@pytest.mark.parametrize("forecast", [forecast_aipw, forecast_odds])
def test_forecasts_are_borne_out(forecast: object) -> None:
    """Under a fixed 50/50 split a lift of 30 % is seen by the forecast times in about .5 and .8 of 200 runs.

    The approximation looks at one time, the test at all before it, so real power is higher: up to .15
    is allowed above, and below only the noise of 200 runs at 1e-6 (4.9 standard errors).
    """
    design, n_runs = Design(alpha=ALPHA, floors={0: 0.5, 1: 0.5}), 200
    plan = Plan(
        base_mean=0.1,
        lift=0.3,
        decisions_per_day=500.0,
        champion_floor=0.5,
        challenger_floor=0.5,
        design=design,
    )
    found = forecast_aipw(plan) if forecast is forecast_aipw else forecast_odds(plan)
    assert isinstance(found, Forecast)
    assert found.days_at_half == pytest.approx(found.decisions_at_half / 500)
    seen = np.array([crossed_at(plan, forecast is forecast_aipw, seed) for seed in range(n_runs)])
    for limit, power in ((found.decisions_at_half, 0.5), (found.decisions_at_most, 0.8)):
        chance = 4.9 * sqrt(power * (1 - power) / n_runs)
        assert power - chance <= (seen <= limit).mean() <= power + 0.15 + chance


def crossed_at(plan: Plan, is_aipw: bool, seed: int, step: int = 100, n_steps: int = 250) -> float:  # noqa: FBT001
    """Return the decisions at which E first reached 1 / alpha, looking every `step`; infinity if never."""
    rng = np.random.default_rng(seed)
    n = rng.multinomial(step, [0.5, 0.5], size=n_steps)
    sums = rng.binomial(n, plan.means).astype(float)
    table = make_table(
        np.full(n.shape, 0.5), n.astype(float), sums, predictions=np.tile(plan.means, (n_steps, 1))
    )
    process = processes_of(table, plan.design)[0 if is_aipw else 1]
    crossed = np.flatnonzero(np.array(process.log_values) >= -log(ALPHA))
    return float(step * (crossed[0] + 1)) if len(crossed) else float("inf")


@pytest.mark.parametrize(
    "changes", [{"lift": 0.0}, {"challenger_floor": 0.0}, {"decisions_per_day": 0.0}, {"lift": 20.0}]
)
def test_a_plan_without_an_effect_has_no_forecast(changes: dict[str, float]) -> None:
    """Without a possible lift, traffic, or a share for the challenger there is no forecast."""
    given = {
        "base_mean": 0.1,
        "lift": 0.1,
        "decisions_per_day": 100.0,
        "champion_floor": 0.5,
        "challenger_floor": 0.5,
    }
    plan = Plan(**(given | changes), design=DESIGN)  # type: ignore[arg-type]  # each is a number
    assert forecast_aipw(plan) == forecast_odds(plan) == CannotSay(Reason.NO_EFFECT_PLANNED)


def test_floors_decide_how_long_it_takes() -> None:
    """Smaller floors and more challengers need more decisions; a loss can be found like a lift."""

    def needed(champion: float, challenger: float, n_challengers: int = 1, lift: float = 0.2) -> float:
        found = forecast_aipw(
            Plan(
                base_mean=0.1,
                lift=lift,
                decisions_per_day=1.0,
                champion_floor=champion,
                challenger_floor=challenger,
                rest=1 - champion - n_challengers * challenger,
                n_challengers=n_challengers,
                design=Design(floors={0: champion, 1: challenger}),
            )
        )
        assert isinstance(found, Forecast)
        return found.decisions_at_half

    assert needed(0.5, 0.5) < needed(0.2, 0.05) < needed(0.05, 0.05) < needed(0.01, 0.01)
    assert needed(0.2, 0.05) < needed(0.2, 0.05, n_challengers=4)
    assert np.isfinite(needed(0.2, 0.05, lift=-0.2))

"""Plans compared with simulated experiments: the predicted median under a learning policy."""

from math import sqrt

import numpy as np
import pytest
from scipy import special

from bandit.inference.data.table import EvidenceTable
from bandit.inference.planning.power import Forecast, Plan, expected_shares, forecast_report
from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.aipw import contrast_process
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.multiplicity import mean_process
from bandit.inference.sequential.odds import PROMOTION_GRID, count_events, ratio_process
from bandit.inference.sequential.scores import score
from tests.bandit.inference.tables import make_table

N_RUNS, SIZE = 1_000, 250


def planned(champion: float, challenger: float, lift: float = 0.2, **others: float | bool) -> Plan:
    """Return a plan of two arms at a base of .1, one decision a day, the policy distributing the rest."""
    return Plan(
        base_mean=0.1,
        lift=lift,
        decisions_per_day=1.0,
        champion_floor=champion,
        challenger_floor=challenger,
        rest=1 - champion - challenger,
        design=Design(floors={0: champion, 1: challenger}),
        **others,  # type: ignore[arg-type]  # is_less_better and n_challengers
    )


def forecast_of(plan: Plan) -> Forecast:
    """Return the forecast for the report's test of a yes/no metric."""
    forecast = forecast_report(plan, is_yes_no=True)
    assert isinstance(forecast, Forecast)
    return forecast


def simulate(plan: Plan, n_epochs: int, seed: int = 11) -> list[EvidenceTable]:
    """Simulate runs with a challenger's share of floor + rest * P(best), in the normal approximation."""
    rng, means = np.random.default_rng(seed), np.array(plan.means)
    shares, predictions, n, sums = (np.zeros((n_epochs, N_RUNS, 2)) for _ in range(4))
    for epoch in range(n_epochs):
        seen, won = n.sum(axis=0) + 2, sums.sum(axis=0) + 1
        believed = won / seen
        spread = np.sqrt((believed * (1 - believed) / seen).sum(axis=1))
        best = special.ndtr((believed[:, 1] - believed[:, 0]) / spread)
        shares[epoch, :, 1] = plan.challenger_floor + plan.rest * best
        shares[epoch, :, 0] = 1 - shares[epoch, :, 1]
        predictions[epoch] = believed
        n[epoch, :, 1] = rng.binomial(SIZE, shares[epoch, :, 1])
        n[epoch, :, 0] = SIZE - n[epoch, :, 1]
        sums[epoch] = rng.binomial(n[epoch].astype(int), means)
    runs = [(slice(None), run) for run in range(N_RUNS)]
    return [make_table(shares[run], n[run], sums[run], predictions=predictions[run]) for run in runs]


def seen_at(table: EvidenceTable, design: Design) -> float:
    """Return the decisions at the first look at which the report's e-process rejects; infinite if never."""
    scores, events = score(table, [1, 0], design, design.cap(1, 0)), count_events(table, 1, 0)
    assert not isinstance(scores, CannotSay)
    assert not isinstance(events, CannotSay)
    means = contrast_process(scores, design.contrast_mixture(1, 0, design.alpha), 1.0)
    process = mean_process([means, ratio_process(events, PROMOTION_GRID)])
    crossed = np.flatnonzero(np.array(process.log_values) >= -np.log(design.alpha))
    return float(SIZE * (crossed[0] + 1)) if len(crossed) else float("inf")


@pytest.mark.parametrize(("champion", "challenger"), [(0.2, 0.05), (0.05, 0.05), (0.5, 0.5)])
def test_the_median_is_predicted_somewhat_late_and_never_early(champion: float, challenger: float) -> None:
    """Half of the runs see the lift after .65 to 1.05 of the planned decisions, with floors 20/5, 5/5, even.

    The true median lies below x if more than half of the runs have seen the lift by x. A count
    of 1,000 errs by at most 4.9 standard errors of .5 / sqrt(1,000), at a false-alarm rate of 1e-6.
    """
    plan = planned(champion, challenger)
    half = forecast_of(plan).decisions_at_half
    tables = simulate(plan, n_epochs=int(np.ceil(1.05 * half / SIZE)))
    seen, chance = np.array([seen_at(table, plan.design) for table in tables]), 4.9 * 0.5 / sqrt(N_RUNS)
    assert (seen <= 0.65 * half).mean() <= 0.5 + chance
    assert (seen <= 1.05 * half + SIZE).mean() >= 0.5 - chance


def test_shares_begin_even_and_go_to_the_arm_that_is_better() -> None:
    """Shares move from even parts of the rest to the losing arm at its floor; a split keeps its shares."""
    better, worse = (expected_shares(planned(0.2, 0.05, lift)) for lift in (0.2, -0.2))
    assert better.challenger[0] == pytest.approx(0.425, abs=0.02)
    assert np.all(np.diff(better.challenger) >= -1e-9)
    assert better.challenger[-1] == pytest.approx(0.8)
    assert (worse.champion[-1], worse.challenger[-1]) == (pytest.approx(0.95), pytest.approx(0.05))
    split = expected_shares(planned(0.3, 0.7))
    assert np.allclose(split.champion, 0.3)
    assert np.allclose(split.challenger, 0.7)
    assert np.allclose(better.champion + better.challenger, 1.0)


@pytest.mark.parametrize("lift", [0.2, -0.2])
def test_the_less_floor_the_loser_has_the_longer_it_takes(lift: float) -> None:
    """Plans lengthen as the floor falls to 0, where bounds use 1 %; a floor of 1e-6 is like 0."""
    needed = [forecast_of(planned(floor, floor, lift)).decisions_at_half for floor in (0.05, 0.01, 0.0, 1e-6)]
    assert needed[:3] == sorted(needed[:3])
    assert needed[3] == pytest.approx(needed[2], rel=0.1)


def test_where_less_is_better_shares_run_the_other_way() -> None:
    """If less is better, a lift of -20 % moves the decisions to the challenger."""
    path = expected_shares(planned(0.2, 0.05, -0.2, is_less_better=True))
    assert path.challenger[-1] == pytest.approx(0.8)


def test_five_arms_share_by_p_best() -> None:
    """Five arms have equal parts of the rest at first; in the end the better challenger has all of it."""
    plan = Plan(
        base_mean=0.1,
        lift=0.2,
        decisions_per_day=1.0,
        champion_floor=0.2,
        challenger_floor=0.05,
        rest=0.6,
        n_challengers=4,
        design=Design(floors={0: 0.2, 1: 0.05}),
    )
    path = expected_shares(plan)
    assert (path.champion[0], path.challenger[0]) == (
        pytest.approx(0.32, abs=0.01),
        pytest.approx(0.17, abs=0.01),
    )
    assert (path.champion[-1], path.challenger[-1]) == (pytest.approx(0.2), pytest.approx(0.65))
    assert forecast_of(plan).decisions_at_half > forecast_of(planned(0.2, 0.05)).decisions_at_half


def test_a_forecast_has_the_shares_it_relies_on() -> None:
    """A forecast's shares are averages over the decisions until even odds, between first and last shares."""
    forecast = forecast_of(planned(0.2, 0.05))
    assert 0.2 < forecast.champion_share < 0.575
    assert forecast.champion_share + forecast.challenger_share == pytest.approx(1.0)
    assert forecast_of(planned(0.5, 0.5)).champion_share == pytest.approx(0.5)

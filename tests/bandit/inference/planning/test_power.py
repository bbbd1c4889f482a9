"""Plans compared with simulated experiments, and the conditions that a plan must meet."""

from dataclasses import replace
from math import inf, isinf, sqrt

import numpy as np
import pytest
from scipy import special

from bandit.inference.data.pairs import pair_of
from bandit.inference.data.table import EvidenceTable, ValueScale
from bandit.inference.planning.expected_sums import Outcomes, expected_pair, unlucky
from bandit.inference.planning.power import (
    FAR_DAYS,
    Forecast,
    Plan,
    expected_shares,
    forecast,
    helpful_minimum_share,
)
from bandit.inference.planning.share_path import MOST_DECISIONS
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.bounded_scores import BoundedScores, BoundedTest
from bandit.inference.sequential.centred_odds import CentredOdds
from bandit.inference.sequential.comparison import Comparison, compare

N_RUNS, SIZE = 1_000, 400
REAL = ValueScale(is_binary=False)


def planned(champion: float, challenger: float, lift: float = 0.2, **others: float | bool | None) -> Plan:
    """Return a plan of two arms at a base of .1, one decision a day, the policy distributing the rest."""
    return Plan(
        base_mean=0.1,
        lift=lift,
        decisions_per_day=1.0,
        champion_floor=champion,
        challenger_floor=challenger,
        rest=1 - champion - challenger,
        **others,  # type: ignore[arg-type]  # is_less_better and variance
    )


def forecast_of(plan: Plan, *, is_yes_no: bool = True) -> Forecast:
    """Return the forecast for the report's test."""
    found = forecast(plan, is_yes_no=is_yes_no)
    assert isinstance(found, Forecast)
    return found


def simulate(
    plan: Plan, n_epochs: int, scale: ValueScale, *, n_runs: int = N_RUNS, seed: int = 11
) -> list[EvidenceTable]:
    """Simulate runs with a challenger's share of floor + rest * P(best), in the normal approximation."""
    rng, means = np.random.default_rng(seed), np.array(plan.means)
    shares, n, sums = (np.zeros((n_epochs, n_runs, 2)) for _ in range(3))
    for epoch in range(n_epochs):
        seen, won = n.sum(axis=0) + 2, sums.sum(axis=0) + 1
        believed = won / seen
        spread = np.sqrt((believed * (1 - believed) / seen).sum(axis=1))
        best = special.ndtr((believed[:, 1] - believed[:, 0]) / spread)
        shares[epoch, :, 1] = plan.challenger_floor + plan.rest * best
        shares[epoch, :, 0] = 1 - shares[epoch, :, 1]
        n[epoch, :, 1] = rng.binomial(SIZE, shares[epoch, :, 1])
        n[epoch, :, 0] = SIZE - n[epoch, :, 1]
        sums[epoch] = rng.binomial(n[epoch].astype(int), means)
    runs = [(slice(None), run) for run in range(n_runs)]
    return [
        EvidenceTable(
            arms=(0, 1), shares=shares[run], n=n[run], sums=sums[run], squares=sums[run], scale=scale
        )
        for run in runs
    ]


def seen_at(table: EvidenceTable, plan: Plan) -> float:
    """Return the decisions at the first look at which the report's test finds more; infinite if never."""
    pair = pair_of(table, 1, 0)
    assert not isinstance(pair, CannotSay)
    tested = pair.tested()
    weight = plan.design.largest_weight(1, 0)
    test = BoundedTest(weight, plan.design.alpha / 2)
    own = CentredOdds(tested) if table.scale.is_binary else BoundedScores(tested, weight, test)
    crossed = np.flatnonzero(np.array(own.process(1).log_values) >= plan.design.log_level)
    return float(SIZE * (tested.rows[crossed[0]] + 1)) if len(crossed) else inf


def test_runs_are_judged_as_the_report_judges_them() -> None:
    """The test of the simulations is the comparison's, for both kinds of metric."""
    plan = planned(0.2, 0.05)
    for scale in (ValueScale(), REAL):
        (table,) = simulate(plan, 40, scale, n_runs=1)
        found = compare(table, 1, 0, plan.design)
        assert isinstance(found, Comparison)
        crossed = np.flatnonzero(np.array(found.better.log_values) >= plan.design.log_level)
        assert seen_at(table, plan) == (SIZE * (found.rows[crossed[0]] + 1) if len(crossed) else inf)


@pytest.mark.parametrize(
    ("champion", "challenger", "scale"),
    [
        (0.2, 0.05, ValueScale()),
        (0.05, 0.05, ValueScale()),
        (0.5, 0.5, ValueScale()),
        (0.2, 0.05, REAL),
    ],
)
def test_the_median_is_predicted_somewhat_late_and_never_early(
    champion: float, challenger: float, scale: ValueScale
) -> None:
    """Half of the runs see the lift after .7 to 1.05 of the planned decisions, whatever the floors.

    The true median lies below x if more than half of the runs have seen the lift by x. A count
    of 1,000 errs by at most 4.9 standard errors of .5 / sqrt(1,000), at a false-alarm rate of 1e-6.
    """
    plan = planned(champion, challenger, variance=None if scale.is_binary else 0.09)
    half = forecast_of(plan, is_yes_no=scale.is_binary).decisions_at_half
    tables = simulate(plan, int(np.ceil(1.05 * half / SIZE)), scale)
    seen, chance = np.array([seen_at(table, plan) for table in tables]), 4.9 * 0.5 / sqrt(N_RUNS)
    assert (seen <= 0.7 * half).mean() <= 0.5 + chance
    assert (seen <= 1.05 * half + SIZE).mean() >= 0.5 - chance


def test_four_fifths_have_seen_the_lift_by_the_later_time() -> None:
    """By the plan for four fifths, .8 to .97 of the runs have seen a lift of 40 %, with an even split."""
    plan = planned(0.5, 0.5, lift=0.4)
    most = forecast_of(plan).decisions_at_most
    tables = simulate(plan, int(np.ceil(most / SIZE)), ValueScale())
    seen = np.array([seen_at(table, plan) for table in tables])
    chance = 4.9 * sqrt(0.8 * 0.2 / N_RUNS)
    assert 0.8 - chance <= (seen <= most + SIZE).mean() <= 0.97


def test_bad_luck_takes_standard_deviations_off_the_contrast() -> None:
    """After every row the contrast is z standard deviations worse, and outcomes vary as before."""
    plan = planned(0.2, 0.05)
    outcomes = Outcomes(means=plan.means, variances=plan.variances)
    lucky = expected_pair(expected_shares(plan), outcomes)
    assert not isinstance(lucky, CannotSay)
    bad = unlucky(lucky, outcomes, 1, 0.8)
    signs = np.array([[-1.0], [1.0]])
    contrasts = [np.cumsum((signs * pair.weights * pair.sums).sum(axis=0)) for pair in (lucky, bad)]
    spread = np.sqrt(
        np.cumsum((lucky.weights**2 * lucky.n * np.array(outcomes.variances)[:, np.newaxis]).sum(axis=0))
    )
    rows = slice(0, 200)
    assert contrasts[0][rows] - contrasts[1][rows] == pytest.approx(0.8 * spread[rows], rel=1e-6)
    within = [pair.squares - pair.sums**2 / pair.n for pair in (lucky, bad)]
    assert within[1][:, rows] == pytest.approx(within[0][:, rows], rel=1e-6)


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
    """Plans lengthen as the floor falls to 0, and a floor of 1e-6 is like 0."""
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
    found = forecast_of(planned(0.2, 0.05))
    assert 0.2 < found.champion_share < 0.575
    assert found.champion_share + found.challenger_share == pytest.approx(1.0)
    assert forecast_of(planned(0.5, 0.5)).champion_share == pytest.approx(0.5)


def test_challengers_of_the_past_share_the_error_rate_and_not_the_traffic() -> None:
    """With arms that were taken out the level is higher, so it takes longer; the shares stay."""
    plan = planned(0.2, 0.05)
    more = replace(plan, n_compared=5)
    assert more.design.n_challengers == 5
    assert np.array_equal(expected_shares(more).champion, expected_shares(plan).champion)
    assert forecast_of(more).decisions_at_half > 1.1 * forecast_of(plan).decisions_at_half


def test_all_floors_are_in_the_design() -> None:
    """The largest weight is that of two arms beside what three others keep."""
    plan = replace(planned(0.2, 0.05), rest=0.6, n_challengers=4)
    assert plan.others_floor == pytest.approx(0.15)
    assert plan.design.largest_weight(1, 0) == pytest.approx(1 - 0.05 / 0.85)


def test_amounts_take_longer_the_more_they_vary() -> None:
    """A range that dwarfs the spread of the outcomes costs more than their variance does."""
    spreads = [forecast_of(planned(0.5, 0.5, variance=v), is_yes_no=False) for v in (1e-8, 1e-4, 0.01, 0.09)]
    needed = [found.decisions_at_half for found in spreads]
    assert needed == sorted(needed)
    assert needed[0] > 100
    same = planned(0.5, 0.5, variance=0.09)
    assert forecast_of(same, is_yes_no=False).decisions_at_half > forecast_of(same).decisions_at_half


def test_a_lift_is_relative_to_the_value_and_not_to_its_position() -> None:
    """A mean of 20 in a range of -10 to 90 rises by a tenth to 22; a mean of -5 by a tenth to -4.5."""
    amount = replace(planned(0.5, 0.5, lift=0.1), base_mean=0.3, start=-0.1, variance=0.01)
    assert amount.means == pytest.approx((0.3, 0.32))
    assert replace(amount, base_mean=0.05).means == pytest.approx((0.05, 0.055))
    assert replace(amount, base_mean=0.0, start=0.5).means == pytest.approx((0.0, 0.05))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n_challengers": 0}, Reason.NO_CHALLENGER),
        ({"decisions_per_day": 0.0}, Reason.NO_TRAFFIC),
        ({"decisions_per_day": inf}, Reason.NO_TRAFFIC),
        ({"lift": 0.0}, Reason.NO_LIFT),
        ({"base_mean": 0.0}, Reason.CHAMPION_AT_ZERO),
        ({"base_mean": 0.25, "start": -0.25}, Reason.CHAMPION_AT_ZERO),
        ({"base_mean": 1.1}, Reason.MEAN_OUT_OF_RANGE),
        ({"base_mean": float("nan")}, Reason.MEAN_OUT_OF_RANGE),
        ({"lift": 9.5}, Reason.LIFT_OUT_OF_RANGE),
        ({"lift": -1.5}, Reason.LIFT_OUT_OF_RANGE),
        ({"lift": float("nan")}, Reason.LIFT_OUT_OF_RANGE),
        ({"champion_floor": 0.0, "challenger_floor": 1.0}, Reason.CHAMPION_WITHOUT_PLANNED_SHARE),
        ({"champion_floor": 1.0, "challenger_floor": 0.0}, Reason.CHALLENGER_WITHOUT_PLANNED_SHARE),
    ],
)
@pytest.mark.parametrize("is_yes_no", [True, False])
def test_a_refusal_names_the_one_condition_that_is_broken(
    changes: dict[str, float], reason: Reason, *, is_yes_no: bool
) -> None:
    """Each condition has a reason of its own."""
    plan = replace(planned(0.5, 0.5), **changes)  # type: ignore[arg-type]  # each is a number
    assert forecast(plan, is_yes_no=is_yes_no) == CannotSay(reason)
    assert helpful_minimum_share(plan, is_yes_no=is_yes_no) is None


def test_a_minimum_share_is_advised_only_where_it_brings_the_lift_within_reach() -> None:
    """A floor of 1 % ends ten years of waiting without one; with little traffic no floor does."""
    starved = replace(planned(0.0, 0.0), decisions_per_day=200.0)
    assert forecast_of(starved).days_at_half > FAR_DAYS
    share = helpful_minimum_share(starved, is_yes_no=True)
    assert share == 0.01
    assert forecast_of(starved.with_minimum_share(share)).days_at_half <= FAR_DAYS
    assert helpful_minimum_share(replace(starved, decisions_per_day=0.01), is_yes_no=True) is None
    assert helpful_minimum_share(replace(starved, decisions_per_day=1e6), is_yes_no=True) is None


def test_a_split_that_starves_an_arm_is_advised_a_minimum_share() -> None:
    """With a millionth of the traffic the challenger is out of reach, and within reach at a minimum share."""
    split = replace(planned(1 - 1e-6, 1e-6), decisions_per_day=1_000.0, lift=0.1)
    assert forecast_of(split).days_at_half > FAR_DAYS
    assert helpful_minimum_share(split, is_yes_no=True) == 0.01


def test_what_is_never_seen_is_infinite() -> None:
    """A yes/no difference below .0015 of the variance is too small for the smallest bet of the test."""
    below, above = (forecast_of(planned(0.5, 0.5, lift=part * 0.0015 * 0.9)) for part in (0.95, 1.05))
    assert isinf(below.decisions_at_half)
    assert isinf(below.days_at_most)
    assert above.decisions_at_half < MOST_DECISIONS

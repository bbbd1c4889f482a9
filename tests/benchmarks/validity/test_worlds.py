"""Worlds of the validity benchmark: layouts, rates and shares are as they are named."""

import numpy as np
import pytest

from bandit.decision_id import Basis
from bandit.limits import ArmStanding, Limits, apply_limits
from benchmarks.validity.worlds.histories import Shaping, collect
from benchmarks.validity.worlds.layouts import burst, even, growing
from benchmarks.validity.worlds.outcomes import amounts, counts
from benchmarks.validity.worlds.rates import fading, still, weekly
from benchmarks.validity.worlds.returning_units import Population, simulate_visits

SHAPING = Shaping(floors=(0.2, 0.05, 0.05))
IDS = ("a", "b", "c")


def test_epochs_grow_by_a_quarter_and_the_first_has_five_parts() -> None:
    """34 epochs hold 100,000 decisions or so; a burst has one, whose parts are random."""
    layout = growing(100_000)
    assert layout.total == 100_000
    assert abs(len(layout.sizes) - 34) <= 1
    assert layout.epochs[:6] == (0, 0, 0, 0, 0, 1)
    sizes = burst(1_600).draw(np.random.default_rng(1), 200)
    assert set(sizes.sum(axis=1)) == {1_600}
    np.testing.assert_allclose(sizes.mean(axis=0), [100, 100, 200, 400, 800], rtol=0.05)


def test_shares_stay_the_same_within_an_epoch() -> None:
    """The parts of the first epoch have one share; later epochs follow the outcomes, after the window."""
    truth = still((0.1, 0.3, 0.1), len(growing(1_000).epochs))
    for lag in (0, 4):
        shaping = Shaping(floors=SHAPING.floors, lag=lag)
        shares = collect(truth, growing(1_000), shaping, 1, np.random.default_rng(2)).shares[0]
        is_new = np.any(np.diff(shares, axis=0) != 0, axis=1)
        assert is_new.argmax() == 4 + lag


@pytest.mark.parametrize("ranges", [2, 10, 30, 100])
def test_amounts_have_the_range_that_they_are_named_for(ranges: int) -> None:
    """Range over standard deviation; sums of many draws follow mean and square."""
    made = amounts(ranges)
    assert 1 / made.deviation == pytest.approx(ranges)
    assert made.values.min() >= 0
    assert made.values.max() <= 1
    sums, squares = made.draw(np.array([1e6]), np.random.default_rng(1))
    assert abs(sums[0] / 1e6 - made.mean) <= 5e-3 * made.deviation
    assert squares[0] / 1e6 - (sums[0] / 1e6) ** 2 == pytest.approx(made.deviation**2, rel=0.02)
    assert counts(2.0, 14).mean == pytest.approx(2 / 14, rel=1e-4)


def test_a_novelty_is_gone_after_half_the_time() -> None:
    """The challenger begins at half as much again, and ends like the champion."""
    truth = fading((0.1, 0.1), np.array([0.0, 0.25, 0.5, 0.9]))
    np.testing.assert_allclose(truth[:, 1], [0.15, 0.125, 0.1, 0.1])


def test_shares_are_shaped_as_limits_shape_them() -> None:
    """Floors are additive, arm by arm."""
    best = np.array([[0.1, 0.7, 0.2], [1.0, 0.0, 0.0]])
    limits = Limits(minimum_share=0.05, minimum_shares={"a": 0.2})
    standings = [ArmStanding(id=arm) for arm in IDS]
    expected = [apply_limits(row, standings, limits) for row in best]
    np.testing.assert_allclose(SHAPING.shares(best), expected)


def test_weekday_effects_net_to_zero_over_whole_weeks() -> None:
    """Arms that are equal over a week differ on every day of it."""
    truth = weekly((0.05, 0.05), even(112, 1_000).times, 0.2)
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


def test_fixed_shares_and_rates_are_as_declared() -> None:
    """Fixed shares and rates are as declared within five standard errors, over a hundred runs."""
    fixed = Shaping(floors=(0.7, 0.3), fixed=(0.7, 0.3))
    seen = collect(still((0.1, 0.2), 5), 400, fixed, 100, np.random.default_rng(2))
    n, sums = seen.n.sum(axis=(0, 1)), seen.sums.sum(axis=(0, 1))
    total = 100 * 5 * 400
    assert abs(n[1] - 0.3 * total) < 5 * (0.21 * total) ** 0.5
    assert np.all(abs(sums / n - (0.1, 0.2)) < 5 * np.sqrt(np.array([0.09, 0.16]) / n))

"""Bounded scores: differences and ratios of amounts, and the test behind them."""

from math import inf, log

import numpy as np
import pytest

from bandit.inference.sequential.bounded_scores import BoundedScores, BoundedTest
from tests.bandit.inference.tables import AMOUNT, draw_stream, make_table, pair_in

LEVEL = log(40)
TEST = BoundedTest(1.0, 0.025)


def scores_of(seed: int, largest_weight: float = 1.0) -> BoundedScores:
    """Return the scores of a random stream."""
    pair = pair_in(draw_stream(seed, is_binary=False).table(AMOUNT)).tested()
    return BoundedScores(pair, largest_weight, BoundedTest(largest_weight, 0.025))


@pytest.mark.parametrize("seed", range(8))
def test_no_difference_and_a_ratio_of_1_are_one_hypothesis(seed: int) -> None:
    """The interval of the difference leaves out 0 just if that of the ratio does, and the process says so."""
    scores = scores_of(seed)
    level = max(scores.process(1).log_value, scores.process(-1).log_value)
    for margin in (-1e-6, 1e-6):
        if level + margin > 0.7:
            gap = scores.difference_interval(level + margin)
            ratio = scores.ratio_interval(1.5, 0.3, 0.0, level + margin)
            is_found = margin < 0
            assert (gap.lower > 0 or gap.upper < 0) == is_found
            # The ratio's ends are searched for, to a thousandth of the spread.
            assert min(abs(ratio.lower), abs(ratio.upper)) < 1e-3


@pytest.mark.parametrize("variance", [0.0, 0.5, 40.0, 1e6])
def test_the_boundary_is_where_e_reaches_the_level(variance: float) -> None:
    """At the boundary the mean of three mixtures has reached the level, and just below not."""
    boundary = float(TEST.boundary(variance, LEVEL))
    assert float(TEST.log_e_value(boundary, variance)) >= LEVEL
    assert float(TEST.log_e_value(boundary * (1 - 1e-9), variance)) < LEVEL


def test_the_test_is_a_mean_of_e_values() -> None:
    """Before any outcome E is 1; it is finite at extremes, and rises with the sum."""
    assert float(TEST.log_e_value(0.0, 0.0)) == pytest.approx(0.0, abs=1e-9)
    sums = np.array([-1e12, -50.0, -1.0, 0.0, 1.0, 50.0, 1e12])
    values = TEST.log_e_value(sums, 30.0)
    assert np.all(np.isfinite(values))
    assert np.all(np.diff(values) >= 0)


def test_a_weight_above_the_floors_is_scaled_down() -> None:
    """Rows with a larger weight than declared floors allow, as in a ramp, count by less, and alike.

    The estimate stays the same, and no score is larger than the scale.
    """
    shares, n = [[0.5, 0.5], [0.98, 0.02], [0.5, 0.5]], [[40, 40], [980, 20], [500, 500]]
    table = make_table(shares, n, np.multiply(n, 0.25), scale=AMOUNT, squares=np.multiply(n, 0.0625))
    pair = pair_in(table).tested()
    scores = BoundedScores(pair, 0.7, BoundedTest(0.7, 0.025))
    factor = 0.7 / 0.98
    assert scores.weight.tolist() == pytest.approx([factor * 19.6, factor * 19.6 + 250])
    assert (scores.sums[:, -1] / scores.weight[-1]).tolist() == pytest.approx([0.25, 0.25])


def test_a_floor_costs_no_width() -> None:
    """Nothing is divided by a share: with a floor of .001 the interval is at most some 2 times as wide."""
    scores = {weight: scores_of(1, weight) for weight in (0.9, 0.9999)}
    narrow, wide = (scores[weight].difference_interval(LEVEL) for weight in (0.9, 0.9999))
    assert 1 <= (wide.upper - wide.lower) / (narrow.upper - narrow.lower) < 1.2


def test_ends_stay_in_the_range() -> None:
    """With few decisions the interval is the whole range, and the ratio has no upper end."""
    table = make_table([[0.5, 0.5]] * 2, [[20, 20], [1, 1]], [[10, 10], [0.5, 0.5]], scale=AMOUNT)
    scores = BoundedScores(pair_in(table).tested(), 1.0, TEST)
    found = scores.difference_interval(LEVEL)
    assert (found.lower, found.upper) == (-1.0, 1.0)
    ratio = scores.ratio_interval(1.0, 0.5, 0.0, LEVEL)
    assert (ratio.lower, ratio.upper) == (-1.0, inf)


def test_an_interval_beyond_the_range_is_its_end() -> None:
    """Counts that no shares explain may refute every difference in the range; then both ends are its end."""
    table = make_table([[0.9, 0.1]] * 2, [[40, 40], [1, 1e6]], [[40, 0], [0, 0]], scale=AMOUNT)
    found = BoundedScores(pair_in(table).tested(), 1.0, TEST).difference_interval(LEVEL)
    assert (found.lower, found.upper) == (-1.0, -1.0)


def test_without_rows_nothing_is_refuted() -> None:
    """A pair whose rows only serve as centre has the widest intervals, and E = 1."""
    pair = pair_in(make_table([[0.5, 0.5]], [[5, 5]], [[1, 4]], scale=AMOUNT)).tested()
    scores = BoundedScores(pair, 1.0, TEST)
    assert scores.process(1).log_value == 0.0
    found, ratio = scores.difference_interval(LEVEL), scores.ratio_interval(4.0, 1.0, 0.0, LEVEL)
    assert (found.lower, found.upper, ratio.lower, ratio.upper) == (-1.0, 1.0, -1.0, inf)

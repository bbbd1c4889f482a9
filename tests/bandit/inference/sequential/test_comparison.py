"""Comparisons: one story of estimate, interval, relative change, p-value and finding."""

from math import inf

import numpy as np
import pytest

from bandit.inference.data.table import EvidenceTable, ValueScale
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.comparison import Comparison, compare
from bandit.inference.sequential.design import Design
from bandit.metric import Direction
from tests.bandit.inference.tables import draw_table, make_table

PARTS = (1 / 16, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""The rows of a first epoch, as parts of its decisions."""


def compared(table: EvidenceTable, design: Design | None = None) -> Comparison:
    """Return the comparison of arm 1 with the champion, which must not be missing."""
    found = compare(table, 1, 0, design or Design())
    assert isinstance(found, Comparison)
    return found


def require_one_story(found: Comparison, scale: ValueScale, level: float) -> None:
    """Fail unless all that is said about two arms agrees."""
    more, less = found.better, found.worse
    if scale.direction is Direction.MINIMIZE:
        more, less = less, more
    has_more, has_less = more.log_value >= level, less.log_value >= level
    assert not (has_more and has_less)
    assert (found.interval.lower > 0, found.interval.upper < 0) == (has_more, has_less)
    assert -scale.width <= found.interval.lower <= found.interval.upper <= scale.width
    assert found.difference == found.mean - found.champion_mean
    assert found.interval.lower <= found.difference <= found.interval.upper
    if isinstance(found.lift, CannotSay):
        assert found.relative is None
        assert scale.minimum < 0 or found.champion_mean == 0
    else:
        assert (found.lift.lower > 0, found.lift.upper < 0) == (has_more, has_less)
        assert found.relative is not None
        assert found.lift.lower <= found.relative <= found.lift.upper
        assert found.lift.lower >= -1


@pytest.mark.parametrize("first", range(0, 240, 40))
def test_p_value_interval_relative_change_and_finding_agree(first: int) -> None:
    """A finding is an interval without 0, of the difference and of the ratio, in any table.

    Of two to six arms, yes/no, amounts and counts, both directions, rare, certain and extreme counts.
    """
    n_found = 0
    for seed in range(first, first + 40):
        table = draw_table(seed)
        design = Design(n_challengers=len(table.arms) - 1, floors={0: 0.02, 1: 0.02})
        found = compare(table, 1, 0, design)
        if isinstance(found, CannotSay):
            assert found.reason in (Reason.ARM_WITHOUT_OUTCOMES, Reason.NO_DECISIONS)
            continue
        require_one_story(found, table.scale, design.log_level)
        n_found += max(found.better.log_value, found.worse.log_value) >= design.log_level
    assert n_found >= 5


@pytest.mark.parametrize("sign", [1, -1])
def test_an_end_next_to_0_is_on_the_side_of_the_finding(sign: int) -> None:
    """At a level that E has just reached the interval leaves out 0, at one just missed it does not.

    The search for an end is exact to a thousandth of the spread only.
    """
    for wins in range(470, 502, 4):
        rows = [[40, 40], [400, wins] if sign > 0 else [wins, 400]]
        table = make_table([[0.5, 0.5]] * 2, [[80, 80], [800, 800]], rows)
        found = compared(table)
        reached = max(found.better.log_value, found.worse.log_value)
        for margin in (-1e-12, 1e-12):
            design = Design(alpha=float(2 * np.exp(-reached - margin)))
            again = compared(table, design)
            require_one_story(again, table.scale, design.log_level)
            assert (again.interval.lower > 0 or again.interval.upper < 0) == (margin < 0)


@pytest.mark.parametrize("is_binary", [True, False])
def test_the_first_rows_cannot_hide_a_finding(is_binary: bool) -> None:  # noqa: FBT001 - a case
    """A centre that says the opposite moves the estimate and not the interval: p-value and interval agree.

    The 2,000 decisions that only serve as centre are for the champion, all 200 that are tested for the other.
    """
    rows = [[1000, 1000], [100, 100]], [[200, 100], [10, 60]]
    found = compared(make_table([[0.5, 0.5]] * 2, *rows, scale=ValueScale(is_binary=is_binary)))
    assert found.difference < 0
    assert found.better.log_value >= Design().log_level
    assert not isinstance(found.lift, CannotSay)
    assert 0 < found.interval.lower < found.interval.upper
    assert 0 < found.lift.lower < found.lift.upper


def test_a_burst_into_the_first_epoch_has_plain_means() -> None:
    """Three thousand decisions in one instant, evenly split: their rows give the plain means, and a test.

    At a rate of .01 the estimate with a centre of one half would be off by many times the difference.
    """
    rng, n = np.random.default_rng(6), np.outer(PARTS, [1504, 1504])
    sums = rng.binomial(n.astype(int), 0.01).astype(float)
    found = compared(make_table(np.full((5, 2), 0.5), n, sums))
    assert (found.champion_mean, found.mean) == pytest.approx(tuple(sums.sum(axis=0) / 1504), rel=1e-13)
    assert (found.rows, found.n_tested, found.n_decisions) == ((1, 2, 3, 4), 2820, 3008)
    assert found.interval.upper - found.interval.lower < 0.04
    assert max(found.better.log_value, found.worse.log_value) < Design().log_level


def test_a_constant_amount_differs_by_0_and_by_what_may_not_have_been_seen() -> None:
    """On a range of 0 to 10,000 a constant 7 leaves a difference of 0, give or take 3.7 range / n.

    A top value that 3.7 in n decisions earn goes unseen with probability .025: no exact interval is narrower.
    """
    n, position = np.outer(PARTS, [4000.0, 4000.0]), 7 / 10_000
    scale = ValueScale(maximum=10_000.0, is_binary=False)
    table = make_table(np.full((5, 2), 0.5), n, position * n, squares=position**2 * n, scale=scale)
    found = compared(table, Design(floors={0: 0.5, 1: 0.5}))
    assert found.difference == pytest.approx(0.0, abs=1e-9)
    assert found.mean == pytest.approx(7.0)
    least = 3.7 * 10_000 / 4000
    assert least <= found.interval.upper <= 1.5 * least
    assert found.interval.lower == pytest.approx(-found.interval.upper, rel=1e-6)
    assert found.approximate is None


def test_few_large_amounts_have_an_approximate_interval_beside_the_exact_one() -> None:
    """If the range dwarfs the spread an approximate interval is given, inside the exact one."""
    rng = np.random.default_rng(9)
    amounts = np.minimum(rng.lognormal(1, 1, (5, 2, 400)), 900) / 10_000
    scale = ValueScale(maximum=10_000.0, is_binary=False)
    n = np.full((5, 2), 400)
    table = make_table(
        np.full((5, 2), 0.5), n, amounts.sum(axis=2), squares=(amounts**2).sum(axis=2), scale=scale
    )
    found = compared(table)
    assert found.approximate is not None
    assert found.approximate.lower <= found.difference <= found.approximate.upper
    width = found.approximate.upper - found.approximate.lower
    assert 1 < width < (found.interval.upper - found.interval.lower) / 10
    narrow = ValueScale(maximum=10_000.0, is_binary=True)
    assert compared(make_table(table.shares, n, np.floor(table.sums), scale=narrow)).approximate is None


def test_a_champion_at_0_bounds_no_relative_change() -> None:
    """Without a success of the champion there is a difference and a finding, and no relative change."""
    found = compared(make_table([[0.5, 0.5]] * 2, [[50, 50], [500, 500]], [[0, 2], [0, 40]]))
    assert (found.lift, found.relative) == (CannotSay(Reason.CHAMPION_AT_ZERO), None)
    assert found.better.log_value >= Design().log_level
    assert found.interval.lower > 0
    both = compared(make_table([[0.5, 0.5]] * 2, [[50, 50], [500, 500]], [[0, 0], [0, 0]]))
    assert (both.lift, both.difference) == (CannotSay(Reason.BOTH_AT_ZERO), 0.0)
    once = compared(make_table([[0.5, 0.5]] * 2, [[50, 50], [500, 500]], [[0, 2], [1, 40]]))
    assert not isinstance(once.lift, CannotSay)
    assert once.lift.lower > 0


def test_a_challenger_at_0_is_bounded_below_by_nothing() -> None:
    """Without a success of the challenger the relative change may be anything down to -1."""
    found = compared(make_table([[0.5, 0.5]] * 2, [[50, 50], [50, 50]], [[1, 0], [3, 0]]))
    assert not isinstance(found.lift, CannotSay)
    assert (found.lift.lower, found.relative) == (-1.0, -1.0)
    assert 0 < found.lift.upper < inf


@pytest.mark.parametrize("is_binary", [True, False])
def test_a_metric_to_minimise_is_mirrored(is_binary: bool) -> None:  # noqa: FBT001 - a case
    """The direction swaps better and worse; means and intervals are the same."""
    rows = [[0.6, 0.4]] * 3, [[60, 40]] * 3, [[6, 9], [5, 9], [7, 8]]
    up, down = (
        compared(make_table(*rows, scale=ValueScale(is_binary=is_binary, direction=direction)))
        for direction in (Direction.MAXIMIZE, Direction.MINIMIZE)
    )
    assert (up.better, up.worse) == (down.worse, down.better)
    assert (up.interval, up.lift, up.mean) == (down.interval, down.lift, down.mean)


def test_amounts_that_begin_above_0_have_ratios_of_values() -> None:
    """On a range of 100 to 200 a mean of 150 is half as much again as 100, not infinitely more."""
    scale = ValueScale(minimum=100.0, maximum=200.0, is_binary=False)
    n = np.full((4, 2), 5000.0)
    found = compared(
        make_table(np.full((4, 2), 0.5), n, n * [0.0, 0.5], squares=n * [0.0, 0.25], scale=scale)
    )
    assert (found.champion_mean, found.mean) == (100.0, 150.0)
    assert found.relative == pytest.approx(0.5)
    assert not isinstance(found.lift, CannotSay)
    assert 0.45 < found.lift.lower < 0.5 < found.lift.upper < 0.55


def test_more_challengers_widen_the_interval() -> None:
    """With 19 challengers the level is ln 760, and the interval up to half as wide again."""
    table = make_table([[0.5, 0.5]] * 5, [[400, 400]] * 5, [[40, 40]] * 5)
    one, many = (compared(table, Design(n_challengers=n)).interval for n in (1, 19))
    assert 1.2 < (many.upper - many.lower) / (one.upper - one.lower) < 1.5

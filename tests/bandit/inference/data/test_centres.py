"""Centres: folds of the rows before each, in the order of rows."""

import numpy as np
import pytest

from tests.bandit.inference.tables import AMOUNT, make_table

TABLE = make_table(
    np.tile([0.5, 0.3, 0.2], (4, 1)),
    [[8, 8, 0], [10, 6, 0], [30, 20, 10], [1, 1, 1]],
    [[2, 4, 0], [0, 1, 0], [6, 9, 10], [1, 1, 1]],
)


def test_the_pooled_centre_is_the_mean_of_all_arms_before() -> None:
    """Each row has the mean of all decisions of earlier rows, of every arm; the first has one half."""
    centres = TABLE.centres
    assert centres.n_before.tolist() == [0, 16, 32, 92]
    assert centres.pooled.tolist() == pytest.approx([0.5, 6 / 16, 7 / 32, 32 / 92])


def test_rows_count_from_32_decisions_on() -> None:
    """A row counts in tests once 32 decisions lie before it."""
    assert TABLE.centres.is_tested.tolist() == [False, False, True, True]


def test_an_arms_own_centre_is_drawn_to_the_pooled_one() -> None:
    """An arm's centre has fifty decisions at the pooled mean; a new arm has that mean alone."""
    pooled, of_arms = TABLE.centres.pooled, TABLE.centres.of_arms
    assert of_arms[2].tolist() == pytest.approx(
        [(2 + 50 * pooled[2]) / 68, (5 + 50 * pooled[2]) / 64, pooled[2]]
    )
    assert of_arms[0].tolist() == [0.5] * 3


def test_rows_without_decisions_hand_the_centre_on() -> None:
    """Empty rows, at the start or between others, leave centres as they are."""
    n = np.array([[0, 0], [40, 40], [0, 0], [10, 10]])
    table = make_table(np.full((4, 2), 0.5), n, 0.25 * n, squares=0.1 * n, scale=AMOUNT)
    assert table.centres.pooled.tolist() == pytest.approx([0.5, 0.5, 0.25, 0.25])
    assert table.centres.is_tested.tolist() == [False, False, True, True]


def test_centres_lie_in_the_range_up_to_the_largest_counts() -> None:
    """After 1e9 decisions a row, all at an end of the range, centres are that end to within rounding."""
    n = np.full((6, 2), 1e9)
    for rate in (0.0, 1.0):
        centres = make_table(np.full((6, 2), 0.5), n, rate * n).centres
        assert centres.pooled[1:].tolist() == [rate] * 5
        assert np.abs(centres.of_arms[2:] - rate).max() < 1e-7
        assert np.all((centres.of_arms >= 0) & (centres.of_arms <= 1))

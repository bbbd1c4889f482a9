"""Pairs: the rows of two arms, and their means by overlap weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bandit.inference.tables import draw_table, make_table, pair_in


@settings(max_examples=60)
@given(st.integers(0, 10_000))
def test_under_a_constant_split_means_are_the_plain_means(seed: int) -> None:
    """If shares never move, anyone can check the means: sums over decisions."""
    drawn = draw_table(seed)
    if np.any(drawn.n[:, :2].sum(axis=0) == 0):
        return
    constant = np.tile(drawn.shares[0], (len(drawn.shares), 1))
    pair = pair_in(make_table(constant, drawn.n, drawn.sums, squares=drawn.squares))
    plain = drawn.sums[:, :2].sum(axis=0) / drawn.n[:, :2].sum(axis=0)
    assert pair.means == pytest.approx(tuple(plain), rel=1e-14)


def test_a_common_drift_cancels_where_plain_means_are_reversed() -> None:
    """Simpson's paradox: the better arm gets its traffic when rates are low; plain means reverse them."""
    shares = np.array([[0.1, 0.9], [0.5, 0.5], [0.9, 0.1]])
    n = 1000 * shares
    rates = np.array([[0.08, 0.10], [0.28, 0.30], [0.48, 0.50]])
    pair = pair_in(make_table(shares, n, rates * n))
    champion, challenger = pair.means
    plain = (rates * n).sum(axis=0) / n.sum(axis=0)
    assert plain[1] - plain[0] < -0.15
    assert challenger - champion == pytest.approx(0.02, abs=1e-12)


def test_both_arms_weigh_a_row_alike() -> None:
    """With decisions as the shares expect, each arm weighs a row by n pi (1 - pi)."""
    shares = np.array([[0.2, 0.3, 0.5], [0.6, 0.1, 0.3]])
    pair = pair_in(make_table(shares, 600 * shares, 60 * shares))
    champion, challenger = pair.weights * pair.n
    assert pair.part.tolist() == pytest.approx([0.6, 1 / 7])
    assert champion.tolist() == pytest.approx(challenger.tolist())
    assert challenger.tolist() == pytest.approx([300 * 0.6 * 0.4, 420 / 7 * 6 / 7])


def test_only_rows_of_both_arms_count() -> None:
    """Rows in which one had no share, or neither was chosen, are left out; others feed the centre."""
    shares = [[1.0, 0.0, 0.0], [0.4, 0.4, 0.2], [0.4, 0.4, 0.2], [0.0, 0.5, 0.5], [0.5, 0.5, 0.0]]
    n = [[40, 0, 0], [0, 0, 9], [20, 10, 5], [0, 7, 7], [30, 30, 0]]
    pair = pair_in(make_table(shares, n, [[4, 0, 0], [0, 0, 9], [2, 3, 5], [0, 0, 0], [6, 5, 0]]))
    assert pair.rows.tolist() == [2, 4]
    assert pair.n.tolist() == [[20, 30], [10, 30]]
    assert pair.centre.tolist() == pytest.approx([13 / 49, 23 / 98])
    assert pair.n_decisions == 90


def test_rows_that_only_serve_as_centre_are_in_means_and_not_in_tests() -> None:
    """The tested part of a pair leaves out the rows before which there were few decisions."""
    pair = pair_in(make_table([[0.5, 0.5]] * 3, [[10, 10], [10, 10], [20, 20]], [[0, 9], [5, 5], [5, 5]]))
    assert pair.is_tested.tolist() == [False, False, True]
    assert pair.means == pytest.approx((10 / 40, 19 / 40))
    kept = pair.tested()
    assert (kept.rows.tolist(), kept.n_decisions) == ([2], 40)
    assert np.all(kept.is_tested)
    assert kept.tested().rows.tolist() == [2]

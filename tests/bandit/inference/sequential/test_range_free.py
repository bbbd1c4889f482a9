"""The approximate interval where the range dwarfs the spread."""

from math import log, sqrt

import numpy as np
import pytest

from bandit.inference.data.table import EvidenceTable
from bandit.inference.sequential.range_free import approximate_interval, is_heavy
from bandit.inference.sequential.results import Interval
from tests.bandit.inference.tables import AMOUNT, make_table, pair_in

LEVEL = log(40)


def shifted(shift: float, *, seed: int = 2, n_rows: int = 20, size: int = 100) -> EvidenceTable:
    """Return skewed amounts of about a thousandth of the range; the challenger's are larger by `shift`."""
    rng = np.random.default_rng(seed)
    share = rng.uniform(0.2, 0.8, n_rows)
    shares, n = np.stack([1 - share, share], axis=1), np.full((n_rows, 2), size)
    amounts = np.minimum(rng.lognormal(-7, 0.7, (n_rows, 2, size)), 0.5) + np.array([[0], [shift]])
    return make_table(shares, n, amounts.sum(axis=2), squares=(amounts**2).sum(axis=2), scale=AMOUNT)


def test_only_a_range_of_30_deviations_needs_it() -> None:
    """Outcomes that fill the range have no approximate interval; those of a thousandth have one."""
    n = np.full((2, 2), 100.0)
    assert not is_heavy(pair_in(make_table(np.full((2, 2), 0.5), n, 0.3 * n, scale=AMOUNT)))
    for deviations, is_needed in ((29.0, False), (31.0, True)):
        squares = (0.25 + 1 / deviations**2) * n
        table = make_table(np.full((2, 2), 0.5), n, 0.5 * n, squares=squares, scale=AMOUNT)
        assert is_heavy(pair_in(table)) == is_needed
    assert is_heavy(pair_in(shifted(0.0)))


@pytest.mark.parametrize("shift", [0.0, 0.002])
def test_it_holds_a_shift_and_is_some_times_as_wide_as_a_fixed_sample(shift: float) -> None:
    """It holds the shift of every outcome, at about twice the width of a single look."""
    pair = pair_in(shifted(shift))
    found = approximate_interval(pair, LEVEL)
    assert found is not None
    assert found.lower < shift < found.upper
    assert 1.2 < (found.upper - found.lower) / (2 * 1.96 * pair.standard_error) < 3.5


def test_without_spread_there_is_none() -> None:
    """If the first outcomes are all alike, or none is tested, there is no scale to go by."""
    n = np.full((4, 2), 50.0)
    constant = make_table(np.full((4, 2), 0.5), n, 0.001 * n, squares=1e-6 * n, scale=AMOUNT)
    assert approximate_interval(pair_in(constant), LEVEL) is None
    assert approximate_interval(pair_in(shifted(0.0, n_rows=1)), LEVEL) is None


def test_an_outlier_in_the_first_row_does_not_move_its_middle() -> None:
    """The estimate of all rows may be refuted by those that are tested; the interval lies where these say."""
    table = shifted(0.0)
    sums, squares = table.sums.copy(), table.squares.copy()
    sums[0, 1] += 0.9
    squares[0, 1] += 0.81
    found = approximate_interval(
        pair_in(make_table(table.shares, table.n, sums, squares=squares, scale=AMOUNT)), LEVEL
    )
    assert isinstance(found, Interval)
    assert found.lower < 0 < found.upper
    assert found.upper - found.lower < 40 * sqrt(1 / table.n.sum())

"""Means over time: each look is the estimate of its time."""

import numpy as np
import pytest

from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.aipw import MeanEstimate, estimate_mean
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.mean_path import look_at_mean
from tests.bandit.inference.tables import make_table

DESIGN = Design(floors={0: 0.2, 1: 0.05})
N_EPOCHS = 24


def counts() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return shares, decisions and successes; in two epochs the second arm is below its floor."""
    rng = np.random.default_rng(5)
    share = rng.uniform(0.05, 0.7, N_EPOCHS)
    share[[3, 9]] = 0.01
    shares = np.stack([1 - share, share], axis=1)
    n = rng.poisson(100 * shares).astype(float)
    n[:2, 1] = 0
    return shares, n, rng.binomial(n.astype(int), 0.1).astype(float)


@pytest.mark.parametrize("arm", [0, 1])
def test_every_look_is_the_estimate_of_its_moment(arm: int) -> None:
    """Every look equals the estimate from a table that ends there."""
    shares, n, sums = counts()
    path = look_at_mean(make_table(shares, n, sums), arm, DESIGN, 60)
    assert not isinstance(path, CannotSay)
    assert len(path) == (N_EPOCHS if arm == 0 else N_EPOCHS - 4)
    for look in path:
        rows = slice(look.row + 1)
        then = estimate_mean(make_table(shares[rows], n[rows], sums[rows]), arm, DESIGN)
        assert isinstance(then, MeanEstimate)
        assert look.mean == pytest.approx(then.mean)
        assert look.interval.lower == pytest.approx(then.interval.lower)
        assert look.interval.upper == pytest.approx(then.interval.upper)


def test_a_path_is_thinned_and_ends_now() -> None:
    """A path has at most the given number of looks, the last one included."""
    shares, n, sums = counts()
    path = look_at_mean(make_table(shares, n, sums), 0, DESIGN, 7)
    assert not isinstance(path, CannotSay)
    assert len(path) == 7
    assert path[-1].row == N_EPOCHS - 1


def test_an_arm_that_never_counted_has_no_path() -> None:
    """An arm that never counted has the reason of its mean instead of a path."""
    shares, n, sums = counts()
    table = make_table(shares[3:4], n[3:4], sums[3:4])
    assert look_at_mean(table, 1, DESIGN, 60) == estimate_mean(table, 1, DESIGN)

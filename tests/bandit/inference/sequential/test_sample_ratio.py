"""The sample-ratio check: it follows moving shares, detects tampering, and keeps its rate at every look."""

from math import sqrt

import numpy as np
import pytest
from scipy import stats
from scipy.special import gammaln

from bandit.inference.data.table import ExposureTable, FloatArray
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.sample_ratio import SampleRatio, check_sample_ratio


def check(shares: FloatArray, counts: FloatArray) -> SampleRatio:
    """Return the check over arms numbered in their order."""
    arms = tuple(range(shares.shape[1]))
    result = check_sample_ratio(ExposureTable(arms=arms, shares=shares, counts=counts.astype(float)))
    assert isinstance(result, SampleRatio)
    return result


def test_z_is_that_of_the_binomial() -> None:
    """With constant shares z squared is the chi-square of a two-way table with known margins."""
    counts = np.array([[300.0, 700.0], [320.0, 680.0]])
    found = check(np.tile([0.33, 0.67], (2, 1)), counts)
    chi_square, _ = stats.chisquare(counts.sum(axis=0), [660.0, 1340.0])
    assert found.z[0] is not None
    assert found.z[0] ** 2 == pytest.approx(chi_square)
    assert found.expected == pytest.approx({0: 660.0, 1: 1340.0})


def test_constant_shares_give_the_dirichlet_mixture() -> None:
    """However divided into epochs, the e-value is Lindon and Malek's closed form with weight 1000."""
    shares, counts = np.array([0.2, 0.3, 0.5]), np.array([230.0, 290.0, 480.0])
    cut = np.array([[100.0, 150.0, 200.0], [0.0, 1.0, 0.0], [130.0, 139.0, 280.0]])
    weights, n = 1000 * shares, counts.sum()
    exact = gammaln(1000.0) - gammaln(1000 + n) + (gammaln(weights + counts) - gammaln(weights)).sum()
    exact -= (counts * np.log(shares)).sum()
    assert check(np.tile(shares, (3, 1)), cut).process.log_value == pytest.approx(exact, abs=1e-8)
    assert check(shares[np.newaxis], counts[np.newaxis]).process.log_value == pytest.approx(exact, abs=1e-8)


def test_moving_shares_do_not_alarm_and_tampering_does() -> None:
    """Swings from 90/10 to 10/90 do not alarm; the loss of a twentieth of one arm's decisions does."""
    rng = np.random.default_rng(4)
    first = np.linspace(0.9, 0.1, 40)
    shares = np.stack([first, 1 - first], axis=1)
    counts = np.array([rng.multinomial(1000, row) for row in shares])
    tampered = counts.copy()
    tampered[:, 1] = rng.binomial(counts[:, 1], 0.9)
    assert not check(shares, counts).is_alarming()
    assert check(shares, tampered).is_alarming()


def test_alarms_are_rare_at_every_look() -> None:
    """If shares follow the last epoch's luck, at most .05 of 400 runs alarm at .05."""
    rng, n_runs, alarms = np.random.default_rng(8), 400, 0
    for _ in range(n_runs):
        shares, counts, share = [], [], 0.5
        for _ in range(20):
            shares.append([share, 1 - share])
            counts.append(rng.multinomial(100, shares[-1]))
            share = float(np.clip(counts[-1][0] / 100, 0.05, 0.95))
        alarms += check(np.array(shares), np.array(counts)).process.rejects(0.05)
    # One-sided binomial at 1e-6: mean + 4.9 standard deviations.
    assert alarms <= n_runs * 0.05 + 4.9 * sqrt(n_runs * 0.05 * 0.95)


def test_decisions_without_a_share_are_alarming() -> None:
    """Any decision for an arm whose share is 0 is alarming, since chance never makes one."""
    found = check(np.array([[1.0, 0.0]]), np.array([[99.0, 1.0]]))
    assert found.n_foreign == 1
    assert found.is_alarming()
    assert found.z == {0: None, 1: None}


def test_no_decisions_no_check() -> None:
    """Before the first decision the check gives a reason instead."""
    empty = ExposureTable(arms=(0, 1), shares=np.array([[0.5, 0.5]]), counts=np.zeros((1, 2)))
    assert check_sample_ratio(empty) == CannotSay(Reason.NO_DECISIONS)

"""Policies: shares that are probabilities, equal treatment of arms, and draws that follow the shares."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from bandit.policies import EpsilonGreedy, Policy, StaticSplit, ThompsonSampling
from bandit.posteriors import BetaPosterior, GammaPosterior, NormalPosterior, Posterior, StudentTPosterior
from bandit.posteriors.batches import BetaBatch, GammaBatch, NormalBatch, StudentTBatch, stacked

FALSE_ALARM_RATE = 1e-6
N_RUNS = 200_000

ARMS: dict[str, list[Posterior]] = {
    "beta": [BetaPosterior(31, 971), BetaPosterior(37, 965), BetaPosterior(2, 50)],
    "normal": [NormalPosterior(0, 1), NormalPosterior(0.3, 0.5), NormalPosterior(-1, 3)],
    "student": [StudentTPosterior(0, 1, 3), StudentTPosterior(0.3, 0.5, 9), StudentTPosterior(-1, 3, 1.5)],
    "gamma": [GammaPosterior(20, 10), GammaPosterior(3, 2), GammaPosterior(0.4, 0.2)],
    "tied": [BetaPosterior(2, 2), BetaPosterior(2, 2), BetaPosterior(1, 3)],
}
POLICIES: list[Policy] = [
    ThompsonSampling(),
    EpsilonGreedy(epsilon=0.3),
    EpsilonGreedy(epsilon=0.3, decay_observations=500),
    EpsilonGreedy(epsilon=0.0),
    StaticSplit(weights=(5, 3, 2)),
    StaticSplit(),
]


@pytest.mark.parametrize("maximize", [True, False])
@pytest.mark.parametrize("family", ARMS)
@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_draws_follow_the_shares(policy: Policy, family: str, maximize: bool) -> None:  # noqa: FBT001
    """Arms are drawn with the probabilities of `shares`, for every policy and family."""
    arms = ARMS[family]
    shares = policy.shares(arms, maximize=maximize, n_observations=250)
    drawn = policy.draw(
        stacked(arms, N_RUNS),
        np.random.default_rng(5),
        maximize=maximize,
        n_observations=np.full(N_RUNS, 250),
    )
    assert drawn.shape == (N_RUNS,)
    observed, expected = np.bincount(drawn, minlength=3), shares * N_RUNS
    is_possible = expected > 0
    assert not observed[~is_possible].any()
    statistic = ((observed - expected)[is_possible] ** 2 / expected[is_possible]).sum()
    n_free = max(1, np.count_nonzero(is_possible) - 1)
    assert special.chdtrc(n_free, statistic) > FALSE_ALARM_RATE


@given(
    order=st.permutations(range(3)),
    family=st.sampled_from(sorted(ARMS)),
    policy=st.sampled_from(POLICIES[:4]),
    maximize=st.booleans(),
    n_observations=st.floats(0, 1e9),
)
@settings(max_examples=100)
def test_permuting_arms_permutes_shares(
    order: Sequence[int], family: str, policy: Policy, *, maximize: bool, n_observations: float
) -> None:
    """Shares depend on the posteriors only: in another order, arms get the same shares."""
    arms = ARMS[family]
    shares = policy.shares(arms, maximize=maximize, n_observations=n_observations)
    permuted = policy.shares(
        [arms[index] for index in order], maximize=maximize, n_observations=n_observations
    )
    assert permuted == pytest.approx(shares[list(order)], abs=1e-12)
    assert shares.sum() == pytest.approx(1, abs=1e-9)
    assert (shares >= 0).all()


@pytest.mark.parametrize("n_arms", [1, 2, 7])
def test_equal_posteriors_share_equally(n_arms: int) -> None:
    """Arms with equal posteriors get 1/K each, whatever the policy."""
    arms = [BetaPosterior(3, 9)] * n_arms
    for policy in (ThompsonSampling(), EpsilonGreedy(epsilon=0.2), EpsilonGreedy(epsilon=0.0), StaticSplit()):
        assert policy.shares(arms) == pytest.approx(np.full(n_arms, 1 / n_arms), abs=1e-12)


def test_epsilon_one_is_uniform() -> None:
    """With epsilon 1 posteriors do not matter."""
    assert EpsilonGreedy(epsilon=1.0).shares(ARMS["beta"]) == pytest.approx(np.full(3, 1 / 3))


def test_greedy_follows_the_direction() -> None:
    """All but epsilon goes to the largest mean, or to the smallest; ties split it."""
    arms = [GammaPosterior(1, 1), GammaPosterior(3, 1), GammaPosterior(1, 1)]
    policy = EpsilonGreedy(epsilon=0.3)
    assert policy.shares(arms) == pytest.approx([0.1, 0.8, 0.1])
    assert policy.shares(arms, maximize=False) == pytest.approx([0.45, 0.1, 0.45])


def test_epsilon_decays_with_observations() -> None:
    """Epsilon halves after `decay_observations` and then falls as 1/n; without them it is constant."""
    policy = EpsilonGreedy(epsilon=0.4, decay_observations=100)
    assert [policy.epsilon_at(n) for n in (0, 100, 300)] == pytest.approx([0.4, 0.2, 0.1])
    assert policy.epsilon_at(1e9) * 1e9 == pytest.approx(40, rel=1e-6)
    assert EpsilonGreedy(epsilon=0.4).epsilon_at(1e9) == 0.4


def test_each_run_decays_by_its_own_observations() -> None:
    """In a batch, every run explores by its own number of observations."""
    arms = [BetaPosterior(9, 1), BetaPosterior(1, 9)]
    n_observations = np.repeat([0.0, 1e15], 1_000)
    policy = EpsilonGreedy(epsilon=1.0, decay_observations=1.0)
    drawn = policy.draw(stacked(arms, 2_000), np.random.default_rng(3), n_observations=n_observations)
    assert drawn[:1_000].any()
    assert not drawn[1_000:].any()


def test_batches_keep_their_shape() -> None:
    """A batch with several leading axes yields one arm per leading position."""
    batch = BetaBatch(np.full((4, 5, 3), 2.0), np.ones(3))
    for policy in (ThompsonSampling(), EpsilonGreedy(), StaticSplit()):
        assert policy.draw(batch, np.random.default_rng(1)).shape == (4, 5)


def test_draws_repeat_with_their_generator() -> None:
    """The same generator state yields the same arms: there is no other source of randomness."""
    batch = stacked(ARMS["student"], 100)
    for policy in POLICIES:
        first = policy.draw(batch, np.random.default_rng(9))
        assert first.tolist() == policy.draw(batch, np.random.default_rng(9)).tolist()


@pytest.mark.parametrize("family", ["beta", "normal", "student", "gamma"])
def test_batches_agree_with_posteriors(family: str) -> None:
    """A stacked batch has the posteriors' means, and samples with their quartiles."""
    arms = ARMS[family]
    batch = stacked(arms, N_RUNS)
    assert batch.means.shape == (N_RUNS, 3)
    assert batch.means[0] == pytest.approx([arm.mean for arm in arms])
    samples = batch.sample(np.random.default_rng(2))
    for column, arm in zip(samples.T, arms, strict=True):
        # Five standard errors of a proportion of 1/4.
        tolerance = 5 * math.sqrt(0.25 * 0.75 / N_RUNS)
        assert abs((column < arm.quantile(0.25)).mean() - 0.25) < tolerance
        assert abs((column < arm.quantile(0.75)).mean() - 0.75) < tolerance


def test_parameters_of_a_batch_broadcast() -> None:
    """Parameters of different shapes are broadcast, in means and in samples."""
    wide, narrow = np.zeros((7, 3)), np.ones(3)
    rng = np.random.default_rng(1)
    for batch in (
        NormalBatch(narrow, wide + 1),
        StudentTBatch(narrow, narrow, wide + 4),
        GammaBatch(narrow, wide + 1),
    ):
        assert batch.means.shape == batch.sample(rng).shape == (7, 3)


@pytest.mark.parametrize("policy", [ThompsonSampling(), EpsilonGreedy(), StaticSplit()], ids=repr)
def test_no_arm_is_an_error(policy: Policy) -> None:
    """Every policy refuses an empty list of arms."""
    with pytest.raises(ValueError, match="at least one posterior"):
        policy.shares([])


def test_batches_are_of_one_family() -> None:
    """Posteriors of two families, or no posteriors, can't be stacked."""
    with pytest.raises(ValueError, match="at least one posterior"):
        stacked([], 3)
    with pytest.raises(ValueError, match="one family"):
        stacked([BetaPosterior(1, 1), GammaPosterior(1, 1)], 3)


def test_epsilon_must_be_a_probability() -> None:
    """Settings outside their range are refused with the value."""
    with pytest.raises(ValueError, match=r"epsilon must be in \[0, 1\], got 1\.7"):
        EpsilonGreedy(epsilon=1.7)
    with pytest.raises(ValueError, match="positive and finite, got 0"):
        EpsilonGreedy(decay_observations=0)


@pytest.mark.parametrize(
    ("weights", "message"),
    [((), "at least one weight"), ((0.0, 0.0), "at least one weight"), ((1.0, -1.0), "not negative")],
)
def test_weights_must_have_a_positive_sum(weights: tuple[float, ...], message: str) -> None:
    """Weights that are negative or all 0 are refused."""
    with pytest.raises(ValueError, match=message):
        StaticSplit(weights)


def test_weights_must_fit_the_arms() -> None:
    """A split of three arms can't be applied to two."""
    with pytest.raises(ValueError, match="2 arms need as many weights, got 3"):
        StaticSplit((1, 1, 1)).shares([BetaPosterior(1, 1)] * 2)

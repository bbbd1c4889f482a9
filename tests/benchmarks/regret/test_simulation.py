"""What the simulation holds exactly: its clock, its worlds, its checks, and its independence of machines."""

import math
from itertools import pairwise

import numpy as np
import pytest

from bandit.posteriors.moments import OutcomeMoments
from bandit.posteriors.priors import BetaPrior, NormalInverseGammaPrior
from benchmarks.regret.blocks import Match, play_all
from benchmarks.regret.moments import Moments
from benchmarks.regret.players.beliefs import Beliefs, Outcomes, Pending
from benchmarks.regret.players.contestants import parse_contestant
from benchmarks.regret.problems.problem import Problem
from benchmarks.regret.problems.rewards import RewardKind, divergence, draw_rewards, lai_robbins
from benchmarks.regret.problems.worlds import World
from benchmarks.regret.simulation import Measured, checkpoints_of

MOST_ERRORS = 5.1
"""Exceeded by chance once in 3 million."""


def play(
    problem: Problem, *labels: str, n_runs: int = 200, n_processes: int = 1, seed: int = 4
) -> list[Measured]:
    """Return the regret of each contestant."""
    matches = [
        Match(problem=problem, entrant=parse_contestant(label, problem), n_runs=n_runs, seed=seed)
        for label in labels
    ]
    return play_all(matches, n_processes, lambda _: None)


@pytest.mark.parametrize(
    ("every", "delay", "first_informed"),
    [(1, 0, 1), (1, 7, 8), (10, 0, 10), (10, 9, 10), (10, 10, 20), (10, 25, 30), (25, 24, 25)],
)
def test_an_outcome_counts_from_the_first_refresh_after_its_delay(
    every: int, delay: int, first_informed: int
) -> None:
    """One arm never succeeds, the other always: one known outcome ends all regret of the greedy policy."""
    problem = Problem(means=(0.0, 1.0), horizon=50, refresh_every=every, delay=delay)
    (measured,) = play(problem, "epsilon-greedy:0")
    assert measured.checkpoints == tuple(range(1, 51))
    gained = [after - before for before, after in pairwise([0.0, *measured.regret.mean.tolist()])]
    assert all(each > 0 for each in gained[:first_informed])
    assert gained[first_informed:] == [0.0] * (50 - first_informed)


def test_figures_do_not_depend_on_the_number_of_processes() -> None:
    """Two processes find the same figures as one, to the last bit."""
    problem = Problem(means=(0.2, 0.25, 0.3), horizon=40)
    alone = play(problem, "thompson", "epsilon-greedy", n_runs=600)
    together = play(problem, "thompson", "epsilon-greedy", n_runs=600, n_processes=2)
    for one, other in zip(alone, together, strict=True):
        assert one.regret.n == other.regret.n == 600
        assert one.regret.mean.tolist() == other.regret.mean.tolist()
        assert one.regret.squares.tolist() == other.regret.squares.tolist()


def test_figures_do_not_depend_on_who_else_plays() -> None:
    """A contestant's figures are the same alone and after another one; with another seed they differ."""
    problem = Problem(means_beta=(1.0, 1.0), n_drawn=3, horizon=40)
    (alone,) = play(problem, "thompson")
    (_, behind) = play(problem, "uniform", "thompson")
    (reseeded,) = play(problem, "thompson", seed=5)
    assert alone.regret.mean.tolist() == behind.regret.mean.tolist()
    assert alone.regret.mean.tolist() != reseeded.regret.mean.tolist()


def test_identical_arms_cost_nothing() -> None:
    """Identical arms cost exactly nothing, whichever policy plays."""
    problem = Problem(means=(0.3,) * 4, horizon=60)
    for measured in play(problem, "thompson", "epsilon-greedy", "uniform", "split:4/3/2/1"):
        assert not measured.regret.mean.any()
        assert (measured.share_of_best.mean == 1).all()


@pytest.mark.parametrize(
    ("label", "champion", "shares"),
    [
        ("uniform", 0, (1 / 3, 1 / 3, 1 / 3)),
        ("epsilon-greedy:1", 0, (1 / 3, 1 / 3, 1 / 3)),
        ("split:80/15/5", 0, (0.8, 0.15, 0.05)),
        ("split:80/15/5", 2, (0.15, 0.05, 0.8)),
        ("split:80/15/5:floor=0.1:champion-floor=0.4", 1, (0.16, 0.72, 0.12)),
    ],
)
def test_fixed_shares_cost_what_arithmetic_says(label: str, champion: int, shares: tuple[float, ...]) -> None:
    """A split's first weight is the champion's; floors are additive; epsilon = 1 is a uniform split."""
    problem = Problem(means=(0.1, 0.2, 0.6), horizon=500, champion=champion)
    (measured,) = play(problem, label)
    expected = 500 * sum(share * cost for share, cost in zip(shares, (0.5, 0.4, 0.0), strict=True))
    assert problem.expected_regret(shares) == pytest.approx(expected)
    assert abs(measured.regret.mean[-1] - expected) < MOST_ERRORS * measured.regret.standard_error[-1]
    assert abs(measured.share_of_best.mean[-1] - shares[2]) < MOST_ERRORS * math.sqrt(0.25 / 500 / 200)


def test_floors_hold_for_policies_that_learn() -> None:
    """With floors of .2 and .3 the regret of a policy approaches what the floors give away."""
    problem = Problem(means=(0.0, 1.0), horizon=400)
    (measured,) = play(problem, "epsilon-greedy:0:floor=0.2:champion-floor=0.3")
    late = measured.regret.mean[-1] - measured.regret.mean[measured.checkpoints.index(40)]
    assert abs(late - 0.3 * 360) < MOST_ERRORS * math.sqrt(0.21 * 360 / 200)


def test_blocks_are_merged_into_what_all_runs_together_say() -> None:
    """Mean and standard error are those of the runs as one group; a single run has no standard error."""
    values = np.random.default_rng(1).normal(1e6, 1.0, size=(3, 50))
    merged = Moments.of(values[:, :1]).merge(Moments.of(values[:, 1:20])).merge(Moments.of(values[:, 20:]))
    assert merged.n == 50
    assert merged.mean == pytest.approx(values.mean(axis=1), rel=1e-12)
    assert merged.standard_error == pytest.approx(values.std(axis=1, ddof=1) / math.sqrt(50), rel=1e-6)
    assert np.isnan(Moments.of(values[:, :1]).standard_error).all()


@pytest.mark.parametrize("horizon", [1, 2, 9, 10, 60, 12_345])
def test_curves_end_with_the_horizon(horizon: int) -> None:
    """Checkpoints rise, and include the tenth that the slope needs."""
    rounds = checkpoints_of(horizon)
    assert list(rounds) == sorted(set(rounds))
    assert rounds[0] == 1
    assert rounds[-1] == horizon
    assert max(1, horizon // 10) in rounds


def test_outcomes_age_by_the_refresh_of_their_decision() -> None:
    """Weights are 2^(-age / half-life), age counted from the refresh; the prior keeps its full weight."""
    beliefs = Beliefs(1, 2, BetaPrior(2.0, 3.0), half_life=10.0)
    ones = np.ones((2, 1))
    beliefs.learn([Outcomes(0, 0, np.zeros((2, 1), dtype=np.int64), ones)], 10)
    beliefs.learn([Outcomes(10, 10, np.ones((2, 1), dtype=np.int64), 0 * ones)], 20)
    assert beliefs.n_observations.tolist() == pytest.approx([2 * 0.25 + 2 * 0.5])
    assert beliefs.posteriors().means[0].tolist() == pytest.approx([2.5 / 5.5, 2 / 6])


def test_real_outcomes_make_the_posterior_that_the_library_makes() -> None:
    """Sums kept as arrays, about the prior's mean, give the same belief as `OutcomeMoments`."""
    prior = NormalInverseGammaPrior(mean=1e6, pseudo_observations=2.0, shape=1.5, scale=0.7)
    values = np.random.default_rng(2).normal(1e6 + 1, 0.5, size=(30, 1))
    arms = np.arange(30, dtype=np.int64).reshape(30, 1) % 2
    beliefs = Beliefs(1, 3, prior, half_life=None)
    beliefs.learn([Outcomes(0, 0, arms[:29], values[:29]), Outcomes(29, 0, arms[29:], values[29:])], 30)
    seen = values[arms == 0]
    spread = float(((seen - seen.mean()) ** 2).sum())
    expected = prior.update(OutcomeMoments(n=15.0, mean=float(seen.mean()), centred_squares=spread))
    batch = beliefs.posteriors()
    assert batch.means[0, 0] == pytest.approx(expected.mean, rel=1e-12)
    assert float(batch.scale[0, 0]) == pytest.approx(expected.scale, rel=1e-6)  # type: ignore[attr-defined]
    assert batch.means[0, 2] == prior.mean


def test_outcomes_are_handed_out_once_in_order() -> None:
    """Taking by rounds splits what was added together, and an arm that is gone teaches nothing."""
    pending = Pending()
    arms = np.arange(6, dtype=np.int64).reshape(3, 2) % 2
    pending.add(Outcomes(0, 0, arms, np.ones((3, 2))))
    assert [len(each.arms) for each in pending.take_before(2)] == [2]
    assert pending.take_before(2) == []
    pending.drop(np.array([1]), np.array([1]))
    (rest,) = pending.take_before(99)
    assert rest.first == 2
    assert rest.arms.tolist() == [[0, -1]]
    beliefs = Beliefs(2, 2, BetaPrior(), half_life=None)
    beliefs.learn([rest], 3)
    assert beliefs.n_observations.tolist() == [1.0, 0.0]


def means_of(problem: Problem, n_rounds: int, n_runs: int = 1) -> np.ndarray:
    """Return the means round by round, shape (n_rounds, n_runs, n_arms)."""
    world = World(problem, n_runs, np.random.default_rng(8))
    each = [world.means(first, 1)[0] for first in range(n_rounds)]
    return np.array([np.broadcast_to(means, (n_runs, problem.n_arms)) for means in each])


def test_a_switch_changes_the_means_from_its_round_on() -> None:
    """Rounds before the switch have the first means, and the rest the second."""
    problem = Problem(means=(0.1, 0.2), switch_at=3, switch_means=(0.9, 0.8), horizon=6)
    means = means_of(problem, 6)[:, 0].tolist()
    assert means == [[0.1, 0.2]] * 3 + [[0.9, 0.8]] * 3
    assert World(problem, 1, np.random.default_rng(1)).means(0, 6)[:, 0].tolist() == means


def test_a_week_has_five_days_and_two() -> None:
    """Weekend means hold on the sixth and seventh day; a swing repeats after a week."""
    problem = Problem(means=(0.1, 0.2), weekend_means=(0.3, 0.1), rounds_per_day=2)
    assert means_of(problem, 28)[:, 0, 0].tolist() == ([0.1] * 10 + [0.3] * 4) * 2
    swinging = means_of(Problem(means=(0.2, 0.4), weekly_swing=0.5, rounds_per_day=4), 56)[:, 0]
    assert swinging[:28] == pytest.approx(swinging[28:])
    assert swinging[7].tolist() == pytest.approx([0.3, 0.6])
    assert swinging.mean(axis=0) == pytest.approx([0.2, 0.4])


def test_means_wander_as_far_as_asked_and_stay_in_range() -> None:
    """Each run has its own walks, whose spread at the end is the drift: five sigma of a chi-square."""
    problem = Problem(means=(0.5, 0.5), drift=0.05, horizon=50)
    ends = means_of(problem, 50, n_runs=2_000)[-1]
    assert abs(ends.std() / 0.05 - 1) < MOST_ERRORS / math.sqrt(2 * 4_000)
    wild = means_of(Problem(means=(0.0, 1.0), drift=3.0, horizon=50), 50, n_runs=50)
    assert wild.min() >= 0
    assert wild.max() <= 1
    assert wild[0].tolist() != wild[-1].tolist()


def test_new_arms_are_unknown() -> None:
    """A replaced arm gets a new mean, at the rate asked for, and loses the evidence of old successes."""
    problem = Problem(means_beta=(4.0, 4.0), n_drawn=3, turnover=0.25, horizon=100)
    world = World(problem, 400, np.random.default_rng(3))
    before = world.means(0, 1).copy()
    n_renewed = 0
    for _ in range(20):
        renewed = world.renew()
        assert renewed is not None
        n_renewed += len(renewed[0])
    assert abs(n_renewed - 2_000) < MOST_ERRORS * math.sqrt(8_000 * 0.25 * 0.75)
    assert (world.means(0, 1) != before).any()
    measured, uniform = play(problem, "thompson", "uniform")
    assert measured.regret.mean[-1] < uniform.regret.mean[-1]


@pytest.mark.parametrize(
    ("kind", "mean", "sd", "spread"),
    [
        (RewardKind.BERNOULLI, 0.3, 1.0, 0.458),
        (RewardKind.GAUSSIAN, -2.0, 3.0, 3.0),
        (RewardKind.POISSON, 4.0, 1.0, 2.0),
    ],
)
def test_outcomes_have_their_mean_and_spread(kind: RewardKind, mean: float, sd: float, spread: float) -> None:
    """Bernoulli, Gaussian and Poisson outcomes, within 5.1 standard errors."""
    values = draw_rewards(kind, np.full((400, 100), mean), sd, np.random.default_rng(6))
    assert abs(values.mean() - mean) < MOST_ERRORS * spread / 200
    assert values.std() == pytest.approx(spread, rel=0.05)


def test_lai_robbins_constants_are_those_of_the_formula() -> None:
    """The constants equal Kullback-Leibler divergences summed from their definition."""
    by_hand = 0.2 * math.log(0.2 / 0.25) + 0.8 * math.log(0.8 / 0.75)
    assert lai_robbins(RewardKind.BERNOULLI, [0.2, 0.25, 0.25]) == pytest.approx(0.05 / by_hand)
    pmf = [
        (math.exp(-2) * 2**k / math.factorial(k), math.exp(-3) * 3**k / math.factorial(k)) for k in range(60)
    ]
    summed = sum(p * math.log(p / q) for p, q in pmf)
    assert divergence(RewardKind.POISSON, 2.0, 3.0, 1.0) == pytest.approx(summed)
    assert lai_robbins(RewardKind.GAUSSIAN, [0.0, 1.0], 2.0) == pytest.approx(2 / math.log(1.25))
    assert lai_robbins(RewardKind.BERNOULLI, [0.0, 1.0]) == 0.0
    assert Problem(means=(0.1, 0.2), drift=0.1).lai_robbins is None

"""Simulated regret is that of independent implementations: on one clock, in batches and with delays.

Two means of many runs are about normal, so they are further apart than 5.1 combined standard errors with a
chance of 3.4e-7. (For a single figure four would do, which is a chance of 6e-5.) Seeds are fixed.
"""

import math
import random
from collections.abc import Sequence

import numpy as np
import pytest

from benchmarks.regret.blocks import Match, play_all
from benchmarks.regret.players.contestants import parse_contestant
from benchmarks.regret.players.peers import PeerPlayer
from benchmarks.regret.problems.problem import Problem
from benchmarks.regret.problems.rewards import RewardKind
from benchmarks.regret.simulation import simulate
from tests.benchmarks.regret import textbook

MOST_ERRORS = 5.1
MEANS = (0.31, 0.45, 0.38)
HORIZON = 120
N_TEXTBOOK = 200
N_OURS = 1_000
TEXTBOOK: dict[str, textbook.Choose] = {
    "thompson": textbook.thompson,
    "epsilon-greedy:0.2": textbook.epsilon_greedy(0.2),
    "epsilon-greedy:0.9:decay=30": textbook.epsilon_greedy(0.9, 30),
}
CLOCKS = {"at-once": (1, 0), "batched": (16, 0), "delayed": (1, 30), "both": (16, 30)}


def ours(problem: Problem, label: str) -> tuple[float, float]:
    """Return mean regret and its standard error from the suite."""
    match = Match(problem=problem, entrant=parse_contestant(label, problem), n_runs=N_OURS, seed=11)
    (measured,) = play_all([match], 1, lambda _: None)
    return float(measured.regret.mean[-1]), float(measured.regret.standard_error[-1])


def assert_agree(one: tuple[float, float], other: tuple[float, float]) -> None:
    """Fail if the means are further apart than chance allows."""
    assert abs(one[0] - other[0]) < MOST_ERRORS * math.hypot(one[1], other[1]), (one, other)


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("label", TEXTBOOK)
def test_regret_is_that_of_a_textbook_loop(label: str, clock: str) -> None:
    """Thompson sampling and epsilon-greedy cost what they cost in a plain loop that shares no code."""
    every, delay = CLOCKS[clock]
    luck = random.Random(f"{label} {clock}")
    regrets = [
        textbook.run(MEANS, HORIZON, TEXTBOOK[label], luck, every=every, delay=delay)
        for _ in range(N_TEXTBOOK)
    ]
    problem = Problem(means=MEANS, horizon=HORIZON, refresh_every=every, delay=delay)
    assert_agree(ours(problem, label), textbook.mean_and_error(regrets))


def test_regret_of_counts_is_that_of_a_textbook_loop() -> None:
    """Poisson outcomes with a gamma posterior cost what they cost in a plain loop."""
    means, luck = (1.0, 1.6), random.Random(3)
    regrets = [
        textbook.run(means, 100, textbook.thompson_of_counts, luck, outcome=textbook.poisson)
        for _ in range(N_TEXTBOOK)
    ]
    problem = Problem(means=means, horizon=100, reward=RewardKind.POISSON)
    assert_agree(ours(problem, "thompson"), textbook.mean_and_error(regrets))


class TextbookPeer:
    """A textbook policy that breaks ties by the first arm, in place of another library's."""

    def __init__(self, n_arms: int, seed: int) -> None:
        self.luck = random.Random(seed)
        self.counts, self.sums = [0.0] * n_arms, [0.0] * n_arms

    def choose(self) -> int:
        """Return an arm by Thompson sampling."""
        return textbook.thompson(self.counts, self.sums, self.luck)

    def learn(self, arms: Sequence[int], rewards: Sequence[float]) -> None:
        """Count the outcomes."""
        for arm, reward in zip(arms, rewards, strict=True):
            self.counts[arm] += 1
            self.sums[arm] += reward


@pytest.mark.parametrize("clock", ["at-once", "both"])
def test_peers_play_on_the_same_clock(clock: str) -> None:
    """A policy from elsewhere, taught through the peers' interface, costs what ours does."""
    every, delay = CLOCKS[clock]
    problem = Problem(means=MEANS, horizon=HORIZON, refresh_every=every, delay=delay)
    rngs = (np.random.default_rng(1), np.random.default_rng(2))
    player = PeerPlayer(problem, TextbookPeer, N_TEXTBOOK, np.random.default_rng(3))
    measured = simulate(problem, player, N_TEXTBOOK, rngs)
    peers = float(measured.regret.mean[-1]), float(measured.regret.standard_error[-1])
    assert_agree(ours(problem, "thompson"), peers)


class FirstArm:
    """A peer that always takes the arm that it sees first."""

    def choose(self) -> int:
        """Return the first arm."""
        return 0

    def learn(self, arms: Sequence[int], rewards: Sequence[float]) -> None:
        """Learn nothing, and check that it sees only its own choice."""
        assert set(arms) <= {0}
        assert len(arms) == len(rewards)


def test_peers_see_arms_in_an_order_of_their_own() -> None:
    """A peer that takes the first arm takes each arm equally often over runs: within 5.1 deviations."""
    problem = Problem(means=(0.0, 0.0, 1.0), horizon=20)
    n_runs = 900
    player = PeerPlayer(problem, lambda *_: FirstArm(), n_runs, np.random.default_rng(5))
    measured = simulate(problem, player, n_runs, (np.random.default_rng(1), np.random.default_rng(2)))
    assert abs(measured.share_of_best.mean[-1] - 1 / 3) < MOST_ERRORS * math.sqrt(2 / 9 / n_runs)

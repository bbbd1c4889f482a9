"""Player that gets its arms from a real server: a run is an experiment, a round a Choose and a Reward."""

import re
import time
from collections.abc import Mapping
from typing import Final

import numpy as np

from bandit.allocation import furthest_move
from bandit.client import (
    BanditClient,
    CallError,
    Choice,
    Fallback,
    OutcomeResult,
    Question,
    Reward,
    RewardResult,
)
from bandit.v1 import experiment_pb2 as pb
from benchmarks.regret.players.beliefs import IntArray, Outcomes, Pending
from benchmarks.regret.players.contestants import Contestant, arm_id
from benchmarks.regret.players.experiments import RunFacts, declared
from benchmarks.regret.problems.problem import Problem
from benchmarks.regret.problems.rewards import METRIC, FloatArray

MOST_RUNS: Final = 1_000
_BATCH: Final = 1_000
_FALLBACK: Final = Fallback("none")
_WAIT_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.02
_ROUNDING: Final = 1e-6


class ServerPlayError(Exception):
    """Unexpected answer of the service."""


class ServerPlayer:
    """Plays a contestant through Choose and Reward.

    Outcomes are posted on the problem's clock. After each post it waits until the current epoch of every run
    has the shares that follow from all outcomes posted so far, up to the server's threshold; from then on the
    server begins no other epoch. So posteriors are refreshed as they are in-process, and regret can be
    compared.

    Args:
        client: Client of the server.
        problem: The problem to play.
        contestant: The contestant.
        n_runs: Number of runs, at most 1,000.
        threshold: The server's own setting: log-odds by which shares may be off without a new epoch.

    Attributes:
        n_epochs: Number of epochs in all runs together.
    """

    def __init__(
        self, client: BanditClient, problem: Problem, contestant: Contestant, n_runs: int, threshold: float
    ) -> None:
        self._client = client
        self._problem = problem
        self._threshold = threshold
        slug = re.sub("[^a-z0-9]+", "-", contestant.label.lower()).strip("-")
        self._facts = {f"{slug}-{run}": RunFacts(problem, contestant) for run in range(n_runs)}
        self._arms = {arm_id(arm): arm for arm in range(problem.n_arms)}
        self._pending = Pending()
        self._choices: dict[int, list[Choice]] = {}
        self._first = 0
        self.n_epochs = n_runs
        for name in self._facts:
            client.experiments.create(declared(name, problem, contestant))
            client.experiments.start(name)

    def refresh(self, now: int) -> None:
        """Post the known outcomes if a refresh is due, and wait for new shares; see `Player.refresh`."""
        if not now or now % self._problem.refresh_every:
            return
        news = self._pending.take_before(now - self._problem.delay)
        rewards = [reward for outcomes in news for reward in self._rewards(outcomes)]
        for start in range(0, len(rewards), _BATCH):
            for result in self._client.batch_reward(rewards[start : start + _BATCH]):
                _require_recorded(result)
        if rewards:
            self._await_epochs()

    def forget(self, runs: IntArray, arms: IntArray) -> None:  # noqa: ARG002 - part of the protocol
        """Raise ValueError, as a server does not play problems with turnover; see `Player.forget`."""
        raise ValueError("problems with turnover can't be played through a server")

    def stretch(self, first: int) -> int:
        """Return the number of rounds until outcomes are posted again; see `Player.stretch`."""
        self._first = first
        every = self._problem.refresh_every
        return every - first % every

    def choose(self, n_rounds: int) -> IntArray:
        """Call BatchChoose for all runs and rounds; see `Player.choose`."""
        questions = [Question(experiment=name, fallback=_FALLBACK) for name in self._facts] * n_rounds
        choices: list[Choice] = []
        for start in range(0, len(questions), _BATCH):
            choices += self._client.batch_choose(questions[start : start + _BATCH])
        for choice in choices:
            if choice.is_fallback:
                raise ServerPlayError(f"Choose was not answered: {choice.fallback_cause}")
        n_runs = len(self._facts)
        for number in range(n_rounds):
            self._choices[self._first + number] = choices[number * n_runs : (number + 1) * n_runs]
        arms = [self._arms[choice.arm] for choice in choices]
        return np.array(arms, dtype=np.int64).reshape(n_rounds, n_runs)

    def observe(self, first: int, arms: IntArray, rewards: FloatArray) -> None:
        """Keep the outcomes of some rounds, to post them after their delay; see `Player.observe`."""
        self._pending.add(Outcomes(first, first, arms, rewards))

    def _rewards(self, outcomes: Outcomes) -> list[Reward]:
        """Return the rewards to post for these rounds, and add them to the facts of their runs."""
        rewards = []
        for number, (arms, values) in enumerate(zip(outcomes.arms, outcomes.rewards, strict=True)):
            choices = self._choices.pop(outcomes.first + number)
            for facts, choice, arm, value in zip(
                self._facts.values(), choices, arms.tolist(), values.tolist(), strict=True
            ):
                facts.add(arm, value)
                rewards.append(Reward(choice, {METRIC: value}))
        return rewards

    def _await_epochs(self) -> None:
        """Wait until all runs have the expected shares; raise ServerPlayError after 60 s."""
        expected = {name: facts.shares() for name, facts in self._facts.items()}
        give_up_at = time.monotonic() + _WAIT_SECONDS
        while True:
            epochs = self._epochs()
            behind = [name for name in expected if not self._is_near(epochs[name].shares, expected[name])]
            if not behind:
                self.n_epochs = sum(epoch.number for epoch in epochs.values())
                return
            if time.monotonic() > give_up_at:
                name = behind[0]
                served, shares = dict(epochs[name].shares), expected[name]
                raise ServerPlayError(f"{name} still serves {served}, must be {shares} by its outcomes")
            time.sleep(_POLL_SECONDS)

    def _epochs(self) -> dict[str, pb.Epoch]:
        """Return experiment name to current epoch."""
        every = self._client.experiments.list(page_size=MOST_RUNS)
        return {each.name: each.epoch for each in every if each.name in self._facts}

    def _is_near(self, served: Mapping[str, float], expected: Mapping[str, float]) -> bool:
        before = {self._arms[arm]: share for arm, share in served.items()}
        after = {self._arms[arm]: share for arm, share in expected.items()}
        return furthest_move(before, after) <= self._threshold + _ROUNDING


def _require_recorded(result: RewardResult | CallError) -> None:
    if isinstance(result, CallError):
        raise ServerPlayError(f"a reward was refused: {result}")
    if result.metric_to_result[METRIC] is not OutcomeResult.RECORDED:
        raise ServerPlayError(f"a new reward was answered with {result.metric_to_result[METRIC]}")

"""A player whose arms come from a real server: every run an experiment, every round a Choose and a Reward."""

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
    """The service did not answer as it must; the text says how."""


class ServerPlayer:
    """Plays a contestant through Choose and Reward.

    Outcomes are posted on the problem's clock. After each post it waits until the epoch in force of every run
    has the shares that all outcomes posted so far ask for, up to the server's threshold: from then on the
    server begins no other epoch. So posteriors are refreshed as they are in-process, and what a run costs can
    be compared.

    Args:
        client: Speaks to the server.
        problem: What is played.
        contestant: Who plays.
        n_runs: In how many runs, at most 1,000.
        threshold: By how much, in log-odds, shares may be off without a new epoch: the server's own setting.

    Attributes:
        n_epochs: How many epochs the runs have had, all together.
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
        """Posts what is known, if this is a round in which that is done, and waits; see `Player.refresh`."""
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
        """Such problems are not played here; see `Player.forget`."""
        raise ValueError("no problem with turnover is played here")

    def stretch(self, first: int) -> int:
        """Rounds until outcomes are posted again; see `Player.stretch`."""
        self._first = first
        every = self._problem.refresh_every
        return every - first % every

    def choose(self, n_rounds: int) -> IntArray:
        """Asks for all runs and rounds, in batches; see `Player.choose`."""
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
        """Takes what came of some rounds, to be posted when its delay has passed; see `Player.observe`."""
        self._pending.add(Outcomes(first, first, arms, rewards))

    def _rewards(self, outcomes: Outcomes) -> list[Reward]:
        """What is to be posted for these rounds; it is added to the facts of their runs."""
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
        """Waits until shares in force are those that outcomes ask for; ServerPlayError after a minute."""
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
                served, asked = dict(epochs[name].shares), expected[name]
                raise ServerPlayError(f"{name} still serves {served}, but its outcomes ask for {asked}")
            time.sleep(_POLL_SECONDS)

    def _epochs(self) -> dict[str, pb.Epoch]:
        """Experiment to its epoch in force."""
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

"""The blocking client."""

import time
from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import Self

from bandit.client.admin import Admin
from bandit.client.base_client import BaseClient
from bandit.client.batches import (
    batch_choose_request,
    batch_reward_request,
    choices,
    choose_batch,
    reward_batch,
    reward_results,
)
from bandit.client.connections import Connection
from bandit.client.endpoint import Endpoint
from bandit.client.errors import CallError, more_telling
from bandit.client.experiments import Experiments
from bandit.client.messages import check_fallback, choice, choose_request, reward_request, reward_result
from bandit.client.retry import Attempts
from bandit.client.values import Choice, Fallback, Question, Reward, RewardResult


class BanditClient(BaseClient):
    """Asks for arms and reports rewards; thread-safe, one for a process.

    The channel is opened by the first call and reconnects by itself. A process that forks must make its first
    call after the fork, in each child.

    Attributes:
        experiments: the experiment calls.
        admin: the calls of an admin.
    """

    admin: Admin
    experiments: Experiments

    def _set_up(self, endpoint: Endpoint, experiment_timeout: float) -> None:
        self._connection = Connection(endpoint)
        self.experiments = Experiments(self._connection, experiment_timeout)
        self.admin = Admin(self._connection, experiment_timeout)

    def choose(
        self,
        experiment: str,
        *,
        fallback: Fallback,
        unit: str | None = None,
        attributes: Mapping[str, str] | None = None,
        eligible_arms: Collection[str] | None = None,
        previous: Choice | str | None = None,
        timeout: float | None = None,
    ) -> Choice:
        """Returns the arm that serves this request; the fallback if the service does not say in time.

        No state of the service and no value of an argument makes this raise. A service that is slow, down or
        closed, an experiment that is unknown or not started, a unit or token that is refused: each serves the
        fallback, with the cause in `Choice.fallback_cause` and in a warning of the logger `bandit.client`, at
        most one in ten seconds for an experiment and status.

        Args:
            experiment: the experiment's name.
            fallback: what to serve without an answer.
            unit: who is sticky, such as a user id; None draws by chance.
            attributes: what is known of the unit, for segments.
            eligible_arms: the arms that the caller can serve; None for all, empty serves the fallback.
            previous: an earlier choice for this unit, or its decision id, to stay with its arm.
            timeout: seconds, in place of the client's.

        Raises:
            TypeError: an argument has a wrong type.
        """
        check_fallback(fallback)
        try:
            request = choose_request(experiment, unit, attributes, eligible_arms, previous)
            response = self._connection.call(
                self._connection.stubs.bandit.Choose,
                request,
                self._choose_timeout if timeout is None else timeout,
            )
            return choice(response)
        except CallError as error:
            return self._fallbacks.serve(experiment, fallback, error)

    def batch_choose(self, questions: Sequence[Question], *, timeout: float | None = None) -> list[Choice]:
        """Returns one choice for each question, in order; those without an answer get their own fallback.

        Raises:
            TypeError: an argument of a question has a wrong type.
            ValueError: there are more than 1,000 questions.
        """
        batch = choose_batch(questions)
        if batch.pending:
            try:
                response = self._connection.call(
                    self._connection.stubs.bandit.BatchChoose,
                    batch_choose_request(batch),
                    self._batch_choose_timeout if timeout is None else timeout,
                )
                batch.absorb(choices(response.results))
            except CallError as error:
                batch.fail(error)
        return self._fallbacks.serve_batch(questions, batch)

    def reward(
        self,
        decision: Choice | str,
        outcomes: Mapping[str, float],
        *,
        revision: int = 0,
        timeout: float | None = None,
    ) -> RewardResult:
        """Records what came of a decision; once this returns, the outcomes are committed.

        It is repeated within its timeout while the service is away or asks to be spared, and may be called
        again at any time: a decision counts once for each metric. The reward of a fallback is not sent, and
        the result says so.

        Args:
            decision: the choice, or its decision id; an empty id is a fallback's.
            outcomes: metric name to value, in the metric's own unit and range.
            revision: 0 for a first report; a higher one replaces the value of a lower one.
            timeout: seconds for all attempts, in place of the retry policy's.

        Raises:
            TypeError: an argument has a wrong type.
            CallError: the outcomes are not known to be recorded; the subclass says what to do.
        """
        request = reward_request(decision, outcomes, revision)
        if isinstance(request, RewardResult):
            return request
        attempts = Attempts(self._retry, timeout)
        failure: CallError | None = None
        while True:
            try:
                stub = self._connection.stubs.bandit
                return reward_result(self._connection.call(stub.Reward, request, attempts.begin()))
            except CallError as error:
                failure = more_telling(failure, error)
                delay = attempts.find_delay(failure)
                if delay is None:
                    raise failure from failure.__cause__
            time.sleep(delay)

    def batch_reward(
        self, rewards: Sequence[Reward], *, timeout: float | None = None
    ) -> list[RewardResult | CallError]:
        """Records what came of many decisions; returns a result or an error for each, in order.

        Only those that may still succeed are sent again. The state of the service does not make this raise:
        while it is away, each reward without a result has the error.

        Raises:
            TypeError: an argument of a reward has a wrong type.
            ValueError: there are more than 1,000 rewards.
        """
        batch = reward_batch(rewards)
        attempts = Attempts(self._retry, timeout)
        while batch.pending:
            try:
                stub = self._connection.stubs.bandit
                response = self._connection.call(
                    stub.BatchReward, batch_reward_request(batch), attempts.begin()
                )
                batch.absorb(reward_results(response.results))
            except CallError as error:
                batch.fail(error)
            delay = attempts.find_delay(batch.find_trouble())
            if delay is None:
                break
            time.sleep(delay)
        return batch.in_order()

    def close(self) -> None:
        """Cancels the calls in flight and closes the channel; closing again does nothing."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

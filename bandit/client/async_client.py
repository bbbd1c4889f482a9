"""The client for asyncio: `sync_client` with its calls awaited."""

# ruff: noqa: ASYNC109 - a timeout becomes the deadline of the call, which the service sees as well

import asyncio
from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import Self

from bandit.client.admin import AsyncAdmin
from bandit.client.base_client import BaseClient
from bandit.client.batches import (
    batch_choose_request,
    batch_reward_request,
    choices,
    choose_batch,
    reward_batch,
    reward_results,
)
from bandit.client.connections import AsyncConnection
from bandit.client.endpoint import Endpoint
from bandit.client.errors import CallError, more_telling
from bandit.client.experiments import AsyncExperiments
from bandit.client.messages import check_fallback, choice, choose_request, reward_request, reward_result
from bandit.client.retry import Attempts
from bandit.client.values import Choice, Fallback, Question, Reward, RewardResult


class AsyncBanditClient(BaseClient):
    """Asks for arms and reports rewards without blocking; one for an event loop.

    The channel is opened by the first call, belongs to that call's event loop, and reconnects by itself. A
    process that forks must make its first call after the fork, in each child.

    Attributes:
        experiments: the experiment calls.
        admin: the calls of an admin.
    """

    admin: AsyncAdmin
    experiments: AsyncExperiments

    def _set_up(self, endpoint: Endpoint, experiment_timeout: float) -> None:
        self._connection = AsyncConnection(endpoint)
        self.experiments = AsyncExperiments(self._connection, experiment_timeout)
        self.admin = AsyncAdmin(self._connection, experiment_timeout)

    async def choose(
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
        """As `BanditClient.choose`."""
        check_fallback(fallback)
        try:
            request = choose_request(experiment, unit, attributes, eligible_arms, previous)
            response = await self._connection.call(
                self._connection.stubs.bandit.Choose,
                request,
                self._choose_timeout if timeout is None else timeout,
            )
            return choice(response)
        except CallError as error:
            return self._fallbacks.serve(experiment, fallback, error)

    async def batch_choose(
        self, questions: Sequence[Question], *, timeout: float | None = None
    ) -> list[Choice]:
        """As `BanditClient.batch_choose`."""
        batch = choose_batch(questions)
        if batch.pending:
            try:
                response = await self._connection.call(
                    self._connection.stubs.bandit.BatchChoose,
                    batch_choose_request(batch),
                    self._batch_choose_timeout if timeout is None else timeout,
                )
                batch.absorb(choices(response.results))
            except CallError as error:
                batch.fail(error)
        return self._fallbacks.serve_batch(questions, batch)

    async def reward(
        self,
        decision: Choice | str,
        outcomes: Mapping[str, float],
        *,
        revision: int = 0,
        timeout: float | None = None,
    ) -> RewardResult:
        """As `BanditClient.reward`."""
        request = reward_request(decision, outcomes, revision)
        if isinstance(request, RewardResult):
            return request
        attempts = Attempts(self._retry, timeout)
        failure: CallError | None = None
        while True:
            try:
                stub = self._connection.stubs.bandit
                return reward_result(await self._connection.call(stub.Reward, request, attempts.begin()))
            except CallError as error:
                failure = more_telling(failure, error)
                delay = attempts.find_delay(failure)
                if delay is None:
                    raise failure from failure.__cause__
            await asyncio.sleep(delay)

    async def batch_reward(
        self, rewards: Sequence[Reward], *, timeout: float | None = None
    ) -> list[RewardResult | CallError]:
        """As `BanditClient.batch_reward`."""
        batch = reward_batch(rewards)
        attempts = Attempts(self._retry, timeout)
        while batch.pending:
            try:
                stub = self._connection.stubs.bandit
                response = await self._connection.call(
                    stub.BatchReward, batch_reward_request(batch), attempts.begin()
                )
                batch.absorb(reward_results(response.results))
            except CallError as error:
                batch.fail(error)
            delay = attempts.find_delay(batch.find_trouble())
            if delay is None:
                break
            await asyncio.sleep(delay)
        return batch.in_order()

    async def close(self) -> None:
        """Cancels the calls in flight and closes the channel; closing again does nothing."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

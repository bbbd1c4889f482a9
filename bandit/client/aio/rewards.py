"""Many rewards in as few calls as they take."""

import asyncio
from collections.abc import Sequence

from bandit.client.aio.connection import AsyncConnection
from bandit.client.batches import batch_reward_request, reward_batch, reward_results
from bandit.client.counts import Counters
from bandit.client.errors import CallError
from bandit.client.retry import Attempts, RetryPolicy
from bandit.client.values import Reward, RewardResult


class AsyncRewards:
    """Sends batches of rewards again until each is recorded or refused, and counts late outcomes."""

    def __init__(self, connection: AsyncConnection, retry: RetryPolicy, counters: Counters) -> None:
        self._connection = connection
        self._retry = retry
        self._counters = counters

    async def send(
        self, rewards: Sequence[Reward], timeout: float | None = None
    ) -> list[RewardResult | CallError]:
        """Do what `batch_reward` of the client does."""
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
        results = batch.in_order()
        self._counters.add_late_of(results)
        return results

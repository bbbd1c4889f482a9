"""Posts of `serve`, sent behind the caller's back."""

import logging
import time

from bandit.client.aio.rewards import AsyncRewards
from bandit.client.background import AsyncBackground
from bandit.client.counts import Counters
from bandit.client.errors import malformed_error
from bandit.client.logs import log
from bandit.client.posts import Post, Postings
from bandit.client.values import Reward


class AsyncPosts:
    """Sends what is put, later and in batches; never raises, and never waits for the service but in `close`.

    Args:
        rewards: sends batches.
        counters: count what became of the posts.
    """

    def __init__(self, rewards: AsyncRewards, counters: Counters) -> None:
        self._postings = Postings(counters)
        sender = _AsyncSender(rewards, self._postings)
        self._background = AsyncBackground(sender.send, self._postings.drop)

    async def put(self, post: Post) -> None:
        """Send a post soon, or count it as dropped."""
        wanted = self._postings.wanted(post)
        if wanted is not None:
            await self._background.put(wanted)

    def warn_of_shadow(self, experiment: str, arm: str) -> None:
        """Log the exception that is being handled, which an arm raised in shadow."""
        self._postings.warn_of_shadow(experiment, arm)

    async def close(self) -> None:
        """Send what waits, for a bounded time; later posts are dropped."""
        await self._background.close()


class _AsyncSender:
    """Sends batches; refers to nothing that refers to it, so that a client nobody has is freed at once."""

    def __init__(self, rewards: AsyncRewards, postings: Postings) -> None:
        self._rewards = rewards
        self._postings = postings

    async def send(self, posts: list[Post], seconds: float | None) -> None:
        """Send posts within so many seconds (None: the time of a reward); count what became of them."""
        deadline = None if seconds is None else time.monotonic() + seconds
        waiting = [post for post in map(self._postings.wanted, posts) if post is not None]
        while waiting:
            rewards = [Reward(post.decision_id, post.outcomes) for post in waiting]
            timeout = None if deadline is None else deadline - time.monotonic()
            try:
                answers = await self._rewards.send(rewards, timeout)
            except Exception as error:  # noqa: BLE001 - the log has it
                log(logging.ERROR, "posts of serve failed", exc_info=True)
                answers = [malformed_error(str(error)) for _ in rewards]
            waiting = self._postings.settle(waiting, answers)

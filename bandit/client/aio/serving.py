"""A block of code that serves a choice, and is measured."""

import time
from types import TracebackType
from typing import Protocol

from bandit.client.aio.posts import AsyncPosts
from bandit.client.posts import Post, measured
from bandit.client.values import Choice


class AsyncChoose(Protocol):
    """The client's `choose`, with its arguments."""

    async def __call__(self) -> Choice:
        """Return the choice."""
        ...


class AsyncServing:
    """Chooses an arm, times the block that serves it, and posts what was measured; for one block."""

    def __init__(self, experiment: str, choose: AsyncChoose, posts: AsyncPosts, longest_ms: float) -> None:
        self._experiment = experiment
        self._choose = choose
        self._posts = posts
        self._longest_ms = longest_ms
        self._is_used = False
        self._decision_id = ""
        self._began = 0.0

    async def __aenter__(self) -> Choice:
        if self._is_used:
            raise RuntimeError("a block of serve is entered once: call serve for each block")
        self._is_used = True
        choice = await self._choose()
        self._decision_id = choice.decision_id
        self._began = time.perf_counter()
        return choice

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        seconds = time.perf_counter() - self._began
        # Whoever cancels the block or ends the process says nothing of the arm.
        is_abandoned = exception is not None and not isinstance(exception, Exception)
        if self._decision_id and not is_abandoned:
            outcomes = measured(seconds, self._longest_ms, has_failed=exception is not None)
            await self._posts.put(Post(self._experiment, self._decision_id, outcomes))

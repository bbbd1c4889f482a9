"""A block of code in which an arm answers in shadow, and is measured."""

import time
from types import TracebackType

from bandit.client.aio.posts import AsyncPosts
from bandit.client.posts import Post, mirrored
from bandit.client.values import ShadowDecision


class AsyncMirroring:
    """Times the block in which a shadow answers, and posts what was measured; for one block."""

    def __init__(self, experiment: str, shadow: ShadowDecision, posts: AsyncPosts, longest_ms: float) -> None:
        self._experiment = experiment
        self._shadow = shadow
        self._posts = posts
        self._longest_ms = longest_ms
        self._is_used = False
        self._began = 0.0

    async def __aenter__(self) -> ShadowDecision:
        if self._is_used:
            raise RuntimeError("a block of mirror is entered once: call mirror for each block")
        self._is_used = True
        self._began = time.perf_counter()
        return self._shadow

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        outcomes = mirrored(time.perf_counter() - self._began, self._longest_ms, exception)
        await self._posts.put(Post(self._experiment, self._shadow.decision_id, outcomes))
        if not isinstance(exception, Exception):
            return False
        self._posts.warn_of_shadow(self._experiment, self._shadow.arm)
        return True

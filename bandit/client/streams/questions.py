"""What differs between asyncio and threads on a stream: how a caller waits for the answer to its question."""

import asyncio
import contextlib
import threading
from abc import ABC, abstractmethod
from typing import TypeAlias

from bandit.client.errors import expired_error
from bandit.client.transport import running_loop
from bandit.v1 import bandit_pb2

Request: TypeAlias = bandit_pb2.ChooseStreamRequest
Answer: TypeAlias = bandit_pb2.ChooseStreamResponse


class Waiting(ABC):
    """A question whose caller waits; it may be asked on one stream.

    Attributes:
        request: the message.
        sent_at: monotonic seconds; infinite until it is sent.
    """

    __slots__ = ("request", "sent_at")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.sent_at = float("inf")

    @property
    @abstractmethod
    def is_abandoned(self) -> bool:
        """True if its caller has run out of time or was cancelled; read by any thread."""

    @abstractmethod
    def settle(self, answer: Answer | None) -> None:
        """Wake the caller with the answer, or with None if the stream ended without; called once."""


class AsyncQuestion(Waiting):
    """A question of a task; made in its event loop.

    Raises:
        UnavailableError: no event loop runs here, or the process was forked.
    """

    __slots__ = ("_loop", "_settled")

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._loop = running_loop()
        self._settled: asyncio.Future[Answer | None] = self._loop.create_future()

    @property
    def is_abandoned(self) -> bool:
        """True if its caller has run out of time or was cancelled."""
        return self._settled.done()

    def settle(self, answer: Answer | None) -> None:
        """Wake the caller in its event loop."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits any more
            self._loop.call_soon_threadsafe(self._settle, answer)

    async def wait(self, seconds: float) -> Answer | None:
        """Return the answer, or None if the stream ended without; UnavailableError after so many seconds."""
        expiry = self._loop.call_later(seconds, self._expire)
        try:
            return await self._settled
        finally:
            expiry.cancel()

    def _settle(self, answer: Answer | None) -> None:
        if not self._settled.done():
            self._settled.set_result(answer)

    def _expire(self) -> None:
        if not self._settled.done():
            self._settled.set_exception(expired_error())


class Question(Waiting):
    """A question of a thread."""

    __slots__ = ("_answer", "_has_expired", "_unsettled")

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._answer: Answer | None = None
        self._has_expired = False
        self._unsettled = threading.Lock()
        self._unsettled.acquire()

    @property
    def is_abandoned(self) -> bool:
        """True if its caller has run out of time."""
        return self._has_expired

    def settle(self, answer: Answer | None) -> None:
        """Wake the caller."""
        self._answer = answer
        self._unsettled.release()

    def wait(self, seconds: float) -> Answer | None:
        """Return the answer, or None if the stream ended without; UnavailableError after so many seconds."""
        if not self._unsettled.acquire(timeout=max(seconds, 0.0)):
            self._has_expired = True
            raise expired_error()
        return self._answer

"""Calls that go on until one side ends them."""

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from typing import TypeAlias

from server.http2.exchange import Exchange, Headers, RequestFault
from server.http2.streams import Stream
from server.rpc.fast_lane.deadlines import DEADLINE_PASSED, act_at, deadline_of
from server.rpc.fast_lane.responses import HEAD, OK, failure_trailers
from server.rpc.messages.status import CANCELED, Failure

Refuse: TypeAlias = Callable[[RequestFault], Failure]
"""Counts a request that will not be served, and returns how its call fails."""


class LongLivedCall(Exchange):
    """A call of which the end is a decision: of the client, its deadline, or a drain.

    Its response begins with its first message: clients may repeat a call that fails before.

    Args:
        stream: Carries it.
        headers: Of its request.
        refuse: What becomes of a request that does not arrive.
        now: The monotonic clock.
        living: Those of the connection; this call is among them until it ends.
    """

    __slots__ = ("_has_begun", "_living", "_refuse", "_timer", "is_over", "stream")

    def __init__(
        self,
        stream: Stream,
        headers: Headers,
        refuse: Refuse,
        now: Callable[[], float],
        living: "set[LongLivedCall]",
    ) -> None:
        self.stream = stream
        self.is_over = False
        self._has_begun = False
        self._refuse = refuse
        self._living = living
        living.add(self)
        deadline = deadline_of(stream, headers)
        self._timer: asyncio.TimerHandle | None = None
        if deadline is not None:
            self._timer = act_at(deadline, now(), self._pass_deadline)

    @abstractmethod
    def close(self) -> None:
        """End soon: the connection is to be closed, and the client goes on elsewhere."""

    @abstractmethod
    def note_end(self, failure: Failure | None) -> None:
        """Note that the call has ended, with a failure or without; called once."""

    def fail(self, fault: RequestFault) -> None:
        """End a call whose first message does not arrive."""
        self.end(self._refuse(fault))

    def cancel(self) -> None:
        """End, since nobody waits for more."""
        self._forget(CANCELED)

    def send(self, data: bytes) -> None:
        """Send messages."""
        if not self._has_begun:
            self._has_begun = True
            self.stream.begin(HEAD)
        self.stream.send(data)

    def end(self, failure: Failure | None) -> None:
        """End with a failure, or with OK."""
        if not self.is_over:
            self._forget(failure)
            self._send_end(failure)

    def _send_end(self, failure: Failure | None) -> None:
        trailers = OK if failure is None else failure_trailers(failure)
        self.stream.end(trailers if self._has_begun else HEAD + trailers)

    def _pass_deadline(self) -> None:
        """End as `DEADLINE_EXCEEDED`. It counts as cancelled, as if the client had reset it just before."""
        if not self.is_over:
            self._forget(CANCELED)
            self._send_end(DEADLINE_PASSED)

    def _forget(self, failure: Failure | None) -> None:
        if self.is_over:
            return
        self.is_over = True
        self._living.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self.note_end(failure)

"""Calls with one request and one response."""

import asyncio
from collections.abc import Callable

from server.http2.exchange import Exchange, Headers, RequestFault
from server.http2.streams import Stream
from server.rpc.fast_lane.calls.long_lived import Refuse
from server.rpc.fast_lane.deadlines import DEADLINE_PASSED, act_at, deadline_of
from server.rpc.fast_lane.framing import IDENTITY, FramingError, first_message, framed
from server.rpc.fast_lane.responses import HEAD, OK, failure_block
from server.rpc.guard.calls import GuardedMethod, Outcome, PendingAnswer
from server.rpc.guard.peer import Peer
from server.rpc.messages.status import CANCELED, NO_REQUEST, Failure


class UnaryCall(Exchange):
    """One call. Its work goes on when nobody waits for the response any more; only the response is dropped.

    Args:
        stream: Carries it.
        headers: Of its request.
        method: Answers it.
        peer: Who makes it.
        refuse: What becomes of a request that does not arrive.
        now: The monotonic clock.
    """

    __slots__ = ("_headers", "_method", "_now", "_peer", "_refuse", "_stream", "_timer", "_working")

    def __init__(
        self,
        stream: Stream,
        headers: Headers,
        method: GuardedMethod,
        peer: Peer,
        refuse: Refuse,
        now: Callable[[], float],
    ) -> None:
        self._stream = stream
        self._headers = headers
        self._method = method
        self._peer = peer
        self._refuse = refuse
        self._now = now
        self._timer: asyncio.TimerHandle | None = None
        self._working: PendingAnswer | None = None

    def finish(self, body: bytes) -> None:
        """Answer the request, or begin to."""
        try:
            message = first_message(body, self._headers.get(b"grpc-encoding", IDENTITY))
        except FramingError as error:
            self._send(error.failure)
            return
        deadline = deadline_of(self._stream, self._headers)
        if message is None:
            self._send(NO_REQUEST)
        elif deadline is not None and self._now() >= deadline:
            self._send(DEADLINE_PASSED)
        else:
            outcome = self._method.call(message, self._peer)
            if isinstance(outcome, bytes):
                self._stream.respond(HEAD, framed(outcome), OK)
            elif isinstance(outcome, Failure):
                self._send(outcome)
            else:
                self._working = outcome
                self._stream.begin_work()
                outcome.add_done_callback(self._end)
                if deadline is not None:
                    self._timer = act_at(deadline, self._now(), self._pass_deadline)

    def fail(self, fault: RequestFault) -> None:
        """Answer a request that will not be finished."""
        self._send(self._refuse(fault))

    def cancel(self) -> None:
        """Have the call counted as cancelled, as on the other listener."""
        if self._working is not None:
            self._working.give_up()

    def _pass_deadline(self) -> None:
        self.cancel()
        self._send(DEADLINE_PASSED)

    def _end(self, working: "asyncio.Future[Outcome]") -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._send(CANCELED if working.cancelled() else working.result())
        self._stream.end_work()

    def _send(self, outcome: Outcome) -> None:
        if isinstance(outcome, Failure):
            self._stream.end(failure_block(outcome))
        else:
            self._stream.respond(HEAD, framed(outcome), OK)

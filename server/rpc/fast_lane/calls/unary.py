"""Calls with one request and one response."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from server.http2.exchange import Exchange, Headers, RequestFault
from server.http2.streams import Stream
from server.rpc.fast_lane.calls.joint import MOST_TOGETHER, JointTurns
from server.rpc.fast_lane.calls.long_lived import Refuse
from server.rpc.fast_lane.deadlines import DEADLINE_PASSED, act_at, deadline_of
from server.rpc.fast_lane.framing import IDENTITY, FramingError, first_message, framed
from server.rpc.fast_lane.responses import HEAD, OK, failure_block
from server.rpc.guard.calls import GuardedMethod, Outcome, PendingAnswer
from server.rpc.guard.peer import Peer
from server.rpc.messages.status import CANCELED, NO_REQUEST, Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class UnaryMethod:
    """A method as all its calls see it.

    Attributes:
        guarded: Answers a call.
        joint: The turns in which calls are answered together; None if each is answered at once.
        refuse: What becomes of a request that does not arrive.
        now: The monotonic clock.
    """

    guarded: GuardedMethod
    joint: "JointTurns[UnaryCall] | None"
    refuse: Refuse
    now: Callable[[], float]


class UnaryCall(Exchange):
    """One call. Its work goes on when nobody waits for the response any more; only the response is dropped.

    Args:
        stream: Carries it.
        headers: Of its request.
        method: Answers it.
        peer: Who makes it.

    Attributes:
        peer: As above.
        message: The request, once it has arrived.
    """

    __slots__ = ("_deadline", "_headers", "_method", "_stream", "_timer", "_working", "message", "peer")

    def __init__(self, stream: Stream, headers: Headers, method: UnaryMethod, peer: Peer) -> None:
        self.peer = peer
        self.message = b""
        self._stream = stream
        self._headers = headers
        self._method = method
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._working: PendingAnswer | None = None

    @property
    def is_awaited(self) -> bool:
        """Whether anybody waits for the response."""
        return self._stream.is_local_open

    def finish(self, body: bytes) -> None:
        """Answer the request, or begin to."""
        try:
            message = first_message(body, self._headers.get(b"grpc-encoding", IDENTITY))
        except FramingError as error:
            self._send(error.failure)
            return
        method = self._method
        deadline = self._deadline = deadline_of(self._stream, self._headers)
        if message is None:
            self._send(NO_REQUEST)
        elif deadline is not None and method.now() >= deadline:
            self._send(DEADLINE_PASSED)
        elif method.joint is not None:
            self.message = message
            method.joint.ask(self)
        else:
            self.take(method.guarded.call(message, self.peer))

    def take(self, outcome: Outcome | PendingAnswer) -> None:
        """Send an outcome, or wait for it."""
        if isinstance(outcome, bytes):
            self._stream.respond(HEAD, framed(outcome), OK)
        elif isinstance(outcome, Failure):
            self._send(outcome)
        else:
            self._working = outcome
            self._stream.begin_work()
            outcome.add_done_callback(self._end)
            if self._deadline is not None:
                self._timer = act_at(self._deadline, self._method.now(), self._pass_deadline)

    def fail(self, fault: RequestFault) -> None:
        """Answer a request that will not be finished."""
        self._send(self._method.refuse(fault))

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


def joint_turns(guarded: GuardedMethod) -> JointTurns[UnaryCall]:
    """Return the turns in which calls of a method are answered together.

    A call that nobody waits for any more when its turn comes costs nothing, and is not counted.
    """

    def answer(calls: Sequence[UnaryCall]) -> int:
        asking = calls[:MOST_TOGETHER]
        awaited = [call for call in asking if call.is_awaited]
        outcomes = guarded.call_each([(call.message, call.peer) for call in awaited])
        for call, outcome in zip(awaited, outcomes, strict=True):
            call.take(outcome)
        return len(asking)

    return JointTurns(answer)

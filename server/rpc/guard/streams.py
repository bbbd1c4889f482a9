"""The guard around a stream: the caller is checked at its beginning and with each message."""

from collections.abc import Awaitable
from typing import Any, Final

from server.rpc.guard.admission import Admission
from server.rpc.guard.authentication import RefusedCallError
from server.rpc.guard.calls import Guarded, Later, Outcome, PendingAnswer, as_later
from server.rpc.guard.metrics import StreamMeasurements
from server.rpc.guard.peer import Peer
from server.rpc.messages.answers import encode_stream_error
from server.rpc.messages.status import Failure, too_large

_OK: Final = 0


class GuardedStream(Guarded[StreamMeasurements]):
    """A method that answers a stream of messages, each with one: see `Guarded`."""

    __slots__ = ()

    def open(self, peer: Peer) -> "Conversation | Failure":
        """Begin a stream of this peer, or return why there is none. It costs the caller nothing yet."""
        began_at = self._guard.clock.monotonic()
        self.measurements.n_started += 1
        try:
            self._guard.check(self.measurements.n_in_flight, 0, self.max_bytes)
            self.admit(peer)
        except Exception as error:  # noqa: BLE001 - unexpected errors are logged
            failure = self._guard.failure_of(error, self.name, peer, None)
            self._observe(failure, began_at)
            return failure
        self.measurements.n_in_flight += 1
        return Conversation(self, peer, began_at)

    def admit(self, peer: Peer) -> Admission:
        """Return the caller, not charged; raise as `Authenticator.identify`."""
        return self._guard.authenticator.identify(peer, self._roles)

    def answer(self, data: bytes, admission: Admission) -> bytes | Awaitable[bytes] | Later[Any]:
        """Charge the caller for a message, and return its answer; the errors are those of a call."""
        if len(data) > self.max_bytes:
            raise RefusedCallError(too_large(len(data), self.max_bytes))
        if admission.bucket is not None:
            self._guard.authenticator.charge(admission.bucket)
        return self._answer(data, admission)

    def wait_for(
        self, answer: Awaitable[bytes] | Later[Any], peer: Peer, admission: Admission
    ) -> PendingAnswer:
        """Return the outcome of a message whose answer waits for something."""
        later = as_later(answer)

        def settle(_is_given_up: bool) -> Outcome | None:  # noqa: FBT001
            outcome = self._guard.outcome_of(later, self.name, peer, admission)
            if isinstance(outcome, Failure) and not later.working.cancelled():
                outcome = encode_stream_error(outcome)
            self.measurements.n_messages_sent += isinstance(outcome, bytes)
            return outcome

        return PendingAnswer(later.working, settle, self._guard.gate)

    def failure_of(self, error: Exception, peer: Peer, admission: Admission | None) -> Failure:
        """Return the failure for an error, logged as for a call."""
        return self._guard.failure_of(error, self.name, peer, admission)

    def end(self, failure: Failure | None, began_at: float) -> None:
        """Measure a stream that has ended."""
        self.measurements.n_in_flight -= 1
        self._observe(failure, began_at)

    def _observe(self, failure: Failure | None, began_at: float) -> None:
        code = _OK if failure is None else failure.code.value[0]
        self.measurements.observe(code, self._guard.clock.monotonic() - began_at)


class Conversation:
    """A stream that was admitted.

    Args:
        method: The method.
        peer: The other end.
        began_at: When it began, on the monotonic clock.
    """

    __slots__ = ("_began_at", "_method", "_peer")

    def __init__(self, method: GuardedStream, peer: Peer, began_at: float) -> None:
        self._method = method
        self._peer = peer
        self._began_at = began_at

    def answer(self, data: bytes) -> Outcome | PendingAnswer:
        """Answer the next message, at once from memory, and else with a future as of `GuardedMethod.call`.

        Bytes are the answer, also to a bad message, which fails alone. A failure ends the stream: the caller
        may not choose any more, or the server has stopped. The next message is for after the answer to this.
        """
        method = self._method
        method.measurements.n_messages_received += 1
        try:
            admission = method.admit(self._peer)
        except Exception as error:  # noqa: BLE001 - unexpected errors are logged
            return method.failure_of(error, self._peer, None)
        try:
            answer = method.answer(data, admission)
        except Exception as error:  # noqa: BLE001 - as above
            answer = encode_stream_error(method.failure_of(error, self._peer, admission))
        if isinstance(answer, bytes):
            method.measurements.n_messages_sent += 1
            return answer
        return method.wait_for(answer, self._peer, admission)

    def end(self, failure: Failure | None) -> None:
        """Measure the stream, which has ended; call this exactly once."""
        self._method.end(failure, self._began_at)

"""The guard around a stream: the caller is checked at its beginning and with each message."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
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
        """Return the answer to a message that was charged; the errors are those of a call."""
        return self._answer(data, admission)

    def charge(self, data: bytes, admission: Admission) -> None:
        """Charge the caller for a message; raise if it is too large, or one too many."""
        if len(data) > self.max_bytes:
            raise RefusedCallError(too_large(len(data), self.max_bytes))
        if admission.bucket is not None:
            self._guard.authenticator.charge(admission.bucket)

    def answer_each(
        self, asked: "Sequence[tuple[bytes, Conversation]]"
    ) -> "list[bytes | Callable[[], Outcome | PendingAnswer]]":
        """Return the answers to messages that came together, and work that they share is done once.

        In place of an answer that could not be made so there is what makes it: call that when its turn comes.
        """
        found: list[bytes | Callable[[], Outcome | PendingAnswer]] = []
        admitted: list[tuple[bytes, Admission]] = []
        places: list[int] = []
        admissions: dict[Conversation, Admission] = {}
        for place, (data, conversation) in enumerate(asked):
            try:
                admission = admissions.get(conversation)
                if admission is None:
                    admission = admissions[conversation] = self.admit(conversation.peer)
                self.charge(data, admission)
            except Exception:  # noqa: BLE001 - it is raised again when the message is answered alone
                found.append(partial(conversation.answer, data))
            else:
                found.append(partial(conversation.answer_charged, data, admission))
                admitted.append((data, admission))
                places.append(place)
        self.measurements.n_messages_received += len(admitted)
        for place, response in zip(places, self.try_together(admitted), strict=True):
            if response is not None:
                found[place] = response
                self.measurements.n_messages_sent += 1
        return found

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

    Attributes:
        method: As above.
        peer: As above.
    """

    __slots__ = ("_began_at", "method", "peer")

    def __init__(self, method: GuardedStream, peer: Peer, began_at: float) -> None:
        self.method = method
        self.peer = peer
        self._began_at = began_at

    def answer(self, data: bytes) -> Outcome | PendingAnswer:
        """Answer the next message, at once from memory, and else with a future as of `GuardedMethod.call`.

        Bytes are the answer, also to a bad message, which fails alone. A failure ends the stream: the caller
        may not choose any more, or the server has stopped. The next message is for after the answer to this.
        """
        method = self.method
        method.measurements.n_messages_received += 1
        try:
            admission = method.admit(self.peer)
        except Exception as error:  # noqa: BLE001 - unexpected errors are logged
            return method.failure_of(error, self.peer, None)
        try:
            method.charge(data, admission)
        except Exception as error:  # noqa: BLE001 - as above
            return self._fail_message(error, admission)
        return self.answer_charged(data, admission)

    def answer_charged(self, data: bytes, admission: Admission) -> Outcome | PendingAnswer:
        """As `answer`, for a message that was received and charged."""
        method = self.method
        try:
            answer = method.answer(data, admission)
        except Exception as error:  # noqa: BLE001 - as above
            return self._fail_message(error, admission)
        if isinstance(answer, bytes):
            method.measurements.n_messages_sent += 1
            return answer
        return method.wait_for(answer, self.peer, admission)

    def end(self, failure: Failure | None) -> None:
        """Measure the stream, which has ended; call this exactly once."""
        self.method.end(failure, self._began_at)

    def _fail_message(self, error: Exception, admission: Admission) -> bytes:
        self.method.measurements.n_messages_sent += 1
        return encode_stream_error(self.method.failure_of(error, self.peer, admission))

"""The guard around every method: limits, admission, measurements, and errors as values, on any transport.

A call that is answered from memory is answered in `GuardedMethod.call` itself. Only what waits for the store
is a future.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar

import structlog
from google.protobuf.message import DecodeError, Message

from server.rpc.guard.admission import Admission
from server.rpc.guard.authentication import Authenticator, RefusedCallError
from server.rpc.guard.denial_log import DenialLog
from server.rpc.guard.gate import Gate
from server.rpc.guard.metrics import MethodMeasurements
from server.rpc.guard.peer import Peer
from server.rpc.messages.status import (
    CANCELED,
    INTERNAL,
    MALFORMED,
    OUT_OF_MEMORY,
    STOPPING,
    Failure,
    too_large,
    too_many_calls,
)
from server.services.access.callers import Role
from server.services.errors import ServiceError
from server.services.runtime.clock import Clock

_Request = TypeVar("_Request", bound=Message)
Outcome: TypeAlias = bytes | Failure
"""The response to a call, or why there is none."""

_Found = TypeVar("_Found")
_Measurements = TypeVar("_Measurements", bound=MethodMeasurements)
_OK: Final = 0

log = structlog.get_logger()


def parse(message_type: type[_Request], data: bytes) -> _Request:
    """Parse a message; raise RefusedCallError if `data` is malformed."""
    try:
        return message_type.FromString(data)
    except DecodeError:
        raise RefusedCallError(MALFORMED) from None


class Later(NamedTuple, Generic[_Found]):
    """A response that waits for something, which needs no task.

    Attributes:
        working: What it waits for.
        encode: Makes the response of its result; what it raises is how the call fails.
    """

    working: asyncio.Future[_Found]
    encode: Callable[[_Found], bytes]


Answer: TypeAlias = Callable[[bytes, Admission], bytes | Awaitable[bytes] | Later[Any]]
"""From a request and its caller to a response."""

AnswerEach: TypeAlias = Callable[[Sequence[tuple[bytes, Admission]]], list[bytes | None]]
"""The same for requests that came together; None for each that has to be answered alone."""


class PendingAnswer(asyncio.Future[Outcome]):
    """The outcome of a call whose answer waits for something.

    It is done when the work is, also if it is cancelled: cancelling it only asks the work to end.

    Args:
        working: The work.
        settle: Measures a call that ends, and returns its outcome; None if it ends without one. It gets
            whether the caller gave up before.
        gate: Knows the calls in flight.
    """

    def __init__(
        self,
        working: asyncio.Future[Any],
        settle: Callable[[bool], Outcome | None],
        gate: Gate,
    ) -> None:
        super().__init__(loop=working.get_loop())
        self._is_given_up = False
        self._working = working
        self._settle = settle
        self._gate = gate
        gate.in_flight.add(self)
        working.add_done_callback(self._end)

    def cancel(self, msg: object = None) -> bool:
        """Ask the work to end; return False if it has ended."""
        return self._working.cancel(msg)

    def give_up(self) -> None:
        """Note that nobody waits for the outcome: the call counts as cancelled, though its work goes on."""
        self._is_given_up = True

    def _end(self, _working: asyncio.Future[Any]) -> None:
        self._gate.in_flight.discard(self)
        outcome = self._settle(self._is_given_up)
        if outcome is None:
            super().cancel()
        else:
            self.set_result(outcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What the methods of a server share.

    Attributes:
        gate: Whether calls are still accepted.
        authenticator: Knows the callers.
        clock: The time.
        denials: The log of refused calls.
        max_calls: Most calls, or streams, of one method that may be in flight.
    """

    gate: Gate
    authenticator: Authenticator
    clock: Clock
    denials: DenialLog
    max_calls: int

    def check(self, n_in_flight: int, n_bytes: int, max_bytes: int) -> None:
        """Raise RefusedCallError if a call is one too many, too large, or after the end."""
        if n_in_flight >= self.max_calls:
            raise RefusedCallError(too_many_calls(self.max_calls))
        if n_bytes > max_bytes:
            raise RefusedCallError(too_large(n_bytes, max_bytes))
        if not self.gate.is_open:
            raise RefusedCallError(STOPPING)

    def failure_of(self, error: Exception, method: str, peer: Peer, admission: Admission | None) -> Failure:
        """Return the failure for an error; log errors that nobody expects, and callers that are refused."""
        failure = _failure_of(error, method)
        self.denials.note(failure, method, "" if admission is None else admission.caller.name, peer)
        return failure

    def outcome_of(self, later: Later[Any], method: str, peer: Peer, admission: Admission) -> Outcome | None:
        """Return the outcome of work that has ended; None if it was cancelled, not by `Gate.end_calls`."""
        if later.working.cancelled():
            return STOPPING if self.gate.has_ended() else None
        try:
            return later.encode(later.working.result())
        except Exception as error:  # noqa: BLE001 - unexpected errors are logged
            return self.failure_of(error, method, peer, admission)


class Guarded(Generic[_Measurements]):
    """A method behind the guard. Belongs to the event loop's thread.

    Args:
        guard: What all methods share.
        answer: The handler.
        measurements: Those of this method.
        roles: A caller needs at least one of them.
        max_bytes: Larger messages are refused.
        answer_each: The handler of requests that came together; None if each is answered alone.

    Attributes:
        name: As in the proto.
        measurements: As above.
        max_bytes: As above.
    """

    __slots__ = ("_answer", "_answer_each", "_guard", "_roles", "max_bytes", "measurements", "name")

    def __init__(
        self,
        guard: Guard,
        answer: Answer,
        measurements: _Measurements,
        *,
        roles: frozenset[Role],
        max_bytes: int,
        answer_each: AnswerEach | None = None,
    ) -> None:
        self.name = measurements.method
        self.measurements = measurements
        self.max_bytes = max_bytes
        self._guard = guard
        self._answer = answer
        self._answer_each = answer_each
        self._roles = roles

    @property
    def shares_work(self) -> bool:
        """True if requests that came together cost less than one after the other."""
        return self._answer_each is not None

    def try_together(self, admitted: Sequence[tuple[bytes, Admission]]) -> Sequence[bytes | None]:
        """Return the answers that share work; None for each request that has to be answered alone.

        After an unexpected error all have to be, so that the one to blame fails alone.
        """
        if self._answer_each is not None:
            with suppress(Exception):
                return self._answer_each(admitted)
        return [None] * len(admitted)


class GuardedMethod(Guarded[MethodMeasurements]):
    """One method, from request bytes to response bytes: see `Guarded`.

    In each call the size is checked first, then identity, rate and roles; only then is the request parsed.
    """

    __slots__ = ("_admit", "_check", "_now")

    def __init__(
        self,
        guard: Guard,
        answer: Answer,
        measurements: MethodMeasurements,
        *,
        roles: frozenset[Role],
        max_bytes: int,
        answer_each: AnswerEach | None = None,
    ) -> None:
        super().__init__(
            guard, answer, measurements, roles=roles, max_bytes=max_bytes, answer_each=answer_each
        )
        # Looked up once: attributes of attributes took a tenth of the guard's time.
        self._admit = guard.authenticator.admit
        self._now = guard.clock.monotonic
        self._check = guard.check

    def call(self, data: bytes, peer: Peer) -> Outcome | PendingAnswer:
        """Answer a call: at once from memory, and else with a future.

        The future never has an exception, and is done when the work is. It is cancelled if the work was, but
        not by `Gate.end_calls`.
        """
        began_at = self._now()
        self.measurements.n_started += 1
        admission = None
        try:
            self._check(self.measurements.n_in_flight, len(data), self.max_bytes)
            admission = self._admit(peer, self._roles)
            answer = self._answer(data, admission)
        except Exception as error:  # noqa: BLE001 - unexpected errors are logged
            return self._fail(error, began_at, peer, admission)
        return self._settle(answer, began_at, peer, admission)

    def call_each(self, calls: Sequence[tuple[bytes, Peer]]) -> list[Outcome | PendingAnswer]:
        """Answer calls that came together as `call` does, in order; work that they share is done once."""
        began_at = self._now()
        self.measurements.n_started += len(calls)
        outcomes: list[Outcome | PendingAnswer] = []
        admitted: list[tuple[bytes, Admission]] = []
        places: list[int] = []
        for place, (data, peer) in enumerate(calls):
            try:
                self._check(self.measurements.n_in_flight, len(data), self.max_bytes)
                admitted.append((data, self._admit(peer, self._roles)))
            except Exception as error:  # noqa: BLE001 - unexpected errors are logged
                outcomes.append(self._fail(error, began_at, peer, None))
            else:
                places.append(place)
                outcomes.append(b"")
        n_alone = 0
        for place, (data, admission), response in zip(
            places, admitted, self.try_together(admitted), strict=True
        ):
            if response is not None:
                outcomes[place] = response
            else:
                n_alone += 1
                outcomes[place] = self._answer_alone(data, began_at, calls[place][1], admission)
        self.measurements.observe_each(_OK, self._now() - began_at, len(admitted) - n_alone)
        return outcomes

    def _answer_alone(
        self, data: bytes, began_at: float, peer: Peer, admission: Admission
    ) -> Outcome | PendingAnswer:
        try:
            self._check(self.measurements.n_in_flight, len(data), self.max_bytes)
            answer = self._answer(data, admission)
        except Exception as error:  # noqa: BLE001 - unexpected errors are logged
            return self._fail(error, began_at, peer, admission)
        return self._settle(answer, began_at, peer, admission)

    def _settle(
        self, answer: bytes | Awaitable[bytes] | Later[Any], began_at: float, peer: Peer, admission: Admission
    ) -> Outcome | PendingAnswer:
        if isinstance(answer, bytes):
            self.measurements.observe(_OK, self._now() - began_at)
            return answer
        return self._wait_for(answer, began_at, peer, admission)

    def _fail(self, error: Exception, began_at: float, peer: Peer, admission: Admission | None) -> Failure:
        failure = self._guard.failure_of(error, self.name, peer, admission)
        self.measurements.observe(failure.code.value[0], self._now() - began_at)
        return failure

    def _wait_for(
        self, answer: Awaitable[bytes] | Later[Any], began_at: float, peer: Peer, admission: Admission
    ) -> PendingAnswer:
        measurements = self.measurements
        measurements.n_in_flight += 1
        later = as_later(answer)

        def settle(is_given_up: bool) -> Outcome | None:  # noqa: FBT001
            measurements.n_in_flight -= 1
            outcome = self._guard.outcome_of(later, self.name, peer, admission)
            failure = CANCELED if outcome is None or is_given_up else outcome
            code = failure.code.value[0] if isinstance(failure, Failure) else _OK
            measurements.observe(code, self._now() - began_at)
            return outcome

        return PendingAnswer(later.working, settle, self._guard.gate)


def as_later(answer: Awaitable[bytes] | Later[Any]) -> Later[Any]:
    """Return what an answer waits for, in a task if it is a coroutine."""
    if isinstance(answer, Later):
        return answer
    return Later(asyncio.ensure_future(answer), _same)


def _same(response: bytes) -> bytes:
    return response


def _failure_of(error: Exception, method: str) -> Failure:
    if isinstance(error, ServiceError):
        return Failure.of(error)
    if isinstance(error, RefusedCallError):
        return error.failure
    if isinstance(error, MemoryError):
        log.error("memory.exhausted", method=method)
        return OUT_OF_MEMORY
    log.error("call.failed", method=method, exc_info=error)
    return INTERNAL

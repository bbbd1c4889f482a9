"""The wrapper of every method: limits, admission, measurements, and errors as statuses."""

import asyncio
from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from server.rpc.guard.authentication import Admission, RefusedCallError
from server.rpc.guard.denial_log import DenialLog
from server.rpc.guard.metrics import MethodMeasurements
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
from server.services.errors import ServiceError
from server.services.runtime.clock import Clock

_Request = TypeVar("_Request", bound=Message)
Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
Handler: TypeAlias = Callable[[bytes, Context], Awaitable[bytes]]
Answer: TypeAlias = Callable[[bytes, Admission], Awaitable[bytes]]
Admit: TypeAlias = Callable[[Context], Admission]

log = structlog.get_logger()


class Gate:
    """The switch that stops accepting calls, and ends those that take too long.

    Attributes:
        is_open: Whether calls are accepted.
        in_flight: The tasks of the calls that are being answered.
    """

    def __init__(self) -> None:
        self.is_open = True
        self.in_flight: set[asyncio.Task[object] | None] = set()
        self._is_over = False

    def close(self) -> None:
        """Refuse calls from now on, as `UNAVAILABLE`."""
        self.is_open = False

    def end_calls(self) -> None:
        """End the calls in flight as `UNAVAILABLE`. The store may still do what they asked for."""
        self._is_over = True
        for task in self.in_flight:
            if task is not None:
                task.cancel()

    def has_ended(self) -> bool:
        """True if a call that is cancelled now was ended by `end_calls`, and not by its client."""
        return self._is_over


def parse(message_type: type[_Request], data: bytes) -> _Request:
    """Parse a message; raise RefusedCallError if `data` is malformed."""
    try:
        return message_type.FromString(data)
    except DecodeError:
        raise RefusedCallError(MALFORMED) from None


def _checks(
    measurements: MethodMeasurements, gate: Gate, max_bytes: int, max_calls: int
) -> Callable[[int], None]:
    """Return a check that refuses a call of `n_bytes` if it is too large, one too many, or after the end."""

    def check(n_bytes: int) -> None:
        if measurements.n_in_flight > max_calls:
            raise RefusedCallError(too_many_calls(max_calls))
        if n_bytes > max_bytes:
            raise RefusedCallError(too_large(n_bytes, max_bytes))
        if not gate.is_open:
            raise RefusedCallError(STOPPING)

    return check


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """The wrapper around every method of a server.

    Attributes:
        gate: Whether calls are still accepted.
        clock: The time.
        denials: The log of refused calls.
        max_calls: Most calls of one method that may be in flight.
    """

    gate: Gate
    clock: Clock
    denials: DenialLog
    max_calls: int

    def around(
        self, answer: Answer, measurements: MethodMeasurements, admit: Admit, *, max_bytes: int
    ) -> Handler:
        """Return the handler of a method, which wraps `answer`, from request bytes to response bytes.

        The size is checked first, then identity, rate and roles (`admit`); only then is the request parsed.
        """
        now, gate = self.clock.monotonic, self.gate
        check = _checks(measurements, gate, max_bytes, self.max_calls)

        async def handle(data: bytes, context: Context) -> bytes:
            started_at = now()
            measurements.n_in_flight += 1
            measurements.n_started += 1
            failure: Failure | None = None
            admission: Admission | None = None
            task = asyncio.current_task()
            gate.in_flight.add(task)
            try:
                check(len(data))
                admission = admit(context)
                return await answer(data, admission)
            except CancelledError:
                failure = STOPPING if gate.has_ended() else CANCELED
                if failure is CANCELED:
                    raise
            except Exception as error:  # noqa: BLE001 - unexpected errors are logged
                failure = _failure_of(error, measurements.method)
            finally:
                gate.in_flight.discard(task)
                measurements.n_in_flight -= 1
                measurements.observe(0 if failure is None else failure.code.value[0], now() - started_at)
            caller = admission.caller.name if admission is not None else ""
            self.denials.note(failure, measurements.method, caller, context.peer())
            await context.abort(failure.code, failure.message, failure.trailing_metadata)
            raise AssertionError("abort raises")

        return handle


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

"""The errors of the client, named by what the caller should do, and the one place that makes them.

    CallError                      a call failed
    ├── InvalidArgumentError       correct the request (INVALID_ARGUMENT, OUT_OF_RANGE)
    ├── NotFoundError              check the name (NOT_FOUND)
    ├── AlreadyExistsError         it exists already, with other content (ALREADY_EXISTS)
    ├── FailedPreconditionError    change the experiment's state first (FAILED_PRECONDITION)
    ├── ConflictError              read again, decide again (ABORTED)
    ├── AccessError                present other credentials (UNAUTHENTICATED, PERMISSION_DENIED)
    ├── UnavailableError           try later (UNAVAILABLE, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, CANCELLED)
    └── InternalError              report it (every other status)

No error of gRPC leaves the client: it is the `__cause__` of one of these.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType

import grpc

# Repeating a reward is safe whatever happened to it, so every status that may be temporary is retried.
RETRYABLE_CODES = frozenset(
    {
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
    }
)


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One bad field of a request.

    Attributes:
        field: the path of the field, such as `outcomes["reward"]`.
        description: the value and the rule that it breaks.
    """

    field: str
    description: str


class CallError(Exception):
    """A call failed.

    Attributes:
        code: the canonical status.
        message: a text for developers, from the service or from gRPC.
        reason: the service's stable reason, such as `EXPERIMENT_NOT_FOUND`; empty if there is none. The
            client's own are `FORKED`, `NO_EVENT_LOOP` and `NO_THREADS`.
        retry_delay: how long the service asks to wait before a retry; negative if there must be none.
        field_violations: the invalid fields of the request.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        reason: str = "",
        retry_delay: timedelta | None = None,
        field_violations: tuple[FieldViolation, ...] = (),
    ) -> None:
        super().__init__(code, message, reason, retry_delay, field_violations)
        self.code = code
        self.message = message
        self.reason = reason
        self.retry_delay = retry_delay
        self.field_violations = field_violations

    def __str__(self) -> str:
        status = f"{self.code.name} ({self.reason})" if self.reason else self.code.name
        return f"{status}: {self.message}"

    @property
    def is_retryable(self) -> bool:
        """True if the same call may succeed later without a change."""
        return self.code in RETRYABLE_CODES and self.asked_seconds >= 0.0

    @property
    def asked_seconds(self) -> float:
        """How long the service asks to wait before a retry, in seconds; 0 if it does not ask."""
        return self.retry_delay.total_seconds() if self.retry_delay else 0.0


class InvalidArgumentError(CallError):
    """The request breaks a rule; it will fail until it is corrected."""


class NotFoundError(CallError):
    """No experiment has this name, or it was deleted."""


class AlreadyExistsError(CallError):
    """The name is or was in use, or another value is stored at the same revision."""


class FailedPreconditionError(CallError):
    """The experiment's state does not allow the call."""


class ConflictError(CallError):
    """The experiment has changed since it was read: its etag differs."""


class AccessError(CallError):
    """The credentials are missing, wrong, or do not allow the call."""


class UnavailableError(CallError):
    """The service did not answer in time, or asked callers to wait; the call itself may be valid."""


class InternalError(CallError):
    """The service or the client is defective, or they do not understand each other."""


CODE_TO_ERROR: Mapping[grpc.StatusCode, type[CallError]] = MappingProxyType(
    {
        grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
        grpc.StatusCode.OUT_OF_RANGE: InvalidArgumentError,
        grpc.StatusCode.NOT_FOUND: NotFoundError,
        grpc.StatusCode.ALREADY_EXISTS: AlreadyExistsError,
        grpc.StatusCode.FAILED_PRECONDITION: FailedPreconditionError,
        grpc.StatusCode.ABORTED: ConflictError,
        grpc.StatusCode.UNAUTHENTICATED: AccessError,
        grpc.StatusCode.PERMISSION_DENIED: AccessError,
        grpc.StatusCode.UNAVAILABLE: UnavailableError,
        grpc.StatusCode.DEADLINE_EXCEEDED: UnavailableError,
        grpc.StatusCode.RESOURCE_EXHAUSTED: UnavailableError,
        grpc.StatusCode.CANCELLED: UnavailableError,
    }
)


def call_error(
    code: grpc.StatusCode,
    message: str,
    reason: str = "",
    retry_delay: timedelta | None = None,
    field_violations: tuple[FieldViolation, ...] = (),
) -> CallError:
    """Return the error of the tree for a status.

    >>> call_error(grpc.StatusCode.NOT_FOUND, "no experiment 'ranker'")
    NotFoundError(<StatusCode.NOT_FOUND: (5, 'not found')>, "no experiment 'ranker'", '', None, ())
    """
    error = CODE_TO_ERROR.get(code, InternalError)
    return error(code, message, reason, retry_delay, field_violations)


def more_telling(earlier: CallError | None, later: CallError) -> CallError:
    """Return the error of one call, of two, that says more about why it failed.

    That is the later one, unless it is a mere timeout and the earlier one carries the service's reason.
    """
    ran_out = later.code is grpc.StatusCode.DEADLINE_EXCEEDED and not later.reason
    return earlier if ran_out and earlier is not None and earlier.reason else later


def closed_error() -> CallError:
    """Return the error of a call on a client that is closed."""
    return call_error(grpc.StatusCode.CANCELLED, "the client is closed")


def expired_error() -> CallError:
    """Return the error of a question on a stream whose time has run out, as gRPC has it for a call."""
    return call_error(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")


def forked_error() -> CallError:
    """Return the error of a call in a process that was forked from one that used gRPC."""
    text = (
        "this process was forked from one that had used a client, and gRPC does not survive that: make the "
        "first call of any client after the fork, in each process, or start processes by spawn"
    )
    return call_error(grpc.StatusCode.CANCELLED, text, "FORKED")


def loopless_error() -> CallError:
    """Return the error of an asyncio call outside asyncio, as under trio."""
    text = "no asyncio event loop is running here: use BanditClient, in a thread"
    return call_error(grpc.StatusCode.CANCELLED, text, "NO_EVENT_LOOP")


def threadless_error() -> CallError:
    """Return the error of an asyncio call where threads are greenlets: grpc.aio would hang for ever."""
    text = (
        "gevent or eventlet has replaced threads here, without which asyncio's gRPC hangs: use BanditClient"
    )
    return call_error(grpc.StatusCode.CANCELLED, text, "NO_THREADS")


def unopened_error(error: Exception) -> CallError:
    """Return the error of a channel for which the process lacks a thread or a file descriptor."""
    is_last = "interpreter shutdown" in str(error)  # no retry will find another thread
    code = grpc.StatusCode.CANCELLED if is_last else grpc.StatusCode.UNAVAILABLE
    return call_error(code, f"no channel can be opened: {error}")


def malformed_error(message: str) -> CallError:
    """Return the error of an answer that is valid protobuf and breaks the contract."""
    return call_error(grpc.StatusCode.INTERNAL, message)

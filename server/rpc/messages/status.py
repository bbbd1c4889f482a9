"""gRPC statuses for errors, as in AIP-193: a code, a text, one ErrorInfo, and further details."""

from collections.abc import Mapping
from datetime import timedelta
from itertools import accumulate
from typing import Final, NamedTuple

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from bandit.v1 import bandit_pb2
from bandit.validation import Violation
from server.rpc.messages.times import to_duration
from server.services import errors

DOMAIN: Final = "bandit.v1"
_STATUS_KEY: Final = "grpc-status-details-bin"
_REASON_KEY: Final = "bandit-reason"
_PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"
_NEVER: Final = "-1"
"""The pushback that keeps a client from retrying (gRFC A6)."""

_MOST_TEXT: Final = 1_500
"""Characters of violations that are sent: a trailer holds them thrice, and clients refuse one of 8 KiB."""

CODES: Final[Mapping[type[errors.ServiceError], grpc.StatusCode]] = {
    errors.InvalidInputError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.DecisionIdInvalidError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    errors.ExperimentNotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.ExperimentNotStartedError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.TransitionRefusedError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NoLaunchError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.LaunchRefusedError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.LaunchMovedError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.QuotaReachedError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.DecisionExpiredError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.DecisionSealedError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.RotationRefusedError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.RevocationRefusedError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.RevocationUnsettledError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.OutcomeConflictError: grpc.StatusCode.ALREADY_EXISTS,
    errors.ExperimentExistsError: grpc.StatusCode.ALREADY_EXISTS,
    errors.ExperimentChangedError: grpc.StatusCode.ABORTED,
    errors.ServerOutdatedError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.OlderServersError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.StorageFullError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.ClockInDoubtError: grpc.StatusCode.UNAVAILABLE,
    errors.StorageUnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.StorageUnsafeError: grpc.StatusCode.UNAVAILABLE,
}
"""Every error that a service raises, and its gRPC code."""


class Failure(NamedTuple):
    """The status of a failed call, ready for the wire.

    Attributes:
        code: The gRPC code.
        message: For developers.
        reason: A stable code for programs.
        violations: The invalid fields.
        retry_after: How long to wait before a retry; None where a retry does not help.
    """

    code: grpc.StatusCode
    message: str
    reason: str
    violations: tuple[Violation, ...] = ()
    retry_after: timedelta | None = None

    @classmethod
    def of(cls, error: errors.ServiceError) -> "Failure":
        """Return the failure for an error."""
        message, violations = _printable(str(error)), _first(error.violations)
        if len(violations) < len(error.violations):
            message = "; ".join(f"{field}: {description}" for field, description in violations)
            message += f"; and {len(error.violations) - len(violations)} more"
        return cls(CODES[type(error)], message, error.reason, violations, error.retry_after)

    @property
    def status(self) -> bandit_pb2.Status:
        """The status in a result of a batch."""
        return bandit_pb2.Status(
            code=self.code.value[0],
            message=self.message,
            reason=self.reason,
            field_violations=[
                bandit_pb2.FieldViolation(field=field, description=description)
                for field, description in self.violations
            ],
            retry_delay=None if self.retry_after is None else to_duration(self.retry_after),
        )

    @property
    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """The trailing metadata of a failed call."""
        details: list[Message] = [error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN)]
        metadata: list[tuple[str, str | bytes]] = [(_REASON_KEY, self.reason)]
        if self.violations:
            details.append(
                error_details_pb2.BadRequest(
                    field_violations=[
                        error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
                        for field, description in self.violations
                    ]
                )
            )
        if self.retry_after is not None:
            details.append(error_details_pb2.RetryInfo(retry_delay=to_duration(self.retry_after)))
            metadata.append((_PUSHBACK_KEY, str(round(self.retry_after.total_seconds() * 1000))))
        elif self.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            metadata.append((_PUSHBACK_KEY, _NEVER))
        status = status_pb2.Status(
            code=self.code.value[0], message=self.message, details=[_packed(detail) for detail in details]
        )
        return (*metadata, (_STATUS_KEY, status.SerializeToString()))


INTERNAL: Final = Failure(
    grpc.StatusCode.INTERNAL, "the server failed to answer; its log says why", "INTERNAL"
)
CANCELED: Final = Failure(
    grpc.StatusCode.CANCELLED, "the caller cancelled the call, or its deadline passed", "CANCELED"
)
MALFORMED: Final = Failure(
    grpc.StatusCode.INVALID_ARGUMENT,
    "the message could not be read: it is malformed, truncated, nested too deeply, or holds text that is not "
    "UTF-8",
    "MALFORMED_MESSAGE",
    (Violation("", "not a valid message of this method"),),
)
OUT_OF_MEMORY: Final = Failure(
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    "the server is out of memory: the system refused to give it more",
    "OUT_OF_MEMORY",
    retry_after=timedelta(seconds=1),
)
NO_REQUEST: Final = Failure(
    grpc.StatusCode.INVALID_ARGUMENT,
    "the call ended before its request",
    "MALFORMED_MESSAGE",
    (Violation("", "there is no message"),),
)
STOPPING: Final = Failure(
    grpc.StatusCode.UNAVAILABLE, "the server is stopping", "STOPPING", retry_after=timedelta(seconds=1)
)


NO_CREDENTIALS: Final = Failure(
    grpc.StatusCode.UNAUTHENTICATED,
    "this server answers known callers only: send a token, as `authorization: Bearer TOKEN`",
    "UNAUTHENTICATED",
)
UNKNOWN_CREDENTIALS: Final = Failure(
    grpc.StatusCode.UNAUTHENTICATED,
    "this server does not know the token: it may have been replaced, or belong to another server",
    "UNAUTHENTICATED",
)


def rate_limited(per_second: float, wait_seconds: float) -> Failure:
    """Return the failure of a call beyond the caller's rate."""
    return Failure(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"the caller may make {per_second:g} calls per second, counting each item of a batch",
        "RATE_LIMITED",
        retry_after=timedelta(milliseconds=max(1, round(wait_seconds * 1000))),
    )


def too_large(n_bytes: int, n_allowed: int) -> Failure:
    """Return the failure of a message that is larger than its method allows."""
    text = f"the message has {n_bytes} bytes; this method takes at most {n_allowed}"
    return Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, text, "MESSAGE_TOO_LARGE")


def too_many_calls(n_allowed: int) -> Failure:
    """Return the failure of a call beyond the limit on calls in flight."""
    return Failure(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"too many calls: {n_allowed} of this method are in flight already",
        "OVERLOADED",
        retry_after=timedelta(milliseconds=100),
    )


def incomplete(seconds: float) -> Failure:
    """Return the failure of a call whose request did not arrive in time."""
    return Failure(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        f"the request did not arrive within {seconds:g} s of the headers of its call",
        "REQUEST_INCOMPLETE",
        retry_after=timedelta(seconds=1),
    )


def too_many_incomplete(n_waiting: int) -> Failure:
    """Return the failure of a call on a connection with too many calls that wait for their requests."""
    return Failure(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"too many calls without requests: {n_waiting} of this connection are waiting already",
        "TOO_MANY_INCOMPLETE_REQUESTS",
        retry_after=timedelta(seconds=1),
    )


def _first(violations: tuple[Violation, ...]) -> tuple[Violation, ...]:
    """Return as many of the violations as can be sent, at least one, with printable texts."""
    printable = [Violation(*map(_printable, violation)) for violation in violations]
    totals = accumulate(len(field) + len(description) for field, description in printable)
    return tuple(printable[: max(1, sum(total <= _MOST_TEXT for total in totals))])


def _printable(text: str) -> str:
    """Return the text, escaped if it holds control characters or line breaks."""
    return text if text.isprintable() else ascii(text)[1:-1]


def _packed(detail: Message) -> Any:
    packed = Any()
    packed.Pack(detail)
    return packed

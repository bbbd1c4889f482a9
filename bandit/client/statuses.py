"""Decoding of failed calls: a gRPC error, or one failed item of a batch.

The service adds google.rpc details to every error. A base install does not have those types, so the one
detail that is not available elsewhere, the field violations, is read by field number.
"""

from collections.abc import Iterable, Iterator
from datetime import timedelta

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from bandit.client.errors import CallError, FieldViolation, call_error
from bandit.v1 import bandit_pb2

LENGTH_DELIMITED = 2  # the wire type of a message within a message
STATUS_DETAILS = 3  # google.rpc.Status.details
BAD_REQUEST_FIELD_VIOLATIONS = 1  # google.rpc.BadRequest.field_violations

_NUMBER_TO_CODE = {code.value[0]: code for code in grpc.StatusCode}


def from_rpc_error(error: grpc.RpcError) -> CallError:
    """Return the CallError for a gRPC error."""
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return call_error(grpc.StatusCode.UNKNOWN, str(error))
    metadata = dict(error.trailing_metadata() or ())
    return call_error(
        error.code(),
        error.details() or "",
        _text(metadata.get("bandit-reason", "")),
        _pushback(_text(metadata.get("grpc-retry-pushback-ms", ""))),
        tuple(_violations_of_details(metadata.get("grpc-status-details-bin", b""))),
    )


def from_status(status: bandit_pb2.Status) -> CallError:
    """Return the CallError for one failed item of a batch."""
    return call_error(
        _NUMBER_TO_CODE.get(status.code, grpc.StatusCode.UNKNOWN),
        status.message,
        status.reason,
        to_timedelta(status.retry_delay) if status.HasField("retry_delay") else None,
        tuple(_violations(status.field_violations)),
    )


def to_timedelta(duration: Duration) -> timedelta:
    """Return the duration to the microsecond; four times as fast as `Duration.ToTimedelta`."""
    return timedelta(seconds=duration.seconds, microseconds=duration.nanos // 1000)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


def _pushback(milliseconds: str) -> timedelta | None:
    """Return gRPC's retry pushback (proposal A6): negative, or not a number, forbids a retry."""
    if not milliseconds:
        return None
    try:
        return timedelta(milliseconds=int(milliseconds))
    except (ValueError, OverflowError):
        return timedelta(milliseconds=-1)


def _violations(violations: Iterable[bandit_pb2.FieldViolation]) -> Iterator[FieldViolation]:
    return (FieldViolation(each.field, each.description) for each in violations)


def _violations_of_details(status: str | bytes) -> Iterator[FieldViolation]:
    """Yield the field violations of a serialized google.rpc.Status; nothing if it can't be read."""
    try:
        yield from _violations(list(_read_bad_requests(status)))
    except DecodeError:
        return


def _read_bad_requests(status: str | bytes) -> Iterator[bandit_pb2.FieldViolation]:
    for detail in _messages(status, STATUS_DETAILS):
        packed = Any.FromString(detail)
        if packed.type_url.endswith("/google.rpc.BadRequest"):
            for violation in _messages(packed.value, BAD_REQUEST_FIELD_VIOLATIONS):
                # The same numbers and types as google.rpc.BadRequest.FieldViolation.
                yield bandit_pb2.FieldViolation.FromString(violation)


def _messages(message: str | bytes, field_number: int) -> Iterator[bytes]:
    """Yield the messages in one field of a serialized message whose type is not installed."""
    data = message if isinstance(message, bytes) else message.encode()
    fields = UnknownFieldSet(Empty.FromString(data))
    for field in (fields[index] for index in range(len(fields))):
        if field.field_number == field_number and field.wire_type == LENGTH_DELIMITED:
            yield field.data

"""The errors of failed calls, held to the conventions: AIP-193 and the notes in the proto files."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import status_pb2
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status

_Detail = TypeVar("_Detail", bound=Message)
INNARDS: Final = re.compile(
    r"SELECT |INSERT |UPDATE |sqlite|sqlalchemy|"  # SQL
    r"Traceback|[a-z]Error\b|Exception| at 0x|"  # Python
    r"/tmp/|/home/|/root/|/usr/|/var/|\.py\b|\.db\b"  # paths
)
"""What no text for clients may contain, unless the client wrote it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A failed call that kept the conventions.

    Attributes:
        code: The gRPC code.
        message: Its text.
        reason: The stable reason.
        violations: Field mapped to rule.
        retry_seconds: How long to wait before a retry; None where a retry does not help.
    """

    code: grpc.StatusCode
    message: str
    reason: str
    violations: dict[str, str]
    retry_seconds: float | None


def refused(call: Callable[[], object]) -> Refusal:
    """Return the service's refusal of a call; fail if there is none, or it breaks a convention."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return refusal_of(caught.value)


def refusal_of(error: BaseException) -> Refusal:
    """Return the content of an error; fail if it breaks a convention.

    There is one ErrorInfo of this domain, with its reason also in the metadata; a BadRequest for bad input
    only; a RetryInfo for what passes, with its delay also in the metadata; and texts are safe to show.
    """
    call = call_of(error)
    status = rpc_status.from_call(call)
    assert status is not None, error
    (info,) = _details(status, ErrorInfo)
    bad_requests = _details(status, BadRequest)
    retries = _details(status, RetryInfo)
    assert len(status.details) == 1 + len(bad_requests) + len(retries)
    metadata = dict(call.trailing_metadata())
    assert (info.domain, info.reason) == ("bandit.v1", metadata["bandit-reason"])
    assert len(bad_requests) == (call.code() is grpc.StatusCode.INVALID_ARGUMENT), status
    retry_seconds = None
    if retries:
        (retry,) = retries
        retry_seconds = retry.retry_delay.ToTimedelta().total_seconds()
        assert metadata["grpc-retry-pushback-ms"] == str(round(retry_seconds * 1000))
    violations = {v.field: v.description for request in bad_requests for v in request.field_violations}
    for text in (status.message, *violations, *violations.values()):
        require_safe_text(text)
    return Refusal(
        code=call.code(),
        message=status.message,
        reason=info.reason,
        violations=violations,
        retry_seconds=retry_seconds,
    )


def call_of(error: object) -> grpc.Call:
    """Return the call that an error ended: the stubs do not declare that every error of a call is one."""
    assert isinstance(error, grpc.Call)
    return error


def require_safe_text(text: str) -> None:
    """Fail if a text for clients contains SQL, a path, a class name or control characters."""
    assert text.isprintable(), text
    assert INNARDS.search(text) is None, text


def _details(status: status_pb2.Status, kind: type[_Detail]) -> list[_Detail]:
    found: list[_Detail] = []
    for packed in status.details:
        detail = kind()
        if packed.Unpack(detail):
            found.append(detail)
    return found

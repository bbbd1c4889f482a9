"""Header blocks of responses, as gRPC over HTTP/2 wants them."""

from base64 import b64encode
from typing import Final

from grpc import StatusCode

from bandit.client.http2.hpack import encode_field
from server.rpc.messages.status import Failure

HEAD: Final = b"".join(
    encode_field(name, value)
    for name, value in (
        (b":status", b"200"),
        (b"content-type", b"application/grpc"),
        (b"grpc-accept-encoding", b"identity,deflate,gzip"),
    )
)
"""The header block of every response with messages."""

OK: Final = encode_field(b"grpc-status", b"0")
"""The trailers of every call that was answered."""

NOT_GRPC: Final = encode_field(b":status", b"415") + encode_field(b"content-type", b"text/plain")
"""The header block for a request that is none of gRPC's."""

NOT_GRPC_BODY: Final = b"this port answers gRPC calls\n"
NOT_GRPC_TRAILERS: Final = encode_field(b"grpc-status", b"12")

_PRINTABLE: Final = frozenset(range(0x20, 0x7F)) - {ord("%")}
_BINARY: Final = "-bin"


def failure_trailers(failure: Failure) -> bytes:
    """Return the trailers of a call that failed after its response began."""
    details = (encode_field(name.encode(), _value(name, value)) for name, value in failure.trailing_metadata)
    return _status(failure.code, failure.message) + b"".join(details)


def failure_block(failure: Failure) -> bytes:
    """Return the only header block of a call that failed before its response began."""
    return HEAD + failure_trailers(failure)


def status_block(code: StatusCode, message: str) -> bytes:
    """Return the only header block of a call that failed, without details."""
    return HEAD + _status(code, message)


def _status(code: StatusCode, message: str) -> bytes:
    number: int = code.value[0]
    text = _percent_encoded(message)
    return encode_field(b"grpc-status", b"%d" % number) + encode_field(b"grpc-message", text)


def _value(name: str, value: str | bytes) -> bytes:
    raw = value if isinstance(value, bytes) else value.encode()
    return b64encode(raw).rstrip(b"=") if name.endswith(_BINARY) else raw


def _percent_encoded(text: str) -> bytes:
    """Encode a status message: a byte that is not printable ASCII, and the percent sign, as %XX."""
    return b"".join(bytes((byte,)) if byte in _PRINTABLE else b"%%%02X" % byte for byte in text.encode())

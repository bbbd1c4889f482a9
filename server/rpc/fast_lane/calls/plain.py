"""Requests with an answer that is certain once their headers have arrived."""

from typing import Final

from grpc import StatusCode

from server.http2.exchange import Exchange, RequestFault
from server.http2.streams import Stream
from server.rpc.fast_lane.responses import (
    NOT_GRPC,
    NOT_GRPC_BODY,
    NOT_GRPC_TRAILERS,
    status_block,
)

_NOT_FOUND: Final = status_block(StatusCode.UNIMPLEMENTED, "Method not found!")
"""As gRPC's own servers answer."""


class PlainAnswer(Exchange):
    """An answer that does not depend on the body of the request.

    Args:
        stream: Carries it.
        is_grpc: Whether the request is one of gRPC's, for a method that is not served here.
    """

    __slots__ = ("_is_grpc", "_stream")

    def __init__(self, stream: Stream, *, is_grpc: bool) -> None:
        self._stream = stream
        self._is_grpc = is_grpc

    def finish(self, body: bytes) -> None:
        """Answer."""
        del body
        if self._is_grpc:
            self._stream.end(_NOT_FOUND)
        else:
            self._stream.respond(NOT_GRPC, NOT_GRPC_BODY, NOT_GRPC_TRAILERS)

    def fail(self, fault: RequestFault) -> None:
        """Answer as well."""
        del fault
        self.finish(b"")

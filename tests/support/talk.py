"""A stream of Choose whose messages a test sends one by one, as bytes that need not be messages."""

from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any, Final

import grpc

from bandit.v1 import bandit_pb2
from tests.support.wire import CALL_SECONDS, Wire

PATH: Final = "/bandit.v1.BanditService/ChooseStream"


class Talk:
    """A stream. Close it, since a thread of gRPC waits for its messages.

    Args:
        wire: The channel.
        timeout: The deadline of the stream, in seconds.
    """

    def __init__(self, wire: Wire, *, timeout: float = CALL_SECONDS) -> None:
        self._messages: SimpleQueue[bytes | None] = SimpleQueue()
        begin = wire.channel.stream_stream(
            PATH,
            request_serializer=bytes,
            response_deserializer=bandit_pb2.ChooseStreamResponse.FromString,
        )
        self.call: Any = begin(iter(self._messages.get, None), timeout=timeout)

    def send(self, experiment: str, **request: Any) -> None:
        """Send a request."""
        self.send_bytes(message(experiment, **request))

    def send_bytes(self, data: bytes) -> None:
        """Send any bytes as a message."""
        self._messages.put(data)

    def receive(self) -> bandit_pb2.ChooseStreamResponse:
        """Return the next response; grpc.RpcError if the stream has failed, StopIteration if it has ended."""
        response: bandit_pb2.ChooseStreamResponse = next(self.call)
        return response

    def ask(self, experiment: str, **request: Any) -> bandit_pb2.ChooseStreamResponse:
        """Send a request, and return the response."""
        self.send(experiment, **request)
        return self.receive()

    def half_close(self) -> None:
        """Send no more messages."""
        self._messages.put(None)

    def rest(self) -> list[bandit_pb2.ChooseStreamResponse]:
        """Return the responses up to the end of the stream, which must be OK."""
        rest: Iterator[bandit_pb2.ChooseStreamResponse] = self.call
        responses = list(rest)
        assert self.call.code() is grpc.StatusCode.OK
        return responses

    def close(self) -> None:
        """Cancel the stream, if it has not ended."""
        self.half_close()
        self.call.cancel()


def message(experiment: str, **request: Any) -> bytes:
    """Encode a message."""
    asked = bandit_pb2.ChooseRequest(experiment=experiment, **request)
    return bandit_pb2.ChooseStreamRequest(request=asked).SerializeToString()

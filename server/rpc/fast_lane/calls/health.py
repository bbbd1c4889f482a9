"""gRPC's health protocol: Check and Watch."""

from collections.abc import Callable

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from server.http2.exchange import Exchange, Headers, RequestFault
from server.http2.streams import Stream
from server.rpc.fast_lane.calls.long_lived import LongLivedCall, Refuse
from server.rpc.fast_lane.framing import IDENTITY, FramingError, first_message, framed
from server.rpc.fast_lane.responses import HEAD, OK, failure_block, status_block
from server.rpc.handlers.health_states import HealthStates
from server.rpc.messages.status import MALFORMED, NO_REQUEST, STOPPING, Failure


class HealthCheck(Exchange):
    """One call of Check.

    Args:
        stream: Carries it.
        headers: Of its request.
        refuse: What becomes of a request that does not arrive.
        states: What is asked for.
    """

    __slots__ = ("_headers", "_refuse", "_states", "_stream")

    def __init__(self, stream: Stream, headers: Headers, refuse: Refuse, states: HealthStates) -> None:
        self._stream = stream
        self._headers = headers
        self._refuse = refuse
        self._states = states

    def finish(self, body: bytes) -> None:
        """Answer."""
        service = _service(body, self._headers)
        if isinstance(service, Failure):
            self._stream.end(failure_block(service))
            return
        status = self._states.get(service)
        if status is None:
            self._stream.end(status_block(grpc.StatusCode.NOT_FOUND, ""))
        else:
            self._stream.respond(HEAD, _encoded(status), OK)

    def fail(self, fault: RequestFault) -> None:
        """Answer a request that will not be finished."""
        self._stream.end(failure_block(self._refuse(fault)))


class HealthWatch(LongLivedCall):
    """One call of Watch: see `LongLivedCall`.

    Args:
        states: What is watched.
    """

    __slots__ = ("_end_watch", "_headers", "_states")

    def __init__(
        self,
        stream: Stream,
        headers: Headers,
        refuse: Refuse,
        now: Callable[[], float],
        living: set[LongLivedCall],
        states: HealthStates,
    ) -> None:
        super().__init__(stream, headers, refuse, now, living)
        self._headers = headers
        self._states = states
        self._end_watch: Callable[[], None] | None = None

    def finish(self, body: bytes) -> None:
        """Begin to tell the health of a service."""
        service = _service(body, self._headers)
        if isinstance(service, Failure):
            self.end(service)
        elif not self.is_over:
            self._end_watch = self._states.watch(service, self._tell)

    def close(self) -> None:
        """End, so that the client watches elsewhere."""
        self.end(STOPPING)

    def note_end(self, failure: Failure | None) -> None:
        """Watch no more."""
        del failure
        if self._end_watch is not None:
            self._end_watch()

    def _tell(self, status: int) -> None:
        self.send(_encoded(status))


def _service(body: bytes, headers: Headers) -> str | Failure:
    """Return the service that a request asks for, or how its call fails."""
    try:
        message = first_message(body, headers.get(b"grpc-encoding", IDENTITY))
        return NO_REQUEST if message is None else health_pb2.HealthCheckRequest.FromString(message).service
    except FramingError as error:
        return error.failure
    except DecodeError:
        return MALFORMED


def _encoded(status: int) -> bytes:
    return framed(health_pb2.HealthCheckResponse(status=status).SerializeToString())

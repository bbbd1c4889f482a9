"""The fast lane: which method answers a stream, and for whom."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from grpc import StatusCode
from grpc_health.v1 import health

from server.http2.connection import Connection
from server.http2.exchange import Exchange, Headers, RequestFault
from server.http2.limits import Limits
from server.http2.streams import Stream
from server.rpc.fast_lane.calls.choose_stream import ChooseStreamCall, StreamMethod, message_turns
from server.rpc.fast_lane.calls.health import HealthCheck, HealthWatch
from server.rpc.fast_lane.calls.long_lived import LongLivedCall
from server.rpc.fast_lane.calls.plain import PlainAnswer
from server.rpc.fast_lane.calls.unary import UnaryCall, UnaryMethod, joint_turns
from server.rpc.fast_lane.framing import MOST_BYTES
from server.rpc.fast_lane.peer import CallPeer
from server.rpc.fast_lane.round_robin import RoundRobin
from server.rpc.guard.calls import GuardedMethod
from server.rpc.guard.streams import GuardedStream
from server.rpc.handlers.health_states import HealthStates
from server.rpc.messages.status import Failure, incomplete, too_large, too_many_incomplete
from server.rpc.methods import BANDIT

_CHECK: Final = f"/{health.SERVICE_NAME}/Check".encode()
_WATCH: Final = f"/{health.SERVICE_NAME}/Watch".encode()
_GRPC: Final = b"application/grpc"

_Route = Callable[["LaneSession", Stream, Headers], Exchange]


class FastLane:
    """Serves the data plane, and health, on connections of `server.http2`.

    Args:
        guarded: Methods by path, such as `/bandit.v1.BanditService/Choose`. Those of the data plane are
            served.
        states: The health of the services.
        limits: Those of the connections, for the texts of refusals.
        now: The monotonic clock, in seconds.

    Attributes:
        faults: How many requests were not served, by reason.
        batches: The measurements of the methods that take large requests.
    """

    def __init__(
        self,
        guarded: Mapping[str, GuardedMethod | GuardedStream],
        states: HealthStates,
        limits: Limits,
        now: Callable[[], float],
    ) -> None:
        self.now = now
        self.states = states
        self.faults: Counter[RequestFault] = Counter()
        self.batches = [each.measurements for each in guarded.values() if each.max_bytes >= MOST_BYTES]
        self._failures: Mapping[RequestFault, Failure] = {
            RequestFault.INCOMPLETE: incomplete(limits.request_seconds),
            RequestFault.TOO_MANY_INCOMPLETE: too_many_incomplete(limits.incomplete),
            RequestFault.BODY_TOO_LARGE: too_large(limits.body_bytes, MOST_BYTES),
            RequestFault.HEADERS_TOO_LARGE: Failure(
                StatusCode.RESOURCE_EXHAUSTED,
                f"the metadata is too large: at most {limits.header_bytes} bytes in {limits.header_fields} "
                "fields are allowed",
                "METADATA_TOO_LARGE",
            ),
        }
        self.routes: Mapping[bytes, _Route] = {
            _CHECK: LaneSession.begin_check,
            _WATCH: LaneSession.begin_watch,
            **{
                path.encode(): self._route(method)
                for path, method in guarded.items()
                if path.startswith(f"/{BANDIT.name}/")
            },
        }

    def _route(self, method: GuardedMethod | GuardedStream) -> _Route:
        if isinstance(method, GuardedStream):
            streamed = StreamMethod(
                guarded=method, joint=message_turns(method), refuse=self.refuse, now=self.now
            )
            return lambda session, stream, headers: session.begin_stream(streamed, stream, headers)
        joint = joint_turns(method) if method.shares_work else None
        unary = UnaryMethod(guarded=method, joint=joint, refuse=self.refuse, now=self.now)
        return lambda session, stream, headers: session.begin_unary(unary, stream, headers)

    def session(self, connection: Connection) -> "LaneSession":
        """Return what answers the requests of a connection."""
        return LaneSession(self, connection)

    def refuse(self, fault: RequestFault) -> Failure:
        """Count a request that will not be served, and return how its call fails."""
        self.faults[fault] += 1
        return self._failures[fault]


class LaneSession:
    """What answers the requests of one connection. It implements `server.http2.session.Session`."""

    __slots__ = ("_connection", "_lane", "_last", "_living", "_peer", "_routes", "_turns")

    def __init__(self, lane: FastLane, connection: Connection) -> None:
        self._lane = lane
        self._routes = lane.routes
        self._connection = connection
        self._peer = CallPeer(connection.peer, None)
        self._living: set[LongLivedCall] = set()
        self._turns = RoundRobin()
        self._last: tuple[Headers, UnaryMethod, CallPeer] | None = None

    def begin(self, stream: Stream, headers: Headers) -> Exchange:
        """Return what answers a stream."""
        last = self._last
        if last is not None and last[0] is headers:  # most calls of a connection have the same
            return UnaryCall(stream, headers, last[1], last[2])
        if not _is_grpc(headers):
            return PlainAnswer(stream, is_grpc=False)
        route = self._routes.get(headers[b":path"])
        if route is None:
            return PlainAnswer(stream, is_grpc=True)
        return route(self, stream, headers)

    def drain(self) -> None:
        """End the streams that would never end by themselves."""
        for call in tuple(self._living):
            call.close()

    def begin_unary(self, method: UnaryMethod, stream: Stream, headers: Headers) -> Exchange:
        """Return a call with one request."""
        peer = self._peer_of(headers)
        self._last = headers, method, peer
        return UnaryCall(stream, headers, method, peer)

    def begin_stream(self, method: StreamMethod, stream: Stream, headers: Headers) -> Exchange:
        """Return a ChooseStream."""
        peer = self._peer_of(headers)
        return ChooseStreamCall(stream, headers, method, peer, self._living, self._turns)

    def begin_check(self, stream: Stream, headers: Headers) -> Exchange:
        """Return a check of health."""
        return HealthCheck(stream, headers, self._lane.refuse, self._lane.states)

    def begin_watch(self, stream: Stream, headers: Headers) -> Exchange:
        """Return a watch of health."""
        lane = self._lane
        return HealthWatch(stream, headers, lane.refuse, lane.now, self._living, lane.states)

    def _peer_of(self, headers: Headers) -> CallPeer:
        """Return who makes a call: the same object as for the call before, if it had the same token."""
        header = headers.get(b"authorization")
        if not self._peer.has_sent(header):
            self._peer = CallPeer(self._connection.peer, header)
        return self._peer


def _is_grpc(headers: Headers) -> bool:
    """True if a request is one of gRPC's: with its content type, perhaps of a format, and its method."""
    content_type = headers.get(b"content-type", b"")
    is_typed = content_type == _GRPC or content_type.startswith((_GRPC + b"+", _GRPC + b";"))
    return is_typed and headers[b":method"] == b"POST"

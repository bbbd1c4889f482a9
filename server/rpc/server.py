"""The gRPC server: its services, options and health."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from types import MethodType
from typing import Final, TypeVar

import grpc
from grpc_health.v1 import health, health_pb2

from server.listening.places import Place
from server.rpc.fast_lane.port import FastPort
from server.rpc.floods.offenders import Offenders
from server.rpc.floods.unsent_requests import UnsentRequests
from server.rpc.grpcio.context import RpcHandler
from server.rpc.grpcio.streams import Streams
from server.rpc.grpcio.unary import unary_handler
from server.rpc.grpcio.watches import Watches
from server.rpc.guard.authentication import Authenticator
from server.rpc.guard.calls import Guard, GuardedMethod
from server.rpc.guard.denial_log import DenialLog
from server.rpc.guard.gate import Gate
from server.rpc.guard.metrics import MethodMeasurements, StreamMeasurements, WatchMeasurements
from server.rpc.guard.streams import GuardedStream
from server.rpc.guard.watches import GuardedWatch
from server.rpc.handlers.admin import AdminService
from server.rpc.handlers.bandit import BanditService
from server.rpc.handlers.experiments import ExperimentService
from server.rpc.handlers.health import health_handler
from server.rpc.handlers.health_states import HealthStates
from server.rpc.handlers.launches import LaunchService
from server.rpc.handlers.reflection import serve_reflection
from server.rpc.methods import (
    ADMIN,
    BANDIT,
    EXPERIMENTS,
    LARGE_BYTES,
    LAUNCHES,
    VIEWER,
    Method,
    Service,
    WatchMethod,
)
from server.rpc.ports import Ports
from server.services.runtime.clock import Clock

_Service = TypeVar("_Service")
SERVICES: Final = (BANDIT.name, EXPERIMENTS.name, LAUNCHES.name, ADMIN.name)

METADATA_BYTES: Final = 16 * 1024
_MOST_PENDING: Final = 30_000
"""Calls that may wait for the event loop. gRPC ends any more as CANCELLED; by default some from 1,000 on."""

OPTIONS: Final[Sequence[tuple[str, int]]] = (
    ("grpc.max_receive_message_length", LARGE_BYTES),
    # In each pair, gRPC refuses at random from the first limit on, and always from the second.
    ("grpc.max_metadata_size", METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", METADATA_BYTES),
    ("grpc.server.max_pending_requests", _MOST_PENDING),
    ("grpc.server.max_pending_requests_hard_limit", _MOST_PENDING),
    # Callers' own deadlines end calls that wait for long; gRPC would end them as CANCELLED, after 30 s.
    ("grpc.server_max_unrequested_time_in_server", 3_600),
    ("grpc.max_concurrent_streams", 1_000),  # with 100, calls that one commit released together were reset
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.http2.settings_timeout", 5_000),
    # Clients may ping every 10 s, with calls and without; the network may bring two pings closer together.
    # Without these two, gRPC wants five minutes between pings, and two hours on a connection without calls.
    # The first is GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, under the name that gRPC reads.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 60_000),
)

_LEAST_GRACE_MS: Final = 30_000
"""How long calls on a connection that is too old have to finish, at least."""

_DRAIN_POLL_SECONDS: Final = 0.01
_REFUSING_SECONDS: Final = 0.2
_LAST_SECONDS: Final = 0.5


_CLOCK: Final = "clock"
"""The service name under which health checks report whether the time is in doubt."""

_SERVING: Final = health_pb2.HealthCheckResponse.SERVING


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Limits on connections.

    Attributes:
        max_connections: The most open connections.
        connection_seconds: Clients are asked to reconnect after this long, so that their calls spread.
        request_seconds: How long a call's request may take to arrive after its headers.
        flood_seconds: How long an address that floods the server is slowed down; 0: never.
    """

    max_connections: int
    connection_seconds: float
    request_seconds: float
    flood_seconds: float


class RpcServer:
    """Serves every service of `server.rpc.methods`, health and, if enabled, reflection.

    Args:
        bandit: The data plane.
        experiments: The control plane.
        launches: Launches and their verbs.
        admin: Keys and the audit.
        authenticator: Authenticates and authorises callers.
        clock: Times the calls.
        max_calls: The most calls of one method in flight.
        has_reflection: Whether to serve reflection.
        limits: Limits on connections.
        shares_port: Whether other processes of this server listen at the same port.

    Attributes:
        gate: Accepts or refuses calls.
        unsent_requests: Calls whose requests have not arrived.
        offenders: Connections that were closed for such calls.
        guarded: The methods by their path, such as `/bandit.v1.BanditService/Choose`, for any transport; not
            those that answer one request with a stream.
        measurements: Measurements of each method.
        health_states: The health of each service, for any transport.
    """

    def __init__(
        self,
        bandit: BanditService,
        experiments: ExperimentService,
        launches: LaunchService,
        admin: AdminService,
        authenticator: Authenticator,
        clock: Clock,
        *,
        max_calls: int,
        has_reflection: bool,
        limits: ConnectionLimits,
        shares_port: bool = False,
    ) -> None:
        self.gate = Gate()
        self.offenders = Offenders(clock, seconds=limits.flood_seconds)
        self.unsent_requests = UnsentRequests(clock, self.offenders, seconds=limits.request_seconds)
        self._watching: asyncio.Task[None] | None = None
        self._ports: Ports | None = None
        self.measurements: list[MethodMeasurements] = []
        self.guarded: dict[str, GuardedMethod | GuardedStream] = {}
        self.health_states = HealthStates()
        self._clock = clock
        denials = DenialLog(clock)
        self._guard = Guard(
            gate=self.gate, authenticator=authenticator, clock=clock, denials=denials, max_calls=max_calls
        )
        self._streams = Streams(self.gate, self.unsent_requests, connection_seconds=limits.connection_seconds)
        self._watches = Watches(self.gate, self.unsent_requests, connection_seconds=limits.connection_seconds)
        self._server = grpc.aio.server(options=_options(limits, shares_port=shares_port))
        self._health = health.aio.HealthServicer()
        self._server.add_generic_rpc_handlers((health_handler(self._health, self.unsent_requests),))
        self._add(BANDIT, bandit)
        self._add(EXPERIMENTS, experiments)
        self._add(LAUNCHES, launches)
        self._add(ADMIN, admin)
        if has_reflection:
            admit = partial(authenticator.admit, roles=VIEWER)
            serve_reflection(self._server, (*SERVICES, health.SERVICE_NAME), admit)

    async def start(
        self,
        address: str,
        credentials: grpc.ServerCredentials | None = None,
        *,
        is_serving: bool = True,
        places: Sequence[Place] | None = None,
    ) -> int:
        """Listen at `address`, in plain text without credentials.

        Health is SERVING, or NOT_SERVING until `say_serving` if not `is_serving`.

        Args:
            address: `HOST:PORT`, `unix:PATH` or `unix-abstract:NAME`.
            credentials: None for plain text.
            is_serving: Whether calls can be answered.
            places: Those of `address` if the parent holds them; else None.

        Returns:
            The port: a free one if `address` names port 0; 0 for a Unix socket.

        Raises:
            ListenError: The server can't listen at every address of the name.
        """
        self._ports = Ports(self._server, credentials)
        port = self._ports.open(address, places)
        await self._server.start()
        await self.say_clock(is_doubted=self._clock.is_doubted)
        self._watching = asyncio.create_task(self.unsent_requests.watch())
        self.offenders.listen(port)
        if is_serving:
            await self.say_serving()
        else:
            await self.say_not_serving()
        return port

    async def say_clock(self, *, is_doubted: bool) -> None:
        """Set the health of `clock`, and of nothing else, to whether the time is in doubt."""
        status = health_pb2.HealthCheckResponse.NOT_SERVING if is_doubted else _SERVING
        await self._set_health(_CLOCK, status)

    async def say_serving(self) -> None:
        """Set the health of every service to SERVING."""
        await self._say(health_pb2.HealthCheckResponse.SERVING)

    async def say_not_serving(self) -> None:
        """Set the health of every service to NOT_SERVING; calls are answered as before."""
        await self._say(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def stop(self, grace_seconds: float, *, beside: FastPort | None = None) -> None:
        """Refuse new calls, and give those in flight `grace_seconds` to finish.

        gRPC's own stop cancels calls that it has received but not begun, and those that arrive before the
        client knows of it. So at first, and until the calls in flight are done, the gate answers new calls,
        with a status that can be retried. Streams that are left then, such as watches of health, never end
        on their own, so they get a moment.

        Args:
            grace_seconds: The longest that calls in flight may take.
            beside: The port that serves the same methods, and ends with this server.
        """
        self.gate.close()
        if beside is not None:
            beside.begin_drain()
        refusing_until = self._clock.monotonic() + min(_REFUSING_SECONDS, grace_seconds)
        deadline = self._clock.monotonic() + grace_seconds
        # Polling, since calls only count themselves, which costs less than a notification.
        while self._clock.monotonic() < (deadline if self._is_busy() else refusing_until):  # noqa: ASYNC110
            await asyncio.sleep(_DRAIN_POLL_SECONDS)
        # Calls that take longer are ended here, since gRPC would give neither a reason nor a retry delay.
        self.gate.end_calls()
        last_until = self._clock.monotonic() + min(_LAST_SECONDS, grace_seconds)
        while self._is_busy() and self._clock.monotonic() < last_until:  # noqa: ASYNC110 - as above
            await asyncio.sleep(_DRAIN_POLL_SECONDS)
        if self._watching is not None:
            self._watching.cancel()
        last_seconds = min(max(deadline - self._clock.monotonic(), 0.0), _LAST_SECONDS)
        if beside is None:
            await self._server.stop(last_seconds)
        else:
            await asyncio.gather(self._server.stop(last_seconds), beside.close(last_seconds))
        if self._ports is not None:
            self._ports.close()

    def _is_busy(self) -> bool:
        return any(method.n_in_flight for method in self.measurements)

    async def _say(self, status: int) -> None:
        for service in ("", *SERVICES):
            await self._set_health(service, status)

    async def _set_health(self, service: str, status: int) -> None:
        self.health_states.set(service, status)
        await self._health.set(service, status)

    def _add(self, service: Service[_Service], answering: _Service) -> None:
        handlers: dict[str, RpcHandler] = {}
        for method in service.methods:
            if isinstance(method, WatchMethod):
                handlers[method.name] = self._watch_handler(service.name, method, answering)
                continue
            guarded = self._guard_method(service.name, method, answering)
            self.guarded[f"/{service.name}/{method.name}"] = guarded
            self.measurements.append(guarded.measurements)
            handlers[method.name] = (
                self._streams.handler(guarded)
                if isinstance(guarded, GuardedStream)
                else self.unsent_requests.before(unary_handler(guarded))
            )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.name, handlers),))

    def _watch_handler(self, service: str, method: WatchMethod[_Service], answering: _Service) -> RpcHandler:
        watches = WatchMeasurements(service, method.name)
        self.measurements.append(watches)
        watch = MethodType(method.watch, answering)
        roles, max_bytes = method.roles, method.max_bytes
        return self._watches.handler(
            GuardedWatch(self._guard, watch, watches, roles=roles, max_bytes=max_bytes)
        )

    def _guard_method(
        self, service: str, method: Method[_Service], answering: _Service
    ) -> GuardedMethod | GuardedStream:
        answer = MethodType(method.answer, answering)
        each = None if method.answer_each is None else MethodType(method.answer_each, answering)
        roles, max_bytes = method.roles, method.max_bytes
        if method.is_stream:
            streams = StreamMeasurements(service, method.name)
            return GuardedStream(
                self._guard, answer, streams, roles=roles, max_bytes=max_bytes, answer_each=each
            )
        calls = MethodMeasurements(service, method.name)
        return GuardedMethod(self._guard, answer, calls, roles=roles, max_bytes=max_bytes, answer_each=each)


def _options(limits: ConnectionLimits, *, shares_port: bool) -> Sequence[tuple[str, int]]:
    age_ms = round(1000 * limits.connection_seconds)
    return (
        # By default gRPC shares the port: a second server would silently take half the traffic.
        ("grpc.so_reuseport", int(shares_port)),
        ("grpc.max_connection_age_ms", age_ms),
        # A stream ends by itself before it is as old as that, but may begin when its connection already is.
        ("grpc.max_connection_age_grace_ms", max(age_ms, _LEAST_GRACE_MS)),
        ("grpc.max_allowed_incoming_connections", limits.max_connections),
        *OPTIONS,
    )

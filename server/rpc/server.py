"""The gRPC server: its services, its options, its health."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

import grpc
from grpc_health.v1 import health, health_pb2

from bandit.v1 import admin_pb2, bandit_pb2, experiment_pb2
from server.rpc.floods.offenders import Flooders
from server.rpc.floods.unsent_requests import Arrivals
from server.rpc.guard.authentication import Authenticator
from server.rpc.guard.calls import (
    BATCH_CALL_BYTES,
    CONTROL_CALL_BYTES,
    SINGLE_CALL_BYTES,
    Answer,
    Gate,
    Guard,
)
from server.rpc.guard.denial_log import Refusals
from server.rpc.guard.metrics import MethodMeasurements
from server.rpc.guard.permissions import RULES
from server.rpc.handlers.admin import AdminService
from server.rpc.handlers.bandit import BanditService
from server.rpc.handlers.experiments import ExperimentService
from server.rpc.handlers.health import health_handler
from server.rpc.handlers.reflection import serve_reflection
from server.services.runtime.clock import Clock

BANDIT_SERVICE: Final = bandit_pb2.DESCRIPTOR.services_by_name["BanditService"].full_name
EXPERIMENT_SERVICE: Final = experiment_pb2.DESCRIPTOR.services_by_name["ExperimentService"].full_name
ADMIN_SERVICE: Final = admin_pb2.DESCRIPTOR.services_by_name["AdminService"].full_name
SERVICES: Final = (BANDIT_SERVICE, EXPERIMENT_SERVICE, ADMIN_SERVICE)

METADATA_BYTES: Final = 16 * 1024
_MOST_PENDING: Final = 30_000
"""Calls that wait for the event loop. gRPC ends those beyond as CANCELLED; by default some from 1,000 on."""

OPTIONS: Final[Sequence[tuple[str, int]]] = (
    ("grpc.max_receive_message_length", BATCH_CALL_BYTES),
    # Of each pair the first is where gRPC begins to refuse at random, the second where it refuses all.
    ("grpc.max_metadata_size", METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", METADATA_BYTES),
    ("grpc.server.max_pending_requests", _MOST_PENDING),
    ("grpc.server.max_pending_requests_hard_limit", _MOST_PENDING),
    # Callers' own deadlines end what waits for long; gRPC would end it as CANCELLED, after 30 s.
    ("grpc.server_max_unrequested_time_in_server", 3_600),
    ("grpc.max_concurrent_streams", 1_000),  # with 100, calls that a commit frees at once were reset
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.http2.settings_timeout", 5_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_time_ms", 60_000),
)
_Methods: TypeAlias = Sequence[tuple[str, Answer, int]]
"""A method's name, what answers it, and of how many bytes a request may be."""

_DRAIN_POLL_SECONDS: Final = 0.01
_REFUSING_SECONDS: Final = 0.2
_FAREWELL_SECONDS: Final = 0.5


_CLOCK: Final = "clock"
"""The name under which health tells whether the time is in doubt."""

_SERVING: Final = health_pb2.HealthCheckResponse.SERVING


class ListenError(Exception):
    """Nothing can listen at {address}."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__(
            f"can't listen at {address}: is another server there, or the address not of this machine?"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What connections may do.

    Attributes:
        max_connections: How many may be open.
        connection_seconds: A client is asked to connect again after so long, so that its calls spread.
        request_seconds: How long the request of a call may take to arrive after its headers.
        flood_seconds: How long an address is slowed down that floods the server; 0 for not at all.
    """

    max_connections: int
    connection_seconds: float
    request_seconds: float
    flood_seconds: float


class RpcServer:
    """Serves both services, health and, if wanted, reflection.

    Args:
        bandit: The data plane.
        experiments: The control plane.
        admin: Keys and the audit.
        authenticator: Lets callers in.
        clock: Times the calls.
        max_calls: Calls of one method that may be in flight.
        has_reflection: Whether clients may ask what is served.
        limits: What connections may do.
        shares_port: Whether other processes of this server listen at the same port.

    Attributes:
        gate: Says whether calls are taken.
        arrivals: Calls whose requests have not arrived.
        flooders: Connections that were closed for such calls.
        measurements: What is measured of each method.
    """

    def __init__(
        self,
        bandit: BanditService,
        experiments: ExperimentService,
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
        self.flooders = Flooders(clock, seconds=limits.flood_seconds)
        self.arrivals = Arrivals(clock, self.flooders, seconds=limits.request_seconds)
        self._watching: asyncio.Task[None] | None = None
        self.measurements: list[MethodMeasurements] = []
        self._authenticator = authenticator
        self._clock = clock
        self._guard = Guard(gate=self.gate, clock=clock, refusals=Refusals(clock), max_calls=max_calls)
        # Not given, gRPC would share the port, and a second server silently take half the traffic.
        options = (
            ("grpc.so_reuseport", int(shares_port)),
            ("grpc.max_connection_age_ms", round(1000 * limits.connection_seconds)),
            ("grpc.max_allowed_incoming_connections", limits.max_connections),
            *OPTIONS,
        )
        self._server = grpc.aio.server(options=options)
        self._health = health.aio.HealthServicer()
        self._server.add_generic_rpc_handlers((health_handler(self._health, self.arrivals),))
        self._add(BANDIT_SERVICE, _bandit_methods(bandit))
        self._add(EXPERIMENT_SERVICE, _experiment_methods(experiments))
        self._add(ADMIN_SERVICE, _admin_methods(admin))
        if has_reflection:
            serve_reflection(self._server, (*SERVICES, health.SERVICE_NAME), authenticator)

    async def start(
        self, address: str, credentials: grpc.ServerCredentials | None = None, *, is_serving: bool = True
    ) -> int:
        """Listens at `address`, in plain text without credentials, and says SERVING.

        Or else NOT_SERVING until `say_serving`.

        Returns:
            The port, which is a free one if `address` names port 0.

        Raises:
            ListenError: Nothing can listen there.
        """
        try:
            port = (
                self._server.add_insecure_port(address)
                if credentials is None
                else self._server.add_secure_port(address, credentials)
            )
        except RuntimeError:
            raise ListenError(address) from None
        if port == 0:
            raise ListenError(address)
        await self._server.start()
        await self.say_clock(is_doubted=self._clock.is_doubted)
        self._watching = asyncio.create_task(self.arrivals.watch())
        self.flooders.listen(port)
        if is_serving:
            await self.say_serving()
        else:
            await self.say_not_serving()
        return port

    async def say_clock(self, *, is_doubted: bool) -> None:
        """Tells clients that ask for the health of `clock` whether the time is in doubt; the rest goes on."""
        status = health_pb2.HealthCheckResponse.NOT_SERVING if is_doubted else _SERVING
        await self._health.set(_CLOCK, status)

    async def say_serving(self) -> None:
        """Tells clients that ask for health that calls are answered."""
        await self._say(health_pb2.HealthCheckResponse.SERVING)

    async def say_not_serving(self) -> None:
        """Tells clients that ask for health to look elsewhere; calls are answered as before."""
        await self._say(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def stop(self, grace_seconds: float) -> None:
        """Refuses new calls, and gives those in flight so long to finish.

        gRPC's own stop cancels what it has received and not begun, and what comes before the client has heard
        of it. So at first, and until those in flight are done, the gate answers, with a status that can be
        retried. Streams that are left then, such as a client's watch of health, end by themselves never: they
        get a moment.
        """
        self.gate.close()
        refusing_until = self._clock.monotonic() + min(_REFUSING_SECONDS, grace_seconds)
        deadline = self._clock.monotonic() + grace_seconds
        # Calls count themselves and tell nobody, so that they cost less: hence a look now and then.
        while self._clock.monotonic() < (deadline if self._is_busy() else refusing_until):  # noqa: ASYNC110
            await asyncio.sleep(_DRAIN_POLL_SECONDS)
        # What takes longer is ended here: gRPC would give neither a reason nor a retry delay.
        self.gate.end_calls()
        farewell_until = self._clock.monotonic() + min(_FAREWELL_SECONDS, grace_seconds)
        while self._is_busy() and self._clock.monotonic() < farewell_until:  # noqa: ASYNC110 - as above
            await asyncio.sleep(_DRAIN_POLL_SECONDS)
        if self._watching is not None:
            self._watching.cancel()
        await self._server.stop(min(max(deadline - self._clock.monotonic(), 0.0), _FAREWELL_SECONDS))

    def _is_busy(self) -> bool:
        return any(method.n_in_flight for method in self.measurements)

    async def _say(self, status: int) -> None:
        for service in ("", *SERVICES):
            await self._health.set(service, status)

    def _add(self, service: str, methods: _Methods) -> None:
        handlers = []
        for name, answer, max_bytes in methods:
            measured = MethodMeasurements(service, name)
            self.measurements.append(measured)
            admit = partial(self._authenticator.admit, roles=RULES[f"/{service}/{name}"])
            handler = self._guard.around(answer, measured, admit, max_bytes=max_bytes)
            handlers.append((name, handler))
        self._server.add_generic_rpc_handlers((self.arrivals.generic_handler(service, handlers),))


def _bandit_methods(bandit: BanditService) -> _Methods:
    return [
        ("Choose", bandit.choose, SINGLE_CALL_BYTES),
        ("BatchChoose", bandit.batch_choose, BATCH_CALL_BYTES),
        ("Reward", bandit.reward, SINGLE_CALL_BYTES),
        ("BatchReward", bandit.batch_reward, BATCH_CALL_BYTES),
    ]


def _experiment_methods(experiments: ExperimentService) -> _Methods:
    return [
        ("CreateExperiment", experiments.create_experiment, CONTROL_CALL_BYTES),
        ("GetExperiment", experiments.get_experiment, CONTROL_CALL_BYTES),
        ("ListExperiments", experiments.list_experiments, CONTROL_CALL_BYTES),
        ("UpdateExperiment", experiments.update_experiment, CONTROL_CALL_BYTES),
        ("DeleteExperiment", experiments.delete_experiment, CONTROL_CALL_BYTES),
        ("StartExperiment", experiments.start_experiment, CONTROL_CALL_BYTES),
        ("PauseExperiment", experiments.pause_experiment, CONTROL_CALL_BYTES),
        ("ConcludeExperiment", experiments.conclude_experiment, CONTROL_CALL_BYTES),
        ("GetReport", experiments.get_report, CONTROL_CALL_BYTES),
    ]


def _admin_methods(admin: AdminService) -> _Methods:
    return [
        ("RotateDecisionKey", admin.rotate_decision_key, CONTROL_CALL_BYTES),
        ("RevokeDecisionKey", admin.revoke_decision_key, CONTROL_CALL_BYTES),
        ("ListDecisionKeys", admin.list_decision_keys, CONTROL_CALL_BYTES),
        ("ListAuditEntries", admin.list_audit_entries, CONTROL_CALL_BYTES),
    ]

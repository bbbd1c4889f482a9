"""The application: the services, with access, startup without a store, the gRPC server and metrics."""

from collections.abc import Callable
from datetime import timedelta

from server.app.access import Access
from server.app.metrics.prometheus import ServiceCollector
from server.app.process_limits import connections_of
from server.app.standby import Standby
from server.app.webhooks import Webhooks
from server.app.wiring import Services
from server.http2.limits import Limits
from server.rpc.fast_lane.lane import FastLane
from server.rpc.fast_lane.port import FastPort
from server.rpc.handlers.admin import AdminService
from server.rpc.handlers.bandit import BanditService
from server.rpc.handlers.experiments import ExperimentService
from server.rpc.handlers.launches import LaunchService
from server.rpc.server import ConnectionLimits, RpcServer
from server.services.background.timekeeping import Timekeeper
from server.services.runtime.async_store import AsyncStore
from server.services.runtime.clock import Clock
from server.services.runtime.service_time import Pace, ServiceClock
from server.settings import Settings
from server.store.contract import Store


class Application:
    """One run of the server. It must be created on its event loop, to which gRPC belongs.

    Args:
        settings: The operator's settings.
        store: Need not be reachable yet.
        number: This process's number among those that share the port, from 1; None if it is alone.
        on_broken: Called when durability can't be promised any more.
        host: The clocks of this machine, from which service time is made; None for those that it has.

    Attributes:
        access: TLS and tokens.
        services: Everything between the wire and the database.
        webhooks: Deliver what happens to experiments.
        standby: Connects to the store, and lets the server do without it until then.
        rpc: Answers the calls.
        fast_port: Answers those of the fast lane; None without one.
        collector: The state of the services, for Prometheus.

    Raises:
        StartupError: The system allows too few open files.
        CertificateError: A certificate, key or client CA can't be used.
        TokensFileError: The tokens file can't be used.
        WebhooksFileError: The webhooks file can't be used.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        number: int | None,
        on_broken: Callable[[], None],
        host: Clock | None = None,
    ) -> None:
        pace = Pace(timedelta(seconds=settings.clock_settle_seconds))
        clock = ServiceClock(host or Clock(), pace, is_shared=store.is_shared)
        self.access = Access(settings, clock)
        async_store = AsyncStore(store)
        trust_after = timedelta(seconds=settings.trust_clock_after_seconds)
        timekeeper = Timekeeper(async_store, clock, trust_after=trust_after)
        self.services = Services(settings, async_store, clock, timekeeper, on_broken=on_broken)
        self.webhooks = Webhooks(settings, async_store, clock)
        self.standby = Standby(settings, self.services, is_keeper=number in {None, 1})
        n_connections, n_fast = connections_of(settings)
        shares_port = number is not None
        self.rpc = _make_rpc(settings, self.access, self.services, n_connections, shares_port=shares_port)
        self.fast_port = None if settings.fast_listen is None else self._make_fast_port(settings, n_fast)
        timekeeper.on_doubt = lambda is_doubted: self.rpc.say_clock(is_doubted=is_doubted)
        self.collector = ServiceCollector(
            self.services,
            clock,
            self.webhooks.dispatcher,
            convergence=settings.convergence,
            max_series=settings.max_metric_series,
        )

    def _make_fast_port(self, settings: Settings, n_connections: int) -> FastPort:
        limits = Limits(
            connections=n_connections,
            connections_by_address=settings.fast_connections_by_address,
            new_by_address=settings.fast_new_connections,
            age_seconds=settings.connection_seconds,
            request_seconds=settings.request_seconds,
        )
        clock = self.services.clock
        lane = FastLane(self.rpc.guarded, self.rpc.health_states, limits, clock.monotonic)
        return FastPort(lane, limits, clock, context=self.access.context)


def _make_rpc(
    settings: Settings, access: Access, services: Services, n_connections: int, *, shares_port: bool
) -> RpcServer:
    return RpcServer(
        BanditService(services.chooser, services.ledger, services.snapshot, services.inquiries),
        ExperimentService(services.experiments, services.reporter, services.events),
        LaunchService(services.launches),
        AdminService(services.keys, services.store),
        access.authenticator,
        services.clock,
        max_calls=settings.max_concurrent_calls,
        has_reflection=settings.reflection,
        limits=ConnectionLimits(
            max_connections=n_connections,
            connection_seconds=settings.connection_seconds,
            request_seconds=settings.request_seconds,
            flood_seconds=settings.flood_seconds,
        ),
        shares_port=shares_port,
    )

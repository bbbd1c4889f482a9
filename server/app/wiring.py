"""The composition root: builds the parts of the service, each from those that it knows."""

import secrets
from collections.abc import Callable
from datetime import timedelta

from server.app.access import Access
from server.app.process_limits import room_for_connections
from server.app.prometheus import ServiceCollector
from server.app.standby import Standby
from server.rpc.handlers.admin import AdminService, Audit
from server.rpc.handlers.bandit import BanditService
from server.rpc.handlers.experiments import ExperimentService
from server.rpc.server import ConnectionLimits, RpcServer
from server.services.background.ended_runs import RunEnder
from server.services.background.retention import Purger
from server.services.background.sync import Upkeep
from server.services.background.timekeeping import Timekeeper
from server.services.choose.chooser import Chooser
from server.services.choose.decision_counter import DecisionCounter
from server.services.experiments.allocator import Allocator
from server.services.experiments.lifecycle import Experiments, Quotas
from server.services.reports.reporter import Reporter
from server.services.reward.commit_queue import RewardQueue
from server.services.reward.inquiries import Inquiries
from server.services.reward.known_epochs import KnownEpochs
from server.services.reward.ledger import Ledger
from server.services.runtime.clock import Clock
from server.services.runtime.service_time import Pace, ServiceClock
from server.services.runtime.threads import Workers
from server.services.runtime.writer import Writer
from server.services.signing_keys.rotation import DecisionKeys, fresh_ring
from server.services.snapshot.snapshot import Snapshot
from server.settings import Settings
from server.store.contract import Store


class Application:
    """The parts of one run of the service. To be made on its event loop, to which gRPC belongs.

    Args:
        settings: What the operator set.
        store: Need not be there yet.
        number: Of this process among those that share the port, from 1; None if it is alone.
        on_broken: Told that durability can't be promised any more.

    Attributes:
        access: Who may enter.
        workers: The threads that wait for the store and compute.
        upkeep: What goes on beside the calls.
        inquiries: Asks the store before something is refused for good.
        epochs: Looks up the epochs of decisions that are rewarded.
        queue: Commits rewards.
        standby: Reaches the store, and does without it until then.
        rpc: Answers the calls.
        purger: Takes old rewards out of the log.
        ender: Ends the runs of servers that are gone.
        collector: What Prometheus is told.

    Raises:
        StartupError: The system allows too few open files.
        CertificateError: A certificate, key or client CA can't be used.
        TokensFileError: The tokens file can't be used.
    """

    def __init__(
        self, settings: Settings, store: Store, *, number: int | None, on_broken: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._store = store
        pace = Pace(timedelta(seconds=settings.clock_settle_seconds))
        self._clock = clock = ServiceClock(Clock(), pace, is_shared=store.is_shared)
        self._lag = timedelta(seconds=settings.lag_seconds)
        self._writer = Writer(secrets.token_bytes(16), slot=0)
        self.access = Access(settings, clock)
        self.workers = Workers()
        self._snapshot = Snapshot(clock)
        self._keys = DecisionKeys(
            store, self.workers, self._snapshot, clock, convergence=settings.convergence
        )
        self._counter = DecisionCounter(self._writer)
        self._allocator = self._make_allocator()
        self._timekeeper = self._make_timekeeper()
        self.upkeep = self._make_upkeep(on_broken)
        self.inquiries = Inquiries(self.upkeep.refresh, clock, memory_seconds=settings.poll_seconds)
        self.epochs = self._make_epochs()
        self.queue = self._make_queue(on_broken)
        self._chooser = self._make_chooser()
        self._ledger = self._make_ledger()
        self.standby = self._make_standby(is_keeper=number in {None, 1})
        self.rpc = self._make_rpc(shares_port=number is not None)
        self._timekeeper.on_doubt = lambda is_doubted: self.rpc.say_clock(is_doubted=is_doubted)
        retention = timedelta(seconds=settings.retention_seconds)
        self.purger = Purger(store, self.workers, clock, retention=retention)
        self.ender = RunEnder(store, self.workers, self._writer, self._allocator, clock)
        self.collector = self._make_collector()

    def _make_allocator(self) -> Allocator:
        return Allocator(
            self._store,
            self.workers,
            self._snapshot,
            self._clock,
            lag=self._lag,
            threshold=self._settings.epoch_threshold,
        )

    def _make_timekeeper(self) -> Timekeeper:
        trust_after = timedelta(seconds=self._settings.trust_clock_after_seconds)
        timekeeper = Timekeeper(self._store, self.workers, self._clock, trust_after=trust_after)
        timekeeper.on_jump = lambda: self._allocator.mark_changed(
            live.record.number for live in self._snapshot
        )
        return timekeeper

    def _make_upkeep(self, on_broken: Callable[[], None]) -> Upkeep:
        return Upkeep(
            self._store,
            self.workers,
            self._snapshot,
            self._counter,
            self._writer,
            self._allocator,
            self._clock,
            on_broken=on_broken,
            keys=self._keys,
            timekeeper=self._timekeeper,
        )

    def _make_queue(self, on_broken: Callable[[], None]) -> RewardQueue:
        return RewardQueue(
            self._store,
            self.workers,
            self._writer,
            self._clock,
            max_rows=self._settings.reward_queue_rows,
            max_bytes=self._settings.reward_queue_bytes,
            on_recorded=self._allocator.mark_grown,
            on_broken=on_broken,
        )

    def _make_chooser(self) -> Chooser:
        return Chooser(
            self._snapshot,
            self._keys.signer,
            self._counter,
            self._clock,
            lag_seconds=self._settings.lag_seconds,
            max_staleness_seconds=self._settings.max_staleness_seconds,
        )

    def _make_ledger(self) -> Ledger:
        return Ledger(
            self._snapshot,
            self._keys.signer,
            self.queue,
            self._clock,
            inquiries=self.inquiries,
            epochs=self.epochs,
        )

    def _make_epochs(self) -> KnownEpochs:
        return KnownEpochs(
            self._snapshot,
            lambda wanted: self.workers.read(self._store.find_epochs, wanted),
            self._clock,
            memory_seconds=self._settings.poll_seconds,
        )

    def _make_standby(self, *, is_keeper: bool) -> Standby:
        return Standby(
            self._settings,
            self._store,
            self.workers,
            self._writer,
            self._snapshot,
            self._counter,
            self._chooser,
            self._ledger,
            self._keys,
            self._clock,
            self._timekeeper,
            refresh=self.upkeep.refresh,
            candidate=fresh_ring(),
            is_keeper=is_keeper,
        )

    def _make_rpc(self, *, shares_port: bool) -> RpcServer:
        experiments = Experiments(
            self._store,
            self.workers,
            self._snapshot,
            self._allocator,
            self._clock,
            lag=self._lag,
            convergence=self._settings.convergence,
            quotas=Quotas(experiments=self._settings.max_experiments, arms=self._settings.max_arms),
        )
        reporter = Reporter(
            self._store,
            self.workers,
            self._clock,
            lag=self._lag,
            flush=self.upkeep.flush,
            count_waiting=self._counter.count_waiting,
        )
        return RpcServer(
            BanditService(self._chooser, self._ledger, self._snapshot, self.inquiries),
            ExperimentService(experiments, reporter),
            AdminService(self._keys, Audit(self._store, self.workers)),
            self.access.authenticator,
            self._clock,
            max_calls=self._settings.max_concurrent_calls,
            has_reflection=self._settings.reflection,
            limits=ConnectionLimits(
                max_connections=room_for_connections(self._settings.max_connections),
                connection_seconds=self._settings.connection_seconds,
                request_seconds=self._settings.request_seconds,
                flood_seconds=self._settings.flood_seconds,
            ),
            shares_port=shares_port,
        )

    def _make_collector(self) -> ServiceCollector:
        return ServiceCollector(
            self._snapshot,
            self._counter,
            self.queue,
            self._allocator,
            self.upkeep,
            self.purger,
            self._clock,
            self._settings.convergence,
            lambda: self._store.wal_bytes,
            max_series=self._settings.max_metric_series,
        )

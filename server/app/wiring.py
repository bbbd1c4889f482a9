"""The composition root: builds each service from those that it uses."""

import secrets
from collections.abc import Callable
from datetime import timedelta

from server.services.background.ended_runs import RunReaper
from server.services.background.retention import Purger
from server.services.background.sync import StoreSync
from server.services.background.timekeeping import Timekeeper
from server.services.choose.chooser import Chooser
from server.services.choose.decision_counter import DecisionCounter
from server.services.experiments.allocator import Allocator
from server.services.experiments.event_feed import EventFeed
from server.services.experiments.lifecycle import Experiments
from server.services.experiments.quotas import Quotas
from server.services.launch.controller import LaunchController
from server.services.launch.lease import LeaseKeeper
from server.services.launch.verbs import Launches
from server.services.reports.reporter import Reporter
from server.services.reward.commit_queue import RewardQueue
from server.services.reward.inquiries import Inquiries
from server.services.reward.known_epochs import KnownEpochs
from server.services.reward.ledger import Ledger
from server.services.runtime.async_store import AsyncStore
from server.services.runtime.clock import Clock
from server.services.runtime.writer import Writer
from server.services.signing_keys.rotation import SigningKeys
from server.services.snapshot.snapshot import Snapshot
from server.settings import Settings


class Services:
    """The services of one run: everything between the wire and the database; no background task runs yet.

    Args:
        settings: The operator's settings.
        store: Need not be reachable yet.
        clock: The time.
        timekeeper: Reads the store's clock; None if `clock` needs no readings.
        on_broken: Called when durability can't be promised any more.

    Attributes:
        store: As above.
        clock: As above.
        timekeeper: As above.
        writer: This run's registration with the store.
        snapshot: The experiments and epochs that Choose reads.
        keys: The keys that sign decisions.
        counter: Counts decisions.
        allocator: Begins epochs.
        sync: Flushes counts and refreshes the snapshot.
        inquiries: Asks the store before a reward is refused for good.
        epochs: Looks up the epochs of decisions that are rewarded.
        queue: Commits rewards.
        chooser: Answers Choose.
        ledger: Answers Reward.
        experiments: Changes experiments.
        reporter: Makes reports.
        launches: Shows launches, and carries out verbs.
        events: Reads events, and tells watchers of new ones.
        purger: Purges old rewards from the log.
        reaper: Ends the runs of dead servers.
        lease: Lets one server of several act for launches.
        controller: Looks at launches, and does what their plans say.
    """

    def __init__(
        self,
        settings: Settings,
        store: AsyncStore,
        clock: Clock,
        timekeeper: Timekeeper | None,
        *,
        on_broken: Callable[[], None],
    ) -> None:
        lag = timedelta(seconds=settings.lag_seconds)
        retention = timedelta(seconds=settings.retention_seconds)
        memory = settings.poll_seconds
        self.store = store
        self.clock = clock
        self.timekeeper = timekeeper
        self.writer = Writer(secrets.token_bytes(16), slot=0)
        self.snapshot = Snapshot(clock)
        self.keys = SigningKeys(store, self.snapshot, clock, convergence=settings.convergence)
        self.counter = DecisionCounter(self.writer)
        self.allocator = Allocator(store, self.snapshot, clock, lag=lag, threshold=settings.epoch_threshold)
        if timekeeper is not None:
            timekeeper.on_jump = self._look_at_all_experiments
        self.sync = self._make_sync(on_broken)
        self.inquiries = Inquiries(self.sync.refresh, clock, memory_seconds=memory)
        self.epochs = KnownEpochs(self.snapshot, store.for_calls.find_epochs, clock, memory_seconds=memory)
        self.queue = self._make_queue(settings, on_broken)
        self.chooser = self._make_chooser(settings)
        self.ledger = Ledger(
            self.snapshot, self.keys.signer, self.queue, clock, inquiries=self.inquiries, epochs=self.epochs
        )
        self.experiments = self._make_experiments(settings, lag)
        count_waiting = self.counter.count_waiting
        self.reporter = Reporter(store, clock, lag=lag, flush=self.sync.flush, count_waiting=count_waiting)
        self.launches = Launches(store, self.experiments, clock, lag=lag)
        self.events = EventFeed(store)
        keeps_events = timedelta(seconds=settings.event_retention_seconds) or None
        self.purger = Purger(store, clock, retention=retention, event_retention=keeps_events)
        self.reaper = RunReaper(store, self.writer, self.allocator, clock)
        self.lease = LeaseKeeper(store, clock, holder=self.writer.incarnation.hex())
        self.controller = self._make_controller(settings, lag)

    def _make_sync(self, on_broken: Callable[[], None]) -> StoreSync:
        return StoreSync(
            self.store,
            self.snapshot,
            self.counter,
            self.writer,
            self.allocator,
            self.clock,
            on_broken=on_broken,
            keys=self.keys,
            timekeeper=self.timekeeper,
        )

    def _make_queue(self, settings: Settings, on_broken: Callable[[], None]) -> RewardQueue:
        return RewardQueue(
            self.store,
            self.writer,
            self.clock,
            max_rows=settings.reward_queue_rows,
            max_bytes=settings.reward_queue_bytes,
            on_recorded=self.allocator.mark_grown,
            on_broken=on_broken,
        )

    def _make_chooser(self, settings: Settings) -> Chooser:
        return Chooser(
            self.snapshot,
            self.keys.signer,
            self.counter,
            self.clock,
            lag_seconds=settings.lag_seconds,
            max_staleness_seconds=settings.max_staleness_seconds,
        )

    def _make_experiments(self, settings: Settings, lag: timedelta) -> Experiments:
        return Experiments(
            self.store,
            self.snapshot,
            self.allocator,
            self.clock,
            lag=lag,
            convergence=settings.convergence,
            quotas=Quotas(experiments=settings.max_experiments, arms=settings.max_arms),
        )

    def _make_controller(self, settings: Settings, lag: timedelta) -> LaunchController:
        return LaunchController(
            self.store,
            self.snapshot,
            self.experiments,
            self.clock,
            self.lease.held,
            lag=lag,
            gate_seconds=settings.gate_seconds,
        )

    def _look_at_all_experiments(self) -> None:
        self.allocator.mark_changed(live.record.number for live in self.snapshot)

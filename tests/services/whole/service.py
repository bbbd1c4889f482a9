"""The whole service in this process, wired as the composition root wires it, on a clock that a test moves."""

import asyncio
import secrets
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, Final, TypeVar

from bandit.decision_id import Signer
from server.services.background.retention import Purger
from server.services.background.sync import Upkeep
from server.services.background.timekeeping import Timekeeper
from server.services.choose.chooser import Choice, Chooser
from server.services.choose.decision_counter import DecisionCounter
from server.services.experiments.allocator import Allocator
from server.services.experiments.lifecycle import Experiments
from server.services.reward.commit_queue import RewardQueue
from server.services.reward.inquiries import Inquiries
from server.services.reward.known_epochs import KnownEpochs
from server.services.reward.ledger import Ledger, PostedReward
from server.services.runtime.clock import Clock
from server.services.runtime.service_time import ServiceClock
from server.services.runtime.threads import Workers
from server.services.runtime.writer import Writer
from server.services.snapshot.offers import CompiledExperiment
from server.services.snapshot.snapshot import Snapshot
from server.store.opening import open_store
from server.store.records import KeyRing
from server.store.sql_store import SqlStore
from tests.services.support import LAG, MAX_STALENESS, ManualClock

_Result = TypeVar("_Result")
RETENTION: Final = timedelta(days=30)


class WholeService:
    """One replica: everything between the wire and the database. What polls in service is called here.

    Args:
        url: The database.
        clock: The time, for all replicas.
        trust_after: How long servers must have run since an instant before it is trusted; None to believe the
            clock whatever it says.
    """

    clock: ServiceClock

    def __init__(self, url: str, clock: ManualClock, *, trust_after: timedelta | None = None) -> None:
        self._runner = asyncio.Runner()
        self.store: SqlStore = open_store(url)
        self._workers = workers = Workers()
        self._timekeeper: Timekeeper | None = None
        if trust_after is None:
            self._build(clock)
            return
        self.clock = ServiceClock(clock, is_shared=self.store.is_shared)
        self._timekeeper = Timekeeper(self.store, workers, self.clock, trust_after=trust_after)
        self.look()
        self._build(self.clock)

    def _build(self, clock: Clock) -> None:
        incarnation = secrets.token_bytes(16)
        writer = Writer(incarnation, self.store.claim_slot(incarnation, clock.now()))
        keys = self.store.adopt_keys(KeyRing({1: secrets.token_bytes(32)}, 1))
        signer = Signer(keys.secrets, keys.signing_key)
        lag = timedelta(seconds=LAG)
        workers = self._workers
        self.snapshot = snapshot = Snapshot(clock)
        self._counter = counter = DecisionCounter(writer)
        self._allocator = allocator = Allocator(self.store, workers, snapshot, clock, lag=lag, threshold=0.2)
        self._upkeep = upkeep = Upkeep(
            self.store, workers, snapshot, counter, writer, allocator, clock, on_broken=_break
        )
        self._queue = RewardQueue(
            self.store,
            workers,
            writer,
            clock,
            max_rows=1_000,
            max_bytes=10**6,
            on_recorded=allocator.mark_grown,
            on_broken=_break,
        )
        self.chooser = Chooser(
            snapshot, signer, counter, clock, lag_seconds=LAG, max_staleness_seconds=MAX_STALENESS
        )
        self.ledger = Ledger(
            snapshot,
            signer,
            self._queue,
            clock,
            inquiries=Inquiries(upkeep.refresh, clock, memory_seconds=0.0, pause_seconds=0.0),
            epochs=KnownEpochs(
                snapshot,
                lambda wanted: workers.read(self.store.find_epochs, wanted),
                clock,
                memory_seconds=0.0,
            ),
        )
        self.experiments = Experiments(
            self.store, workers, snapshot, allocator, clock, lag=lag, convergence=timedelta()
        )
        self.purger = Purger(self.store, workers, clock, retention=RETENTION)
        self._commits = self._runner.get_loop().create_task(self._queue.run())
        self.refresh()

    def run(self, call: Coroutine[Any, Any, _Result]) -> _Result:
        """What a call returns."""
        return self._runner.run(call)

    def refresh(self) -> None:
        """Hears what changed."""
        self.run(self._upkeep.refresh())

    def look(self) -> None:
        """Reads the clock, as every poll does."""
        if self._timekeeper is not None:
            self.run(self._timekeeper.look())

    def purge(self) -> int:
        """Seals and purges what there is; returns how many epochs were sealed and rows purged so far."""
        self.run(self.purger.run_once())
        return self.purger.n_epochs + self.purger.n_rows

    def flush(self) -> None:
        """Adds the decisions counted so far to the facts."""
        self.run(self._upkeep.flush())

    def allocate(self) -> None:
        """Begins epochs where shares have moved."""
        self.run(self._allocator.run_once(60.0))

    def find(self, name: str) -> CompiledExperiment | None:
        """The experiment as Choose finds it."""
        return self.snapshot.find(name)

    def choose(self, experiment: CompiledExperiment, unit: str) -> Choice:
        """Choose."""
        return self.chooser.choose(experiment, unit)

    def reward(self, report: PostedReward) -> object:
        """What became of a reward: metric to result, or the error."""
        (answer,) = self.run(self.ledger.reward([report]))
        return answer

    def stop(self) -> None:
        """Ends as after SIGTERM: what was counted is flushed."""
        self.flush()
        self.die()

    def die(self) -> None:
        """Ends without flushing anything."""
        self._queue.close()
        self._runner.get_loop().run_until_complete(self._commits)
        self._workers.close()
        self.store.close()
        self._runner.close()


def _break() -> None:
    raise AssertionError("the store is said to be broken")

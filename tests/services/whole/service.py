"""The whole service in this process, wired as the server wires it, on a clock that a test moves."""

import asyncio
from collections.abc import Coroutine, Sequence
from datetime import timedelta
from typing import Any, Final, TypeVar

from server.app.standby import Standby
from server.app.wiring import Services
from server.services.background.timekeeping import Timekeeper
from server.services.choose.chooser import Choice
from server.services.reward.ledger import PostedReward
from server.services.runtime.async_store import AsyncStore
from server.services.runtime.service_time import ServiceClock
from server.services.snapshot.offers import CompiledExperiment
from server.settings import Settings
from server.store.opening import open_store
from server.store.sql_store import SqlStore
from tests.services.support import LAG, MAX_STALENESS, ManualClock, rewarded

_Result = TypeVar("_Result")
RETENTION: Final = timedelta(days=30)


class WholeService:
    """One replica: everything between the wire and the database. Periodic tasks are called here by the test.

    Args:
        url: The database.
        clock: The time, for all replicas.
        trust_after: How long servers must have run since an instant before it is trusted; None to believe the
            clock whatever it reads.
    """

    clock: ServiceClock

    def __init__(self, url: str, clock: ManualClock, *, trust_after: timedelta | None = None) -> None:
        self._runner = asyncio.Runner()
        self.store: SqlStore = open_store(url)
        store = AsyncStore(self.store)
        settings = Settings(
            database=url,
            lag_seconds=LAG,
            max_staleness_seconds=MAX_STALENESS,
            retention_seconds=RETENTION.total_seconds(),
            reward_queue_rows=1_000,
            reward_queue_bytes=10**6,
        ).model_copy(update={"poll_seconds": 0.0})  # what the store answered is remembered for no time
        timekeeper = None
        if trust_after is not None:
            self.clock = ServiceClock(clock, is_shared=store.is_shared)
            timekeeper = Timekeeper(store, self.clock, trust_after=trust_after)
        now = clock if timekeeper is None else self.clock
        self._services = services = Services(settings, store, now, timekeeper, on_broken=_break)
        services.experiments._convergence = timedelta()  # time stands still while a test waits
        services.inquiries._pause = 0.0
        self.snapshot = services.snapshot
        self.chooser = services.chooser
        self.experiments = services.experiments
        self.launches = services.launches
        self.controller = services.controller
        self.purger = services.purger
        assert self.run(Standby(settings, services, is_keeper=False).begin())
        self.look()
        self._commits = self._runner.get_loop().create_task(services.queue.run())

    def run(self, call: Coroutine[Any, Any, _Result]) -> _Result:
        """Return the result of a call."""
        return self._runner.run(call)

    def refresh(self) -> None:
        """Take in what changed."""
        self.run(self._services.sync.refresh())

    def look(self) -> None:
        """Read the clock, as every poll does."""
        if self._services.timekeeper is not None:
            self.run(self._services.timekeeper.look())

    def purge(self) -> int:
        """Seal and purge; return how many epochs were sealed and rows purged so far."""
        self.run(self.purger.run_once())
        return self.purger.n_epochs + self.purger.n_rows

    def flush(self) -> None:
        """Add the decisions counted so far to the facts."""
        self.run(self._services.sync.flush())

    def allocate(self) -> None:
        """Begin epochs where shares have moved."""
        self.run(self._services.allocator.run_once(60.0))

    def find(self, name: str) -> CompiledExperiment | None:
        """Return the experiment as Choose finds it."""
        return self.snapshot.find(name)

    def choose(self, experiment: CompiledExperiment, unit: str) -> Choice:
        """Return Choose's answer."""
        return self.chooser.choose(experiment, unit)

    def reward(self, report: PostedReward) -> object:
        """Return the results of a reward, metric to result, or the error."""
        (answer,) = self.run(rewarded(self._services.ledger, [report]))
        return answer

    def control(self) -> None:
        """Look at launches, and act for them."""
        self.run(self._services.lease.run_once())
        self.run(self.controller.run_once())

    def reward_each(self, reports: Sequence[PostedReward]) -> list[object]:
        """Return the results of rewards, as `reward` does."""
        return list(self.run(rewarded(self._services.ledger, reports)))

    def stop(self) -> None:
        """End as after SIGTERM: what was counted is flushed."""
        self.flush()
        self.die()

    def die(self) -> None:
        """End without flushing anything."""
        self._services.queue.close()
        self._runner.get_loop().run_until_complete(self._commits)
        self._services.store.close()
        self.store.close()
        self._runner.close()


def _break() -> None:
    raise AssertionError("the store is said to be broken")

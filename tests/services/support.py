"""Support for tests of the services: a clock that they move, and running experiments."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from bandit.decision_id import Signer
from bandit.experiment import Arm, Experiment
from bandit.facts import Epoch
from server.services.choose.chooser import Chooser
from server.services.choose.decision_counter import DecisionCounter
from server.services.reward.commit_queue import RewardQueue
from server.services.reward.ledger import Ledger, PostedReward, RewardAnswer
from server.services.runtime.async_store import AsyncStore
from server.services.runtime.clock import Clock
from server.services.runtime.writer import Writer
from server.services.snapshot.offers import CompiledExperiment
from server.services.snapshot.snapshot import Snapshot
from server.store.records import Changes, ExperimentRecord, Flush, LiveExperiment, State
from tests.bandit.builders import START, declare, make_epoch
from tests.store.builders import INCARNATION

LAG = 5.0
MAX_STALENESS = 60.0
SIGNER = Signer({1: b"k" * 32}, 1)


class ManualClock(Clock):
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self._now = START
        self._seconds = 1000.0

    def time_ms(self) -> int:
        """Return the instant in milliseconds."""
        return int(self._now.timestamp() * 1000)

    def now(self) -> datetime:
        """Return the instant."""
        return self._now

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return self._seconds

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += timedelta(seconds=seconds)
        self._seconds += seconds

    def jump(self, by: timedelta) -> None:
        """Set the wall clock, as an operator or a time service does; no time passes."""
        self._now += by


async def rewarded(ledger: Ledger, reports: Sequence[PostedReward]) -> list[RewardAnswer]:
    """Return the answers to rewards, once what passed the checks is committed."""
    posted = ledger.post(reports)
    return posted if isinstance(posted, list) else await posted


def running(experiment: Experiment | None = None, *, number: int = 1, revision: int = 2) -> ExperimentRecord:
    """Return the record of a running experiment."""
    draft = ExperimentRecord.draft(experiment or declare(), START)
    return replace(draft, number=number, revision=revision, state=State.RUNNING, started_at=START)


def epoch_with(record: ExperimentRecord, shares: Mapping[str, float], number: int = 1) -> Epoch:
    """Return an epoch of these shares by arm id."""
    by_number = {record.arm_numbers[arm_id]: share for arm_id, share in shares.items()}
    return make_epoch(number, shares=by_number, experiment=record.number, revision=record.revision)


def flush_of(counter: DecisionCounter) -> Flush | None:
    """Return what a counter would send next, added up; None if there is nothing."""
    unsent = counter.next_flush()
    return None if unsent is None else unsent.add_up()


class Bench:
    """A chooser over a snapshot of one experiment, with everything that it depends on."""

    def __init__(self, record: ExperimentRecord, epoch: Epoch) -> None:
        self.clock = ManualClock()
        self.snapshot = Snapshot(self.clock)
        self.counter = DecisionCounter(Writer(INCARNATION, 0))
        self.chooser = Chooser(
            self.snapshot,
            SIGNER,
            self.counter,
            self.clock,
            lag_seconds=LAG,
            max_staleness_seconds=MAX_STALENESS,
        )
        self.put(record, epoch)

    @classmethod
    def of(cls, shares: Mapping[str, float], out: Sequence[str] = ()) -> "Bench":
        """Return a running experiment of these shares by arm id; the first arm is the champion."""
        arms = [Arm(id=arm_id, is_taken_out=arm_id in out) for arm_id in shares]
        record = running(declare(arms=arms))
        return cls(record, epoch_with(record, shares))

    def put(self, record: ExperimentRecord, epoch: Epoch) -> None:
        """Confirm the experiment as of now."""
        changes = Changes((LiveExperiment(record, epoch),), frozenset(), 1)
        self.snapshot.apply(changes, self.clock.monotonic())

    @property
    def experiment(self) -> CompiledExperiment:
        """Return the experiment as Choose finds it."""
        found = self.snapshot.find("ranker")
        assert found is not None
        return found


class QueueFactory:
    """Makes reward queues in front of one store, and keeps what they report.

    Attributes:
        commits: Rows of every commit tried.
        grown: Experiments that were reported to have grown.
        n_broken: How often a queue reported that the store is broken.
        tasks: The queues that were started.
    """

    def __init__(self, async_store: AsyncStore, clock: Clock) -> None:
        self._store = async_store
        self._clock = clock
        self.commits: list[int] = []
        self.grown: set[int] = set()
        self.n_broken = 0
        self.tasks: list[asyncio.Task[None]] = []

    def __call__(self, *, max_rows: int = 100_000, max_bytes: int = 10**9) -> RewardQueue:
        """Return a queue that is not yet started."""
        queue = RewardQueue(
            self._store,
            Writer(INCARNATION, 0),
            self._clock,
            max_rows=max_rows,
            max_bytes=max_bytes,
            on_recorded=self.grown.update,
            on_broken=self._break,
        )
        queue.observers.append(lambda n_rows, _seconds: self.commits.append(n_rows))
        return queue

    def start(self, queue: RewardQueue) -> asyncio.Task[None]:
        """Let a queue commit from now on."""
        self.tasks.append(asyncio.create_task(queue.run()))
        return self.tasks[-1]

    def _break(self) -> None:
        self.n_broken += 1

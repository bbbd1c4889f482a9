"""The allocator: looks at the facts that changed, and begins a new epoch where shares have moved."""

import heapq
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

import structlog

from bandit.allocation import Allocation, Standing, allocate, longest_epoch, needs_epoch
from bandit.experiment import SEGMENT_ALL
from bandit.facts import Epoch, Facts
from server.services.clock import Clock
from server.services.snapshot import Snapshot
from server.services.workers import Workers
from server.store.errors import StoreError
from server.store.interface import Store
from server.store.records import ExperimentFacts, ExperimentRecord, State

_NOTHING: Final = Facts(decisions={}, outcomes={})
_LARGEST_BATCH: Final = 200
"""How many experiments one pass looks at, so that decision counts are flushed in between."""

_STEP_PAUSE: Final = timedelta(seconds=5)
"""How often shares that a maximum step holds back are looked at again."""

log = structlog.get_logger()


def standing_of(
    record: ExperimentRecord, epochs: tuple[Epoch, ...], facts: Facts, lag: timedelta, now: datetime
) -> Standing:
    """What the shares of an experiment depend on."""
    return Standing(
        experiment=record.experiment,
        arm_numbers=record.arm_numbers,
        metric_numbers=record.metric_numbers,
        epochs=epochs,
        facts=facts,
        lag=lag,
        now=now,
    )


def new_epoch(record: ExperimentRecord, number: int, allocation: Allocation, now: datetime) -> Epoch:
    """An epoch of these shares."""
    return Epoch(
        experiment=record.number,
        segment=SEGMENT_ALL,
        number=number,
        nonce=secrets.randbits(32),
        revision=record.revision,
        started_at=now,
        champion=record.arm_numbers[record.experiment.champion],
        shares=allocation.shares,
        warming_up=allocation.warming_up,
        means=allocation.means,
    )


class Allocator:
    """Keeps the epochs of running experiments up to date.

    Args:
        store: Where facts and epochs are.
        workers: Whose computing thread folds and integrates.
        snapshot: Where new epochs are put in force.
        clock: The time.
        lag: How long a replica may go on with an epoch after its end.
        threshold: A new epoch begins when a share has moved by more than this, in log-odds.
    """

    def __init__(
        self,
        store: Store,
        workers: Workers,
        snapshot: Snapshot,
        clock: Clock,
        *,
        lag: timedelta,
        threshold: float,
    ) -> None:
        self._store = store
        self._workers = workers
        self._snapshot = snapshot
        self._clock = clock
        self._lag = lag
        self._threshold = threshold
        self._dirty: set[int] = set()
        self._due: list[tuple[datetime, int]] = []
        self._due_at: dict[int, datetime] = {}
        self.n_epochs = 0

    def mark(self, experiments: Iterable[int]) -> None:
        """Says that the facts of these experiments grew."""
        self._dirty.update(experiments)

    async def run_once(self) -> None:
        """Looks at experiments whose facts grew or whose time has come; at most a few hundred."""
        now = self._clock.now()
        while self._due and self._due[0][0] <= now:
            due_at, number = heapq.heappop(self._due)
            if self._due_at.get(number) == due_at:
                self._dirty.add(number)
        for _ in range(min(len(self._dirty), _LARGEST_BATCH)):
            number = self._dirty.pop()
            try:
                await self._refresh(number)
            except StoreError:
                self._dirty.add(number)
                raise
            except Exception:
                log.exception("epoch.failed", experiment=number)

    async def _refresh(self, number: int) -> None:
        live = self._snapshot.find_live(number)
        if live is None or live.record.state is not State.RUNNING:
            self._due_at.pop(number, None)
            return
        computed, look_again_at = await self._workers.compute(self._compute, number)
        if computed is not None:
            stored = await self._workers.write(self._store.add_epoch, computed)
            if stored is None:
                self._dirty.add(number)
                return
            self._snapshot.put_epoch(stored)
            self.n_epochs += stored.nonce == computed.nonce
            log.debug("epoch.began", experiment=live.record.name, epoch=stored.number)
        if look_again_at is not None:
            self._due_at[number] = look_again_at
            heapq.heappush(self._due, (look_again_at, number))

    def _compute(self, number: int) -> tuple[Epoch | None, datetime | None]:
        """The next epoch, if there should be one, and when to look again without any news."""
        found = self._store.read_facts(number)
        if found is None or found.record.state is not State.RUNNING or not found.epochs:
            return None, None
        now = self._clock.now()
        standing = standing_of(found.record, found.epochs, found.facts, self._lag, now)
        allocation = allocate(standing)
        epoch = None
        if needs_epoch(standing, allocation, self._threshold):
            epoch = new_epoch(found.record, found.epochs[-1].number + 1, allocation, now)
        return epoch, self._next_look(standing, found)

    def _next_look(self, standing: Standing, found: ExperimentFacts) -> datetime | None:
        """The earliest moment at which shares may move although no fact does."""
        experiment = found.record.experiment
        current = found.epochs[-1]
        moments: list[datetime] = []
        if standing.n_decisions_of(current) > 0:
            moments.append(current.started_at + longest_epoch(standing))
        for window in {metric.window for metric in experiment.metrics} - {None}:
            ends = (epoch.started_at for epoch in found.epochs[1:])
            closings = (end + self._lag + window for end in ends if window is not None)
            moments.extend(sorted(moment for moment in closings if moment > standing.now)[:1])
        if experiment.half_life is not None:
            moments.append(standing.now + experiment.half_life / 50)
        if experiment.limits.maximum_step_per_hour is not None:
            moments.append(standing.now + _STEP_PAUSE)
        if experiment.limits.warm_up_duration is not None:
            deadlines = (
                standing.first_seen_at(arm) + experiment.limits.warm_up_duration for arm in current.shares
            )
            moments.extend(deadline for deadline in deadlines if deadline > standing.now)
        return max(min(moments), standing.now + timedelta(milliseconds=50)) if moments else None


def first_allocation(
    record: ExperimentRecord, found: ExperimentFacts | None, lag: timedelta, now: datetime
) -> Allocation:
    """The shares with which an experiment starts, or goes on under a changed configuration."""
    epochs, facts = ((), _NOTHING) if found is None else (found.epochs, found.facts)
    return allocate(standing_of(record, epochs, facts, lag, now))

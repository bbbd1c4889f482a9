"""The allocator: begins a new epoch when an experiment's shares have moved with its facts."""

import asyncio
import heapq
import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from itertools import count
from typing import Final

import structlog

from bandit.allocation import ExperimentState, allocate, longest_epoch, needs_epoch
from bandit.facts import Epoch, ends_of
from bandit.posteriors import BetaPosterior
from bandit.posteriors.best_arm import best_arm_probabilities
from server.services.experiments.epochs import new_epoch, state_of
from server.services.experiments.steering import SteeringFolds
from server.services.runtime.async_store import AsyncStore, Thread
from server.services.runtime.clock import Clock
from server.services.snapshot.snapshot import Snapshot
from server.store.contract import Store
from server.store.errors import StoreError
from server.store.records import ExperimentFacts, State

_STEP_PAUSE: Final = timedelta(seconds=5)
"""How soon an experiment is looked at again if a maximum step holds its shares back."""

_AGE_PAUSE: Final = timedelta(seconds=10)
"""How soon an experiment without a window, or with an early epoch, is looked at after its first decisions."""

_PORTION: Final = 100
"""Experiments that are marked, or fall due, before the event loop does other things; each takes some 3 us."""

log = structlog.get_logger()


def load_mathematics() -> None:
    """Import what the first epoch needs but Choose does not, so that a start need not wait half a second."""
    best_arm_probabilities([BetaPosterior(1, 1), BetaPosterior(1, 1)])


class Allocator:
    """Keeps the epochs of running experiments up to date.

    Args:
        store: Has the facts and epochs.
        snapshot: Gets the new epochs.
        clock: The time.
        lag: How long a replica may go on with an epoch after its end.
        threshold: A new epoch begins when a share has moved by more than this, in log-odds.

    Attributes:
        steering: Reads what units steer with.
        n_epochs: How many epochs it began.
    """

    def __init__(
        self,
        store: AsyncStore,
        snapshot: Snapshot,
        clock: Clock,
        *,
        lag: timedelta,
        threshold: float,
    ) -> None:
        self._store = store
        self._snapshot = snapshot
        self._clock = clock
        self._lag = lag
        self._threshold = threshold
        self.steering = SteeringFolds(clock, lag)
        self._grown: dict[int, None] = {}
        self._changed: dict[int, None] = {}
        self._due: list[tuple[float, int]] = []
        self._due_at: dict[int, float] = {}
        self._to_growth: dict[int, float] = {}
        self.n_epochs = 0

    def mark_grown(self, experiments: Iterable[int]) -> None:
        """Note that the facts of these experiments grew, so that they are looked at first."""
        self._grown.update(dict.fromkeys(experiments))

    async def mark_decided(self, experiment_to_n_drawn: Mapping[int, int]) -> None:
        """Note that so many policy decisions of these experiments were counted; 0 if only others were.

        Decisions alone move no share, but they end a warm-up, an epoch with decisions gets old, and an early
        one ends by their number. So an experiment is looked at when a quarter of the window has passed. While
        its epochs are early, it is looked at as soon as this server has counted what was missing at the last
        look, and within ten seconds in any case, since other servers count as well.
        """
        now = self._clock.now()
        for place, (number, n_drawn) in enumerate(experiment_to_n_drawn.items(), 1):
            if not place % _PORTION:
                await asyncio.sleep(0)
            live = self._snapshot.find_live(number)
            if live is None or live.epoch is None:
                continue
            to_growth = self._to_growth[number] = self._to_growth.get(number, 0) - n_drawn
            is_early = n_drawn > 0 and to_growth < math.inf
            if live.epoch.warming_up or (is_early and to_growth <= 0):
                self._grown[number] = None
            elif is_early or number not in self._due_at:
                declared = live.record.experiment
                window = declared.metric(declared.reward_metric).window
                pause = _AGE_PAUSE if window is None else window / 4
                self._look_at(number, now + (min(pause, _AGE_PAUSE) if is_early else pause))

    def _look_at(self, number: int, instant: datetime) -> None:
        """Look at the experiment at that instant or earlier; setting the clock does not delay a look."""
        moment = self._clock.monotonic() + (instant - self._clock.now()).total_seconds()
        if moment <= self._due_at.get(number, moment):
            self._due_at[number] = moment
            heapq.heappush(self._due, (moment, number))

    def mark_changed(self, experiments: Iterable[int]) -> None:
        """Note that these experiments are new here or changed, so that they are looked at in spare time."""
        self._changed.update(dict.fromkeys(experiments))

    async def run_once(self, seconds: float) -> None:
        """Look at experiments that grew, changed or are due, for about `seconds`.

        Those that are left come first in the next pass, so that ten thousand experiments that all need an
        epoch at once do not take the processor from Choose. While the clock is in doubt, all of them wait.
        """
        if self._clock.is_doubted:
            return
        await self._mark_due()
        stop_at = self._clock.monotonic() + seconds
        for waiting in (self._grown, self._changed):
            while waiting and self._clock.monotonic() < stop_at:
                number = next(iter(waiting))
                del waiting[number]
                try:
                    await self._refresh(number)
                except StoreError:
                    waiting[number] = None
                    raise
                except Exception:
                    log.exception("epoch.failed", experiment=number)

    async def _mark_due(self) -> None:
        now = self._clock.monotonic()
        for place in count(1):
            if not self._due or self._due[0][0] > now:
                return
            if not place % _PORTION:
                await asyncio.sleep(0)
            due_at, number = heapq.heappop(self._due)
            if self._due_at.get(number) == due_at:
                del self._due_at[number]
                self._grown[number] = None

    async def _refresh(self, number: int) -> None:
        live = self._snapshot.find_live(number)
        if live is None or live.record.state is not State.RUNNING or live.record.unknown:
            self._due_at.pop(number, None)
            self._to_growth.pop(number, None)
            self.steering.forget(number)
            return
        computed, look_again_at, to_growth = await self._store.run(Thread.COMPUTE, self._compute, number)
        self._to_growth[number] = 0 if computed is not None else to_growth
        if computed is not None:
            stored = await self._store.add_epoch(computed)
            if stored is None:
                self._changed[number] = None
                return
            self._snapshot.put_epoch(stored)
            if stored.nonce != computed.nonce:  # another replica's, which may not know the latest facts
                self._grown[number] = None
                return
            self.n_epochs += 1
            log.debug("epoch.began", experiment=live.record.name, epoch=stored.number)
        if look_again_at is not None:
            self._look_at(number, look_again_at)

    def _compute(self, store: Store, number: int) -> tuple[Epoch | None, datetime | None, float]:
        """Return the next epoch, if there should be one, and when to look again if no fact changes.

        Last comes how many policy decisions this epoch lacks to end by their number.
        """
        found = store.read_facts(number, with_parts=False)
        if found is None or not found.epochs or found.record.unknown:
            return None, None, math.inf
        if found.record.state is not State.RUNNING:
            return None, None, math.inf
        steering = self.steering.read(store, found.record)
        now = self._clock.now()
        state = state_of(found.record, found.epochs, found.facts, self._lag, now, steering.facts)
        allocation = allocate(state)
        epoch = None
        if needs_epoch(state, allocation, self._threshold):
            epoch = new_epoch(found.record, found.epochs[-1], allocation, now)
        return epoch, self._next_look(state, found, steering.due_at), state.decisions_to_growth

    def _next_look(
        self, state: ExperimentState, found: ExperimentFacts, due_at: datetime | None
    ) -> datetime | None:
        """Return the earliest instant at which shares may move without new facts.

        A replica may decide until the lag has passed after an epoch's end. Where units are counted, that
        decision's window then closes another lag later than the epoch.
        """
        experiment = found.record.experiment
        current = found.epochs[-1]
        lag = self._lag if state.steering is None else 2 * self._lag
        moments = [] if due_at is None else [due_at]
        if state.n_decisions_in_force > 0:
            moments.append(current.started_at + longest_epoch(state))
        for window in {metric.window for metric in experiment.metrics} - {None}:
            closings = (end + lag + window for end in ends_of(found.epochs) if window is not None)
            moments.extend(sorted(moment for moment in closings if moment > state.now)[:1])
        if experiment.half_life is not None:
            moments.append(state.now + experiment.half_life / 50)
        if experiment.limits.maximum_step_per_hour is not None:
            moments.append(state.now + _STEP_PAUSE)
        if experiment.limits.warm_up_duration is not None:
            deadlines = (
                state.first_seen_at[arm] + experiment.limits.warm_up_duration for arm in current.shares
            )
            moments.extend(deadline for deadline in deadlines if deadline > state.now)
        return max(min(moments), state.now + timedelta(milliseconds=50)) if moments else None

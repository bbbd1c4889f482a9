"""Synchronisation with the store: flushing counts, loading changes, and beginning epochs."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import structlog

from bandit.decision_id import new_id
from server.services.background.timekeeping import Timekeeper
from server.services.choose.decision_counter import DecisionCounter
from server.services.errors import StorageUnavailableError
from server.services.experiments.allocator import Allocator
from server.services.runtime.async_store import AsyncStore, Thread
from server.services.runtime.clock import Clock
from server.services.runtime.service_time import MOST_AHEAD_MS
from server.services.runtime.writer import Writer, claim_slot
from server.services.signing_keys.rotation import SigningKeys
from server.services.snapshot.snapshot import Snapshot
from server.store.errors import (
    OutdatedError,
    RunEndedError,
    StoreBrokenError,
    StoreError,
    WriterUnknownError,
)
from server.store.records import Changes

_CLAIM_SECONDS: Final = 10.0
"""How often a writer reports that it lives, where others could take its slot."""

_RELOAD_SECONDS: Final = 60.0
"""How often everything is loaded again where others write, in case a database was restored meanwhile."""

log = structlog.get_logger()


class StoreSync:
    """Keeps snapshot, counts and epochs up to date. Belongs to the event loop's thread.

    Args:
        store: The store to synchronise with.
        snapshot: The experiments that Choose reads.
        counter: The decisions that Choose counted.
        writer: This run's registration with the store.
        allocator: Begins epochs.
        clock: The time.
        on_broken: Called when durability can't be promised any more.
        keys: Kept up to date with the store's ring; None where no decision is signed.
        timekeeper: Reads the clock with each poll; None if `clock` needs no readings.
    """

    def __init__(
        self,
        store: AsyncStore,
        snapshot: Snapshot,
        counter: DecisionCounter,
        writer: Writer,
        allocator: Allocator,
        clock: Clock,
        *,
        on_broken: Callable[[], None],
        keys: SigningKeys | None = None,
        timekeeper: Timekeeper | None = None,
    ) -> None:
        self._keys = keys
        self._timekeeper = timekeeper
        self._store = store
        self._store_for_calls = store.for_calls
        self._snapshot = snapshot
        self._counter = counter
        self._writer = writer
        self._allocator = allocator
        self._clock = clock
        self._on_broken = on_broken
        self._loading: asyncio.Task[None] | None = None
        self._load_after: asyncio.Task[None] | None = None
        self._claim_at = clock.monotonic() + _CLAIM_SECONDS
        self._reload_at = clock.monotonic()
        self._is_outdated = False
        self._unreadable: set[int] = set()
        self.is_store_away = False

    async def refresh(self) -> None:
        """Load the state of the store at the time of this call, or later. Concurrent calls share a load.

        Raises:
            StorageUnavailableError: The store can't be reached.
        """
        if self._load_after is None:
            self._load_after = asyncio.create_task(self._load_next(self._loading))
        await asyncio.shield(self._load_after)

    async def flush(self) -> None:
        """Add the decisions counted so far to the facts.

        Raises:
            StoreError: The counts are kept, and sent again by the next flush.
        """
        # First the flush that was left in doubt, then the counts since, with units in portions.
        for _ in range(self._counter.n_flushes):
            unsent = self._counter.next_flush(new_id(self._clock.time_ms() + MOST_AHEAD_MS, 0))
            if unsent is None:
                return
            try:
                flush = await self._store.run(Thread.WRITE, unsent.send)
            except WriterUnknownError:  # this run was silent for so long that the store forgot it
                await self._claim_slot()
                if self._writer.incarnation != unsent.head.incarnation:
                    return
                flush = await self._store.run(Thread.WRITE, unsent.send)
            except RunEndedError:  # silent for so long that its decisions are settled as uncounted
                await self._claim_slot()
                return
            self._counter.settle(flush)
            await self._allocator.mark_decided(unsent.experiment_to_n_drawn)

    async def end_run(self) -> None:
        """Flush, and record that this run ended with all its decisions counted.

        Raises:
            StoreError: It failed; another server will look for lost counts.
        """
        await self.flush()
        await self._store.end_cleanly(self._writer.incarnation, self._clock.now())

    async def poll(self, seconds: float) -> None:
        """Flush and refresh every `seconds`, forever."""
        await self.repeat(self.poll_once, seconds)

    async def poll_once(self) -> None:
        """Read the clock, flush and refresh.

        They run concurrently, so that a writer that waits for a lock does not age the snapshot.
        """
        if self._keys is not None:
            self._keys.turn()
        outcomes = await asyncio.gather(
            self._look_at_clock(), self._write_once(), self.refresh(), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        # Noted here and not by the allocator, whose pass may have had nothing to do.
        flaw = self._store.flaw
        self._note_store(is_away=flaw is not None, error=flaw)

    async def allocate(self, seconds: float) -> None:
        """Begin epochs every `seconds`, forever, for at most a quarter of the time."""
        await self.repeat(partial(self._allocator.run_once, seconds / 4), seconds)

    async def end(self) -> None:
        """Cancel loads in progress, before the threads that they need end."""
        loads = [load for load in (self._loading, self._load_after) if load is not None]
        for load in loads:
            load.cancel()
        await asyncio.gather(*loads, return_exceptions=True)

    async def _write_once(self) -> None:
        await self.flush()
        if self._store.is_shared and self._clock.monotonic() >= self._claim_at:
            await self._claim_slot()

    async def _look_at_clock(self) -> None:
        if self._timekeeper is not None:
            await self._timekeeper.look()

    async def _claim_slot(self) -> None:
        """Report that this writer is alive, and take another slot if its own was given away."""
        before = self._writer.slot
        await claim_slot(self._store, self._writer, self._clock, begin_run=self._counter.begin_run)
        if self._writer.slot != before:
            log.warning("slot.changed", before=before, now=self._writer.slot)
        self._claim_at = self._clock.monotonic() + _CLAIM_SECONDS

    async def repeat(self, step: Callable[[], Awaitable[None]], seconds: float) -> None:
        """Run `step` every `seconds`, forever, whatever it raises except StoreBrokenError."""
        while True:
            began_at = self._clock.monotonic()
            try:
                await step()
            except StoreBrokenError as error:
                log.error("upkeep.store_broken", error=str(error))  # noqa: TRY400 - the text is enough
                self._on_broken()
                return
            except OutdatedError as error:
                self._note_outdated(error)
            except (StoreError, StorageUnavailableError) as error:
                self._note_store(is_away=True, error=error)
            except Exception:
                log.exception("upkeep.failed")
            await asyncio.sleep(max(seconds - (self._clock.monotonic() - began_at), seconds / 10))

    def _note_outdated(self, error: OutdatedError) -> None:
        """Log once that a newer release prevents this server from changing anything."""
        if not self._is_outdated:
            log.error("server.outdated", error=str(error))
        self._is_outdated = True

    def _note_unknown(self, changes: Changes) -> None:
        """Log the experiments of a newer release that this one can read only in part, or not at all."""
        for number, name in changes.unreadable.items():
            if number not in self._unreadable:
                self._unreadable.add(number)
                log.error("experiment.unreadable", experiment=name, advice="replace this server")
        for live in changes.live:
            if live.record.unknown and self._snapshot.find_live(live.record.number) != live:
                log.error(
                    "experiment.not_understood",
                    experiment=live.record.name,
                    unknown=live.record.unknown,
                    advice="the champion answers here: replace this server",
                )

    def _note_store(self, *, is_away: bool, error: object = None) -> None:
        """Log when the store becomes unavailable, and when it is back."""
        if is_away and not self.is_store_away:
            log.warning("store.away", error=str(error))
        elif self.is_store_away and not is_away:
            log.info("store.back")
        self.is_store_away = is_away

    async def _load_next(self, before: "asyncio.Task[None] | None") -> None:
        """Wait for the load in progress, whose result may be too old, then load."""
        if before is not None:
            await asyncio.wait([before])
        self._loading, self._load_after = self._load_after, None
        asked_at = self._clock.monotonic()
        is_whole = self._store.is_shared and asked_at >= self._reload_at
        since = None if is_whole else self._snapshot.watermark
        changes = await self._store_for_calls.load_changes(since)
        if self._keys is not None and self._store.is_shared:
            await self._keys.refresh()
        if is_whole:
            self._reload_at = asked_at + _RELOAD_SECONDS
        self._note_unknown(changes)
        self._allocator.mark_changed(self._snapshot.apply(changes, asked_at))

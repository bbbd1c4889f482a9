"""Timekeeping: reads the clock with each poll, logs changes, and records beats in the database."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

import structlog

from server.services.runtime.async_store import AsyncStore, Thread
from server.services.runtime.service_time import Change, ServiceClock
from server.store.contract import Store
from server.store.records import ClockBeat, ClockReading

_MEMORY: Final = timedelta(days=30)
"""How long the store remembers a silent writer."""

_FORGET_SECONDS: Final = 3_600.0
_MOST_BETWEEN_BEATS: Final = timedelta(seconds=60)
"""A longer silence, of a stopped process, does not count as running without doubt."""

_MEANINGS: Final = {
    Change.DOUBTED: "nothing new that depends on the clock is begun until it agrees with service time",
    Change.AGREED: "the clock agrees with service time again",
    Change.FOLLOWED: "the clock was consistent for long enough; service time follows it",
    Change.SETTLED: "the clock was consistent for long enough; late rewards are refused for good again",
    Change.ACCEPTED: "an operator accepted the clock",
}

log = structlog.get_logger()


class Timekeeper:
    """Reads the clock for a `ServiceClock`. Belongs to the event loop's thread.

    Args:
        store: Has the clock that is read, and the record of it.
        clock: Service time.
        trust_after: How long servers must have run since an instant was marked before it is trusted.

    Attributes:
        on_jump: Called when service time was set, so that anything waiting for an instant looks again.
        on_doubt: Called with whether there is doubt, when that changes.
    """

    def __init__(self, store: AsyncStore, clock: ServiceClock, *, trust_after: timedelta) -> None:
        self._store = store
        self._clock = clock
        self._trust_after = trust_after
        self._last_beat = clock.monotonic()
        self._beat_at = clock.monotonic()
        self._forget_at = clock.monotonic() + _FORGET_SECONDS
        self.on_jump: Callable[[], None] = lambda: None
        self.on_doubt: Callable[[bool], Awaitable[None]] | None = None

    async def look(self) -> None:
        """Read the clock, and beat if it is time.

        Raises:
            StoreError: The store can't be reached; service time continues.
        """
        await self.read()
        if self._clock.monotonic() >= self._beat_at:
            await self._beat()

    async def read(self) -> None:
        """Read the clock and set service time by it; StoreError if it can't be read."""
        was_doubted = self._clock.is_doubted
        reading, asked_at, answered_at = await self._store.run(Thread.READ, self._read_clock)
        changes = self._clock.take(reading, asked_at, answered_at)
        for change in changes:
            self._log(change)
        if self._clock.is_doubted is not was_doubted:
            self._beat_at = self._clock.monotonic()
            if self.on_doubt is not None:
                await self.on_doubt(self._clock.is_doubted)
        if changes:
            self.on_jump()

    def _read_clock(self, store: Store) -> tuple[ClockReading, float, float]:
        """Return a reading, and the monotonic times before and after it."""
        asked_at = self._clock.monotonic()
        reading = store.read_clock(self._clock.host.now(), self._trust_after)
        return reading, asked_at, self._clock.monotonic()

    async def _beat(self) -> None:
        """Record how long there was no doubt since the last beat, or by how much the clock differs."""
        record = self._clock.record
        if record is None:
            return
        now = self._clock.monotonic()
        since = self._clock.free_since
        seconds = 0.0 if since is None else max(now - max(since, self._last_beat), 0.0)
        beat = ClockBeat(
            generation=record.generation,
            now=self._clock.now(),
            running=min(timedelta(seconds=seconds), _MOST_BETWEEN_BEATS),
            mark=self._clock.next_mark,
            doubt=self._clock.offset if self._clock.is_doubted else None,
        )
        await self._store.beat_clock(beat, self._trust_after)
        self._last_beat = now
        self._beat_at = now + self._clock.pace.beat.total_seconds()
        await self._forget_writers(now)

    async def _forget_writers(self, now: float) -> None:
        trusted = self._clock.trusted_until()
        if now >= self._forget_at and trusted is not None:
            await self._store.forget_writers(trusted - _MEMORY)
            self._forget_at = now + _FORGET_SECONDS

    def _log(self, change: Change) -> None:
        if change is Change.BEGAN:
            if not self._clock.is_settled:
                log.info(
                    "clock.unsettled",
                    seconds=self._clock.pace.settle.total_seconds(),
                    meaning="the clock is far from when the database was last written; for now, late rewards "
                    "get UNAVAILABLE, and nothing is purged",
                )
            return
        write = log.warning if change is Change.DOUBTED else log.info
        write(
            f"clock.{change}",
            offset_seconds=round(self._clock.offset.total_seconds(), 3),
            service_time=self._clock.now().isoformat(),
            meaning=_MEANINGS[change],
        )

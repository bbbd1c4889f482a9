"""Retention: seals epochs whose decisions have long expired, and purges their rows from the reward log.

Old events of experiments are purged, too, once a day.

A run goes over the experiments and seals the epochs that are due. Once every writer knows of the seals, it
goes over the log in the order of decisions, in small transactions, with pauses that leave the writer to
rewards. A run that ends early, with the process or the store, is finished by a later one.
"""

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import structlog

from bandit.decision_id import new_id
from server.services.runtime.async_store import AsyncStore
from server.services.runtime.clock import Clock
from server.store.records import SealedEpochs

_PAGE: Final = 200
"""Experiments in one read."""

_ROWS: Final = 1_000
"""Rows of the log that one transaction reads."""

_REST: Final = 2.0
"""How long a purge pauses after a transaction, as a multiple of the transaction's duration."""

_MARGIN: Final = timedelta(days=1)
"""How far beyond the times of the sealed epochs the log is read, for clocks that disagree."""

_WHOLE_EVERY_SECONDS: Final = 86_400.0
"""How often the whole log is read, for rows that the margin missed or a killed run left."""

_FIRST_ID: Final = bytes(16)

log = structlog.get_logger()


class _Stretch(NamedTuple):
    """A range of decision ids: from `start`, below `end`."""

    start: bytes
    end: bytes


class Purger:
    """Keeps the reward log small. Belongs to the event loop's thread.

    Args:
        store: Has the log.
        clock: The time.
        retention: How long an epoch's rows are kept after its last decision has expired.
        event_retention: How long events are kept; None for good.

    Attributes:
        n_rows: Rows that this run of the server has purged.
        n_epochs: Epochs that it has sealed.
    """

    def __init__(
        self,
        store: AsyncStore,
        clock: Clock,
        *,
        retention: timedelta,
        event_retention: timedelta | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._retention = retention
        self._event_retention = event_retention
        self._waiting: list[SealedEpochs] = []
        self._whole_at = float("-inf")
        self.n_rows = 0
        self.n_epochs = 0

    async def run_once(self) -> None:
        """Seal and purge what is due by the latest trusted instant, so that no wrong clock purges.

        Raises:
            StoreError: Completed steps stay done; the next run continues.
        """
        now = self._clock.trusted_until()
        if now is None:
            return
        self._waiting += await self._seal(now)
        if not await self._store.settle_seals():
            return  # a transaction is still open: the next run purges
        is_whole = self._clock.monotonic() >= self._whole_at
        if not is_whole and not self._waiting:
            return
        began_at = self._clock.monotonic()
        n_rows = await self._sweep(self._stretch(now, is_whole=is_whole))
        n_revisions = await self._store.purge_configurations(now - self._retention)
        n_events = 0
        if is_whole:
            n_events = await self._purge_events(now)
            self._whole_at = began_at + _WHOLE_EVERY_SECONDS
        n_epochs = sum(each.last - each.first + 1 for each in self._waiting)
        self._waiting.clear()
        if n_rows or n_epochs or n_revisions or n_events:
            log.info(
                "log.purged",
                rows=n_rows,
                epochs=n_epochs,
                revisions=n_revisions,
                events=n_events,
                seconds=round(self._clock.monotonic() - began_at, 3),
            )

    async def _seal(self, now: datetime) -> list[SealedEpochs]:
        """Seal the epochs that are due, a page of experiments at a time; return them."""
        sealed: list[SealedEpochs] = []
        after: int | None = 0
        while after is not None:
            found, after = await self._store.find_sealable(after, _PAGE, now, self._retention)
            if found:
                await self._store.seal(found, now)
                self.n_epochs += sum(each.last - each.first + 1 for each in found)
                sealed += found
        return sealed

    async def _purge_events(self, now: datetime) -> int:
        """Purge the events whose retention is over; return their number."""
        if self._event_retention is None:
            return 0
        n_events, n_purged = 0, _ROWS
        while n_purged == _ROWS:
            began_at = self._clock.monotonic()
            n_purged = await self._store.purge_events(now - self._event_retention, _ROWS)
            n_events += n_purged
            await asyncio.sleep(_REST * (self._clock.monotonic() - began_at))
        return n_events

    def _stretch(self, now: datetime, *, is_whole: bool) -> _Stretch:
        """Return the ids among which sealed rows are: all were decided before now minus the retention."""
        end = _id_of(now - self._retention + _MARGIN)
        if is_whole:
            return _Stretch(_FIRST_ID, end)
        start = _id_of(min(each.began_at for each in self._waiting) - _MARGIN)
        return _Stretch(start, min(end, max(_last_ids(self._waiting))))

    async def _sweep(self, stretch: _Stretch) -> int:
        """Purge the sealed rows of a stretch; return their number."""
        n_rows = 0
        start: bytes | None = stretch.start
        while start is not None and start < stretch.end:
            began_at = self._clock.monotonic()
            step = await self._store.purge(start, stretch.end, _ROWS)
            n_rows += step.n_rows
            self.n_rows += step.n_rows
            start = step.next_id
            await asyncio.sleep(_REST * (self._clock.monotonic() - began_at))
        return n_rows


def _last_ids(sealed: list[SealedEpochs]) -> Iterator[bytes]:
    """Yield for each range an id above those of its decisions, as far as clocks agree."""
    for each in sealed:
        yield new_id(int.from_bytes(each.before[:6]) + _MARGIN // timedelta(milliseconds=1), 0)


def _id_of(instant: datetime) -> bytes:
    return new_id(max(int(instant.timestamp() * 1000), 0), 0)

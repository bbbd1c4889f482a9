"""Events of experiments, read in pages, and news of them for those who watch.

Each watcher reads for itself, when it wants the next page. One look at the store for all of them tells
which have something to read.
"""

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

from bandit.validation import namespace_of
from server.services.errors import ExperimentNotFoundError
from server.services.runtime.async_store import AsyncStore
from server.store.records import Event, EventCursor

_LOOKED_AT: Final = 1_000
"""Events in one look; with more than that, further looks follow at once."""

Position: TypeAlias = int | EventCursor | None
"""How far a reader has got: a number, where the events are of one experiment; None at the beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """Which events somebody reads.

    Attributes:
        experiment: Only those of the experiment of this name; None for all.
        namespaces: Only those of experiments in one of these; None for all. Of no effect with `experiment`.
    """

    experiment: str | None = None
    namespaces: Collection[str] | None = None

    def wants(self, name: str) -> bool:
        """True if the events of the experiment of this name are among those."""
        if self.experiment is not None:
            return name == self.experiment
        return self.namespaces is None or namespace_of(name) in self.namespaces


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsRead:
    """A page of events.

    Attributes:
        events: Those of each experiment in order.
        position: Where the next page begins.
        has_more: Whether there is one already.
    """

    events: tuple[Event, ...]
    position: Position
    has_more: bool


class EventFeed:
    """Events, and news of them. Belongs to the event loop's thread.

    Args:
        store: Has the events.
    """

    def __init__(self, store: AsyncStore) -> None:
        self._store = store
        self._for_calls = store.for_calls
        self._watchers: dict[asyncio.Event, EventQuery] = {}
        self._cursor: EventCursor | None = None

    async def read(self, query: EventQuery, position: Position, limit: int) -> EventsRead:
        """Return at most `limit` events beyond a position, which must be of a query of the same kind.

        Raises:
            ExperimentNotFoundError: There is and was no experiment of the query's name.
        """
        if query.experiment is None:
            cursor = position if isinstance(position, EventCursor) else None
            page = await self._for_calls.read_events_since(cursor, limit, query.namespaces)
            return EventsRead(events=page.events, position=page.cursor, has_more=page.has_more)
        after = position if isinstance(position, int) else 0
        found = await self._for_calls.list_events(query.experiment, after, limit + 1)
        if found is None:
            raise ExperimentNotFoundError(query.experiment)
        events = tuple(found[:limit])
        last = events[-1].sequence if events else after
        return EventsRead(events=events, position=last, has_more=len(found) > limit)

    @contextmanager
    def watching(self, query: EventQuery) -> Iterator[asyncio.Event]:
        """Yield what is set when there may be news; clear it before reading, not after."""
        news = asyncio.Event()
        self._watchers[news] = query
        try:
            yield news
        finally:
            del self._watchers[news]

    async def look(self) -> None:
        """Look for news, if anybody waits for any; StoreError if the store does not answer."""
        if not self._watchers:
            self._cursor = None
            return
        if self._cursor is None:
            self._cursor = await self._store.read_event_cursor()
            for news in self._watchers:  # something may have happened after they have read
                news.set()
            return
        has_more = True
        while has_more:
            page = await self._store.read_events_since(self._cursor, _LOOKED_AT)
            self._cursor, has_more = page.cursor, page.has_more
            self._tell({event.name for event in page.events})

    def _tell(self, names: Collection[str]) -> None:
        for news, query in self._watchers.items():
            if any(map(query.wants, names)):
                news.set()

"""The part of a store that keeps what happened to experiments.

The methods that change experiments write the events, in the transaction of the change; see
`ExperimentStore`. Threads, atomicity, ownership and failure are those of `server.store.contract`.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from datetime import datetime

from server.store.records import Event, EventCursor, EventPage


class EventStore(ABC):
    """The part of a store that keeps what happened to experiments."""

    @abstractmethod
    def list_events(self, experiment: str, after: int, limit: int) -> list[Event] | None:
        """At most `limit` events of the experiment of this name, in order, those with numbers beyond `after`.

        Numbers have no gaps, but the oldest events may have been purged. Events outlive their experiment.

        Returns:
            None if no experiment has or had this name.
        """

    @abstractmethod
    def read_events_since(
        self, cursor: EventCursor | None, limit: int, namespaces: Collection[str] | None = None
    ) -> EventPage:
        """At most `limit` events that were not read up to a cursor, those of each experiment in order.

        A reader that hands on the cursor of each page misses nothing, however late it was committed, and gets
        nothing twice. A cursor that is ahead of the database, which was restored, begins at the beginning.

        Args:
            cursor: That of the page before; None for all events that are kept.
            limit: How many.
            namespaces: Only those of experiments in one of these namespaces.
        """

    @abstractmethod
    def read_event_cursor(self) -> EventCursor:
        """The cursor of a reader that wants only what is committed from now on."""

    @abstractmethod
    def purge_events(self, before: datetime, limit: int) -> int:
        """Delete at most `limit` events that happened before an instant; return how many there were.

        Their numbers are not used again.
        """

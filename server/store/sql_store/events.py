"""Events in a SQL database; see `EventStore` for the contract."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection
from typing_extensions import override

from server.store.columns.times import to_micros
from server.store.contract.events import EventStore
from server.store.records import Event, EventCursor, EventPage
from server.store.sql_store.part import SqlPart
from server.store.tables import events


class SqlEventStore(SqlPart, EventStore):
    """Reads and purges events."""

    @override
    def list_events(self, experiment: str, after: int, limit: int) -> list[Event] | None:
        return self._dialect.read(lambda c: events.list_page(c, experiment, after, limit))

    @override
    def read_events_since(
        self, cursor: EventCursor | None, limit: int, namespaces: Collection[str] | None = None
    ) -> EventPage:
        def read(connection: Connection) -> EventPage:
            watermark = self._dialect.read_watermark(connection)
            return events.read_since(connection, cursor, limit, namespaces, watermark)

        return self._dialect.read(read)

    @override
    def read_event_cursor(self) -> EventCursor:
        return self._dialect.read(lambda c: events.read_cursor(c, self._dialect.read_watermark(c)))

    @override
    def purge_events(self, before: datetime, limit: int) -> int:
        return self._dialect.write(lambda c: events.purge(c, to_micros(before), limit))

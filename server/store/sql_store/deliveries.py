"""Deliveries to webhooks in a SQL database; see `DeliveryStore` for the contract."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection
from typing_extensions import override

from server.store.contract.deliveries import DeliveryStore
from server.store.records import Delivery, DeliveryState, EventCursor, EventPage
from server.store.sql_store.part import SqlPart
from server.store.tables import events
from server.store.tables.events import deliveries


class SqlDeliveryStore(SqlPart, DeliveryStore):
    """Keeps what webhooks have not taken, by the clock that servers share."""

    @override
    def begin_endpoint(self, endpoint: str) -> EventCursor:
        def begin(connection: Connection) -> EventCursor:
            self._dialect.lock_name(connection, f"webhook {endpoint}")
            now_at = events.read_cursor(connection, self._dialect.read_watermark(connection))
            return deliveries.begin(connection, endpoint, now_at)

        return self._dialect.write(begin)

    @override
    def queue_deliveries(
        self, endpoint: str, before: EventCursor, page: EventPage, now: datetime
    ) -> EventCursor:
        def queue(connection: Connection) -> EventCursor:
            at = self._dialect.read_clock(connection, now)
            return deliveries.queue(connection, endpoint, before, page, at)

        return self._dialect.write(queue)

    @override
    def find_due(self, endpoint: str, limit: int, now: datetime) -> Sequence[Delivery]:
        def find(connection: Connection) -> Sequence[Delivery]:
            return deliveries.find_due(connection, endpoint, limit, self._dialect.read_clock(connection, now))

        return self._dialect.read(find)

    @override
    def claim_delivery(self, due: Delivery, lease: timedelta, now: datetime) -> Delivery | None:
        def claim(connection: Connection) -> Delivery | None:
            until = self._dialect.read_clock(connection, now) + _micros(lease)
            return deliveries.claim(connection, due, until)

        return self._dialect.write(claim)

    @override
    def remove_delivery(self, taken: Delivery) -> None:
        self._dialect.write(lambda c: deliveries.remove(c, taken))

    @override
    def note_failure(
        self, tried: Delivery, error: str, *, pause: timedelta, patience: timedelta, now: datetime
    ) -> DeliveryState | None:
        def note(connection: Connection) -> DeliveryState | None:
            at = self._dialect.read_clock(connection, now)
            return deliveries.note_failure(
                connection, tried, error, next_at=at + _micros(pause), dead_if_before=at - _micros(patience)
            )

        return self._dialect.write(note)

    @override
    def list_deliveries(self, limit: int, state: DeliveryState | None = None) -> Sequence[Delivery]:
        return self._dialect.read(lambda c: deliveries.list_some(c, limit, state))

    @override
    def revive_deliveries(
        self, endpoint: str, now: datetime, *, experiment: str | None = None, sequence: int | None = None
    ) -> int:
        def revive(connection: Connection) -> int:
            at = self._dialect.read_clock(connection, now)
            return deliveries.revive(connection, endpoint, at, experiment, sequence)

        return self._dialect.write(revive)


def _micros(length: timedelta) -> int:
    return length // timedelta(microseconds=1)

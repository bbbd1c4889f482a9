"""Deliveries of events in SQL: a row for each event that an endpoint has not taken."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, insert, select, tuple_, update
from sqlalchemy.sql.elements import ColumnElement

from server.store.columns.times import from_micros, to_micros
from server.store.records import Delivery, DeliveryState, EventCursor, EventPage, SeenEvent
from server.store.tables.events.rows import to_event
from server.store.tables.schema import deliveries, events, experiments, webhook_endpoints

_EVENT = and_(events.c.experiment == deliveries.c.experiment, events.c.sequence == deliveries.c.sequence)
_OF_DELIVERY = (
    deliveries.c.endpoint,
    deliveries.c.state,
    deliveries.c.attempts,
    deliveries.c.queued_at,
    deliveries.c.next_at,
    deliveries.c.last_error,
)
_WHOLE = (
    select(*_OF_DELIVERY, events, experiments.c.name)
    .select_from(deliveries)
    .join(events, _EVENT)
    .join(experiments, experiments.c.number == deliveries.c.experiment)
)


def begin(connection: Connection, endpoint: str, now_at: EventCursor) -> EventCursor:
    """The stored cursor of an endpoint; `now_at` from now on if there is none."""
    stored = _find_cursor(connection, endpoint)
    if stored is None:
        stored = _to_text(now_at)
        connection.execute(insert(webhook_endpoints).values(name=endpoint, cursor=stored))
    return _from_text(stored)


def queue(
    connection: Connection, endpoint: str, before: EventCursor, page: EventPage, now: int
) -> EventCursor:
    """Queue a page; see `DeliveryStore.queue_deliveries`."""
    moved = connection.execute(
        update(webhook_endpoints)
        .where(webhook_endpoints.c.name == endpoint, webhook_endpoints.c.cursor == _to_text(before))
        .values(cursor=_to_text(page.cursor))
    )
    if moved.rowcount != 1:
        return _from_text(_find_cursor(connection, endpoint) or _to_text(before))
    shared = {"endpoint": endpoint, "state": DeliveryState.WAITING, "attempts": 0}
    times = {"queued_at": now, "next_at": now}
    wanted = [(event.experiment, event.sequence) for event in page.events]
    key = tuple_(deliveries.c.experiment, deliveries.c.sequence)
    known = select(deliveries.c.experiment, deliveries.c.sequence).where(
        deliveries.c.endpoint == endpoint, key.in_(wanted)
    )
    queued = {tuple(row) for row in connection.execute(known)}  # where a restored database is read anew
    rows = [
        shared | times | {"experiment": experiment, "sequence": sequence}
        for experiment, sequence in wanted
        if (experiment, sequence) not in queued
    ]
    if rows:
        connection.execute(insert(deliveries), rows)
    return page.cursor


def find_due(connection: Connection, endpoint: str, limit: int, now: int) -> Sequence[Delivery]:
    """The first waiting delivery of each experiment, if its time has come; see `DeliveryStore.find_due`."""
    earlier = deliveries.alias()
    is_behind = (
        select(earlier.c.sequence)
        .where(
            earlier.c.endpoint == deliveries.c.endpoint,
            earlier.c.experiment == deliveries.c.experiment,
            earlier.c.sequence < deliveries.c.sequence,
            earlier.c.state == DeliveryState.WAITING,
        )
        .exists()
    )
    query = _WHOLE.where(
        deliveries.c.endpoint == endpoint,
        deliveries.c.state == DeliveryState.WAITING,
        deliveries.c.next_at <= now,
        ~is_behind,
    )
    return _read(connection, query.order_by(deliveries.c.next_at, deliveries.c.experiment).limit(limit))


def claim(connection: Connection, due: Delivery, until: int) -> Delivery | None:
    """Count an attempt; see `DeliveryStore.claim_delivery`."""
    result = connection.execute(
        update(deliveries).where(*_as_it_was(due)).values(attempts=due.attempts + 1, next_at=until)
    )
    if result.rowcount != 1:
        return None
    (claimed,) = _read(connection, _WHOLE.where(*_key(due)))
    return claimed


def remove(connection: Connection, taken: Delivery) -> None:
    """Forget a delivery."""
    connection.execute(delete(deliveries).where(*_key(taken)))


def note_failure(
    connection: Connection, tried: Delivery, error: str, *, next_at: int, dead_if_before: int
) -> DeliveryState | None:
    """Note a failed attempt; it is dead if it was queued before an instant."""
    queued_at = select(deliveries.c.queued_at).where(*_as_it_was(tried))
    found = connection.execute(queued_at).scalar()
    if found is None:
        return None
    state = DeliveryState.DEAD if found < dead_if_before else DeliveryState.WAITING
    connection.execute(
        update(deliveries).where(*_as_it_was(tried)).values(state=state, next_at=next_at, last_error=error)
    )
    return state


def list_some(connection: Connection, limit: int, state: DeliveryState | None) -> Sequence[Delivery]:
    """At most `limit` deliveries; see `DeliveryStore.list_deliveries`."""
    query = _WHOLE if state is None else _WHOLE.where(deliveries.c.state == state)
    order = deliveries.c.endpoint, experiments.c.name, deliveries.c.sequence
    return _read(connection, query.order_by(*order).limit(limit))


def revive(
    connection: Connection, endpoint: str, now: int, experiment: str | None, sequence: int | None
) -> int:
    """Let dead deliveries be tried again; see `DeliveryStore.revive_deliveries`."""
    wanted = [deliveries.c.endpoint == endpoint, deliveries.c.state == DeliveryState.DEAD]
    if experiment is not None:
        number = select(experiments.c.number).where(experiments.c.name == experiment)
        wanted.append(deliveries.c.experiment == number.scalar_subquery())
    if sequence is not None:
        wanted.append(deliveries.c.sequence == sequence)
    values = {"state": DeliveryState.WAITING, "attempts": 0, "queued_at": now, "next_at": now}
    return connection.execute(update(deliveries).where(*wanted).values(**values)).rowcount


def _key(delivery: Delivery) -> tuple[ColumnElement[bool], ...]:
    return (
        deliveries.c.endpoint == delivery.endpoint,
        deliveries.c.experiment == delivery.event.experiment,
        deliveries.c.sequence == delivery.event.sequence,
    )


def _as_it_was(delivery: Delivery) -> tuple[ColumnElement[bool], ...]:
    """The row of a delivery, unless it was claimed or revived since it was read."""
    return (
        *_key(delivery),
        deliveries.c.state == DeliveryState.WAITING,
        deliveries.c.attempts == delivery.attempts,
        deliveries.c.next_at == to_micros(delivery.next_at),
    )


def _find_cursor(connection: Connection, endpoint: str) -> str | None:
    query = select(webhook_endpoints.c.cursor).where(webhook_endpoints.c.name == endpoint)
    return connection.execute(query).scalar()


def _to_text(cursor: EventCursor) -> str:
    return json.dumps([cursor.watermark, [list(each) for each in cursor.seen]], separators=(",", ":"))


def _from_text(text: str) -> EventCursor:
    watermark, seen = json.loads(text)
    return EventCursor(watermark, tuple(SeenEvent(*each) for each in seen))


def _read(connection: Connection, query: Any) -> list[Delivery]:
    return [_to_delivery(row) for row in connection.execute(query)]


def _to_delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        endpoint=row.endpoint,
        event=to_event(row),
        state=DeliveryState(row.state),
        attempts=row.attempts,
        queued_at=from_micros(row.queued_at),
        next_at=from_micros(row.next_at),
        last_error=row.last_error,
    )

"""Events in SQL: appended in the transaction of what happened, and numbered for each experiment without gaps.

The number comes from the experiment's row, which the transaction locks until its end. So an event that can be
read has all earlier ones of its experiment before it.

Readers of many experiments go by `version`, that of the writing transaction, so that they miss none that was
committed late. Two transactions of one experiment may have got their versions in another order than the row,
so an event takes the version of the one before it if that is higher: by version, too, the events of an
experiment are in the order of their numbers.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, case, delete, func, insert, select, tuple_, update

from server.store.columns.times import from_micros, to_micros
from server.store.records import Event, EventCursor, EventPage, NewEvent, SeenEvent
from server.store.tables import audit
from server.store.tables.schema import deliveries, events, experiments

MOST_SEEN: Final = 500
"""The most experiments of which a cursor notes the last event. More have events beyond the watermark only
while some transaction of the database server has been open for long; a reader gets them when it has ended."""

_NAMED: Final = select(events, experiments.c.name).join(
    experiments, experiments.c.number == events.c.experiment
)


def append(
    connection: Connection,
    experiment: int,
    happened: Sequence[NewEvent],
    version: ColumnElement[int],
    *,
    at: datetime,
    revision: int,
    epoch: int | None = None,
) -> None:
    """Add events to those of an experiment, in order.

    Until the transaction ends, no other one changes the experiment.

    Args:
        connection: Inside the transaction of what happened.
        experiment: The experiment's number.
        happened: The events; nothing is done without any.
        version: That of the transaction; see `Dialect.version`.
        at: When it happened.
        revision: The experiment's revision after it.
        epoch: The epoch that began with it, if one did.
    """
    if not happened:
        return
    last, own_version = connection.execute(
        update(experiments)
        .where(experiments.c.number == experiment)
        .values(event_sequence=experiments.c.event_sequence + len(happened), version=version)
        .returning(experiments.c.event_sequence, experiments.c.version)
    ).one()
    first = last - len(happened) + 1
    before = select(events.c.version).where(events.c.experiment == experiment, events.c.sequence == first - 1)
    shared = {
        "experiment": experiment,
        "version": max(own_version, connection.execute(before).scalar() or 0),
        "at": to_micros(at),
        "revision": revision,
        "epoch": epoch,
    }
    rows = [
        shared | _to_values(event) | {"sequence": sequence} for sequence, event in enumerate(happened, first)
    ]
    connection.execute(insert(events), rows)


def list_page(connection: Connection, name: str, after: int, limit: int) -> list[Event] | None:
    """At most `limit` events of an experiment; see `EventStore.list_events`."""
    number = connection.execute(select(experiments.c.number).where(experiments.c.name == name)).scalar()
    if number is None:
        return None
    query = _NAMED.where(events.c.experiment == number, events.c.sequence > after)
    return list(map(to_event, connection.execute(query.order_by(events.c.sequence).limit(limit))))


def read_since(
    connection: Connection,
    cursor: EventCursor | None,
    limit: int,
    namespaces: Collection[str] | None,
    watermark: int,
) -> EventPage:
    """At most `limit` events beyond a cursor; see `EventStore.read_events_since`.

    Args:
        connection: Inside a transaction that sees one snapshot.
        cursor: As there.
        limit: As there.
        namespaces: As there.
        watermark: That of the snapshot; see `Dialect.read_watermark`.
    """
    if cursor is not None and cursor.watermark > watermark:
        cursor = None  # of a database from which this one was restored, or which was restored to this one
    query = audit.within(_NAMED, experiments.c.name, namespaces)
    if cursor is not None:
        query = query.where(events.c.version >= cursor.watermark)
    if cursor is not None and cursor.seen:
        seen = {each.experiment: each.sequence for each in cursor.seen}
        query = query.where(events.c.sequence > case(seen, value=events.c.experiment, else_=0))
    order = events.c.version, events.c.experiment, events.c.sequence
    rows = connection.execute(query.order_by(*order).limit(limit + 1)).all()
    has_more = len(rows) > limit
    if has_more:
        rows = rows[:limit]
        watermark = min(watermark, rows[-1].version)
    before = () if cursor is None else cursor.seen
    taken, seen_after = _take(rows, before, watermark)
    return EventPage(tuple(map(to_event, taken)), EventCursor(watermark, seen_after), has_more)


def read_cursor(connection: Connection, watermark: int) -> EventCursor:
    """The cursor of a reader that has all events of this snapshot, whose watermark is given."""
    last = select(events.c.experiment, func.max(events.c.sequence), func.max(events.c.version))
    beyond = last.where(events.c.version >= watermark).group_by(events.c.experiment)
    rows = connection.execute(beyond.order_by(func.min(events.c.version)).limit(MOST_SEEN))
    return EventCursor(watermark, tuple(SeenEvent(*row) for row in rows))


def _take(
    rows: Sequence[Row[Any]], before: Iterable[SeenEvent], watermark: int
) -> tuple[Sequence[Row[Any]], tuple[SeenEvent, ...]]:
    """Return the first rows whose experiments a cursor can note, and what it then notes."""
    seen = {each.experiment: each for each in before if each.version >= watermark}
    for place, row in enumerate(rows):
        if row.version >= watermark:
            if row.experiment not in seen and len(seen) >= MOST_SEEN:
                return rows[:place], tuple(seen.values())
            seen[row.experiment] = SeenEvent(row.experiment, row.sequence, row.version)
    return rows, tuple(seen.values())


def repair_versions(connection: Connection, horizon: int) -> None:
    """Lower versions that this database can't have given yet, as after a restore to another server.

    Args:
        connection: Inside a transaction that writes.
        horizon: Beyond every version that was given; see `Dialect.read_horizon`.
    """
    highest = connection.execute(select(func.max(events.c.version))).scalar()
    if highest is not None and highest >= horizon:
        ahead = events.c.version >= horizon
        connection.execute(update(events).where(ahead).values(version=horizon - 1))


def purge(connection: Connection, before: int, limit: int) -> int:
    """Delete at most `limit` events from before an instant, with their deliveries; return their number."""
    old = select(events.c.experiment, events.c.sequence).where(events.c.at < before).limit(limit)
    keys = [tuple(row) for row in connection.execute(old)]
    if keys:
        key = tuple_(events.c.experiment, events.c.sequence)
        connection.execute(delete(events).where(key.in_(keys)))
        delivered = tuple_(deliveries.c.experiment, deliveries.c.sequence)
        connection.execute(delete(deliveries).where(delivered.in_(keys)))
    return len(keys)


def _to_values(event: NewEvent) -> dict[str, Any]:
    return {
        "kind": event.kind,
        "arm": event.arm,
        "actor": event.actor,
        "request_id": event.request_id,
        "reason": event.reason,
        "figures": json.dumps(event.figures, separators=(",", ":"), allow_nan=False),
    }


def to_event(row: Row[Any]) -> Event:
    """The event in a row that has its columns, and the experiment's name."""
    return Event(
        kind=row.kind,
        arm=row.arm,
        actor=row.actor,
        request_id=row.request_id,
        reason=row.reason,
        figures=json.loads(row.figures),
        experiment=row.experiment,
        name=row.name,
        sequence=row.sequence,
        at=from_micros(row.at),
        revision=row.revision,
        epoch=row.epoch,
    )

"""The clock in SQL: one row that every server reads with each poll, and beats into once a minute."""

import json
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from server.store.columns.times import from_micros, to_micros
from server.store.records import Action, ClockBeat, ClockReading, ClockRecord
from server.store.tables import audit
from server.store.tables.schema import clock, clock_marks, experiments, writers

_MICROSECOND: Final = timedelta(microseconds=1)
_FAR_AHEAD: Final = timedelta(minutes=2) // _MICROSECOND
"""By more than this, the last beat was not made by another server of the same time."""

_SAMPLES: Final = 8
"""The mark is kept this often in the time after which it is trusted."""


def read(connection: Connection, at: int, trust_after: timedelta) -> ClockReading:
    """The record of the clock, with its reading in microseconds since 1970."""
    row = connection.execute(select(clock)).one()
    newest = select(func.max(clock_marks.c.mark)).where(
        clock_marks.c.running <= row.running - trust_after // _MICROSECOND
    )
    trusted = connection.execute(newest).scalar_one()
    return ClockReading(
        at=from_micros(at),
        record=ClockRecord(
            generation=row.generation,
            mark=from_micros(row.mark),
            trusted=from_micros(trusted),
            running=row.running * _MICROSECOND,
            beat_at=from_micros(row.beat_at),
            doubt=None if row.doubt is None else row.doubt * _MICROSECOND,
            doubted_at=from_micros(row.doubted_at),
        ),
        last_seen=from_micros(_last_seen(connection)) if row.mark is None else None,
    )


def beat(connection: Connection, said: ClockBeat, trust_after: timedelta) -> None:
    """See `ClockStore.beat_clock`."""
    row = _lock(connection)
    if row.generation != said.generation:
        return
    now = to_micros(said.now)
    if said.doubt is not None:
        _change(connection, {"doubt": said.doubt // _MICROSECOND, "doubted_at": now})
        return
    last = row.beat_at
    if last is not None and last > now + _FAR_AHEAD:
        last = None  # a clock that was ahead said it, and is right again
    since = max(now - last, 0) if last is not None else now
    running = row.running + min(said.running // _MICROSECOND, since)
    values = {"running": running, "beat_at": max(now, last or 0), "doubt": None, "doubted_at": None}
    if said.mark is not None:
        mark = values["mark"] = max(to_micros(said.mark), row.mark or 0)
        _keep_mark(connection, running, mark, trust_after // _MICROSECOND)
    _change(connection, values)


def accept(connection: Connection, at: int, reason: str, caller: str) -> None:
    """See `ClockStore.accept_clock`."""
    row = _lock(connection)
    connection.execute(delete(clock_marks).where(clock_marks.c.mark > at))
    _change(
        connection,
        {"generation": row.generation + 1, "mark": at, "beat_at": at, "doubt": None, "doubted_at": None},
    )
    before = {"mark": None if row.mark is None else from_micros(row.mark).isoformat()}
    after = {"mark": from_micros(at).isoformat(), "reason": reason}
    audit.write(
        connection,
        from_micros(at),
        caller,
        Action.ACCEPT_CLOCK,
        before=json.dumps(before),
        after=json.dumps(after),
    )


def _lock(connection: Connection) -> Row[Any]:
    return connection.execute(select(clock).with_for_update()).one()


def _change(connection: Connection, values: dict[str, int | None]) -> None:
    connection.execute(update(clock).values(values))


def _keep_mark(connection: Connection, running: int, mark: int, trust_after: int) -> None:
    """Keep the mark if the last one kept is old enough, and forget those that are never asked for again."""
    last, trusted = connection.execute(
        select(
            func.max(clock_marks.c.running),
            func.max(clock_marks.c.running).filter(clock_marks.c.running <= running - trust_after),
        )
    ).one()
    if last is None or running - last >= max(trust_after // _SAMPLES, 1):
        connection.execute(insert(clock_marks).values(running=running, mark=mark))
    if trusted is not None:
        connection.execute(delete(clock_marks).where(clock_marks.c.running < trusted))


def _last_seen(connection: Connection) -> int | None:
    """When an experiment last changed or a server last lived; None if no experiment ever was."""
    changed = connection.execute(select(func.max(experiments.c.updated_at))).scalar_one()
    lived = connection.execute(select(func.max(writers.c.seen_at))).scalar_one()
    return None if changed is None else max(changed, lived or changed)

"""Writers in SQL: runs of servers, each with a slot of its own, so that they never queue on one hot row.

A slot says in which rows of the facts a writer counts. Two writers in one slot would still add up, and
whether a flush was added stands in its writer's own row; so a writer that was taken for dead loses its slot
only.
"""

from datetime import timedelta
from typing import Final

from sqlalchemy import Connection, delete, func, insert, select, update

from bandit.decision_id import run_of
from server.store.errors import RunEndedError, RunTakenError, WriterUnknownError
from server.store.records import Flush, WriterState
from server.store.tables.schema import ended_runs, writers
from server.version import VERSION

EXPIRY: Final = timedelta(seconds=60)
"""A writer that has not renewed its slot for this long may lose it."""

_MICROSECOND: Final = timedelta(microseconds=1)


def read_all(connection: Connection) -> list[WriterState]:
    """Every run that is remembered."""
    columns = [writers.c[name] for name in WriterState._fields]
    return [WriterState(*row) for row in connection.execute(select(*columns).order_by(writers.c.slot))]


def count_old(connection: Connection, since: int) -> int:
    """How many runs of code before 0.3.0 were seen since an instant."""
    query = select(func.count()).where(writers.c.code.is_(None), writers.c.seen_at >= since)
    return connection.execute(query).scalar_one()


def renew(connection: Connection, incarnation: bytes, now: int) -> int | None:
    """Note that a writer lives; return its slot, None if it has none."""
    return connection.execute(
        update(writers)
        .where(writers.c.incarnation == incarnation, writers.c.slot.is_not(None))
        .values(seen_at=now)
        .returning(writers.c.slot)
    ).scalar_one_or_none()


def claim(connection: Connection, incarnation: bytes, now: int, *, is_shared: bool, decided_ms: int) -> int:
    """The lowest slot that no live writer has; the caller keeps other claims waiting.

    RunTakenError if another run, or one that ended, has the bits that stand for this one in ids.

    Args:
        connection: Inside a transaction.
        incarnation: Random mark of the writer's run.
        now: Microseconds since 1970, on a clock that writers share.
        is_shared: Whether others may live; otherwise every other writer is dead.
        decided_ms: A time, as the ids of its decisions have it, before which none was made that counts.
    """
    others = writers.c.incarnation != incarnation
    is_dead = others & (writers.c.seen_at <= now - EXPIRY // _MICROSECOND) if is_shared else others
    connection.execute(update(writers).where(is_dead).values(slot=None))
    _require_free_run(connection, incarnation)
    taken = set(connection.execute(select(writers.c.slot).where(others)).scalars())
    slot = next(number for number in range(len(taken) + 1) if number not in taken)
    mine = writers.c.incarnation == incarnation
    if connection.execute(select(func.count()).where(mine)).scalar_one():
        connection.execute(update(writers).where(mine).values(slot=slot, seen_at=now, code=VERSION))
    else:
        connection.execute(
            insert(writers).values(
                incarnation=incarnation,
                slot=slot,
                sequence=0,
                seen_at=now,
                code=VERSION,
                flushed_ms=decided_ms,
            )
        )
    return slot


def _require_free_run(connection: Connection, incarnation: bytes) -> None:
    run = run_of(incarnation)
    others = connection.execute(select(writers.c.incarnation)).scalars()
    is_taken = any(run_of(each) == run for each in others if each != incarnation)
    if is_taken or connection.execute(select(ended_runs.c.run).where(ended_runs.c.run == run)).first():
        raise RunTakenError


def forget(connection: Connection, silent_since: int) -> None:
    """Forget writers without a slot that were silent since, unless what they counted may be asked for."""
    is_silent = writers.c.slot.is_(None) & (writers.c.seen_at <= silent_since)
    is_settled = writers.c.code.is_(None) | writers.c.ended_at.is_not(None)
    connection.execute(delete(writers).where(is_silent, is_settled))


def advance(connection: Connection, flush: Flush) -> bool:
    """Note that a writer's flush is added; False if it was before.

    WriterUnknownError if the writer is not known; RunEndedError if its decisions are settled as not counted.
    """
    mine = writers.c.incarnation == flush.incarnation
    is_new = writers.c.ended_at.is_(None) & (writers.c.sequence < flush.sequence)
    noted = update(writers).where(mine, is_new)
    values = {"sequence": flush.sequence, "flushed_ms": flush.decided_ms}
    if connection.execute(noted.values(**values)).rowcount == 1:
        return True
    row = connection.execute(select(writers.c.sequence, writers.c.ended_at).where(mine)).one_or_none()
    if row is None:
        raise WriterUnknownError
    if row.sequence < flush.sequence:
        raise RunEndedError
    return False

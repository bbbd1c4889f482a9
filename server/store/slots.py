"""Slots: which writer counts in which rows of the facts, so that writers never queue on one hot row.

A slot is only a place. Two writers in one would still add up, and whether a flush was added is told by its
writer's own row; so a writer that was taken for dead loses its slot, and nothing else.
"""

from datetime import timedelta
from typing import Final

from sqlalchemy import Connection, delete, func, insert, select, update

from server.store.errors import WriterUnknownError
from server.store.schema import writers

EXPIRY: Final = timedelta(seconds=60)
"""A writer that did not claim its slot for so long may lose it."""

_MICROSECOND: Final = timedelta(microseconds=1)


def renew(connection: Connection, incarnation: bytes, now: int) -> int | None:
    """Says that a writer lives; returns its slot, None if it has none."""
    return connection.execute(
        update(writers)
        .where(writers.c.incarnation == incarnation, writers.c.slot.is_not(None))
        .values(seen_at=now)
        .returning(writers.c.slot)
    ).scalar_one_or_none()


def claim(connection: Connection, incarnation: bytes, now: int, *, is_shared: bool) -> int:
    """The lowest slot that no live writer has; the caller keeps other claims waiting.

    Args:
        connection: Inside a transaction.
        incarnation: Random mark of the writer's run.
        now: Microseconds since 1970, on a clock that writers share.
        is_shared: Whether others may live; otherwise every other writer is dead.
    """
    others = writers.c.incarnation != incarnation
    is_dead = others & (writers.c.seen_at <= now - EXPIRY // _MICROSECOND) if is_shared else others
    connection.execute(update(writers).where(is_dead).values(slot=None))
    taken = set(connection.execute(select(writers.c.slot).where(others)).scalars())
    slot = next(number for number in range(len(taken) + 1) if number not in taken)
    mine = writers.c.incarnation == incarnation
    if connection.execute(select(func.count()).where(mine)).scalar_one():
        connection.execute(update(writers).where(mine).values(slot=slot, seen_at=now))
    else:
        connection.execute(
            insert(writers).values(incarnation=incarnation, slot=slot, sequence=0, seen_at=now)
        )
    return slot


def forget(connection: Connection, silent_since: int) -> None:
    """Forgets writers without a slot that were not heard of since."""
    is_silent = writers.c.slot.is_(None) & (writers.c.seen_at <= silent_since)
    connection.execute(delete(writers).where(is_silent))


def advance(connection: Connection, incarnation: bytes, sequence: int) -> bool:
    """Notes that a writer's flush is added; False if it was before.

    WriterUnknownError if that can't be told.
    """
    mine = writers.c.incarnation == incarnation
    is_new = update(writers).where(mine, writers.c.sequence < sequence).values(sequence=sequence)
    if connection.execute(is_new).rowcount == 1:
        return True
    if connection.execute(select(func.count()).where(mine)).scalar_one() == 0:
        raise WriterUnknownError
    return False

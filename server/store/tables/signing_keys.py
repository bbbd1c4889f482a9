"""The keys that sign decisions, in SQL: adopted by the first server, and taking turns when rotated.

A new key is in the table some time before it signs, so that every server has it by then. A key that signed
stays, so that its decisions are known; when no id is left, the one that ended first gives up its own.
"""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, delete, func, insert, select, update

from server.store.columns.times import from_micros, to_micros
from server.store.errors import KeysNotReadyError
from server.store.records import KeyRing
from server.store.tables.schema import signing_keys

_N_IDS: Final = 256
"""The id is one byte of a decision id."""


def read(connection: Connection) -> KeyRing | None:
    """The ring; None if there is none yet."""
    rows = connection.execute(select(signing_keys)).all()
    if not rows:
        return None
    newest = next(row for row in rows if row.is_signing)
    return KeyRing(
        {row.id: row.secret for row in rows},
        newest.id,
        {row.id: from_micros(row.signs_at) for row in rows if row.signs_at is not None},
    )


def insert_all(connection: Connection, ring: KeyRing) -> KeyRing:
    """Store a whole ring."""
    for key, secret in ring.secrets.items():
        connection.execute(
            insert(signing_keys).values(
                id=key,
                secret=secret,
                is_signing=key == ring.signing_key,
                signs_at=to_micros(ring.signs_at.get(key)),
            )
        )
    return ring


def rotate(
    connection: Connection,
    ring: KeyRing,
    secret: bytes,
    now: datetime,
    *,
    delay: timedelta,
    ended_before: datetime | None,
) -> KeyRing:
    """Add a key that signs after `delay`; see `Store.rotate_keys`. The caller keeps others waiting."""
    if ring.signs_at and max(ring.signs_at.values()) > now:
        raise KeysNotReadyError("the last rotation is still being distributed to all servers")
    key = _free_id(ring, ended_before)
    old = ring.signing_key
    began_at = func.coalesce(signing_keys.c.signs_at, 0)
    is_old = signing_keys.c.id == old
    connection.execute(update(signing_keys).where(is_old).values(is_signing=False, signs_at=began_at))
    connection.execute(delete(signing_keys).where(signing_keys.c.id == key))
    connection.execute(
        insert(signing_keys).values(
            id=key,
            secret=secret,
            is_signing=True,
            signs_at=to_micros(now + delay),
        )
    )
    rotated = read(connection)
    assert rotated is not None  # noqa: S101 - it was stored just now
    return rotated


def revoke(connection: Connection, ring: KeyRing, key: int, now: datetime) -> KeyRing:
    """Take out a key; see `Store.revoke_key`. The caller keeps others waiting."""
    if key in {ring.signing_key, ring.signing_key_at(now)}:
        raise KeysNotReadyError(f"key {key} signs decisions; rotate first, and revoke it then")
    connection.execute(delete(signing_keys).where(signing_keys.c.id == key))
    left = read(connection)
    assert left is not None  # noqa: S101 - the key that signs is there
    return left


def _free_id(ring: KeyRing, ended_before: datetime | None) -> int:
    """An id that no key has, else that of the key that ended first, if that was early enough."""
    for step in range(1, _N_IDS):
        key = (ring.signing_key + step) % _N_IDS
        if key not in ring.secrets:
            return key
    ends = {key: end for key in ring.secrets if (end := ring.signed_until(key)) is not None}
    oldest = min(ends, key=lambda key: ends[key], default=None)
    if oldest is None or ended_before is None or ends[oldest] > ended_before:
        raise KeysNotReadyError("all 256 key ids have decisions that are still accepted")
    return oldest

"""SQLite: one process, one writer connection, and a commit that has reached the disk.

WAL with `synchronous=FULL`: with NORMAL, a power cut loses acknowledged rewards. Two writing processes would
starve each other, so the file has an owner, by a lock that the kernel drops with the process.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from server.store.errors import (
    RowRefusedError,
    SchemaError,
    StoreBrokenError,
    StoreError,
    StoreFullError,
    StoreInUseError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from server.store.rewards import Row, RowKey, Standing, Touched

_Item = TypeVar("_Item")

OLDEST: Final = (3, 35, 0)
"""The first SQLite with RETURNING."""

_N_READERS: Final = 2
_UPSERT: Final = """
    INSERT INTO rewards (decision, metric, experiment, epoch, segment, arm, basis,
                         quanta, revision, is_late, is_apart, received_ms)
    VALUES {rows}
    ON CONFLICT (decision, metric) DO UPDATE SET
        replaced_quanta = rewards.quanta, quanta = excluded.quanta, revision = excluded.revision
    WHERE excluded.revision > rewards.revision
    RETURNING decision, metric, replaced_quanta, is_late, is_apart
"""
_FIND: Final = """
    SELECT decision, metric, quanta, revision FROM rewards WHERE (decision, metric) IN (VALUES {rows})
"""
_LARGEST_CHUNK: Final = 512


def create_engines(url: URL) -> tuple[Engine, Engine]:
    """The engine of the one writer and that of the readers.

    Raises:
        StoreUnavailableError: The SQLite library is too old.
    """
    if sqlite3.sqlite_version_info < OLDEST:
        raise StoreUnavailableError(
            f"SQLite {sqlite3.sqlite_version} is too old: "
            f"this Python must come with {'.'.join(map(str, OLDEST))} or later"
        )
    writer = _create_engine(url, 1, "BEGIN IMMEDIATE")
    return writer, _create_engine(url, _N_READERS, "BEGIN")


def _create_engine(url: URL, n_connections: int, begin: str) -> Engine:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=n_connections,
        max_overflow=0,
        connect_args={"timeout": 5.0, "check_same_thread": False, "cached_statements": 256},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # transactions begin where the listener below says
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


class FileLock:
    """Makes this process the owner of a database file, until `release` or the end of the process.

    The lock is on a file beside the database that is never deleted: locking the database itself would clash
    with SQLite's own locks.

    Raises:
        StoreInUseError: Another process owns it.
        StoreUnavailableError: The folder does not exist or can't be written.
    """

    def __init__(self, database: Path) -> None:
        file = database.resolve()  # a link to it is the same file
        path = file.with_name(file.name + ".lock")
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreUnavailableError(f"can't open {path}: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(self._descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            raise StoreInUseError(str(database), owner) from None
        os.truncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Lets another process own the file. May be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def upsert_rewards(connection: Connection, rows: Sequence[Row]) -> Mapping[RowKey, Touched]:
    """Inserts rows with distinct keys, or replaces those with a lower revision; returns what it touched."""
    touched: dict[RowKey, Touched] = {}
    for chunk in _chunks(rows):
        for decision, metric, replaced, is_late, is_apart in _execute(connection, _UPSERT, chunk):
            touched[decision, metric] = Touched(replaced, bool(is_late), bool(is_apart))
    return touched


def find_rewards(connection: Connection, keys: Sequence[RowKey]) -> Mapping[RowKey, Standing]:
    """Reads rows by key."""
    found: dict[RowKey, Standing] = {}
    for chunk in _chunks(keys):
        for decision, metric, quanta, revision in _execute(connection, _FIND, chunk):
            found[decision, metric] = Standing(quanta, revision)
    return found


def _execute(
    connection: Connection, statement: str, chunk: Sequence[tuple[object, ...]]
) -> list[tuple[Any, ...]]:
    """Runs a statement over rows of values on the driver itself: a Row costs more than SQLite does."""
    cursor = connection.connection.cursor()
    try:
        cursor.execute(
            statement.format(rows=_placeholders(len(chunk), len(chunk[0]))),
            tuple(chain.from_iterable(chunk)),
        )
        return list(cursor.fetchall())
    finally:
        cursor.close()


def _chunks(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    """Cuts into pieces whose lengths are powers of two, so that a few statements serve all."""
    start = 0
    while start < len(items):
        length = min(_LARGEST_CHUNK, 1 << (len(items) - start).bit_length() - 1)
        yield items[start : start + length]
        start += length


@lru_cache(maxsize=64)
def _placeholders(n_rows: int, n_columns: int) -> str:
    row = "(" + ",".join("?" * n_columns) + ")"
    return ",".join([row] * n_rows)


_ERRORS: Final[Mapping[int, type[StoreError]]] = {
    sqlite3.SQLITE_FULL: StoreFullError,
    sqlite3.SQLITE_READONLY: StoreReadOnlyError,
    sqlite3.SQLITE_IOERR: StoreBrokenError,
    sqlite3.SQLITE_CORRUPT: StoreBrokenError,
    sqlite3.SQLITE_NOTADB: SchemaError,
    sqlite3.SQLITE_CONSTRAINT: RowRefusedError,
    sqlite3.SQLITE_TOOBIG: RowRefusedError,
    sqlite3.SQLITE_MISMATCH: RowRefusedError,
}
_EXPLANATIONS: Final[Mapping[type[StoreError], str]] = {
    StoreFullError: "no room left for the database",
    StoreReadOnlyError: "the database can't be written",
    StoreBrokenError: "a write to stable storage failed, or the database is damaged",
    SchemaError: "the file is not a database of this service",
    RowRefusedError: "the database refused a value",
}


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turns the driver's errors into the store's; their texts hold no SQL and no path."""
    try:
        yield
    except (DBAPIError, sqlite3.Error, OverflowError) as error:
        kind = _kind_of(error.orig if isinstance(error, DBAPIError) else error)
        raise kind(_EXPLANATIONS.get(kind, "the database can't be reached")) from error


def _kind_of(error: BaseException | None) -> type[StoreError]:
    """The store's error for one of the driver's; a whole number beyond 64 bits is an OverflowError there."""
    if isinstance(error, OverflowError | sqlite3.IntegrityError | sqlite3.DataError):
        return RowRefusedError
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return _ERRORS.get(code & 0xFF, StoreUnavailableError)

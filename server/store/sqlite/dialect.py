"""SQLite: one process, one writer connection, and a commit that has reached the disk.

WAL with `synchronous=FULL`: with NORMAL, a power cut loses acknowledged rewards. Two writing processes would
starve each other, so the file has an owner, by a lock that the kernel drops with the process.
"""

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, func, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool
from typing_extensions import override

from server.store.columns.times import to_micros
from server.store.dialect import ENDED_RUNS, KEYS, N_READERS, SEALS, Dialect, RowsStatement
from server.store.errors import (
    RowRefusedError,
    SchemaError,
    StoreBrokenError,
    StoreError,
    StoreFullError,
    StorePlaceError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from server.store.records import Bounds
from server.store.sqlite.file_lock import FileLock
from server.store.sqlite.files import FilesInPlace, require_own_log
from server.store.sqlite.places import (
    file_of,
    is_unchanging,
    require_no_log,
    require_ownable,
    require_readable,
    shown,
    url_of_unchanging,
)
from server.store.tables.schema import experiments

_Item = TypeVar("_Item")

OLDEST: Final = (3, 35, 0)
"""The first SQLite with RETURNING."""

_OWNERS_PRAGMA: Final = "journal_mode=WAL"
"""Kept in the file: who only reads leaves it as it is."""

_PRAGMAS: Final = (
    "synchronous=FULL",
    "foreign_keys=ON",
    "temp_store=MEMORY",
    f"journal_size_limit={8 * 1024 * 1024}",  # a log that a long read made larger is cut when it can be
)
_SEALS: Final = SEALS.format(is_wanted="IN ({rows})")
_ENDED_RUNS: Final = ENDED_RUNS.format(is_wanted="IN ({rows})")
_LARGEST_CHUNK: Final = 512
_EMPTY_BYTES: Final = 4_096
"""A database without tables has one page, if any."""


class SqliteDialect(Dialect):
    """An SQLite file.

    Args:
        url: `sqlite:///FILE`.
        is_owner: Whether this process is to own the file; otherwise it must only read.

    Raises:
        StoreInUseError: Another process owns the file.
        SchemaError: The write-ahead log beside it is that of another database, or the file is no database.
        StorePlaceError: No database can be there, or none is there to read.
        StoreUnavailableError: The SQLite library is too old.
    """

    is_shared = False
    version = select(func.coalesce(func.max(experiments.c.version), 0) + 1).scalar_subquery()

    def __init__(self, url: URL, *, is_owner: bool) -> None:
        _require_library()
        file = file_of(url)
        if is_owner:
            require_ownable(file)
        else:
            require_readable(file)
        self._lock = FileLock(file) if is_owner else None
        self._made: Path | None = None
        try:
            require_own_log(file)
            self._unchanging = file if not is_owner and is_unchanging(file) else None
            if not file.exists():
                _create(file)
                self._made = file
        except BaseException:
            self._release()
            raise
        self._wal = file.with_name(file.name + "-wal")
        self._files = FilesInPlace(file)
        pragmas = (_OWNERS_PRAGMA, *_PRAGMAS) if is_owner else _PRAGMAS
        url = url.set(query={}) if self._unchanging is None else url_of_unchanging(file)
        self.writer = _create_engine(url, 1, "BEGIN IMMEDIATE", pragmas)
        self.reader = _create_engine(url, N_READERS, "BEGIN", pragmas)

    @override
    def close(self) -> None:
        super().close()
        self._release()

    @override
    def keep(self) -> None:
        if self._lock is not None:
            self._lock.is_kept = True

    def _release(self) -> None:
        """Give up the file; a start that failed takes away what it has made."""
        if self._lock is None:
            return
        if self._made is not None and not self._lock.is_kept:
            _delete_unless_used(self._made)
        self._lock.release()

    @property
    @override
    def wal_bytes(self) -> int | None:
        try:
            return self._wal.stat().st_size
        except FileNotFoundError:
            return 0

    @override
    @contextmanager
    def writing(self, *, is_long: bool = False) -> Iterator[Connection]:
        self._require_open()
        with _translated_errors(), self.writer.begin() as connection:
            yield connection
        self._files.check()

    @override
    @contextmanager
    def reading(self, *, is_long: bool = False) -> Iterator[Connection]:
        self._require_open()
        with _translated_errors(), self.reader.begin() as connection:
            yield connection
        if self._unchanging is not None:
            require_no_log(self._unchanging)

    @override
    def lock_schema(self, connection: Connection) -> None:
        """Nothing: the transaction of the one writer is alone."""

    @override
    def lock_tables(self, connection: Connection, *tables: Table) -> None:
        """Nothing: the transaction of the one writer is alone."""

    @override
    def lock_name(self, connection: Connection, name: str) -> None:
        """Nothing: the transaction of the one writer is alone."""

    @override
    def read_watermark(self, connection: Connection) -> int:
        return int(connection.execute(select(self.version)).scalar_one())

    @override
    def read_horizon(self, connection: Connection) -> int:
        return self.read_watermark(connection) + 1

    @override
    def lock_against_readers(self, connection: Connection, table: Table) -> None:
        """Nothing: rewards are recorded by the one writer."""

    @override
    def read_bounds(self, connection: Connection, experiments: Sequence[int], runs: Sequence[int]) -> Bounds:
        seals = _execute(connection, _SEALS, [(number,) for number in experiments])
        ended = _execute(connection, _ENDED_RUNS, [(run,) for run in runs])
        return Bounds.of_rows(seals, ended, connection.connection.cursor().execute(KEYS).fetchall())

    @override
    def read_clock(self, connection: Connection, now: datetime) -> int:
        return to_micros(now)

    @override
    def execute_rows(
        self, connection: Connection, statement: RowsStatement, rows: Sequence[tuple[Any, ...]]
    ) -> Sequence[Any]:
        return _execute(connection, statement.sql, rows)

    @override
    def check_integrity(self, connection: Connection) -> Sequence[str]:
        found = list(connection.exec_driver_sql("PRAGMA integrity_check").scalars())
        return [] if found == ["ok"] else found


def _create(file: Path) -> None:
    """Create an empty file that only its owner can read: the keys that sign decisions will be in it.

    SQLite gives its other files the same mode.
    """
    try:
        os.close(os.open(file, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StorePlaceError(
            f"can't create {shown(file)}: {(error.strerror or str(error)).lower()}"
        ) from error


def _delete_unless_used(file: Path) -> None:
    """Delete a database that was created, if nothing is in it."""
    with suppress(OSError):
        if file.stat().st_size <= _EMPTY_BYTES and not file.with_name(file.name + "-wal").exists():
            file.unlink()


def _require_library() -> None:
    if sqlite3.sqlite_version_info < OLDEST:
        raise StoreUnavailableError(
            f"SQLite {sqlite3.sqlite_version} is too old: "
            f"this Python must come with {'.'.join(map(str, OLDEST))} or later"
        )


def _create_engine(url: URL, n_connections: int, begin: str, pragmas: Sequence[str]) -> Engine:
    engine = create_engine(
        url,
        hide_parameters=True,
        poolclass=QueuePool,
        pool_size=n_connections,
        max_overflow=0,
        connect_args={"timeout": 5.0, "check_same_thread": False, "cached_statements": 256},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # transactions begin where the listener below says
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        # On the driver itself: through SQLAlchemy it took a small commit a fifth of its time.
        connection.connection.cursor().execute(begin)

    return engine


def _execute(connection: Connection, sql: str, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Run a statement over rows of values on the driver itself: a Row costs more than SQLite does."""
    found: list[tuple[Any, ...]] = []
    cursor = connection.connection.cursor()
    try:
        for chunk in _chunks(rows):
            values = tuple(chain.from_iterable(chunk))
            cursor.execute(_with_placeholders(sql, len(chunk), len(chunk[0])), values)
            found += cursor.fetchall()
    finally:
        cursor.close()
    return found


def _chunks(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    """Cut items into pieces whose lengths are powers of two, so that a few statements serve all."""
    start = 0
    while start < len(items):
        length = min(_LARGEST_CHUNK, 1 << (len(items) - start).bit_length() - 1)
        yield items[start : start + length]
        start += length


@lru_cache(maxsize=256)
def _with_placeholders(sql: str, n_rows: int, n_columns: int) -> str:
    """The statement for so many rows, made once: filling in a place took a small commit 5 % of its time."""
    row = "(" + ",".join("?" * n_columns) + ")"
    return sql.format(rows="VALUES " + ",".join([row] * n_rows))


_ERRORS: Final[Mapping[int, type[StoreError]]] = {
    sqlite3.SQLITE_FULL: StoreFullError,
    sqlite3.SQLITE_IOERR_SHMSIZE: StoreFullError,  # of the log's index, which has no data of its own
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

_ABSENCES: Final[Mapping[int, str]] = {
    sqlite3.SQLITE_CANTOPEN: "the database file can't be opened: is it a file, and may this user read it?",
    sqlite3.SQLITE_PERM: "the database file can't be opened: may this user read it?",
    sqlite3.SQLITE_BUSY: "another program has locked the database",
}


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Turn the driver's errors into the store's; their texts hold no SQL and no path."""
    try:
        yield
    except (DBAPIError, sqlite3.Error, OverflowError) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        kind = _kind_of(cause)
        raise kind(_EXPLANATIONS.get(kind) or _explain_absence(cause)) from error


def _explain_absence(cause: BaseException | None) -> str:
    """What keeps a file away, as far as SQLite tells."""
    code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    return _ABSENCES.get(code, "the database can't be reached")


def _kind_of(error: BaseException | None) -> type[StoreError]:
    """The store's error for one of the driver's; a whole number beyond 64 bits is an OverflowError there."""
    if isinstance(error, OverflowError | sqlite3.IntegrityError | sqlite3.DataError):
        return RowRefusedError
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return _ERRORS.get(code) or _ERRORS.get(code & 0xFF, StoreUnavailableError)

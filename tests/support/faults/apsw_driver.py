"""A driver for SQLAlchemy over apsw: the store's SQLite on a disk that a test controls.

Python's own `sqlite3` has no hook between SQLite and the file system; apsw has one. So this module replaces
the driver without the service noticing: its statements, pragmas and transactions run as they are, on an
SQLite that asks `tests.support.faults.disk` for every write and sync. Errors are `sqlite3`'s own, with the
codes that `sqlite3` would give them.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import apsw
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

_ERRORS: Final[dict[int, type[sqlite3.Error]]] = {
    apsw.SQLITE_CONSTRAINT: sqlite3.IntegrityError,
    apsw.SQLITE_MISMATCH: sqlite3.IntegrityError,
    apsw.SQLITE_TOOBIG: sqlite3.DataError,
    apsw.SQLITE_CORRUPT: sqlite3.DatabaseError,
    apsw.SQLITE_NOTADB: sqlite3.DatabaseError,
}


def drive_sqlalchemy(vfs: str) -> Callable[[], None]:
    """Make every SQLite engine created from now on open its files through this VFS; return the undo."""
    before = SQLiteDialect_pysqlite.import_dbapi
    driver = Driver(vfs)
    SQLiteDialect_pysqlite.import_dbapi = classmethod(lambda _: driver)  # type: ignore[assignment,method-assign]

    def undo() -> None:
        SQLiteDialect_pysqlite.import_dbapi = before  # type: ignore[method-assign]

    return undo


class Driver:
    """The module that SQLAlchemy takes for `sqlite3`; only its connections differ.

    Args:
        vfs: The name of the VFS that connections open files through.
    """

    def __init__(self, vfs: str) -> None:
        self._vfs = vfs
        self.sqlite_version_info = tuple(map(int, apsw.sqlite_lib_version().split(".")))

    def __getattr__(self, name: str) -> Any:
        return getattr(sqlite3, name)

    def connect(self, database: str, *, timeout: float = 5.0, **_: object) -> "DriverConnection":
        """Open a connection to a file."""
        return DriverConnection(database, self._vfs, timeout)


class DriverConnection:
    """A connection like one of `sqlite3`, with `isolation_level` None."""

    isolation_level: str | None = None

    def __init__(self, database: str, vfs: str, timeout: float) -> None:
        with _Translated():
            self._connection = apsw.Connection(database, vfs=vfs)
        self._connection.set_busy_timeout(int(timeout * 1000))

    def cursor(self) -> "DriverCursor":
        """Return a cursor."""
        return DriverCursor(self._connection)

    def create_function(self, name: str, n_arguments: int, function: Any, **_: object) -> None:
        """Create a function for SQL."""
        self._connection.create_scalar_function(name, function, n_arguments)

    def commit(self) -> None:
        """Commit the transaction, if there is one."""
        self._end("COMMIT")

    def rollback(self) -> None:
        """Roll the transaction back, if there is one."""
        self._end("ROLLBACK")

    def close(self) -> None:
        """Close the file."""
        with _Translated():
            self._connection.close()

    def _end(self, statement: str) -> None:
        if self._connection.in_transaction:
            with _Translated():
                self._connection.execute(statement)


class DriverCursor:
    """A cursor whose rows are all read when a statement returns."""

    arraysize = 1

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self._cursor.exec_trace = self._describe
        self._rows: Iterator[tuple[Any, ...]] = iter(())
        self.description: tuple[tuple[Any, ...], ...] | None = None
        self.rowcount = -1
        self.lastrowid = 0

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> "DriverCursor":
        """Run a statement."""
        self.rowcount = 0
        self._run(statement, parameters)
        return self

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> "DriverCursor":
        """Run a statement once for each row of parameters."""
        self.rowcount = 0
        for parameters in rows:
            self._run(statement, parameters)
        return self

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row."""
        return next(self._rows, None)

    def fetchmany(self, size: int = 1) -> list[tuple[Any, ...]]:
        """Return the next rows."""
        return [row for _, row in zip(range(size), self._rows, strict=False)]

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return the rows that are left."""
        return list(self._rows)

    def close(self) -> None:
        """Close the statement."""
        self._cursor.close()

    def _run(self, statement: str, parameters: Sequence[Any]) -> None:
        before = self._connection.total_changes()
        self.description = None
        with _Translated():
            self._rows = iter(list(self._cursor.execute(statement, tuple(parameters))))
        self.rowcount += self._connection.total_changes() - before
        self.lastrowid = self._connection.last_insert_rowid()

    def _describe(self, cursor: apsw.Cursor, _statement: str, _parameters: object) -> bool:
        columns = cursor.get_description()
        self.description = tuple((name, *[None] * 6) for name, _ in columns) or None
        return True


class _Translated:
    """Translates apsw's errors into those of `sqlite3`."""

    def __enter__(self) -> None:
        """Begins."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, apsw.Error):
            code = getattr(error, "extendedresult", 0) or getattr(error, "result", apsw.SQLITE_ERROR)
            translated = _ERRORS.get(code & 0xFF, sqlite3.OperationalError)(str(error))
            translated.sqlite_errorcode = code
            translated.sqlite_errorname = type(error).__name__
            raise translated from error

"""What differs between databases: transactions, locks, and statements over many rows.

`server.store.sql_store` says what a transaction does, and knows no database; a dialect says how one is begun,
repeated and given up, and how its errors are translated.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final, TypeAlias, TypeVar

from sqlalchemy import Column, ColumnElement, Connection, Engine, Table

from server.store.errors import StoreUnavailableError
from server.store.records import Bounds


@dataclass(frozen=True, eq=False, slots=True)
class RowsStatement:
    """A statement over any number of rows of values.

    Attributes:
        sql: The statement, with `{rows}` where a query of those rows stands.
        columns: The columns that the values are of, in order, those of the primary key first.
        is_write: Whether it locks rows, which it then does in key order, so that no two writers deadlock.
    """

    sql: str
    columns: Sequence[Column[Any]]
    is_write: bool


_Result = TypeVar("_Result")
Work: TypeAlias = Callable[[Connection], _Result]
"""What to do inside a transaction."""

N_READERS: Final = 4
"""Connections that read: one for each thread that does, see `server.services.runtime.async_store`."""

SEALS: Final = "SELECT experiment, segment, epoch, before FROM seals WHERE experiment {is_wanted}"
ENDED_RUNS: Final = "SELECT run, sequence, flushed_ms FROM ended_runs WHERE run {is_wanted}"
KEYS: Final = "SELECT id FROM signing_keys"
"""What `Dialect.read_bounds` asks, which comes before every commit of rewards."""


class Dialect(ABC):
    """One database, opened.

    Every method that takes a connection works inside its caller's transaction.

    Attributes:
        is_shared: Whether other processes may write while this one does.
        version: The version of a change made now, as an expression; see `read_watermark`.
        writer: The engine of the one connection that writes.
        reader: The engine of the connections that read.
    """

    is_shared: ClassVar[bool]
    version: ColumnElement[int]
    writer: Engine
    reader: Engine
    _is_closed: bool = False

    def close(self) -> None:
        """Close the connections, and give up the ownership of the database. May be called twice."""
        self._is_closed = True
        self.reader.dispose()
        self.writer.dispose()

    def keep(self) -> None:
        """Note that the database is in use: what was made to open it stays."""
        return

    @abstractmethod
    def writing(self, *, is_long: bool = False) -> AbstractContextManager[Connection]:
        """A transaction that is committed, durably, at the end of the block, and undone if the block raises.

        Args:
            is_long: Whether it may take minutes, as a migration may.

        Raises:
            StoreError: The database refused or could not be reached; the text holds no SQL and no address.
        """

    @abstractmethod
    def reading(self, *, is_long: bool = False) -> AbstractContextManager[Connection]:
        """A transaction that sees one snapshot and only reads. Otherwise as `writing`."""

    @property
    def wal_bytes(self) -> int | None:
        """Bytes of the write-ahead log on disk; None where the database keeps it to itself."""
        return None

    @property
    def flaw(self) -> str | None:
        """Why commits could be lost after they were acknowledged, as last read; None if they can't."""
        return None

    def _require_open(self) -> None:
        """Raise StoreUnavailableError once closed: an engine that was disposed of would connect again."""
        if self._is_closed:
            raise StoreUnavailableError("the store is closed")

    def write(self, work: Work[_Result], *, repeat: Work[_Result] | None = None) -> _Result:
        """Do work in a transaction of its own, again if that lost a race or its connection.

        Args:
            work: What to do; its result is handed on.
            repeat: What to do instead when the work may have been committed already; the work itself, if
                that is exact when repeated.
        """
        del repeat  # a file is not lost on the way
        with self.writing() as connection:
            return work(connection)

    def read(self, work: Work[_Result]) -> _Result:
        """Do work that only reads, in one snapshot, again if the connection was lost."""
        with self.reading() as connection:
            return work(connection)

    @abstractmethod
    def lock_schema(self, connection: Connection) -> None:
        """Keep other processes from migrating until the transaction ends; wait for one that does."""

    @abstractmethod
    def lock_tables(self, connection: Connection, *tables: Table) -> None:
        """Keep others from writing these tables until the transaction ends; wait for those that do."""

    @abstractmethod
    def lock_against_readers(self, connection: Connection, table: Table) -> None:
        """Keep others from reading a table until the transaction ends; wait for those that have read it.

        Raises:
            StoreUnavailableError: A transaction that has read it lasts too long for readers to wait.
        """

    @abstractmethod
    def lock_name(self, connection: Connection, name: str) -> None:
        """Keep others from locking this name until the transaction ends; wait for one that has."""

    @abstractmethod
    def read_watermark(self, connection: Connection) -> int:
        """A version such that every change not seen by this transaction has it or a later one.

        Every poll reads it, so a database that may cease to be durable is asked about that as well.
        """

    @abstractmethod
    def read_horizon(self, connection: Connection) -> int:
        """A version beyond that of every change that this transaction could see so far."""

    @abstractmethod
    def read_bounds(self, connection: Connection, experiments: Sequence[int], runs: Sequence[int]) -> Bounds:
        """What the log takes of these experiments, which of these runs have ended, and which keys may sign.

        The transaction has its version before it looks: see `server.store.tables.seals`. Until it ends,
        no run is ended: see `server.store.tables.ended_runs`.
        """

    @abstractmethod
    def read_clock(self, connection: Connection, now: datetime) -> int:
        """Microseconds since 1970 on the clock that all writers share; `now` if there is only one writer."""

    @abstractmethod
    def execute_rows(
        self, connection: Connection, statement: RowsStatement, rows: Sequence[tuple[Any, ...]]
    ) -> Sequence[Any]:
        """Run a statement over any number of sorted rows; return the rows that it gives, if any."""

    @abstractmethod
    def check_integrity(self, connection: Connection) -> Sequence[str]:
        """Defects that the database finds in its own files; empty if none."""

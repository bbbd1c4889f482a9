"""What differs between databases: how a transaction is made, kept apart from others, and named when it fails.

`server.store.sql_store` says what a transaction does, and knows no database; a dialect says how one is begun,
repeated and given up, and holds the few statements that no two databases write alike.
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
        is_write: Whether it locks rows, which it then takes in key order: no two writers wait in a circle.
    """

    sql: str
    columns: Sequence[Column[Any]]
    is_write: bool


_Result = TypeVar("_Result")
Work: TypeAlias = Callable[[Connection], _Result]
"""What to do inside a transaction."""

N_READERS: Final = 4
"""Connections that read: one for each thread that does, see `server.services.runtime.threads`."""

SEALS: Final = "SELECT experiment, segment, epoch, before FROM seals WHERE experiment {is_wanted}"
ENDED_RUNS: Final = "SELECT run, sequence, flushed_ms FROM ended_runs WHERE run {is_wanted}"
KEYS: Final = "SELECT id FROM signing_keys"
"""What `Dialect.read_bounds` asks, which comes before every commit of rewards."""


class Dialect(ABC):
    """One database, opened.

    Every method that takes a connection works inside the transaction of whoever calls it.

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
        """Drops the connections, and gives up what makes this process the owner. May be called twice."""
        self._is_closed = True
        self.reader.dispose()
        self.writer.dispose()

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
        """Why commits could be lost after they were acknowledged, as last heard; None if they can't."""
        return None

    def _require_open(self) -> None:
        """Raises StoreUnavailableError once closed: an engine that was disposed of would connect again."""
        if self._is_closed:
            raise StoreUnavailableError("the store is closed")

    def write(self, work: Work[_Result], *, repeat: Work[_Result] | None = None) -> _Result:
        """Does work in a transaction of its own, and again if that lost a race or its connection.

        Args:
            work: What to do; its result is handed on.
            repeat: What to do instead when the work may have been committed already; the work itself, if
                that is exact when repeated.
        """
        del repeat  # a file is not lost on the way
        with self.writing() as connection:
            return work(connection)

    def read(self, work: Work[_Result]) -> _Result:
        """Does work that only reads, in one snapshot, and again if the connection was lost."""
        with self.reading() as connection:
            return work(connection)

    @abstractmethod
    def lock_schema(self, connection: Connection) -> None:
        """Waits until no other process migrates, and keeps them waiting, until the transaction ends."""

    @abstractmethod
    def lock_tables(self, connection: Connection, *tables: Table) -> None:
        """Waits until nobody writes these tables, and keeps them waiting, until the transaction ends."""

    @abstractmethod
    def lock_against_readers(self, connection: Connection, table: Table) -> None:
        """Waits until nobody's transaction has read a table, and keeps readers waiting, until it ends.

        Raises:
            StoreUnavailableError: Somebody's transaction goes on for long, and readers must not wait for it.
        """

    @abstractmethod
    def lock_name(self, connection: Connection, name: str) -> None:
        """Waits until no other transaction that locked this name goes on, and keeps later ones waiting."""

    @abstractmethod
    def read_watermark(self, connection: Connection) -> int:
        """A version such that every change not seen by this transaction has it or a later one.

        Whoever polls asks for it, so a database that may cease to be durable is asked for that as well.
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
        """Runs a statement over any number of rows, sorted; returns the rows that it gives, if any."""

    @abstractmethod
    def check_integrity(self, connection: Connection) -> Sequence[str]:
        """What the database finds wrong with its own files; empty if nothing."""

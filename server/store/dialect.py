"""What differs between databases: how a transaction is made, kept apart from others, and named when it fails.

`server.store.sql_store` says what a transaction does, and knows no database; a dialect says how one is begun,
repeated and given up, and holds the few statements that no two databases write alike.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import ClassVar, NamedTuple, TypeAlias, TypeVar

from sqlalchemy import ColumnElement, Connection, Table

from server.store.errors import StoreUnavailableError
from server.store.records import (
    OutcomeEntry,
)
from server.store.records.bounds import Bounds
from server.store.tables.exact_sums import (
    STEP_BITS,
    quanta_of,
)


def logged_as(outcome: OutcomeEntry) -> tuple[int, int | None]:
    """The quanta of the log and the steps that an outcome has there."""
    if outcome.is_real:
        return quanta_of(outcome.quanta), outcome.quanta
    return outcome.quanta, None if outcome.value is None else outcome.quanta << STEP_BITS


UnitRow: TypeAlias = tuple[int, int, int, int, int, int, int]
"""The columns of `units`."""


RowKey: TypeAlias = tuple[bytes, int]
"""Decision and metric."""


Row: TypeAlias = tuple[
    bytes, int, int, int, int, int, int, int, int, bool, bool, int, int | None, float | None, int | None
]
"""The columns of `rewards` but for what was replaced."""


class Touched(NamedTuple):
    """A row that the upsert inserted or changed.

    Attributes:
        replaced_quanta: The value before; None if the row is new.
        is_late: Whether the row's first value was late; a revision stays on its side of the window.
        is_apart: Whether the row is kept apart.
        basis: Under which basis the row is counted: one that was there keeps its own.
        replaced_steps: The steps before; None if the row is new or had none.
    """

    replaced_quanta: int | None
    is_late: bool
    is_apart: bool
    basis: int
    replaced_steps: int | None = None


class StoredOutcome(NamedTuple):
    """A row as it stands."""

    quanta: int
    revision: int
    value: float | None = None
    steps: int | None = None

    def holds(self, outcome: OutcomeEntry) -> bool:
        """Whether it is of this value: as it was posted, or as it counts where only that is known."""
        if self.value is None or self.steps is None or quanta_of(self.steps) != self.quanta:
            return self.quanta == logged_as(outcome)[0]
        return self.value == (outcome.quanta if outcome.value is None else outcome.value)


_Result = TypeVar("_Result")
Work: TypeAlias = Callable[[Connection], _Result]
"""What to do inside a transaction."""


class Dialect(ABC):
    """One database, opened.

    Every method that takes a connection works inside the transaction of whoever calls it.

    Attributes:
        is_shared: Whether other processes may write while this one does.
        version: The version of a change made now, as an expression; see `read_watermark`.
    """

    is_shared: ClassVar[bool]
    version: ColumnElement[int]
    _is_closed: bool = False

    @abstractmethod
    def close(self) -> None:
        """Drops the connections, and gives up what makes this process the owner. May be called twice."""

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
        no run is ended: see `server.store.tables.uncounted`.
        """

    @abstractmethod
    def read_clock(self, connection: Connection, now: datetime) -> int:
        """Microseconds since 1970 on the clock that all writers share; `now` if there is only one writer."""

    @abstractmethod
    def upsert_rewards(self, connection: Connection, rows: Sequence[Row]) -> Mapping[RowKey, Touched]:
        """Inserts rows with distinct keys in key order, or replaces those with a lower revision.

        Returns:
            The rows that it inserted or changed.
        """

    @abstractmethod
    def find_rewards(self, connection: Connection, keys: Sequence[RowKey]) -> Mapping[RowKey, StoredOutcome]:
        """Reads rows by key, those included that others committed after the transaction began."""

    @abstractmethod
    def upsert_units(self, connection: Connection, rows: Sequence[UnitRow]) -> None:
        """Inserts rows with distinct keys in key order, or adds them to those that are there."""

    @abstractmethod
    def check_integrity(self, connection: Connection) -> Sequence[str]:
        """What the database finds wrong with its own files; empty if nothing."""

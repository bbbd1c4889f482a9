"""PostgreSQL: many processes, each with one writer connection, and transactions that are repeated when lost.

Writes are READ COMMITTED: every one of them is an increment, an insert, or an update on condition, in the
order of keys, so that a stricter level would only add failures. Reads see one snapshot.
"""

import os
import random
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, TypeVar, cast

import psycopg
from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, literal_column
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool
from typing_extensions import override

from server.store.dialect import ENDED_RUNS, KEYS, N_READERS, SEALS, Dialect, RowsStatement, Work
from server.store.errors import StorePlaceError
from server.store.postgresql.durability import Durability
from server.store.postgresql.errors import is_lost, is_worth_a_retry, translated_errors
from server.store.postgresql.reasons import secrets_of
from server.store.postgresql.rehearsal import require_usable
from server.store.postgresql.watchdog import Watchdog
from server.store.records import Bounds

_Result = TypeVar("_Result")

CALL_SECONDS: Final = 5.0
"""How long a transaction may take before the watchdog ends it; the server ends a statement sooner."""

_RETRY_SECONDS: Final = 2.0
"""A transaction that is lost later than this after its start is not repeated: the caller waits already."""

_MOST_ATTEMPTS: Final = 8
_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 0.3
_MIGRATION_LOCK: Final = int.from_bytes(b"bandit-a")
_NAMES_LOCK: Final = int.from_bytes(b"name")
_BOUNDS: Final[Mapping[str, int]] = {
    "statement_timeout": 4_000,
    "lock_timeout": 3_000,
    "idle_in_transaction_session_timeout": 10_000,
}
"""What the server ends by itself, in milliseconds."""

_OPTIONS: Final[Mapping[str, object]] = {
    "connect_timeout": 2,
    "tcp_user_timeout": 2000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "application_name": "bandit-server",
    "client_encoding": "utf8",  # whatever the environment says: from SQL_ASCII the driver would get bytes
}
_SYNTAX: Final = postgresql.dialect()  # type: ignore[no-untyped-call]
_READERS_MS: Final = 500
"""How long a lock against readers may be waited for, and they behind it."""

_WATERMARK: Final = """
    SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint, current_setting('fsync')
"""
_READ_BOUNDS: Final = f"""
    SELECT pg_current_xact_id(), current_setting('fsync');
    {SEALS.format(is_wanted="= ANY ('{{{numbers}}}'::bigint[])")};
    {ENDED_RUNS.format(is_wanted="= ANY ('{{{runs}}}'::integer[])")};
    {KEYS}
"""
"""Several statements: the later ones' snapshots are of moments at which the transaction has its version."""


class PostgresqlDialect(Dialect):
    """A PostgreSQL database.

    Args:
        url: `postgresql+psycopg://…`; what its query says is stronger than the options here.

    Raises:
        StorePlaceError: It has an option, a port or a file with which no connection can come about.
    """

    is_shared = True
    version = literal_column("pg_current_xact_id()::text::bigint")
    """The writing transaction's own number. A change that commits late has an early one: a sequence, or the
    largest version seen, would pass it by for ever; `read_watermark` does not."""

    def __init__(self, url: URL) -> None:
        params = _params_of(url)
        require_usable(params)
        self._secrets = secrets_of(params)
        self._watchdog = Watchdog()
        self._durability = Durability()
        self.writer = _create_engine(url, 1, self._durability, psycopg.IsolationLevel.READ_COMMITTED)
        self.reader = _create_engine(url, N_READERS, None, psycopg.IsolationLevel.REPEATABLE_READ)

    @override
    def close(self) -> None:
        super().close()
        self._watchdog.end()

    @property
    @override
    def flaw(self) -> str | None:
        return self._durability.flaw

    @override
    @contextmanager
    def writing(self, *, is_long: bool = False) -> Iterator[Connection]:
        self._durability.require()
        with translated_errors(self._secrets), self._transaction(self.writer, is_long=is_long) as connection:
            yield connection

    @override
    @contextmanager
    def reading(self, *, is_long: bool = False) -> Iterator[Connection]:
        with translated_errors(self._secrets), self._transaction(self.reader, is_long=is_long) as connection:
            if is_long:
                # Until tables are first analyzed the planner takes them for empty, and nests loops over all
                # units and outcomes: 10,000 units took more than 40 s, and take .1 s.
                connection.exec_driver_sql("SET LOCAL enable_nestloop = off")
            yield connection

    @override
    def write(self, work: Work[_Result], *, repeat: Work[_Result] | None = None) -> _Result:
        self._durability.require()
        return self._run(self.writer, work, repeat or work)

    @override
    def read(self, work: Work[_Result]) -> _Result:
        return self._run(self.reader, work, work)

    def _run(self, engine: Engine, work: Work[_Result], repeat: Work[_Result]) -> _Result:
        """Do the work, and again if its transaction was lost and there is time."""
        give_up_at = time.monotonic() + _RETRY_SECONDS
        pause = _FIRST_PAUSE
        with translated_errors(self._secrets):
            for _ in range(_MOST_ATTEMPTS - 1):
                try:
                    with self._transaction(engine) as connection:
                        return work(connection)
                except DBAPIError as error:
                    if time.monotonic() + pause > give_up_at or not is_worth_a_retry(error):
                        raise
                    work = repeat if is_lost(error) else work
                time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - two losers should not meet again
                pause = min(2 * pause, _LONGEST_PAUSE)
            with self._transaction(engine) as connection:
                return work(connection)

    @contextmanager
    def _transaction(self, engine: Engine, *, is_long: bool = False) -> Iterator[Connection]:
        self._require_open()
        with engine.connect() as connection:
            if is_long:
                with connection.begin():
                    for bound in _BOUNDS:
                        connection.exec_driver_sql(f"SET LOCAL {bound} = 0")
                    yield connection
            else:
                with self._watchdog.watching(connection.info["socket"], CALL_SECONDS), connection.begin():
                    yield connection

    @override
    def lock_schema(self, connection: Connection) -> None:
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))

    @override
    def lock_tables(self, connection: Connection, *tables: Table) -> None:
        names = ", ".join(table.name for table in tables)
        connection.exec_driver_sql(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE")

    @override
    def lock_name(self, connection: Connection, name: str) -> None:
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_NAMES_LOCK, name))

    @override
    def read_watermark(self, connection: Connection) -> int:
        xmin, fsync = connection.exec_driver_sql(_WATERMARK).one()
        self._durability.note_fsync(fsync)
        return int(xmin)

    @override
    def read_horizon(self, connection: Connection) -> int:
        query = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
        return int(connection.exec_driver_sql(query).scalar_one())

    @override
    def lock_against_readers(self, connection: Connection, table: Table) -> None:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_READERS_MS}")
        connection.exec_driver_sql(f"LOCK TABLE {table.name} IN ACCESS EXCLUSIVE MODE")

    @override
    def read_bounds(self, connection: Connection, experiments: Sequence[int], runs: Sequence[int]) -> Bounds:
        statements = _READ_BOUNDS.format(numbers=_listed(experiments), runs=_listed(runs))
        cursor = connection.connection.cursor()
        try:
            cursor.execute(statements)  # without parameters several statements are one trip
            ((_, fsync),) = cursor.fetchall()
            self._durability.note_fsync(fsync)
            self._durability.require()  # before anything is written that would be acknowledged
            cursor.nextset()
            seals = cursor.fetchall()
            cursor.nextset()
            ended = cursor.fetchall()
            cursor.nextset()
            return Bounds.of_rows(seals, ended, cursor.fetchall())
        finally:
            cursor.close()

    @override
    def read_clock(self, connection: Connection, now: datetime) -> int:
        query = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
        return int(connection.exec_driver_sql(query).scalar_one())

    @override
    def execute_rows(
        self, connection: Connection, statement: RowsStatement, rows: Sequence[tuple[Any, ...]]
    ) -> Sequence[Any]:
        if not rows:
            return ()
        # Not zip(*rows), which holds the interpreter, and with it Choose: 14 ms for 60,000 rows.
        columns = tuple([row[place] for row in rows] for place in range(len(rows[0])))
        result = connection.exec_driver_sql(_with_arrays(statement), columns)
        return result.all() if result.returns_rows else ()

    @override
    def check_integrity(self, connection: Connection) -> Sequence[str]:
        counted = "SELECT coalesce(checksum_failures, 0) FROM pg_stat_database"
        mine = f"{counted} WHERE datname = current_database()"
        n_failures = int(connection.exec_driver_sql(mine).scalar_one())
        return [f"{n_failures} pages failed their checksum"] if n_failures else []


def _listed(numbers: Sequence[int]) -> str:
    return ",".join(str(int(number)) for number in numbers)


@lru_cache
def _with_arrays(statement: RowsStatement) -> str:
    """The statement with its rows handed over as one array a column, so that one plan serves any number."""
    kinds = [column.type.compile(_SYNTAX) for column in statement.columns]
    keys = [str(place) for place, column in enumerate(statement.columns, 1) if column.primary_key]
    arrays = ", ".join(f"%b::{kind}[]" for kind in kinds)
    rows = f"SELECT * FROM unnest({arrays})"  # noqa: S608 - made of names of types
    if statement.is_write:
        rows += f" ORDER BY {', '.join(keys)}"
    return statement.sql.replace("%", "%%").format(rows=rows)


def _options_for(url: URL) -> dict[str, object]:
    """Return the connection options that are added to those of a URL."""
    given = url.query
    options: dict[str, object] = {key: value for key, value in _OPTIONS.items() if key not in given}
    bounds = " ".join(f"-c {name}={value}" for name, value in _BOUNDS.items())
    options["options"] = f"{bounds} {given.get('options', '')}".strip()
    return options


def _params_of(url: URL) -> dict[str, object]:
    """Return what the driver connects with.

    Raises:
        StorePlaceError: The URL's hosts and ports can't be read.
    """
    dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]
    try:
        params: dict[str, object] = dialect.create_connect_args(url)[1]  # type: ignore[no-untyped-call]
    except ArgumentError as error:
        raise StorePlaceError(f"the database's URL can't be read: {error}", is_malformed=True) from error
    if url.port == 0:
        params["port"] = 0  # else it would be left out, and another port be connected to
    return params | _options_for(url)


def _create_engine(
    url: URL, n_connections: int, durability: Durability | None, isolation: psycopg.IsolationLevel
) -> Engine:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=n_connections,
        max_overflow=0,
        hide_parameters=True,
        use_native_hstore=False,
        connect_args=_options_for(url),
    )

    @event.listens_for(engine, "connect")
    def configure(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        driver = cast("psycopg.Connection[Any]", connection)
        if durability is not None:
            durability.secure(driver)
        driver.isolation_level = isolation
        driver.read_only = isolation is psycopg.IsolationLevel.REPEATABLE_READ or None
        # Of our own, so that the watchdog never shuts a socket that took the number of a closed one.
        entry.info["socket"] = socket.socket(fileno=os.dup(driver.fileno()))

    @event.listens_for(engine, "close")
    def close(_: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        if "socket" in entry.info:
            entry.info["socket"].close()

    return engine

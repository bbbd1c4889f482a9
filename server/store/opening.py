"""Opening of a store: to serve from, or to read while others serve from it."""

from server.store.dialect import Dialect
from server.store.errors import StorePlaceError
from server.store.maintenance.sum_repair import require_exact
from server.store.migrate import CURRENT, Schema, require_schema
from server.store.sql_store import SqlStore
from server.store.sqlite.dialect import SqliteDialect
from server.store.urls import parse_url


def open_store(
    url: str, *, may_migrate: bool = True, may_be_inexact: bool = False, schema: Schema = CURRENT
) -> SqlStore:
    """Open a database and bring it to the schema of this version.

    Where a database serves one process only, this one owns it until `close`.

    Args:
        url: `sqlite:///FILE` or `postgresql+psycopg://…`.
        may_migrate: Whether an empty or older database is migrated, or refused.
        may_be_inexact: Whether to open it although sums in it are not whole numbers, to repair them.
        schema: What to migrate to; this version's, but in tests of the next one.

    Raises:
        StoreInUseError: Another process owns the database.
        SchemaError: It is of another version and may not or can't be migrated, or is not ours.
        StoreUnavailableError: It can't be reached.
    """
    store = find_store(url, schema)
    try:
        store.prepare(may_migrate=may_migrate, may_be_inexact=may_be_inexact)
    except BaseException:
        store.close()
        raise
    return store


def find_store(url: str, schema: Schema = CURRENT) -> SqlStore:
    """The store of a database that may be unreachable: usable once its `prepare` has succeeded.

    Where a database serves one process only, this one owns it until `close`.

    Raises:
        StoreInUseError: Another process owns the database.
        StorePlaceError: No database can be there.
    """
    return SqlStore(open_dialect(url, is_owner=True), is_ready=False, schema=schema)


def open_beside(url: str) -> SqlStore:
    """Open a database that servers are using, for a few short transactions that may write.

    An SQLite file is locked by SQLite itself for as long as each of them takes.

    Raises:
        SchemaError: It is of another version, or not ours.
        StoreUnavailableError: It can't be reached.
    """
    return open_reader(url)


def open_reader(url: str, *, may_be_inexact: bool = False) -> SqlStore:
    """Open a database that others may be writing, for reading only.

    Args:
        url: As in `open_store`.
        may_be_inexact: Whether to open it although sums in it are not whole numbers, to report them.

    Raises:
        SchemaError: It is of another version, or not ours.
        StoreUnavailableError: It can't be reached.
    """
    dialect = open_dialect(url, is_owner=False)
    try:
        dialect.read(require_schema)
        if not may_be_inexact:
            dialect.read(require_exact)
    except BaseException:
        dialect.close()
        raise
    return SqlStore(dialect)


def open_dialect(url: str, *, is_owner: bool) -> Dialect:
    """Open the database of a URL.

    Args:
        url: `sqlite:///FILE` or `postgresql+psycopg://…`.
        is_owner: Whether this process is to write, alone where a database serves one process only.

    Raises:
        StoreInUseError: Another process owns the database.
        StorePlaceError: No database can be there, or it is of a kind that this version does not know.
        StoreUnavailableError: It can't be opened.
    """
    parsed = parse_url(url)
    match parsed.drivername:
        case "sqlite":
            return SqliteDialect(parsed, is_owner=is_owner)
        case "postgresql+psycopg":
            from server.store.postgresql.dialect import PostgresqlDialect  # noqa: PLC0415 - its driver loads slowly

            return PostgresqlDialect(parsed)
        case other:
            raise StorePlaceError(
                f"this version keeps its state in sqlite:///FILE or postgresql+psycopg://…, not in {other}",
                is_malformed=True,
            )

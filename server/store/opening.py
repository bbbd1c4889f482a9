"""Opens a store: to serve from, to wait for, or to read beside those that serve."""

from server.store.databases import open_dialect
from server.store.migrate import CURRENT, Schema, require_schema
from server.store.sql import SqlStore


def open_store(url: str, *, may_migrate: bool = True, schema: Schema = CURRENT) -> SqlStore:
    """Opens a database and brings it to the schema of this version.

    Where a database serves one process only, this one owns it until `close`.

    Args:
        url: `sqlite:///FILE` or `postgresql+psycopg://…`.
        may_migrate: Whether an empty or older database is migrated, or refused.
        schema: What to migrate to; this version's, but in tests of the next one.

    Raises:
        StoreInUseError: Another process owns the database.
        SchemaError: It is of another version and may not or can't be migrated, or is not ours.
        StoreUnavailableError: It can't be reached.
    """
    store = find_store(url, schema)
    try:
        store.prepare(may_migrate=may_migrate)
    except BaseException:
        store.close()
        raise
    return store


def find_store(url: str, schema: Schema = CURRENT) -> SqlStore:
    """The store of a database that may be away: it works once `prepare` has succeeded, as in `open_store`.

    Where a database serves one process only, this one owns it until `close`.

    Raises:
        StoreInUseError: Another process owns the database.
        StoreUnavailableError: There is no such database, and none can be made.
    """
    return SqlStore(open_dialect(url, is_owner=True), is_ready=False, schema=schema)


def open_beside(url: str) -> SqlStore:
    """Opens a database beside the servers that use it, for a few short transactions that may write.

    An SQLite file is locked by SQLite itself for as long as each of them takes.

    Raises:
        SchemaError: It is of another version, or not ours.
        StoreUnavailableError: It can't be reached.
    """
    return open_reader(url)


def open_reader(url: str) -> SqlStore:
    """Opens a database beside those that write to it, for reading only.

    Raises:
        SchemaError: It is of another version, or not ours.
        StoreUnavailableError: It can't be reached.
    """
    dialect = open_dialect(url, is_owner=False)
    try:
        dialect.read(require_schema)
    except BaseException:
        dialect.close()
        raise
    return SqlStore(dialect)

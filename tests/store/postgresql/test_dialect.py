"""What only the PostgreSQL store promises: durable commits, clear errors, one migration at a time."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from benchmarks.harness.processes import free_port
from server.services.verification import verify
from server.store.errors import (
    RowRefusedError,
    SchemaError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
    StoreUnreachableError,
)
from server.store.opening import find_store, open_reader, open_store
from server.store.records import State
from server.store.sql_store import SqlStore
from server.store.tables.schema import metadata
from tests.store.builders import DUPLICATE, RECORDED, create, reward, run, silently, some_id
from tests.support.postgresql import PostgresqlProcess, dump, query, restore


@pytest.fixture
def url(postgresql: PostgresqlProcess) -> str:
    """An empty database."""
    return postgresql.create_database()


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    """A store on it."""
    with closing(open_store(url)) as opened:
        yield opened


def configure(url: str, setting: str) -> None:
    """Set a setting for later connections to the database."""
    name = url.rpartition("/")[2]
    query(url, f"ALTER DATABASE {name} SET {setting}")


def close_connections(url: str) -> None:
    """End every connection to the database, as an administrator may."""
    query(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND datname = current_database()",
    )


def test_alembic_finds_no_difference(store: SqlStore) -> None:
    """The migrations build what the code declares."""
    with store._dialect.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_many_open_an_empty_database_at_once(url: str) -> None:
    """Servers that start together on an empty database all find it migrated, once."""
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(open_store, [url] * 4))
    records = [create(store, f"of-{number}") for number, store in enumerate(stores)]
    assert [record.name for record in stores[0].list_experiments("", 10)] == [r.name for r in records]
    for store in stores:
        store.close()


def test_a_dump_is_restored(store: SqlStore, url: str, postgresql: PostgresqlProcess, tmp_path: Path) -> None:
    """A `pg_dump` of a database in service restores to an exact database that goes on where it was.

    The copy is on another server, whose transaction numbers are lower than those in the copy.
    """
    record = run(store)
    entries = [reward(experiment=record.number) for _ in range(50)]
    store.record_rewards(entries, 0)
    copy = postgresql.create_database()
    archive = tmp_path / "bandit.dump"
    dump(url, "--format=custom", f"--file={archive}")
    store.record_rewards([reward(experiment=record.number)], 0)
    restore(copy, archive)
    query(copy, "UPDATE experiments SET version = version + 1000000000")
    with closing(open_store(copy)) as restored:
        assert verify(restored, silently).is_clean
        assert restored.record_rewards(entries, 0) == [DUPLICATE] * len(entries)
        changes = restored.load_changes(None)
        assert [live.record for live in changes.live] == [record]
        changed = restored.change_experiment(record, replace(record, state=State.PAUSED))
        again = restored.load_changes(changes.watermark)
        assert [live.record for live in again.live] == [changed]


def test_a_database_that_may_lose_commits_is_refused(url: str) -> None:
    """With synchronous_commit off, an acknowledged reward could be lost: the store does not open."""
    configure(url, "synchronous_commit = off")
    with pytest.raises(StoreUnavailableError, match=r"synchronous_commit is off.*both must be on"):
        open_store(url)


def test_names_are_in_the_order_of_characters(store: SqlStore, url: str) -> None:
    """Pages have the same order on every machine, whatever language the database sorts by."""
    names = ["a/b", "a-c", "ab", "a-b", "team-a/x", "teama"]
    for name in names:
        create(store, name)
    assert [record.name for record in store.list_experiments("", 10)] == sorted(names)
    columns = query(url, "SELECT column_name, collation_name FROM information_schema.columns")
    assert ("name", "C") in columns


def test_a_read_only_database_stores_nothing_and_recovers(url: str, store: SqlStore) -> None:
    """A read-only database refuses writes with its own error; once it takes them again, all is as before."""
    entry = reward()
    with store._dialect.writing() as connection:
        connection.exec_driver_sql("SET default_transaction_read_only = on")
    with pytest.raises(StoreReadOnlyError):
        store.record_rewards([entry], 0)
    assert store.load_changes(None).live == ()
    close_connections(url)
    assert store.record_rewards([entry], 0) == [RECORDED]
    assert store.record_rewards([entry], 0) == [DUPLICATE]


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ("53100", StoreFullError),
        ("25006", StoreReadOnlyError),
        ("42501", StoreReadOnlyError),
        ("22003", RowRefusedError),
        ("23505", RowRefusedError),
        ("53300", StoreUnavailableError),
        ("57014", StoreUnavailableError),
        ("40001", StoreUnavailableError),
        ("XX001", StoreUnavailableError),
    ],
)
def test_errors_are_those_of_the_store(
    store: SqlStore, url: str, state: str, error: type[StoreError]
) -> None:
    """Every kind of failure is raised as an error for the caller to act on, without SQL or address."""
    statement = f"DO $$ BEGIN RAISE EXCEPTION 'detail' USING ERRCODE = '{state}'; END $$"
    with pytest.raises(StoreError) as caught, store._dialect.writing() as connection:
        connection.exec_driver_sql(statement)
    assert type(caught.value) is error
    for secret in ("detail", "RAISE", "127.0.0.1", "postgres@", url):
        assert secret not in str(caught.value)


def test_a_missing_server_is_unreachable() -> None:
    """The error for a server that can't be reached has the driver's reason, and not the password."""
    with pytest.raises(StoreUnreachableError) as caught:
        open_store(f"postgresql+psycopg://somebody:secret@127.0.0.1:{free_port()}/bandit")
    text = str(caught.value)
    assert re.match(r"the database can't be reached: .* failed: Connection refused", text)
    assert "secret" not in text


@pytest.mark.parametrize(("right", "wrong"), [("postgres@", "nobody@"), ("/bandit_", "/other_")])
def test_a_wrong_name_is_not_an_unreachable_server(url: str, right: str, wrong: str) -> None:
    """A user or a database that the server does not know is a mistake that waiting does not mend."""
    with pytest.raises(StoreUnavailableError, match="check user, password and its name") as caught:
        open_store(url.replace(right, wrong))
    assert not isinstance(caught.value, StoreUnreachableError)


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("options=-c%20bogus%3D1", 'unrecognized configuration parameter "bogus"'),
        ("options=-c%20statement_timeout%3Dlong", 'invalid value for parameter "statement_timeout": "long"'),
        ("options=-c%20shared_buffers%3D1GB", 'parameter "shared_buffers" cannot be changed'),
        ("options=--work_mem", "--work_mem requires a value"),
        ("options=bogus", "invalid command-line argument for server process: bogus"),
        ("client_encoding=bogus", 'invalid value for parameter "client_encoding": "bogus"'),
    ],
)
def test_an_option_that_the_server_refuses_is_a_mistake(url: str, option: str, reason: str) -> None:
    """No waiting mends it, so the start ends with the server's words."""
    with pytest.raises(StoreUnavailableError, match="the database refuses an option of its URL: ") as caught:
        open_store(f"{url}?{option}")
    assert f"FATAL: {reason}" in str(caught.value)


def test_a_search_path_without_a_schema_is_named(url: str) -> None:
    """Tables could be created nowhere."""
    with pytest.raises(StoreUnavailableError, match="no schema to create tables in: check the search_path"):
        open_store(f"{url}?options=-c%20search_path%3Dnowhere")


def test_a_store_is_used_only_once_it_is_prepared(url: str) -> None:
    """Until the schema is known to be there every call is unavailable; preparing again changes nothing."""
    with closing(find_store(url)) as store:
        with pytest.raises(StoreUnavailableError, match="not reached yet"):
            store.find_experiment("ranker")
        with pytest.raises(SchemaError):
            store.prepare(may_migrate=False)
        for may_migrate in (True, True, False):
            store.prepare(may_migrate=may_migrate)
        assert store.find_experiment("ranker") is None


def test_a_url_that_can_not_be_read_is_not_shown() -> None:
    """A URL with a mistake is refused without showing its password."""
    with pytest.raises(StoreUnavailableError) as caught:
        open_store("postgresql+psycopg://somebody:secret@host:port/bandit")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_foreign_database_is_refused(url: str) -> None:
    """A database of another program is refused by owner and reader, and stays as it was."""
    query(url, "CREATE TABLE songs (title text)")
    for open_it in (open_store, open_reader):
        with pytest.raises(SchemaError, match="songs"):
            open_it(url)
    assert query(url, "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'") == [
        (1,)
    ]


def test_a_lost_connection_is_made_again(url: str, store: SqlStore) -> None:
    """After the server has closed every connection, the next read and the next write succeed."""
    create(store)
    close_connections(url)
    assert store.find_experiment("ranker") is not None
    close_connections(url)
    assert store.record_rewards([reward()], 0) == [RECORDED]


@pytest.mark.parametrize(
    "settings",
    [
        ["bytea_output = 'escape'", "extra_float_digits = -15", "standard_conforming_strings = off"],
        ["timezone = 'Asia/Kathmandu'", "datestyle = 'German'", "intervalstyle = 'iso_8601'"],
        ["default_transaction_isolation = 'serializable'", "default_transaction_deferrable = on"],
        ["lock_timeout = 1", "idle_in_transaction_session_timeout = 1", "statement_timeout = 1"],
        ["session_replication_role = 'replica'", "row_security = off", "client_encoding = 'LATIN1'"],
    ],
    ids=["text", "time", "isolation", "bounds", "roles"],
)
def test_settings_of_the_database_change_nothing(url: str, store: SqlStore, settings: list[str]) -> None:
    """Whatever is set for the database, values come back as they went in, and commits go through."""
    record = run(store)
    close_connections(url)
    for setting in settings:
        configure(url, setting)
    entries = [reward(some_id(), experiment=record.number) for _ in range(50)]
    assert store.record_rewards(entries, 0) == [RECORDED] * len(entries)
    assert store.record_rewards(entries, 0) == [DUPLICATE] * len(entries)
    (live,) = store.load_changes(None).live
    assert live.record == record
    assert verify(store, silently).is_clean

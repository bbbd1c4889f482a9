"""PostgreSQL: transactions that are committed late, or out of order, lose no event and swap none."""

from contextlib import closing

import pytest

from server.store.opening import open_store
from server.store.records import ExperimentRecord
from server.store.sql_store import SqlStore
from server.store.tables.events import rows as statements
from tests.bandit.builders import START
from tests.store.builders import create
from tests.store.contract.test_events import LOOK, read_all
from tests.support.postgresql import PostgresqlProcess


@pytest.fixture
def url(postgresql: PostgresqlProcess) -> str:
    """The URL of an empty database."""
    return postgresql.create_database()


def append_late(store: SqlStore, record: ExperimentRecord) -> None:
    """Append an event to an experiment in a transaction of its own."""
    dialect = store._dialect
    with dialect.writing() as connection:
        statements.append(connection, record.number, [LOOK], dialect.version, at=START, revision=1)


def test_a_late_commit_is_not_missed(url: str) -> None:
    """A transaction that began first and is committed last is read, after others that are read once."""
    with closing(open_store(url)) as store, closing(open_store(url)) as late:
        first, second = create(store, "a"), create(store, "b")
        cursor = store.read_events_since(None, 100).cursor
        dialect = late._dialect
        with dialect.writing() as connection:
            statements.append(connection, first.number, [LOOK], dialect.version, at=START, revision=1)
            append_late(store, second)
            page = store.read_events_since(cursor, 100)
            assert [event.name for event in page.events] == ["b"]
            assert store.read_events_since(page.cursor, 100).events == ()
        after = store.read_events_since(page.cursor, 100)
        assert [event.name for event in after.events] == ["a"]
        assert store.read_events_since(after.cursor, 100).events == ()


def test_who_begins_now_gets_what_is_committed_late(url: str) -> None:
    """A reader that begins beside an open transaction gets its event later, and no older one."""
    with closing(open_store(url)) as store, closing(open_store(url)) as late:
        first, second = create(store, "a"), create(store, "b")
        dialect = late._dialect
        with dialect.writing() as connection:
            statements.append(connection, first.number, [LOOK], dialect.version, at=START, revision=1)
            append_late(store, second)
            cursor = store.read_event_cursor()
            assert store.read_events_since(cursor, 100).events == ()
        assert [event.name for event in read_all(store, cursor)] == ["a"]


@pytest.mark.parametrize("limit", [1, 100])
def test_an_older_transaction_that_waited_comes_second(url: str, limit: int) -> None:
    """A transaction with an early version that had to wait for the row keeps the order of numbers."""
    with closing(open_store(url)) as store, closing(open_store(url)) as late:
        record = create(store)
        cursor = store.read_events_since(None, 100).cursor
        dialect = late._dialect
        with dialect.writing() as connection:
            connection.exec_driver_sql("SELECT pg_current_xact_id()")
            append_late(store, record)
            statements.append(connection, record.number, [LOOK], dialect.version, at=START, revision=1)
        assert [event.sequence for event in read_all(store, cursor, limit)] == [2, 3]


def test_versions_of_another_server_are_lowered(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that were restored from a server with higher numbers are read once, and all of them."""
    monkeypatch.setattr(statements, "MOST_SEEN", 2)
    with closing(open_store(url)) as store:
        for name in "abcd":
            create(store, name)
        with store._dialect.writing() as connection:
            connection.exec_driver_sql("UPDATE events SET version = version + 1000000")
    with closing(open_store(url)) as store:
        page = store.read_events_since(None, 100)
        assert [event.name for event in page.events] == ["a", "b", "c", "d"]
        create(store, "e")
        assert [event.name for event in read_all(store, page.cursor)] == ["e"]


def test_a_cursor_stays_small_beside_a_long_transaction(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a transaction is open, a cursor notes only so many experiments; the others are read after it."""
    monkeypatch.setattr(statements, "MOST_SEEN", 2)
    with closing(open_store(url)) as store, closing(open_store(url)) as late:
        with late._dialect.writing() as connection:
            connection.exec_driver_sql("SELECT pg_current_xact_id()")
            for name in "abcd":
                create(store, name)
            page = store.read_events_since(None, 100)
            assert len(page.cursor.seen) == len(page.events) == 2
            waiting = store.read_events_since(page.cursor, 100)
            assert (waiting.events, waiting.has_more) == ((), False)
        told = [*page.events, *read_all(store, waiting.cursor)]
        assert [event.name for event in told] == ["a", "b", "c", "d"]

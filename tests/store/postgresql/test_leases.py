"""What only PostgreSQL shows of leases: transactions that overlap, and servers that end inside of one."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from sqlalchemy import Connection

from server.store.errors import LeaseLostError, StoreUnavailableError
from server.store.opening import open_store
from server.store.records import Lease
from server.store.sql_store import SqlStore
from server.store.tables.launch import leases
from tests.store.builders import run
from tests.support.postgresql import PostgresqlProcess, n_waiting
from tests.support.process import eventually

BOUND = "idle_in_transaction_session_timeout"


@pytest.fixture
def url(postgresql: PostgresqlProcess) -> str:
    """An empty database."""
    return postgresql.create_database()


@pytest.fixture
def stores(url: str) -> Iterator[tuple[SqlStore, SqlStore]]:
    """The stores of two servers."""
    with closing(open_store(url)) as first, closing(open_store(url)) as second:
        yield first, second


def taken(store: SqlStore, holder: str) -> Lease:
    """Take the lease, whoever has it."""
    lease = store.take_over_lease(store.read_lease("controller"), holder)
    assert lease is not None
    return lease


def bound_of(connection: Connection) -> str:
    """Return how long PostgreSQL lets a session idle inside a transaction."""
    return str(connection.exec_driver_sql(f"SHOW {BOUND}").scalar_one())


def test_a_change_waits_for_a_takeover_in_progress(url: str, stores: tuple[SqlStore, SqlStore]) -> None:
    """A former holder whose change meets an uncommitted takeover waits for it, and is then refused."""
    before, former = run(stores[0]), taken(stores[0], "a")
    with ThreadPoolExecutor(1) as pool:
        with stores[1]._dialect.writing() as connection:
            assert leases.take_over(connection, former, "b") is not None
            change = pool.submit(stores[0].change_experiment, before, before, fence=former)
            eventually(lambda: n_waiting(url))
        with pytest.raises(LeaseLostError):
            change.result()
    assert stores[0].find_experiment(before.name) == before


def test_a_takeover_waits_for_nobody(stores: tuple[SqlStore, SqlStore]) -> None:
    """While a change is being made under the lease it can't be taken, and whoever tries is told so at once.

    A takeover that waited would hold up the rewards of its server.
    """
    lease = taken(stores[0], "a")
    with stores[0]._dialect.writing() as connection:
        leases.require(connection, lease)
        with stores[1]._dialect.writing() as other:
            other.exec_driver_sql("SET LOCAL lock_timeout = 1")
            assert leases.take_over(other, lease, "b") is None
    assert stores[1].take_over_lease(lease, "b") is not None


def test_a_session_that_ended_inside_a_change_blocks_nobody(stores: tuple[SqlStore, SqlStore]) -> None:
    """Once PostgreSQL has ended a session inside a change, nothing of it is stored, and the lease is free.

    If the connection is reset before its last word arrives, the change is made again, and is refused then.
    """
    before, lease = run(stores[0]), taken(stores[0], "a")
    after: list[Lease | None] = []

    def change(connection: Connection) -> None:
        leases.require(connection, lease)
        connection.exec_driver_sql(f"SET LOCAL {BOUND} = 1")
        after.append(eventually(lambda: stores[1].take_over_lease(lease, "b")))
        connection.exec_driver_sql("UPDATE experiments SET revision = revision + 1")

    with pytest.raises((StoreUnavailableError, LeaseLostError)):
        stores[0]._dialect.write(change)
    assert after == [stores[1].read_lease("controller")]
    assert stores[1].find_experiment(before.name) == before


def test_whoever_idles_in_a_transaction_is_ended_unless_it_may_be_long(
    stores: tuple[SqlStore, SqlStore],
) -> None:
    """Sessions end after 10 s inside a transaction; migrations, reports, exports and repairs never do."""
    dialect = stores[0]._dialect
    for open_it in (dialect.writing, dialect.reading):
        for is_long, bound in ((True, "0"), (False, "10s")):
            with open_it(is_long=is_long) as connection:
                assert bound_of(connection) == bound

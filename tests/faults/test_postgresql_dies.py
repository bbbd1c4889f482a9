"""PostgreSQL is stopped, killed and frozen under load: Choose goes on, and no reward is lost or doubled."""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

from benchmarks.soak.check import check
from benchmarks.soak.clients import Books, Load
from tests.replicas.conftest import running_replicas
from tests.support.postgresql import PostgresqlProcess
from tests.support.process import eventually
from tests.support.wire import CALL_SECONDS, Wire

SEED = 20_261_122
N_WORKERS = 6
RECOVERY_SECONDS = 10.0
"""How long after its return the database is in use again, on a busy machine."""


@contextmanager
def shut_down(postgresql: PostgresqlProcess) -> Iterator[None]:
    """Shut down immediately: every backend is cut off, and the next start recovers from the log."""
    postgresql.stop(signal.SIGQUIT)
    yield
    postgresql.start()


@contextmanager
def killed(postgresql: PostgresqlProcess) -> Iterator[None]:
    """Kill the whole server without notice."""
    postgresql.kill()
    yield
    postgresql.start()


def frozen(postgresql: PostgresqlProcess) -> AbstractContextManager[None]:
    """Freeze the server: it answers nothing and closes nothing."""
    return postgresql.frozen()


async def test_no_fault_of_the_database_loses_or_doubles_a_reward(
    own_postgresql: PostgresqlProcess, tmp_path: Path
) -> None:
    """Two replicas under load survive an immediate shutdown, a kill and a freeze of their database.

    No call of Choose fails, Reward fails only as UNAVAILABLE, and everything resumes by itself. Every
    acknowledged reward is in the log, every logged one was sent, and the facts are the fold of the log.
    """
    url = own_postgresql.create_database()
    with running_replicas(url, tmp_path, "--lag-seconds", "2") as start:
        servers = await asyncio.to_thread(start, 2)
        with closing(Wire(servers[0].address)) as wire:
            name = wire.running()
        load = Load([server.address for server in servers], name, N_WORKERS, SEED, CALL_SECONDS)
        async with load.settled(60.0):
            await asyncio.to_thread(do_faults, own_postgresql, load.books)
    assert set(load.books.refusals) == {"UNAVAILABLE"}
    comparison = check(url, load.books, name, n_expired=0)
    assert comparison.is_clean, comparison
    assert comparison.n_logged == len(load.books.sent) > 100


def do_faults(postgresql: PostgresqlProcess, books: Books) -> None:
    """Cause each fault until it is noticed; afterwards rewards are acknowledged again in time."""
    for fault in (shut_down, killed, frozen):
        wait_for_more(lambda: books.n_acked, 20)
        with fault(postgresql):
            wait_for_more(books.refusals.total, 0)
        began_at = time.monotonic()
        wait_for_more(lambda: books.n_acked, 50)
        assert time.monotonic() - began_at < RECOVERY_SECONDS


def wait_for_more(count: Callable[[], int], n_more: int) -> None:
    """Wait until a number has grown by more than `n_more`."""
    before = count()
    eventually(lambda: count() > before + n_more)

"""Several writers on one PostgreSQL: stores in this process, and real servers."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.harness.processes import free_port
from server.store.opening import open_store
from server.store.sql_store import SqlStore
from tests.support.old_server import OldRelease
from tests.support.postgresql import PostgresqlProcess
from tests.support.process import ServerProcess

N_REPLICAS = 4
FLAGS = ("--poll-seconds", "0.2", "--epoch-interval-seconds", "0.05", "--drain-seconds", "2")

StartReplicas = Callable[[int], list[ServerProcess]]


@pytest.fixture
def url(postgresql: PostgresqlProcess) -> str:
    """An empty database."""
    return postgresql.create_database()


@pytest.fixture
def stores(url: str) -> Iterator[list[SqlStore]]:
    """Four stores on one database, as four servers have them."""
    opened = [open_store(url) for _ in range(N_REPLICAS)]
    yield opened
    for store in opened:
        store.close()


@contextmanager
def running_replicas(url: str, folder: Path, *flags: str) -> Iterator[StartReplicas]:
    """Yield a function that starts servers at the same moment; those left running must stop with 0."""
    started: list[ServerProcess] = []

    def start_one(file: Path) -> ServerProcess:
        return ServerProcess.start(file, "--database", url, *FLAGS, *flags, port=free_port())

    def start(n_replicas: int) -> list[ServerProcess]:
        files = [folder / f"replica-{len(started) + number}.db" for number in range(n_replicas)]
        with ThreadPoolExecutor(n_replicas) as pool:
            servers = list(pool.map(start_one, files))
        started.extend(servers)
        return servers

    try:
        yield start
    except BaseException:
        for server in started:
            server.kill()
        raise
    running = [server for server in started if server.process.poll() is None]
    for server in running:
        server.process.terminate()
    assert {server.wait() for server in running} <= {0}


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> OldRelease:
    """The previous release."""
    folder = tmp_path_factory.mktemp("old")
    release = OldRelease(folder)
    release.require(folder)
    return release


@pytest.fixture
def servers() -> Iterator[list[ServerProcess]]:
    """The servers; those left running are stopped at the end."""
    started: list[ServerProcess] = []
    yield started
    for server in started:
        if server.process.poll() is None:
            server.kill()

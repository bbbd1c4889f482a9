"""The workers and the parent of one server are killed and frozen at random: nothing is lost or doubled."""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.harness.processes import free_port
from benchmarks.soak.check import check
from benchmarks.soak.clients import Books, Load
from server.app.shared_port import reserved_places
from server.listening.errors import ListenError
from server.listening.places import claim
from server.services.signing_keys.file import read_keys
from tests.conftest import Connect
from tests.standby.conftest import StartOn, keeping, start_on
from tests.standby.test_workers import is_running, n_serving, pids
from tests.support.postgresql import PostgresqlProcess, query
from tests.support.process import ServerProcess, eventually, run_command
from tests.support.wire import CALL_SECONDS

__all__ = ["keeping", "start_on"]

N_WORKERS = 3
N_EARLY_DEATHS = 6
N_CONNECTIONS = 6
SEED = 20_261_122
IMPATIENT = "tests.support.faults.serve_with_little_patience"


@pytest.fixture
def server(postgresql: PostgresqlProcess, start_on: StartOn) -> ServerProcess:
    """A server of three processes, on its own database."""
    return start_on(postgresql.create_database(), "--workers", str(N_WORKERS))


def url_of(server: ServerProcess) -> str:
    """Return the URL of the database that it was started on."""
    arguments = server.process.args
    assert isinstance(arguments, list)
    return str([value for flag, value in pairwise(arguments) if flag == "--database"][-1])


def kill(pid: int) -> None:
    """Kill a process unless it has ended."""
    if is_running(pid):
        os.kill(pid, signal.SIGKILL)


async def test_workers_are_killed_under_load(server: ServerProcess, connect: Connect) -> None:
    """Calls fail as UNAVAILABLE, retries are exact, and all workers come back by themselves.

    One is killed again and again before it serves, more often than a worker may fail to start; then all are
    killed at once. At the end there is no zombie and no orphan.
    """
    name = connect(server).running()
    # Each address has its own connection, and the kernel spreads them over the workers.
    load = Load([server.address] * N_CONNECTIONS, name, N_CONNECTIONS, SEED, CALL_SECONDS)
    load.ailing.update(range(N_CONNECTIONS))
    async with load.settled(60.0):
        await asyncio.to_thread(kill_workers, server, load.books)
    last = eventually(lambda: pids(server), until=lambda found: all(map(is_running, found.values())))
    children = children_of(server.process.pid)
    assert set(last.values()) <= children
    assert all(map(is_running, children))
    assert server.terminate() == 0
    assert not any(map(is_running, last.values()))
    assert set(load.books.refusals) <= {"UNAVAILABLE", "CANCELLED"}
    comparison = check(url_of(server), load.books, name, n_expired=0)
    assert comparison.is_clean, comparison
    assert comparison.n_logged == len(load.books.sent) > 100


def children_of(pid: int) -> set[int]:
    """Return the child processes of a process."""
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def kill_workers(server: ServerProcess, books: Books) -> None:
    """Kill one, each time a new one is there; then all."""
    for _ in range(N_EARLY_DEATHS):
        dead = pids(server)[2]
        kill(dead)
        eventually(lambda dead=dead: pids(server)[2] != dead)  # type: ignore[misc]
    assert books.n_acked > 20
    for pid in pids(server).values():
        kill(pid)
    n_acked = books.n_acked
    eventually(lambda: books.n_acked > n_acked + 50)


def test_a_worker_that_can_not_start_again_does_not_end_the_others(
    postgresql: PostgresqlProcess,
    start_on: StartOn,
    connect: Connect,
    keeping: tuple[str, ...],
    tmp_path: Path,
) -> None:
    """Its metrics port is taken: the others serve on, and it is restarted until it can start.

    It is the first worker, which keeps the files: changes made meanwhile are in them once it is back.
    """
    port = free_port(n_ports=2)  # one experiment for each worker
    flags = ("--workers", "2", "--metrics-listen", f"127.0.0.1:{port}", *keeping)
    server = start_on(postgresql.create_database(), *flags, program=IMPATIENT)
    wire = connect(server)
    name = wire.running()
    kill(pids(server)[1])
    with taken(port):
        eventually(lambda: n_that_died(server), until=lambda count: count > 2)
        assert wire.choose(name).arm
        done = run_command("key", "rotate", "--server", server.address, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert sorted(read_keys(tmp_path / "keys").secrets) == [1]
    n_before = n_serving(server)
    eventually(lambda: n_serving(server) > n_before)
    eventually(lambda: sorted(read_keys(tmp_path / "keys").secrets) == [1, 2])


def n_that_died(server: ServerProcess) -> int:
    """Return how many times a worker died."""
    return len([event for event in server.events() if event["event"] == "worker.died"])


@contextmanager
def taken(port: int) -> Iterator[None]:
    """Listen at a port as soon as it is free."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

        def take() -> bool:
            with suppress(OSError):
                listener.bind(("127.0.0.1", port))
                return True
            return False

        eventually(take)
        listener.listen()
        yield


@contextmanager
def handling_hangups() -> Iterator[None]:
    """Make children begun here handle SIGHUP, which they would otherwise ignore in tests run below nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("n_workers", "number"), [(1, signal.SIGHUP), (2, signal.SIGHUP), (2, signal.SIGINT)]
)
def test_a_signal_to_the_whole_group_ends_a_server_in_order(
    postgresql: PostgresqlProcess, start_on: StartOn, connect: Connect, n_workers: int, number: int
) -> None:
    """After a closed terminal or Ctrl-C, decisions are counted, the exit code is 0, and no process stays."""
    url = postgresql.create_database()
    with handling_hangups():
        server = start_on(url, "--workers", str(n_workers), "--poll-seconds", "1")
    wire = connect(server)
    name = wire.running()
    for _ in range(10):
        wire.choose(name)
    workers = list(pids(server).values())
    for pid in [server.process.pid, *workers]:
        os.kill(pid, number)
    assert server.wait() == 0
    assert not any(map(is_running, workers))
    assert query(url, "SELECT SUM(decisions) FROM decision_facts") == [(10,)]


def test_the_port_is_free_for_workers_while_old_connections_fade() -> None:
    """A server without workers stops and closes its connections: one with workers takes its port, alone."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = listener.accept()
            accepted.close()
            assert client.recv(1) == b""  # its end at the server now fades for a minute
    with reserved_places(f"127.0.0.1:{port}") as (place,):
        assert place.port == port
        with pytest.raises(ListenError, match="is taken"):
            claim(f"127.0.0.1:{port}")

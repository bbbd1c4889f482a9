"""Process limits: too low, they are one clear line at the start; in service, the database has descriptors."""

import resource
import socket
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import Connect, StartServer
from tests.support.ledger import decision_of, integrity, logged_decisions
from tests.support.process import command, eventually, run

SOME: Final = 160
"""Enough for a server and some sixty connections."""


@pytest.mark.parametrize(
    ("limit", "line"),
    [
        ("-n 24", "error: the system allows this process 24 open files, but bandit-server needs 128 or more"),
        ("-v 700000", "error: the system allows this process 683 MiB of address space (ulimit -v), but"),
    ],
)
def test_a_limit_that_is_too_low_is_reported_at_the_start(tmp_path: Path, limit: str, line: str) -> None:
    """The server ends at once with exit code 1, and prints what it needs."""
    serve = command("serve", "--listen", "127.0.0.1:0", "--database", f"sqlite:///{tmp_path / 'bandit.db'}")
    done = run(["sh", "-c", f'ulimit {limit} && exec "$@"', "sh", *serve], tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    (said,) = done.stderr.splitlines()
    assert said.startswith(line)


def test_the_soft_limit_is_raised(start_server: StartServer, connect: Connect) -> None:
    """A soft limit below what the connections need is raised as far as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        server = start_server("--max-connections", "500")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)[0] == 596
    assert connect(server).running()


def test_connections_leave_descriptors_for_the_database(start_server: StartServer, connect: Connect) -> None:
    """However many connect, existing ones are served, rewards are committed, and later ones are taken."""
    server = start_server(program=("tests.support.faults.serve_with_descriptors", str(SOME)))
    wire = connect(server)
    name = wire.running()
    with ExitStack() as stack:
        for _ in range(2 * SOME):
            stack.enter_context(closing(socket.create_connection(("127.0.0.1", server.port), timeout=20)))
        for _ in range(50):
            assert wire.reward(wire.choose(name).decision_id, {"click": 1.0})
        assert wire.report(name).arms
    eventually(lambda: connect(server).running())
    assert [event for event in server.events() if event["level"] in {"error", "critical"}] == []


def test_descriptors_that_run_out_in_service(start_server: StartServer, connect: Connect) -> None:
    """Choose and Reward go on at open connections; refused ones are let in again afterwards.

    The limit of the running process is lowered below what it has open, so that it can open nothing more.
    """
    server = start_server("--poll-seconds", "0.1")
    wire = connect(server)
    name = wire.running()
    before = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    sent = set()
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (8, before[1]))
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=20):
            for _ in range(50):
                choice = wire.choose(name)
                assert wire.reward(choice.decision_id, {"click": 1.0})
                sent.add(decision_of(choice.decision_id))
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, before)
    eventually(lambda: connect(server).report(name).arms)
    assert server.terminate() == 0
    assert logged_decisions(server.database) == sent
    assert integrity(server.database) == ["ok"]

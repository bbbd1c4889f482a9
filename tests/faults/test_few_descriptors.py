"""Too few file descriptors: one clear line at the start, and room kept for the database in service."""

import resource
import socket
import subprocess
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from tests.conftest import Connect, StartServer
from tests.support.process import clean_environment, command, eventually

SOME: Final = 160
"""Enough for a server, and for some sixty connections."""


def test_too_few_descriptors_are_said_at_the_start(tmp_path: Path) -> None:
    """With 24 of them the server ends at once with exit code 1, and says what it needs."""
    serve = command("serve", "--listen", "127.0.0.1:0", "--database", f"sqlite:///{tmp_path / 'bandit.db'}")
    done = subprocess.run(
        ["sh", "-c", 'ulimit -n 24 && exec "$@"', "sh", *serve],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the system allows this process 24 open files, and bandit-server needs 128")


def test_the_soft_limit_is_raised(start_server: StartServer, connect: Connect) -> None:
    """A soft limit below what the connections need is raised as far as the hard limit lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        server = start_server("--max-connections", "500")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)[0] == 596
    assert connect(server).running()


def test_connections_leave_descriptors_for_the_database(start_server: StartServer, connect: Connect) -> None:
    """However many connect, those that stand are served, rewards are committed, and later ones are taken."""
    server = start_server(program=("tests.support.serve_with_descriptors", str(SOME)))
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

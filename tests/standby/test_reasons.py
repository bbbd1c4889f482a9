"""Starts on a database that will never answer: ended with the option at fault, or waiting with the reason."""

import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness.processes import free_port
from tests.standby.conftest import StartOn
from tests.support.postgresql import PostgresqlProcess
from tests.support.process import ServerProcess, command, eventually, run

URL = "postgresql+psycopg://bob:hunter2@127.0.0.1:{port}/bandit"


def waiting(server: ServerProcess) -> list[dict[str, Any]]:
    """Return the events that say why a server waits."""
    return [event for event in server.events() if event["event"] == "standby.waiting"]


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        ("?sslmode=bogus", 2, "can't connect with these options: invalid sslmode value"),
        ("?sslmode=verify-full&sslrootcert=/missing", 1, 'root certificate file "/missing" does not exist'),
    ],
)
def test_what_no_waiting_mends_ends_the_start(
    tmp_path: Path, keeping: tuple[str, ...], workers: str, options: str, code: int, reason: str
) -> None:
    """One line names where the URL was set, also with a snapshot and with workers; nothing is written."""
    url = URL.format(port=free_port()) + options
    program = command("serve", "--listen", "127.0.0.1:0", "--workers", workers, *keeping)
    done = run(program, tmp_path, BANDIT_DATABASE=url)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert (done.returncode, done.stdout, len(lines)) == (code, "", 1), done.stderr
    assert lines[0].startswith("error: BANDIT_DATABASE: ")
    assert reason in lines[0]
    assert "hunter2" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_command_says_why_it_gets_no_answer(tmp_path: Path) -> None:
    """It does not wait: one line, exit code 1, the driver's reason, and no password."""
    done = run(command("verify", "--database", URL.format(port=free_port())), tmp_path)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert line.startswith("error: the database can't be reached: ")
    assert "Connection refused" in line
    assert "hunter2" not in line


def test_the_log_says_why_a_server_waits(start_on: StartOn) -> None:
    """The reason is in the first line, and again once it is another one, but not with every try."""
    port = free_port()
    server = start_on(URL.format(port=port))
    (first,) = waiting(server)
    assert "Connection refused" in first["error"]
    assert "hunter2" not in first["error"]
    with closing(socket.create_server(("127.0.0.1", port), backlog=8)):  # takes connections, and says nothing
        _, second = eventually(lambda: waiting(server), until=lambda found: len(found) == 2)
    assert "Connection refused" not in second["error"]
    assert second["error"].startswith("the database can't be reached: ")


def test_an_unknown_host_is_waited_for(start_on: StartOn) -> None:
    """A name server may be away: the server waits, and names the host."""
    server = start_on("postgresql+psycopg://bob@host.invalid/bandit")
    (first,) = waiting(server)
    assert "host.invalid" in first["error"]


def test_a_server_without_tls_is_waited_for(postgresql: PostgresqlProcess, start_on: StartOn) -> None:
    """PostgreSQL may be restarted with TLS, so the server waits with that reason."""
    server = start_on(f"{postgresql.create_database()}?sslmode=require")
    (first,) = waiting(server)
    assert "server does not support SSL" in first["error"]

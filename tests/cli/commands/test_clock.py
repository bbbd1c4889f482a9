"""`bandit-server clock` works on the database of a running server, which follows with its next poll."""

import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2

from tests.conftest import Connect, StartServer
from tests.support.postgresql import query as ask_postgresql
from tests.support.process import eventually, run_command

YEAR = 365 * 86_400
FLAGS = ("--metrics-listen", "127.0.0.1:0", "--poll-seconds", "0.05")

Clock = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def clock(url: str, tmp_path: Path) -> Clock:
    """Run a command on the database; it must succeed."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        done = run_command("clock", *arguments, "--database", url, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        return done

    return run


def mark(url: str, seconds_from_now: float) -> None:
    """Mark an instant, as servers do whose clock has been wrong for hours."""
    micros = int((time.time() + seconds_from_now) * 1_000_000)
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
            connection.execute("UPDATE clock SET mark = ?", [micros])
    else:
        ask_postgresql(url, "UPDATE clock SET mark = %s", [micros])


def test_an_accepted_clock_is_followed_by_a_running_server(
    url: str, clock: Clock, start_server: StartServer, connect: Connect
) -> None:
    """A server in doubt since its start follows the clock within a poll, without a restart."""
    start_server("--database", url).terminate()
    mark(url, YEAR)
    server = start_server("--database", url, *FLAGS)
    wire = connect(server)
    assert server.sample("bandit_clock_in_doubt") == 1
    assert server.sample("bandit_clock_offset_seconds") == pytest.approx(-YEAR, abs=600)
    assert wire.health_of("clock") == health_pb2.HealthCheckResponse.NOT_SERVING
    assert wire.health_of("") == health_pb2.HealthCheckResponse.SERVING
    shown = eventually(lambda: clock("show").stdout, until=lambda text: "behind it" in text)
    assert "clock accept" in shown.partition("what to do:")[2]
    assert "accepted: it is 20" in clock("accept", "--reason", "the battery is new").stdout
    eventually(lambda: server.sample("bandit_clock_in_doubt") == 0)
    assert server.sample("bandit_clock_offset_seconds") == pytest.approx(0, abs=1)
    assert wire.health_of("clock") == health_pb2.HealthCheckResponse.SERVING
    assert "nothing: servers continue on their own" in clock("show").stdout
    events = [event["event"] for event in server.events() if event["event"].startswith("clock.")]
    assert events == ["clock.doubted", "clock.accepted"]
    done = run_command("audit", "--server", server.address, folder=server.log.parent)
    assert "accept_clock" in done.stdout


def test_a_repair_works_next_to_a_running_server(url: str, clock: Clock, start_server: StartServer) -> None:
    """A repair prints what it changed."""
    start_server("--database", url)
    text = "repaired: 0 seals lowered, 0 experiments capped, 0 instants brought back from the future"
    assert clock("repair", "--reason", "to be sure").stdout.strip() == text


def test_a_healthy_database_needs_no_action(url: str, clock: Clock, start_server: StartServer) -> None:
    """Before the first mark, and a month after the last one, `clock show` asks for no action."""
    start_server("--database", url).terminate()
    shown = clock("show").stdout
    assert "mark:           none yet" in shown
    assert "trusted:        nothing yet (what was marked 1 day of running ago)" in shown
    assert shown.rstrip().endswith("nothing: servers continue on their own")
    mark(url, -30 * 86_400)
    assert "nothing: servers continue on their own, 10 min after a start" in clock("show").stdout


def test_accepting_needs_a_reason(tmp_path: Path) -> None:
    """--reason is required, as it is kept for the audit."""
    done = run_command("clock", "accept", folder=tmp_path)
    assert done.returncode == 2
    assert "--reason" in done.stderr


def test_the_database_must_exist(tmp_path: Path) -> None:
    """A missing file is an error, and is not created."""
    for arguments in (("show",), ("accept", "--reason", "why"), ("repair",)):
        done = run_command("clock", *arguments, "--database", "sqlite:///missing.db", folder=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert "there is no database missing.db" in done.stderr
    assert list(tmp_path.iterdir()) == []

"""`bandit-server events` prints one line an event, and follows an experiment over restarts."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.harness.processes import clean_environment
from tests.conftest import Connect, StartServer
from tests.support.process import ServerProcess, command, eventually, run_command
from tests.support.wire import Wire

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (?:UTC|[+-]\d\d:\d\d) +(\d+)  (\w+) +(\S+)  (\S+)")


@pytest.fixture
def server(start_server: StartServer) -> ServerProcess:
    """A server that looks for news often."""
    return start_server("--poll-seconds", "0.05")


@pytest.fixture
def wire(server: ServerProcess, connect: Connect) -> Wire:
    """A channel to it."""
    return connect(server)


@contextmanager
def following(server: ServerProcess, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Run `events --follow`, and interrupt it at the end."""
    program = command("events", *arguments, "--follow", "--server", server.address)
    process = subprocess.Popen(
        program,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=server.log.parent,
        env=clean_environment(),
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stderr.close()


def next_line(process: "subprocess.Popen[str]") -> tuple[str, ...]:
    """Return number, kind, arm and actor of the next line."""
    assert process.stdout is not None
    found = LINE.match(process.stdout.readline())
    assert found is not None
    return found.groups()


def test_a_line_an_event(server: ServerProcess, wire: Wire, tmp_path: Path) -> None:
    """Lines fit 80 columns and say when, number, what, arm and who; --after leaves out what is known."""
    name = wire.running()
    wire.conclude(name, "b")
    done = run_command("events", name, "--server", server.address, folder=tmp_path)
    lines = done.stdout.splitlines()
    assert [found.groups() for line in lines if (found := LINE.fullmatch(line))] == [
        ("1", "created", "-", "anyone"),
        ("2", "started", "-", "anyone"),
        ("3", "concluded", "b", "anyone"),
    ]
    assert max(map(len, lines)) <= 80
    later = run_command("events", name, "--after", "2", "--server", server.address, folder=tmp_path)
    assert later.stdout.splitlines() == lines[2:]


def test_json_has_an_object_a_line(server: ServerProcess, wire: Wire, tmp_path: Path) -> None:
    """Every field is there, numbers as numbers, and what is not known is null."""
    name = wire.running()
    done = run_command("events", name, "--json", "--server", server.address, folder=tmp_path)
    created, started = map(json.loads, done.stdout.splitlines())
    assert created["time"].endswith("Z")
    del created["time"]
    assert created == {
        "experiment": name,
        "sequence": 1,
        "kind": "created",
        "arm": None,
        "actor": "anyone",
        "request_id": None,
        "revision": 1,
        "epoch": None,
        "reason": "",
        "figures": {},
    }
    assert (started["sequence"], started["kind"], started["epoch"]) == (2, "started", 1)


def test_an_unknown_experiment_is_an_error(server: ServerProcess, tmp_path: Path) -> None:
    """A name that never was is named in the error, with --follow as well."""
    for follow in ((), ("--follow",)):
        done = run_command("events", "nobody", *follow, "--server", server.address, folder=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert "nobody" in done.stderr


def test_a_server_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """Without a server --follow does not wait for one."""
    done = run_command("events", "ranker", "--follow", "--server", "127.0.0.1:1", folder=tmp_path)
    assert done.returncode == 1
    assert "no server answers at 127.0.0.1:1" in done.stderr


def test_following_goes_on_over_a_restart(
    server: ServerProcess, wire: Wire, start_server: StartServer, connect: Connect
) -> None:
    """The follower says that the server is lost, waits, and then prints what it has not printed yet."""
    name = wire.running()
    with following(server, name) as process:
        assert [next_line(process)[0] for _ in range(2)] == ["1", "2"]
        wire.pause(name)
        assert next_line(process) == ("3", "paused", "-", "anyone")
        assert server.terminate() == 0
        assert process.stderr is not None
        assert process.stderr.readline().endswith("trying again until it is back\n")
        again = start_server("--database", server.url, "--listen", server.address, "--poll-seconds", "0.05")
        connect(again).start(name)
        assert next_line(process) == ("4", "started", "-", "anyone")


def test_a_follower_is_not_in_the_way_of_a_stop(server: ServerProcess, wire: Wire) -> None:
    """A server that stops does not wait for followers."""
    name = wire.running()
    with following(server, name) as process:
        assert next_line(process)[0] == "1"
        server.signal(signal.SIGTERM)
        assert eventually(lambda: server.wait() == 0)

"""Webhooks of a real server, and `bandit-server webhooks`, which shows and resends what was not taken."""

import base64
import json
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import Connect, StartServer
from tests.support.process import ServerProcess, eventually, run_command
from tests.support.receiver import Receiver, hang, receiving, with_status

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver on this machine."""
    with receiving() as opened:
        yield opened


@pytest.fixture
def file(tmp_path: Path, receiver: Receiver) -> Path:
    """A webhooks file that names it."""
    path = tmp_path / "webhooks.toml"
    path.write_text(f'[[endpoints]]\nname = "chat"\nurl = "{receiver.url}"\nsecrets = ["{SECRET}"]\n')
    return path


def begin(start_server: StartServer, file: Path, *flags: str) -> ServerProcess:
    """Start a server that has begun to look for what it delivers."""
    server = start_server("--webhooks", str(file), *flags)
    with closing(sqlite3.connect(server.database)) as connection:
        eventually(lambda: connection.execute("SELECT count(*) FROM webhook_endpoints").fetchone()[0])
    return server


def kinds(receiver: Receiver) -> list[str]:
    """Return what came, in order."""
    return [json.loads(body)["type"] for _, body in receiver.posts]


def test_a_life_is_posted(
    start_server: StartServer, connect: Connect, receiver: Receiver, file: Path
) -> None:
    """Every event is posted, in order, without the secret in the log; the metric counts them."""
    server = begin(start_server, file, "--metrics-listen", "127.0.0.1:0")
    wire = connect(server)
    name = wire.running()
    wire.conclude(name, "b")
    eventually(lambda: server.sample("bandit_webhook_delivered_total", endpoint="chat") == 3)
    assert kinds(receiver) == ["experiment.created", "experiment.started", "experiment.concluded"]
    assert SECRET not in server.log.read_text()


def test_a_hanging_receiver_delays_neither_calls_nor_the_end(
    start_server: StartServer, connect: Connect, receiver: Receiver, file: Path
) -> None:
    """While a post hangs the server answers, and it stops without waiting for the post."""
    receiver.answer = hang
    server = begin(start_server, file)
    wire = connect(server)
    name = wire.running()
    assert receiver.has_come.wait(60)
    assert wire.choose(name).arm
    server.signal(signal.SIGTERM)
    began_at = time.monotonic()
    assert server.wait() == 0
    assert time.monotonic() - began_at < 8


def test_what_is_dead_is_listed_and_sent_again(
    start_server: StartServer, connect: Connect, receiver: Receiver, file: Path, tmp_path: Path
) -> None:
    """A dead event stands in the list with its error, and after `resend` it is posted and gone."""
    receiver.answer = with_status(500)
    server = begin(start_server, file)
    name = connect(server).running()
    database = ("--database", server.url)

    def listed(*flags: str) -> list[dict[str, object]]:
        done = run_command("webhooks", "list", "--json", *flags, *database, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout)["deliveries"])

    eventually(listed, until=lambda found: len(found) == 2 and found[0]["last_error"])
    with closing(sqlite3.connect(server.database, isolation_level=None)) as connection:
        connection.execute("UPDATE deliveries SET queued_at = 0 WHERE sequence = 1")
    (dead,) = eventually(lambda: listed("--dead"))
    assert (dead["endpoint"], dead["experiment"], dead["sequence"]) == ("chat", name, 1)
    assert (dead["kind"], dead["last_error"]) == ("created", "status 500")
    shown = run_command("webhooks", "list", *database, folder=tmp_path)
    assert "status 500" in shown.stdout
    receiver.answer = with_status(200)
    eventually(lambda: [each["sequence"] for each in listed()] == [1])
    done = run_command("webhooks", "resend", "chat", "--experiment", name, *database, folder=tmp_path)
    assert done.stdout == "1 event will be sent again\n"
    eventually(lambda: listed() == [])
    assert kinds(receiver)[-2:] == ["experiment.started", "experiment.created"]
    again = run_command("webhooks", "resend", "chat", *database, folder=tmp_path)
    assert (again.returncode, "no such dead event" in again.stderr) == (1, True)
    empty = run_command("webhooks", "list", *database, folder=tmp_path)
    assert empty.stdout == "every event was taken\n"


def test_a_bad_file_keeps_a_server_from_starting(tmp_path: Path) -> None:
    """The error has file, key and rule, and where the file was set."""
    file = tmp_path / "webhooks.toml"
    file.write_text('[[endpoints]]\nname = "chat"\nurl = "http://example.com"\nsecrets = []\n')
    done = run_command("serve", "--webhooks", str(file), "--listen", "127.0.0.1:0", folder=tmp_path)
    assert done.returncode == 1
    assert f"--webhooks: {file}: endpoints[0].url: must begin with https://" in done.stderr
    assert f"--webhooks: {file}: endpoints[0].secrets: must be one or two" in done.stderr

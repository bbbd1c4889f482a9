"""A real server as a child process, observed from outside."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import pytest

from benchmarks.harness.processes import REPOSITORY, ChildError, clean_environment, resident_mib, start
from server.app import maintenance
from server.settings import Settings

_Result = TypeVar("_Result")

FAST_LANE: Final = "fast lane"
LISTENERS: Final = ("grpcio", FAST_LANE)
"""The listeners of a server that are tested."""

WITH_FAST_LANE: Final = ("--fast-listen", "127.0.0.1:0")
"""The flags of a server that has both."""


def eventually(
    look: Callable[[], _Result], *, until: Callable[[_Result], object] = bool, seconds: float = 60.0
) -> _Result:
    """Return the first result of `look` that satisfies `until`; fail if there is none in time."""
    deadline = time.monotonic() + seconds
    while not until(found := look()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:g} s; at last: {found!r}")
        time.sleep(0.01)
    return found


def command(*arguments: str) -> list[str]:
    """Return the command line that runs `bandit-server` with these arguments."""
    return [sys.executable, "-m", "server", *arguments]


def run_command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `bandit-server` to its end."""
    return run(command(*arguments), folder)


def run(program: Sequence[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with `environment` in addition."""
    return subprocess.run(
        program,
        cwd=folder,
        env=clean_environment() | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """One run of the server on a database file.

    Attributes:
        process: The child process.
        database: The SQLite file.
        log: The file of its standard error; runs on one file append to one log.
        address: Where it listens.
        fast_address: Where its fast lane listens; None without `--fast-listen`.
    """

    process: subprocess.Popen[str]
    database: Path
    log: Path
    address: str
    fast_address: str | None = None

    @classmethod
    def start(
        cls,
        database: Path,
        *flags: str,
        port: int = 0,
        program: Sequence[str] = ("server",),
        code: Path = REPOSITORY,
        environment: Mapping[str, str] | None = None,
    ) -> Self:
        """Start a server, and return once it prints that it serves, or waits for its database.

        Args:
            database: The SQLite file.
            flags: Additional flags of `bandit-server serve`.
            port: Where it listens.
            program: What runs it: a module, and arguments before those of `bandit-server`.
            code: The folder that holds its packages.
            environment: Additional environment of the process.
        """
        log = database.with_suffix(".log")
        listen = ("--listen", f"127.0.0.1:{port}", "--database", f"sqlite:///{database}")
        arguments = ("-m", *program, "serve", *listen, *flags)
        added = {"PYTHONPATH": str(code), **(environment or {})}
        try:
            process, line = start(arguments, database.parent, log, added)
        except ChildError as error:
            pytest.fail(f"{error}\n{log.read_text()}")
        if not re.match(r"bandit-server is (serving|waiting for its database) at ", line):
            process.kill()
            process.communicate()
            pytest.fail(f"the server did not start: {line!r} {log.read_text()}")
        fast_address = None
        if "--fast-listen" in flags and process.stdout is not None:
            fast_address = process.stdout.readline().split()[-1]  # it was written together with the first
        return cls(process, database, log, line.split()[-1], fast_address)

    @property
    def port(self) -> int:
        """The port that it listens at."""
        return int(self.address.rpartition(":")[2])

    def address_of(self, listener: str) -> str:
        """Return where one of `LISTENERS` is; fail if this server does not have it."""
        if listener != FAST_LANE:
            return self.address
        assert self.fast_address is not None, "the server was started without a fast lane"
        return self.fast_address

    def port_of(self, listener: str) -> int:
        """Return the port of one of `LISTENERS`."""
        return int(self.address_of(listener).rpartition(":")[2])

    @property
    def url(self) -> str:
        """The URL of its database."""
        return f"sqlite:///{self.database}"

    def signal(self, number: int) -> None:
        """Send a signal and return at once."""
        self.process.send_signal(number)

    def wait(self, seconds: float = 60.0) -> int:
        """Wait for the end of the process; return its exit code."""
        self.process.communicate(timeout=seconds)
        return self.process.returncode

    def terminate(self) -> int:
        """Stop it as a supervisor would; return the exit code."""
        self.process.terminate()
        return self.wait()

    def kill(self) -> None:
        """Kill it, without a chance to write anything."""
        self.process.kill()
        self.wait()

    def events(self) -> list[dict[str, Any]]:
        """Return the events of its log; fail if a line is not one JSON object."""
        return [_event(line) for line in self.log.read_text().splitlines()]

    def memory(self) -> int:
        """Return its peak resident memory in bytes."""
        return round(resident_mib(self.process.pid, "VmHWM") * 1024**2)

    def scrape(self) -> str:
        """Return its metrics, as Prometheus gets them."""
        (port,) = [e["port"] for e in self.events() if e["event"] == "metrics.serving"][-1:]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as page:
            return str(page.read().decode())

    def sample(self, name: str, **labels: str) -> float:
        """Return one number of its metrics, 0 if there is none."""
        for line in self.scrape().splitlines():
            found = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
            if found is not None and dict(re.findall(r'(\w+)="([^"]*)"', found[1] or "")) == labels:
                return float(found[2])
        return 0.0


def _event(line: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        pytest.fail(f"a line of the log is not JSON: {line!r}")
    assert isinstance(event, dict)
    return event


def verify(database: Path) -> None:
    """Fail unless `verify` finds the file sound and the facts to be exactly the fold of the log."""
    report = maintenance.verify(Settings(database=f"sqlite:///{database}"), lambda _done, _total: None)
    assert report.is_clean, report.differences
    assert [note for note in report.notes if "are uncounted" not in note] == []


@contextmanager
def serving(database: Path, *flags: str) -> Iterator[ServerProcess]:
    """Start a server that must end well: it stops with 0, logs JSON, and its facts are its ledger's fold."""
    server = ServerProcess.start(database, *flags)
    try:
        yield server
    finally:
        exit_code = server.terminate()
    assert exit_code == 0
    assert server.events()
    verify(database)


def refused_start(url: str, folder: Path) -> str:
    """Return the line on standard error, with exit code 1, of a server that can't start on a database.

    It runs without root's privileges, for which no file is read-only.
    """
    done = run([*powerless(), *command("serve", "--listen", "127.0.0.1:0", "--database", url)], folder)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    (line,) = done.stderr.splitlines()
    return line


def powerless() -> list[str]:
    """Return what runs a command without root's privileges, for which every file can be written."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    assert setpriv is not None, "running as root, the tests need setpriv, of util-linux"
    return [setpriv, "--inh-caps=-all", "--bounding-set=-all"]

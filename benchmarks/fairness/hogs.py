"""Callers that take all that a listener gives them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.harness.load_client import LoadError
from benchmarks.harness.workloads import BatchChooses, Chooses, StreamedChooses, Workload
from benchmarks.throughput.listeners.programs import LoadProgram
from benchmarks.throughput.listeners.runs import WARM_UP_SECONDS, Shape, cores

_GRACE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hog:
    """A kind of hog.

    Attributes:
        title: What it does.
        workload: The requests that it sends.
        shape: How it sends them, each after an answer; None for the pourer's thousands at a time.
    """

    title: str
    workload: Workload
    shape: Shape | None


def hogs(names: Sequence[str]) -> list[Hog]:
    """Return every kind of hog, on these experiments."""
    chooses = Chooses(experiments=names, has_unit=True)
    return [
        Hog(
            title="1 connection, 1,000 calls in flight",
            workload=chooses,
            shape=Shape(n_connections=1, n_in_flight=1_000),
        ),
        Hog(title="1 connection, 256 KB of calls at a time", workload=chooses, shape=None),
        Hog(
            title="4 connections, BatchChoose(1,000)",
            workload=BatchChooses(experiments=names),
            shape=Shape(n_connections=4, n_in_flight=1),
        ),
        Hog(
            title="100 connections, 8 calls in flight on each",
            workload=chooses,
            shape=Shape(n_connections=100, n_in_flight=8),
        ),
        Hog(
            title="1 ChooseStream, 1,000 messages in flight",
            workload=StreamedChooses(experiments=names),
            shape=Shape(n_connections=1, n_in_flight=1_000, is_stream=True),
        ),
    ]


@dataclass(slots=True)
class Takings:
    """What a hog got.

    Attributes:
        rate: Calls, batches or messages a second that were answered; 0 while it goes on.
    """

    rate: float = 0.0


@contextmanager
def hogging(
    program: LoadProgram, hog: Hog, requests: Path, *, address: str, pid: int, seconds: float
) -> Iterator[Takings]:
    """Let a hog loose for some seconds, on the core of the clients; it ends with the block, or later.

    Args:
        program: The load client.
        hog: The hog.
        requests: The file of its prepared requests.
        address: The listener, HOST:PORT, HOST being an IPv4 address.
        pid: The server's process.
        seconds: How long it goes on.

    Raises:
        LoadError: It failed.
    """
    host, _, port = address.rpartition(":")
    target = (host, port, str(requests))
    command = [sys.executable, "-m", "benchmarks.fairness.pourer", *target, str(seconds)]
    if hog.shape is not None:
        counts = ("-c", str(hog.shape.n_connections), "-m", str(hog.shape.n_in_flight))
        times = ("-w", str(WARM_UP_SECONDS), "-s", str(seconds - WARM_UP_SECONDS))
        stream = ["-b"] if hog.shape.is_stream else []
        command = [str(program.path), *counts, *times, "-r", "0", "-p", str(pid), *stream, *target]
    takings = Takings()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            both = cores()
            if both is not None:
                os.sched_setaffinity(process.pid, {both[1]})
            yield takings
            output, errors = process.communicate(timeout=seconds + _GRACE_SECONDS)
        finally:
            process.kill()
    if process.returncode != 0:
        raise LoadError(f"{hog.title}: {errors.strip()[-400:]}")
    found = json.loads(output)
    takings.rate = found["n_answers"] / found["seconds"] if isinstance(found, dict) else found

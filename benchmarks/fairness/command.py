"""A good caller beside hogs, on both listeners: `python -m benchmarks.fairness`.

The server is held to one core, and all clients to another. In each round the good caller has a turn alone and
one beside each hog, on one listener and then on the other.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

import click
import grpc

from benchmarks.fairness.hogs import Hog, hogging, hogs
from benchmarks.harness.console import console, plain_table
from benchmarks.harness.experiments import declare, named
from benchmarks.harness.load_client import LoadError
from benchmarks.harness.processes import ChildError
from benchmarks.harness.workloads import Chooses, Workload
from benchmarks.throughput.listeners.prepared import Heading, write_requests
from benchmarks.throughput.listeners.programs import BuildError, LoadProgram, build_load_client
from benchmarks.throughput.listeners.rows import Name
from benchmarks.throughput.listeners.runs import Run, Shape, pin, run
from benchmarks.throughput.listeners.subjects import Subject, plain
from server.cli.framework.progress import ending_on_sigterm

_N_DISTINCT: Final = 8_000
_FEWEST: Final = 20
_ALONE: Final = "alone"
_NEVER: Final = "> a turn"
"""In place of a wait: in some turn, none of the calls that were due in it was answered in it."""

_GOOD_SHAPE: Final = Shape(n_connections=1, n_in_flight=1)
_HEAD_START_SECONDS: Final = 0.4
"""What a hog has to be at full speed before the good caller begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long things are measured.

    Attributes:
        n_rounds: Rounds, in each of which everything has one turn.
        seconds: The length of a turn.
        rate: Calls a second of the good caller.
    """

    n_rounds: int
    seconds: float
    rate: float


@dataclass(slots=True)
class Row:
    """The good caller on one listener, beside one hog or alone.

    Attributes:
        listener: The listener.
        beside: The hog.
        runs: Each of its turns.
        takings: What the hog got a second in each.
    """

    listener: Name
    beside: str
    runs: list[Run] = field(default_factory=list)
    takings: list[float] = field(default_factory=list)

    def cells(self, alone: "Row") -> list[str]:
        """Return the row's cells: medians of the turns; ratios are of turns of the same round."""
        taken = f"{median(self.takings):,.0f}" if self.takings else ""
        if not all(each.p99_us for each in self.runs):
            return [self.listener, self.beside, _NEVER, _NEVER, "", taken]
        pairs = zip(self.runs, alone.runs, strict=True)
        ratio = median(mine.p99_us / other.p99_us for mine, other in pairs)
        p50 = median(each.p50_us for each in self.runs) / 1e3
        p99 = median(each.p99_us for each in self.runs) / 1e3
        return [self.listener, self.beside, f"{p50:,.2f}", f"{p99:,.2f}", f"{ratio:,.1f}", taken]


def measure(
    scratch: Path, effort: Effort, wanted: Callable[[str], bool], on_turn: Callable[[str], None]
) -> list[Row]:
    """Run a server, the good caller and the hogs.

    Args:
        scratch: An empty folder.
        effort: How long.
        wanted: Whether a hog of this title is wanted.
        on_turn: Called with the title of each turn.

    Raises:
        BuildError: The load client can't be compiled.
        ChildError: The server failed.
        LoadError: A call failed.
    """
    program = build_load_client(scratch)
    names = named(10, 1)
    found = [hog for hog in hogs(names) if wanted(hog.title)]
    good = Chooses(experiments=names, has_unit=True)
    with plain(scratch, has_fast=True) as listeners:
        declare(listeners[Name.DEFAULT].address, {10: names}, lambda _: None)
        pin({subject.pid for subject in listeners.values()})
        turns = [
            _Listener(program, name, subject, scratch, good, found) for name, subject in listeners.items()
        ]
        for number in range(effort.n_rounds):
            for turn in turns:
                on_turn(f"round {number + 1} of {effort.n_rounds}, {turn.name}")
                turn.take(effort)
    return [row for turn in turns for row in turn.rows]


class _Listener:
    """One listener, with the good caller and all hogs on it."""

    def __init__(
        self,
        program: LoadProgram,
        name: Name,
        subject: Subject,
        scratch: Path,
        good: Workload,
        found: Sequence[Hog],
    ) -> None:
        self.name = name
        self._program = program
        self._subject = subject
        self._hogs = found
        self._alone = Row(name, _ALONE)
        self._beside = [Row(name, hog.title) for hog in found]
        self._good = scratch / f"{name}-good"
        _prepare(self._good, subject, good, 1)
        self._files: Mapping[str, Path] = {}
        files = {}
        for number, hog in enumerate(found):
            files[hog.title] = scratch / f"{name}-{number}"
            n_connections = 1 if hog.shape is None else hog.shape.n_connections
            _prepare(files[hog.title], subject, hog.workload, n_connections)
        self._files = files

    @property
    def rows(self) -> list[Row]:
        """The good caller alone, and beside each hog."""
        return [self._alone, *self._beside]

    def take(self, effort: Effort) -> None:
        """Measure the good caller alone, and beside each hog."""
        self._alone.runs.append(self._call(effort))
        for row, hog in zip(self._beside, self._hogs, strict=True):
            seconds = effort.seconds + 2 * _HEAD_START_SECONDS
            with hogging(
                self._program,
                hog,
                self._files[hog.title],
                address=self._subject.address,
                pid=self._subject.pid,
                seconds=seconds,
            ) as takings:
                time.sleep(_HEAD_START_SECONDS)
                row.runs.append(self._call(effort))
            row.takings.append(takings.rate * hog.workload.items_per_call)

    def _call(self, effort: Effort) -> Run:
        return run(
            self._program,
            _GOOD_SHAPE,
            self._good,
            address=self._subject.address,
            pid=self._subject.pid,
            seconds=effort.seconds,
            rate=effort.rate,
        )


def _prepare(file: Path, subject: Subject, workload: Workload, n_connections: int) -> None:
    """Write the requests of a workload to a file."""

    async def requests() -> list[bytes]:
        async with grpc.aio.insecure_channel(subject.address) as channel:
            n_wanted = max(_FEWEST, _N_DISTINCT // workload.items_per_call)
            return list(islice(await workload.requests(channel), n_wanted))

    heading = Heading(method=workload.method, authority=subject.address)
    write_requests(file, heading, asyncio.run(requests()), n_connections)


@click.command()
@click.option("--rounds", type=click.IntRange(1, 100), default=5, show_default=True, help="Rounds.")
@click.option(
    "--seconds", type=click.FloatRange(1, 60), default=4.0, show_default=True, help="Seconds of a turn."
)
@click.option(
    "--rate",
    type=click.FloatRange(1, 1_000),
    default=50.0,
    show_default=True,
    help="Calls a second of the good caller.",
)
@click.option("--hogs", "pattern", default="", help="Only hogs with this in their titles.")
@ending_on_sigterm()
def main(*, rounds: int, seconds: float, rate: float, pattern: str) -> None:
    """Measure how long a good caller waits, alone and beside hogs, on both listeners."""
    effort = Effort(n_rounds=rounds, seconds=seconds, rate=rate)
    try:
        with TemporaryDirectory(prefix="bandit-fairness-") as scratch:
            rows = measure(
                Path(scratch),
                effort,
                lambda title: pattern in title,
                lambda title: print(title, file=sys.stderr),
            )
    except (BuildError, ChildError, LoadError) as error:
        raise click.ClickException(str(error)) from error
    columns = ("listener", "beside", "p50 ms", "p99 ms", "p99, to alone", "the hog's calls/s")
    table = plain_table("A good caller", *columns, n_left=2)
    alone = {row.listener: row for row in rows if row.beside == _ALONE}
    for row in rows:
        table.add_row(*row.cells(alone[row.listener]))
    console().print(table)

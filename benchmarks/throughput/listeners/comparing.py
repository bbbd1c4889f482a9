"""Subjects measured in turns: what each costs and achieves in a row, and the ratios that are required."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Final

import grpc

from benchmarks.harness.load_client import LoadError
from benchmarks.harness.timings import Spread
from benchmarks.harness.workloads import Workload, check_response
from benchmarks.throughput.echo import METHOD, STREAM_METHOD
from benchmarks.throughput.listeners.prepared import Heading, write_requests
from benchmarks.throughput.listeners.programs import LoadProgram
from benchmarks.throughput.listeners.rows import Goal, Measure, Name, Row
from benchmarks.throughput.listeners.runs import Run, run
from benchmarks.throughput.listeners.subjects import Subject, Subjects

_N_DISTINCT: Final = 16_000
_FEWEST: Final = 17
"""Messages, where each is a batch: one for the ordinary client, and four for each of four connections."""

_FEWEST_SCHEDULED: Final = 20
"""Calls by schedule: large batches take as long as that needs."""

_CALL_SECONDS: Final = 10.0
_SHARE_OF_RATE: Final = 0.5
"""Of the rate of one core, at which latencies are measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long things are measured.

    Attributes:
        n_rounds: Rounds, in each of which every subject has one turn.
        seconds: The length of a turn.
    """

    n_rounds: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The figures of one subject in one row.

    Attributes:
        name: The subject.
        rate: Calls a second on one core, of each turn.
        cpu_us: CPU time of the server, in microseconds a call, of each turn.
        client_cpu_us: CPU time of the load client, in microseconds a call; the median turn.
        scheduled: Calls at half of that rate by schedule; its latencies count from when they were due.
    """

    name: Name
    rate: Spread
    cpu_us: Spread
    client_cpu_us: float
    scheduled: Run

    @property
    def core_share(self) -> float:
        """How much of a core the server took while calls followed answers."""
        return self.rate.middle * self.cpu_us.middle / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """What came of a goal.

    Attributes:
        goal: The goal.
        found: The ratio in each round.
        is_met: Whether its median is good.
    """

    goal: Goal
    found: Spread
    is_met: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A row with its figures; subjects that this machine cannot run are missing, and goals about them."""

    title: str
    setting: str
    subjects: Sequence[Found]
    ratios: Sequence[Ratio]


class Comparer:
    """Measures rows.

    Args:
        program: The load client.
        subjects: Those that run.
        folder: For files of requests.
        effort: How long things are measured.

    Attributes:
        n_rewards: How many rewards were acknowledged.
    """

    def __init__(self, program: LoadProgram, subjects: Subjects, folder: Path, effort: Effort) -> None:
        self._program = program
        self._subjects = subjects
        self._requests = folder / "requests"
        self._effort = effort
        self.n_rewards = 0

    def compare(self, row: Row) -> Compared:
        """Measure a row; raise LoadError if a call fails or has a wrong answer."""
        names = [name for name in row.subjects if name in self._subjects]
        batches = self._batches(row)
        turns: dict[Name, list[Run]] = {name: [] for name in names}
        for _ in range(self._effort.n_rounds):
            for name in names:
                turns[name].append(self._turn(row, name, next(batches)))
        return Compared(
            title=row.title,
            setting=f"{row.setting}, {row.shape.title}",
            subjects=[self._found(row, name, turns[name], next(batches)) for name in names],
            ratios=list(_ratios(row.goals, turns)),
        )

    def _found(self, row: Row, name: Name, turns: Sequence[Run], messages: Sequence[bytes]) -> Found:
        rate = Spread.of([turn.rate for turn in turns])
        half = rate.middle * _SHARE_OF_RATE
        seconds = max(self._effort.seconds * self._effort.n_rounds, _FEWEST_SCHEDULED / half)
        scheduled = self._turn(row, name, messages, seconds=seconds, rate=half)
        return Found(
            name=name,
            rate=rate,
            cpu_us=Spread.of([turn.cpu_us for turn in turns]),
            client_cpu_us=median(turn.client_cpu_us for turn in turns),
            scheduled=scheduled,
        )

    def _turn(
        self, row: Row, name: Name, messages: Sequence[bytes], *, seconds: float = 0.0, rate: float = 0.0
    ) -> Run:
        """Check one answer through an ordinary client, then make calls by schedule or in a closed loop."""
        subject = self._subjects[name]
        method = _method(row, subject)
        _check(subject, row, method, messages[0])
        heading = Heading(
            method=method,
            authority=subject.address,
            deadline=row.deadline,
            token=subject.token,
            is_tls=subject.certificate is not None,
        )
        write_requests(self._requests, heading, messages[1:], row.shape.n_connections)
        done = run(
            self._program,
            replace(row.shape, is_tls=heading.is_tls),
            self._requests,
            address=subject.address,
            pid=subject.pid,
            seconds=seconds or self._effort.seconds,
            rate=rate,
        )
        if row.shape.is_once:
            self.n_rewards += 1 + done.n_acknowledged
        return done

    def _batches(self, row: Row) -> Iterator[list[bytes]]:
        """Yield the messages of each turn, one for the ordinary client before the others."""
        most = None if row.shape.is_once else max(_N_DISTINCT // row.workload.items_per_call, _FEWEST)
        address = self._subjects[Name.DEFAULT].address
        made = asyncio.run(_collect(row.workload, address, most))
        while True:
            yield made
            if row.shape.is_once:
                made = asyncio.run(_collect(row.workload, address, most))


async def _collect(workload: Workload, address: str, most: int | None) -> list[bytes]:
    options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        return list(islice(await workload.requests(channel), most))


def _ratios(goals: Sequence[Goal], turns: Mapping[Name, Sequence[Run]]) -> Iterator[Ratio]:
    for goal in goals:
        if goal.of in turns and goal.to in turns:
            pairs = zip(turns[goal.of], turns[goal.to], strict=True)
            found = Spread.of([_measured(goal, of) / _measured(goal, to) for of, to in pairs])
            yield Ratio(goal=goal, found=found, is_met=goal.is_met(found.middle))


def _measured(goal: Goal, turn: Run) -> float:
    return turn.rate if goal.measure is Measure.RATE else turn.cpu_us


def _method(row: Row, subject: Subject) -> str:
    if not subject.is_echo:
        return row.workload.method
    return STREAM_METHOD if row.shape.is_stream else METHOD


def _check(subject: Subject, row: Row, method: str, message: bytes) -> None:
    """Send a message through grpcio; raise LoadError unless the answer is what a good request gets."""
    with subject.channel() as channel:
        try:
            if row.shape.is_stream:
                stream: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
                (answer,) = stream(iter([message]), timeout=_CALL_SECONDS, metadata=subject.metadata)
            else:
                call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
                answer = call(message, timeout=_CALL_SECONDS, metadata=subject.metadata)
            check_response(method, answer)
        except (grpc.RpcError, ValueError) as error:
            raise LoadError(f"{method} at {subject.address}: {error}") from error

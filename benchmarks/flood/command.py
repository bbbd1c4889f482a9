"""Bursts of honest calls, and a flood of calls without requests: `python -m benchmarks.flood`.

Bursts come over several connections, all calls at once. Then one address floods while an honest caller goes
on over a connection of its own; memory is compared before and a while after.
"""

import asyncio
import statistics
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import click
import grpc

from bandit.v1 import bandit_pb2, bandit_pb2_grpc
from benchmarks.flood.attacker import FloodTotals, flood
from benchmarks.harness.console import console, plain_table
from benchmarks.harness.experiments import declare, named
from benchmarks.harness.processes import Child, ChildError, serving
from benchmarks.harness.workloads import CHOOSE, METRIC
from server.cli.framework.progress import ending_on_sigterm

MOST_GROWTH: Final = 1.3
"""The largest memory allowed a while after the flood, over that before."""

BURSTS: Final = ((4, 900), (8, 900))
_CALL_SECONDS: Final = 30.0
_PAUSE: Final = 0.005
_BAD: Final = frozenset({"CANCELLED", "INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED", "UNAVAILABLE"})


@dataclass(slots=True)
class Row:
    """The results of honest calls in one phase.

    Attributes:
        title: The phase.
        statuses: Status mapped to how many calls ended with it.
        waits: Seconds of the calls that were answered.
    """

    title: str
    statuses: Counter[str] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """True if every call was answered, or refused for now."""
        return not _BAD & self.statuses.keys()

    def cells(self) -> list[str]:
        """Return the row's cells."""
        waits = self.waits or [0.0]
        ends = ", ".join(f"{count:,} {status}" for status, count in self.statuses.most_common())
        times = (statistics.median(waits), statistics.quantiles([*waits, waits[-1]], n=100)[-1], max(waits))
        return [self.title, ends, *(f"{1000 * seconds:,.1f}" for seconds in times)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The results of the benchmark.

    Attributes:
        rows: Honest calls of each phase.
        totals: The flood.
        mib: Resident memory before the flood, at its end and after the rest.
    """

    rows: Sequence[Row]
    totals: FloodTotals
    mib: tuple[float, float, float]

    @property
    def growth(self) -> float:
        """Memory after the rest over that before."""
        return self.mib[2] / self.mib[0]

    @property
    def is_good(self) -> bool:
        """True if everything is as promised."""
        return self.growth <= MOST_GROWTH and all(row.is_good for row in self.rows)


def measure(
    folder: Path, *, seconds: float, rest: float, bursts: Sequence[tuple[int, int]] = BURSTS
) -> Result:
    """Run a server and everything against it.

    Args:
        folder: Where its database goes.
        seconds: How long the flood lasts.
        rest: How long after it memory is measured.
        bursts: Connections, and calls on each at once.
    """
    (name,) = named(10, 1)
    with serving(folder) as server:
        declare(server.address, {10: [name]}, lambda _: None)
        return asyncio.run(_measure(server, name, seconds, rest, bursts))


async def _measure(
    server: Child, name: str, seconds: float, rest: float, bursts: Sequence[tuple[int, int]]
) -> Result:
    rows = []
    port = int(server.address.rpartition(":")[2])
    async with _channel(server) as channel:
        caller = bandit_pb2_grpc.BanditServiceStub(channel)
        rows.append(await _steady(Row("before"), caller, name, min(seconds, 5.0)))
        rows += [await _burst(server, name, *burst) for burst in bursts]
        before = server.resident_mib()
        hostile = asyncio.create_task(flood(port, CHOOSE, seconds))
        rows.append(await _steady(Row("flood"), caller, name, seconds))
        totals = await hostile
        at_end = server.resident_mib()
        rows.append(await _steady(Row("after"), caller, name, min(rest, 5.0)))
        await asyncio.sleep(max(0.0, rest - 5.0))
    return Result(rows=rows, totals=totals, mib=(before, at_end, server.resident_mib()))


async def _steady(
    row: Row, caller: "bandit_pb2_grpc.BanditServiceAsyncStub", name: str, seconds: float
) -> Row:
    """Call Choose, then Reward, over and over."""
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        chosen: list[bandit_pb2.ChooseResponse] = []

        async def choose(chosen: list[bandit_pb2.ChooseResponse] = chosen) -> None:
            request = bandit_pb2.ChooseRequest(experiment=name)
            chosen.append(await caller.Choose(request, timeout=_CALL_SECONDS))

        await _call(row, choose)
        if chosen:
            reward = bandit_pb2.RewardRequest(decision_id=chosen[0].decision_id, outcomes={METRIC: 1.0})
            await _call(row, partial(caller.Reward, reward, timeout=_CALL_SECONDS))
        await asyncio.sleep(_PAUSE)
    return row


async def _burst(server: Child, name: str, n_connections: int, n_calls: int) -> Row:
    row = Row(f"burst: {n_connections} connections, {n_calls:,} calls on each")
    channels = [_channel(server) for _ in range(n_connections)]
    for channel in channels:
        await channel.channel_ready()
    request = bandit_pb2.ChooseRequest(experiment=name)
    stubs = [bandit_pb2_grpc.BanditServiceStub(channel) for channel in channels]
    await asyncio.gather(
        *(
            _call(row, partial(stub.Choose, request, timeout=_CALL_SECONDS))
            for stub in stubs
            for _ in range(n_calls)
        )
    )
    for channel in channels:
        await channel.close()
    return row


async def _call(row: Row, ask: Callable[[], Awaitable[object]]) -> None:
    asked_at = time.monotonic()
    try:
        await ask()
    except grpc.aio.AioRpcError as error:
        row.statuses[error.code().name] += 1
    else:
        row.statuses["OK"] += 1
        row.waits.append(time.monotonic() - asked_at)


def _channel(server: Child) -> grpc.aio.Channel:
    options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
    return grpc.aio.insecure_channel(server.address, options=options)


@click.command()
@click.option(
    "--seconds", type=click.FloatRange(1, 600), default=20.0, show_default=True, help="Seconds of the flood."
)
@click.option(
    "--rest",
    type=click.FloatRange(1, 600),
    default=60.0,
    show_default=True,
    help="Seconds after the flood until memory is compared.",
)
@ending_on_sigterm()
def main(*, seconds: float, rest: float) -> None:
    """Measure honest calls in bursts and during a flood; exit code 1 if any ends badly or memory stays."""
    try:
        with TemporaryDirectory(prefix="bandit-flood-") as scratch:
            result = measure(Path(scratch), seconds=seconds, rest=rest)
    except ChildError as error:
        raise click.ClickException(str(error)) from error
    out = console()
    table = plain_table("Honest calls", "when", "how they ended", "p50 ms", "p99 ms", "longest ms", n_left=2)
    for row in result.rows:
        table.add_row(*row.cells())
    out.print(table)
    before, at_end, after = result.mib
    totals = result.totals
    out.print(
        f"· flood: {totals.n_tried} connections tried, {totals.n_made} taken, {totals.n_closed} closed\n"
        f"· memory: {before:.0f} MiB before, {at_end:.0f} at the end of the flood, {after:.0f} MiB "
        f"{rest:g} s after it: {result.growth:.2f} times"
    )
    sys.exit(0 if result.is_good else 1)

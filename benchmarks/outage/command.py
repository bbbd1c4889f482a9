"""What an outage of the database costs: `python -m benchmarks.outage --seconds 60`.

Real servers, a real PostgreSQL that is killed, stopped or frozen for `--seconds`, and clients over sockets
that call Choose and Reward all the time. Choose must not fail once; its latency is shown before, during and
after. Reward must recover by itself, with nothing lost or doubled.
"""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import click
import grpc
import uvloop

from bandit.v1 import experiment_pb2, experiment_pb2_grpc
from benchmarks.harness.postgresql import PostgresqlProcess, query
from benchmarks.harness.processes import SERVE, Child, running
from benchmarks.outage.clients import PHASES, Load, Phase
from server.app import maintenance
from server.cli.framework.progress import ending_on_sigterm
from server.settings import Settings

_NAME: Final = "outage"
_RECOVERY_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Calls of Choose that began in one phase; latencies in milliseconds."""

    phase: str
    n_calls: int
    n_failed: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    largest_ms: float
    reasons: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the outage cost.

    Attributes:
        fault: The fault of the database.
        outage_seconds: How long it took no connections.
        rows: Choose, phase by phase.
        recovery_seconds: From when it took connections again to the first acknowledged reward.
        refusals: Status mapped to how many calls of Reward failed with it.
        n_acked: Rewards acknowledged.
        n_doubtful: Retries that came back as duplicates.
        n_lost: Rewards acknowledged and not in the log.
        n_differences: Sums that are not the fold of the log.
    """

    fault: str
    outage_seconds: float
    rows: Sequence[Row]
    recovery_seconds: float
    refusals: Mapping[str, int]
    n_acked: int
    n_doubtful: int
    n_lost: int
    n_differences: int

    @property
    def is_good(self) -> bool:
        """True if no call of Choose failed, and no reward was lost or doubled."""
        return not (any(row.n_failed for row in self.rows) or self.n_lost or self.n_differences)


def _kill(postgresql: PostgresqlProcess, seconds: float) -> None:
    postgresql.kill()
    time.sleep(seconds)
    postgresql.start()


def _stop(postgresql: PostgresqlProcess, seconds: float) -> None:
    postgresql.stop(signal.SIGINT)
    time.sleep(seconds)
    postgresql.start()


def _freeze(postgresql: PostgresqlProcess, seconds: float) -> None:
    with postgresql.frozen():
        time.sleep(seconds)


FAULTS: Final[Mapping[str, Callable[[PostgresqlProcess, float], None]]] = {
    "kill": _kill,
    "stop": _stop,
    "freeze": _freeze,
}


@click.command()
@click.option("--seconds", default=60.0, show_default=True, help="How long the database is down.")
@click.option(
    "--around", default=10.0, show_default=True, help="Seconds before it goes down, and after it is back."
)
@click.option(
    "--fault", type=click.Choice(list(FAULTS)), default="kill", show_default=True, help="How it goes down."
)
@click.option("--replicas", default=2, show_default=True, help="Servers on the database.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@ending_on_sigterm()
def main(seconds: float, around: float, fault: str, replicas: int, *, as_json: bool) -> None:
    """Take the database away from servers under load, and give it back.

    The exit code is 1 if a call of Choose failed, or a reward was lost or doubled.
    """
    with TemporaryDirectory(prefix="bandit-outage-") as folder:
        result = measure(Path(folder), fault=fault, seconds=seconds, around=around, n_replicas=replicas)
    print(json.dumps(asdict(result), indent=2) if as_json else "\n".join(table(result)))
    sys.exit(int(not result.is_good))


def measure(
    folder: Path, *, fault: str, seconds: float, around: float, n_replicas: int, flags: Sequence[str] = ()
) -> Result:
    """Run servers under load in `folder`, and take their database away for the outage."""
    postgresql = PostgresqlProcess(folder / "postgresql")
    try:
        url = postgresql.create_database()
        with ExitStack() as stack:
            servers = [
                stack.enter_context(running((*_serve(url), *flags), folder)) for _ in range(n_replicas)
            ]
            _create_experiment(servers[0])
            load = Load([server.address for server in servers], _NAME)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                outage_seconds, recovery_seconds = runner.run(
                    _run(load, lambda: FAULTS[fault](postgresql, seconds), around)
                )
        logged = {bytes(decision) for (decision,) in query(url, "SELECT decision FROM rewards")}
        report = maintenance.verify(Settings(database=url), lambda _done, _total: None)
    finally:
        postgresql.stop(signal.SIGQUIT)
    return Result(
        fault=fault,
        outage_seconds=outage_seconds,
        rows=[_row(name, load.phases[name]) for name in PHASES],
        recovery_seconds=recovery_seconds,
        refusals=dict(load.refusals),
        n_acked=len(load.acked),
        n_doubtful=load.n_doubtful,
        n_lost=len(load.acked - logged),
        n_differences=len(report.differences),
    )


async def _run(load: Load, take_away: Callable[[], None], around: float) -> tuple[float, float]:
    """Return how long the database was away, and how long Reward then took to be acknowledged."""
    async with load.running():
        await asyncio.sleep(around)
        load.begin("during")
        gone_at = time.monotonic()
        await asyncio.to_thread(take_away)
        back_at = load.begin("after")
        acked_at = await asyncio.wait_for(load.next_acknowledgement(), _RECOVERY_SECONDS)
        await asyncio.sleep(around)
    return back_at - gone_at, acked_at - back_at


def _serve(url: str) -> Sequence[str]:
    return (*SERVE, "--listen", "127.0.0.1:0", "--database", url, "--log-level", "error")


def _create_experiment(server: Child) -> None:
    declared = experiment_pb2.Experiment(
        name=_NAME,
        arms=[experiment_pb2.Arm(id=arm) for arm in "abc"],
        champion="a",
        metrics=[experiment_pb2.Metric(name="click", kind=experiment_pb2.METRIC_KIND_BINARY)],
        reward_metric="click",
    )
    with grpc.insecure_channel(server.address, [("grpc.enable_http_proxy", 0)]) as channel:
        stub = experiment_pb2_grpc.ExperimentServiceStub(channel)
        stub.CreateExperiment(experiment_pb2.CreateExperimentRequest(experiment=declared), timeout=20)
        stub.StartExperiment(experiment_pb2.StartExperimentRequest(name=_NAME), timeout=20)


def _row(name: str, phase: Phase) -> Row:
    ordered = sorted(phase.latencies)

    def quantile(share: float) -> float:
        return 1000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)]

    return Row(
        phase=name,
        n_calls=len(ordered) + phase.failures.total(),
        n_failed=phase.failures.total(),
        p50_ms=quantile(0.5),
        p99_ms=quantile(0.99),
        p999_ms=quantile(0.999),
        largest_ms=1000 * ordered[-1],
        reasons=dict(phase.reasons),
    )


def table(result: Result) -> list[str]:
    """Return the result as lines of Markdown."""
    lines = [
        f"Database down ({result.fault}) for {result.outage_seconds:.0f} s:",
        "",
        "| Choose | calls | failed | p50 ms | p99 ms | p99.9 ms | largest ms |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row.phase} | {row.n_calls:,} | {row.n_failed} | {row.p50_ms:.2f} | {row.p99_ms:.2f} "
        f"| {row.p999_ms:.1f} | {row.largest_ms:.0f} |"
        for row in result.rows
    ]
    refusals = ", ".join(f"{n:,} {status}" for status, n in result.refusals.items()) or "none"
    return [
        *lines,
        "",
        (
            f"First reward acknowledged {result.recovery_seconds:.2f} s after the database took connections "
            f"again. Refused meanwhile: {refusals}."
        ),
        (
            f"{result.n_acked:,} rewards acknowledged, {result.n_doubtful} of them in doubt at first; "
            f"lost {result.n_lost}, sums that differ from the log {result.n_differences}."
        ),
    ]

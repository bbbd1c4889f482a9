"""Durable rewards: `python -m benchmarks.durable`, compared with what the driver alone achieves.

Servers take Reward and BatchReward, each acknowledged after its COMMIT, on SQLite and on PostgreSQL with 1, 2
and 4 replicas. In turns with them the bare driver commits the same rows and sums, in groups as large as the
servers made them, from as many processes. The ratio is the fraction of the database's speed that remains
behind gRPC, checks, queue and answer. Clients, servers and PostgreSQL share this machine's cores: with two
cores, four replicas are not faster, and the figure is what they achieve together.
"""

import json
import os
import re
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

import click

from benchmarks.durable.driver_rate import raw_rate
from benchmarks.harness.console import console, plain_table
from benchmarks.harness.experiments import declare
from benchmarks.harness.load_client import Load, LoadClient, LoadError
from benchmarks.harness.postgresql import PostgresqlProcess
from benchmarks.harness.processes import (
    SERVE,
    Child,
    ChildError,
    database_of,
    free_port,
    running,
)
from benchmarks.harness.timings import Spread
from benchmarks.harness.workloads import BatchRewards, Rewards, Workload
from server.app import maintenance
from server.cli.framework.progress import ending_on_sigterm
from server.settings import Settings
from server.store.opening import open_store

NAME: Final = "durable"
_CALLERS: Final = 64
_BATCH_CALLERS: Final = 2
_MOST_REWARDS_A_SECOND: Final = 8_000
_MOST_BATCHES_A_SECOND: Final = 40
_WARM_UP_BATCHES: Final = 12
_REPLICAS: Final = (1, 2, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Durable:
    """One line of the table.

    Attributes:
        database: Its kind, and how many servers are on it.
        called: Reward or BatchReward.
        rate: Acknowledged rewards a second, over rounds.
        group: Outcomes in a commit, the mean over the rounds.
        p50_ms: The median of the callers' waits.
        p99_ms: Their 99th percentile.
        raw_rate: Rows a second of the bare driver in groups of that size, over rounds.
        ratio: Of neighbouring rounds.
    """

    database: str
    called: str
    rate: Spread
    group: float
    p50_ms: float
    p99_ms: float
    raw_rate: Spread
    ratio: Spread


@dataclass(frozen=True, slots=True)
class _Server:
    child: Child
    metrics_port: int

    def commits(self) -> tuple[float, float]:
        """Outcomes committed so far, and commits."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=20) as page:
            text = page.read().decode()
        found = dict(re.findall(r"^bandit_commit_outcomes_(sum|count) (\S+)$", text, re.MULTILINE))
        return float(found["sum"]), float(found["count"])


@dataclass(frozen=True, slots=True)
class _Stage:
    """Servers with their load clients, and a database of the same kind for the bare driver."""

    title: str
    servers: Sequence[_Server]
    clients: Sequence[LoadClient]
    raw_database: str


@click.command()
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write all figures there."
)
@click.option(
    "--seconds", type=click.FloatRange(0.5, 60), default=2.0, show_default=True, help="Seconds per round."
)
@click.option("--rounds", type=click.IntRange(1, 100), default=5, show_default=True)
@click.option("--quick", is_flag=True, help="One round of a second each: a smoke test.")
@ending_on_sigterm()
def main(*, json_file: Path | None, seconds: float, rounds: int, quick: bool) -> None:
    """Measure durable rewards a second next to the bare driver's rate for the same work."""
    seconds, rounds = (1.0, 1) if quick else (seconds, rounds)
    rows: list[Durable] = []
    try:
        with TemporaryDirectory(prefix="bandit-durable-") as scratch:
            for stage in _stages(Path(scratch)):
                for called in ("Reward", "BatchReward"):
                    rows.append(_measure(stage, called, seconds, rounds))
                    rate = f"{rows[-1].rate.middle:,.0f} rewards/s, ratio {rows[-1].ratio.middle:.2f}"
                    print(f"{stage.title}, {called}: {rate}", file=sys.stderr, flush=True)
    except (ChildError, LoadError) as error:
        raise click.ClickException(str(error)) from error
    _print(rows)
    if json_file is not None:
        document = {"cores": os.cpu_count(), "rows": [asdict(row) for row in rows]}
        json_file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _stages(scratch: Path) -> Iterator[_Stage]:
    """Yield SQLite with one server, then PostgreSQL with 1, 2 and 4; each is verified before the next."""
    for name in ("sqlite", "raw"):
        (scratch / name).mkdir()
    url = database_of(scratch / "sqlite")
    with _stage("SQLite, 1 server", scratch / "sqlite", url, database_of(scratch / "raw"), 1) as stage:
        yield stage
    _verify(url)
    postgresql = PostgresqlProcess(scratch / "postgresql")
    try:
        for n_replicas in _REPLICAS:
            folder = scratch / f"replicas-{n_replicas}"
            folder.mkdir()
            url, raw = postgresql.create_database(), postgresql.create_database()
            title = f"PostgreSQL, {n_replicas} server{'s' if n_replicas > 1 else ''}"
            with _stage(title, folder, url, raw, n_replicas) as stage:
                yield stage
            _verify(url)
    finally:
        postgresql.kill()


@contextmanager
def _stage(title: str, folder: Path, url: str, raw: str, n_replicas: int) -> Iterator[_Stage]:
    open_store(raw).close()
    with ExitStack() as stack:
        servers = []
        for _ in range(n_replicas):
            port = free_port()
            flags = ("--database", url, "--metrics-listen", f"127.0.0.1:{port}", "--log-level", "warning")
            command = (*SERVE, "--listen", "127.0.0.1:0", *flags)
            servers.append(_Server(stack.enter_context(running(command, folder)), port))
        clients = [stack.enter_context(LoadClient()) for _ in servers]
        declare(servers[0].child.address, {2: [NAME]}, lambda _: None)
        yield _Stage(title, servers, clients, raw)


def _measure(stage: _Stage, called: str, seconds: float, n_rounds: int) -> Durable:
    """Measure rounds of the servers and of the bare driver in turns."""
    rates, raws, groups, waits = [], [], [], []
    for _ in range(n_rounds):
        rate, group, latencies = _round(stage, called, seconds)
        rates.append(rate)
        groups.append(group)
        waits += latencies
        raws.append(raw_rate(stage.raw_database, len(stage.servers), max(1, round(group)), seconds))
    waits.sort()
    return Durable(
        database=stage.title,
        called=called,
        rate=Spread.of(rates),
        group=median(groups),
        p50_ms=1000 * waits[len(waits) // 2],
        p99_ms=1000 * waits[len(waits) * 99 // 100],
        raw_rate=Spread.of(raws),
        ratio=Spread.of([rate / raw for rate, raw in zip(rates, raws, strict=True)]),
    )


def _round(stage: _Stage, called: str, seconds: float) -> tuple[float, float, list[float]]:
    """Return rewards a second, outcomes in a commit, and the callers' waits."""
    before = [server.commits() for server in stage.servers]
    with ThreadPoolExecutor(len(stage.servers)) as threads:
        found = list(
            threads.map(
                lambda pair: pair[0].run(_load(pair[1].child, called, seconds)),
                zip(stage.clients, stage.servers, strict=True),
            )
        )
    after = [server.commits() for server in stage.servers]
    n_rows = sum(outcomes for outcomes, _ in after) - sum(outcomes for outcomes, _ in before)
    n_commits = sum(count for _, count in after) - sum(count for _, count in before)
    waits = [wait for each in found for wait in each.latencies]
    return sum(each.rate for each in found), n_rows / n_commits, waits


def _load(server: Child, called: str, seconds: float) -> Load:
    workload: Workload
    if called == "Reward":
        workload = Rewards(experiments=[NAME], n_calls=round(seconds * _MOST_REWARDS_A_SECOND))
    else:
        n_calls = round(seconds * _MOST_BATCHES_A_SECOND) + _WARM_UP_BATCHES
        workload = BatchRewards(experiments=[NAME], n_calls=n_calls)
    n_callers = _CALLERS if called == "Reward" else _BATCH_CALLERS
    return Load(
        address=server.address, pid=server.pid, workload=workload, n_callers=n_callers, seconds=seconds
    )


def _verify(url: str) -> None:
    report = maintenance.verify(Settings(database=url), lambda _done, _total: None)
    if not report.is_clean:
        raise ChildError(f"verify found differences after the load: {report.differences[:3]}")


def _print(rows: Sequence[Durable]) -> None:
    table = plain_table(
        "Rewards acknowledged after their COMMIT",
        *("database", "called", "rewards/s", "p50\nms", "p99\nms", "outcomes\na commit"),
        *("driver\nrows/s", "ratio", "quartiles"),
        n_left=2,
        no_wrap=True,
    )
    for row in rows:
        table.add_row(
            row.database,
            row.called,
            f"{row.rate.middle:,.0f}",
            f"{row.p50_ms:.1f}",
            f"{row.p99_ms:.1f}",
            f"{row.group:,.0f}",
            f"{row.raw_rate.middle:,.0f}",
            f"{row.ratio.middle:.2f}",
            f"{row.ratio.lower:.2f}-{row.ratio.upper:.2f}",
        )
    console().print(table)

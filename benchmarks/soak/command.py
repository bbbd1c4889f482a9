"""Mixed chaos: `python -m benchmarks.soak --minutes 30`, under load, with one fault after the other.

The load chooses, rewards, replays, revises and sends bad input. Meanwhile servers and the database are
killed, stopped and frozen, the database's file is locked, or a replica is cut off. At the end every
acknowledged reward must be in the log with its last value, the log must hold nothing that was not sent, and
the sums must be its fold. Random choices come from `--seed`, which is printed; timing does not repeat.
"""

import asyncio
import json
import random
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import click

from bandit.client import AsyncBanditClient
from bandit.v1 import experiment_pb2 as pb
from benchmarks.harness.console import console
from benchmarks.harness.faked_clock import INSTALLATION, FakedClock, find_library
from benchmarks.harness.postgresql import PostgresqlProcess
from benchmarks.harness.processes import ChildError, database_of, free_port
from benchmarks.harness.replicas import Replica
from benchmarks.harness.tcp_proxy import TcpProxy
from benchmarks.soak import clocks
from benchmarks.soak.check import LedgerComparison, check, n_left
from benchmarks.soak.clients import Books, Load
from benchmarks.soak.faults import ON_POSTGRESQL, ON_SERVERS, ON_SQLITE, FaultRecord, Scene, do_faults
from benchmarks.soak.results import Database, Sample, Soak
from benchmarks.soak.tables import print_soak
from server.cli.framework.progress import ending_on_sigterm

NAME: Final = "soak"
_N_REPLICAS: Final = 3
_FLAGS: Final = ("--lag-seconds", "5", "--drain-seconds", "5")
_SAMPLE_SECONDS: Final = 5.0
_SETTLING_SECONDS: Final = 60.0


@click.command()
@click.option("--minutes", type=click.FloatRange(0.1, 7 * 24 * 60), default=5.0, show_default=True)
@click.option("--seed", type=int, help="Seed of faults and load; drawn and printed by default.")
@click.option(
    "--database",
    type=click.Choice(["sqlite", "postgresql"]),
    default="sqlite",
    show_default=True,
    help="One server on SQLite, or three on their own PostgreSQL.",
)
@click.option(
    "--workers", type=click.IntRange(1, 1_000), default=16, show_default=True, help="Workers of the load."
)
@click.option(
    "--clock-jumps/--no-clock-jumps",
    default=True,
    show_default=True,
    help="Set the clocks of servers and of the database among the faults; this needs libfaketime.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write all results there.",
)
@ending_on_sigterm()
def main(
    *,
    minutes: float,
    seed: int | None,
    database: Database,
    workers: int,
    clock_jumps: bool,
    json_file: Path | None,
) -> None:
    """Put the service under load and through every fault, and check its ledger against what was sent."""
    if clock_jumps and find_library() is None:
        raise click.ClickException(
            f"libfaketime, which sets clocks, is not installed. Install it ({INSTALLATION}), or leave "
            "wrong clocks out with --no-clock-jumps"
        )
    soak = Soak(
        database,
        secrets.randbits(32) if seed is None else seed,
        1 if database == "sqlite" else _N_REPLICAS,
        clock_jumps,
    )
    print(f"seed {soak.seed}, {soak.n_replicas} servers on {database}, {minutes:g} minutes", flush=True)
    try:
        with TemporaryDirectory(prefix="bandit-soak-") as folder, _stage(soak, Path(folder)) as stage:
            books = asyncio.run(_run(soak, stage, minutes * 60, workers))
            comparison = _settle(soak, stage, books)
    except ChildError as error:
        raise click.ClickException(str(error)) from error
    print_soak(soak, books, comparison, console())
    if json_file is not None:
        json_file.write_text(
            json.dumps(_document(soak, books, comparison), indent=2) + "\n", encoding="utf-8"
        )
    sys.exit(0 if comparison.is_clean and all(f.recovery_seconds is not None for f in soak.happened) else 1)


@dataclass(slots=True)
class _Stage:
    """The processes of a soak.

    Attributes:
        url: The database, for checks that read it without the servers.
        replicas: The servers.
        sqlite_file: The database, if it is one.
        postgresql: The database, if it is one.
        proxies: Proxies between the servers and PostgreSQL, one each.
    """

    url: str
    replicas: list[Replica]
    sqlite_file: Path | None = None
    postgresql: PostgresqlProcess | None = None
    proxies: list[TcpProxy] = field(default_factory=list)

    @property
    def clocks(self) -> list[FakedClock]:
        """The clocks that can be set: of the servers, and of PostgreSQL."""
        of_database = None if self.postgresql is None else self.postgresql.clock
        found = (*(replica.clock for replica in self.replicas), of_database)
        return [clock for clock in found if clock is not None]


@contextmanager
def _stage(soak: Soak, folder: Path) -> Iterator[_Stage]:
    """Start everything, and stop everything at the end, whatever state it is in."""
    with ExitStack() as stack:
        if soak.database == "sqlite":
            url = database_of(folder)
            replicas = [_replica(soak, folder, url)]
            stage = _Stage(url, replicas, sqlite_file=folder / "bandit.db")
        else:
            stage = _with_postgresql(soak, folder, stack)
        for replica in stage.replicas:
            stack.callback(replica.take_down)
        if soak.has_wrong_clocks:
            _leave_expired_experiment(stage)
        for replica in stage.replicas:
            replica.start()
        yield stage


def _leave_expired_experiment(stage: _Stage) -> None:
    """Run one server while every clock is two months back, and leave an experiment from then."""
    for clock in stage.clocks:
        clock.set_off(-clocks.AGO)
    stage.replicas[0].start()
    asyncio.run(clocks.make_expired_experiment(stage.replicas[0].address))
    stage.replicas[0].signal(signal.SIGTERM)
    stage.replicas[0].wait()
    for clock in stage.clocks:
        clock.set_right()


def _replica(soak: Soak, folder: Path, url: str) -> Replica:
    port = free_port()
    if not soak.has_wrong_clocks:
        return Replica(folder, url, _FLAGS, port=port)
    flags = (*_FLAGS, *clocks.FLAGS)
    return Replica(folder, url, flags, FakedClock(folder / f"clock-{port}"), port=port)


def _with_postgresql(soak: Soak, folder: Path, stack: ExitStack) -> _Stage:
    folder.chmod(0o755)  # if root starts it, it runs as another user, who reads the clock's file
    clock = FakedClock(folder / "clock-postgresql") if soak.has_wrong_clocks else None
    postgresql = PostgresqlProcess(folder / "postgresql", clock=clock)
    stack.callback(postgresql.kill)
    url = postgresql.create_database()
    proxies = [TcpProxy(postgresql.port) for _ in range(_N_REPLICAS)]
    for proxy in proxies:
        stack.callback(proxy.close)
    replicas = [
        _replica(soak, folder, url.replace(str(postgresql.port), str(proxy.port))) for proxy in proxies
    ]
    return _Stage(url, replicas, postgresql=postgresql, proxies=proxies)


async def _run(soak: Soak, stage: _Stage, seconds: float, n_workers: int) -> Books:
    """Run load and faults, until the time is over and every reward is acknowledged."""
    await _declare(stage.replicas[0].address)
    generator = random.Random(soak.seed)
    load = Load([replica.address for replica in stage.replicas], NAME, n_workers, generator.getrandbits(64))
    scene = Scene(load, stage.replicas, generator, stage.sqlite_file, stage.postgresql, stage.proxies)
    kinds = ON_SERVERS | (ON_SQLITE if soak.database == "sqlite" else ON_POSTGRESQL)
    learning = await _learning(soak, stage, scene)
    if soak.has_wrong_clocks:
        kinds |= clocks.ON_SERVER_CLOCKS
        kinds |= {} if soak.database == "sqlite" else clocks.ON_DATABASE_CLOCKS

    def note(happened: FaultRecord) -> None:
        soak.happened.append(happened)
        recovery = (
            "not in time" if happened.recovery_seconds is None else f"{happened.recovery_seconds:.2f} s"
        )
        print(
            f"{happened.at_seconds:7.1f} s  {happened.kind}, {happened.lasted_seconds:.1f} s, "
            f"recovered after {recovery}",
            flush=True,
        )

    began_at = time.monotonic()
    sampling = asyncio.create_task(_keep_sampling(soak, stage, began_at))
    try:
        await do_faults(scene, kinds, seconds, note)
        soak.seconds = time.monotonic() - began_at
        if learning is not None:
            await _wait_for_purge(stage)
        await load.finish(_SETTLING_SECONDS)
    except TimeoutError:
        last = f"; the last impossible answer: {load.books.wrong[-1]}" if load.books.wrong else ""
        raise ChildError(f"the service did not settle: some rewards were never acknowledged{last}") from None
    finally:
        sampling.cancel()
        if learning is not None:
            await learning.close()
        await load.abandon()
    return load.books


async def _learning(soak: Soak, stage: _Stage, scene: Scene) -> clocks.Learning | None:
    """Return the experiment whose epochs must go on, under a little traffic, if clocks are set."""
    if not soak.has_wrong_clocks:
        return None
    await clocks.declare_learner(stage.replicas[0].address)
    learning = clocks.Learning([replica.address for replica in stage.replicas])
    scene.until_learning = learning.until_new_epochs
    return learning


async def _wait_for_purge(stage: _Stage) -> None:
    """Wait until the log has nothing of long ago, that is, until the servers trust their clocks."""
    over_at = time.monotonic() + _SETTLING_SECONDS
    while await asyncio.to_thread(n_left, stage.url, clocks.EXPIRED):
        if time.monotonic() > over_at:
            raise ChildError(
                "the log was not purged, although no clock has been wrong for a minute: "
                f"{stage.replicas[0].last_words()}"
            )
        await asyncio.sleep(0.5)


async def _declare(address: str) -> None:
    arms = [pb.Arm(id=arm) for arm in "abc"]
    metric = pb.Metric(name="click", kind=pb.METRIC_KIND_BINARY)
    async with AsyncBanditClient(address) as client:
        await client.experiments.create(
            pb.Experiment(name=NAME, arms=arms, champion="a", metrics=[metric], reward_metric="click")
        )
        await client.experiments.start(NAME)


async def _keep_sampling(soak: Soak, stage: _Stage, began_at: float) -> None:
    while True:
        wal = 0
        if stage.sqlite_file is not None:
            with suppress(FileNotFoundError):
                wal = stage.sqlite_file.with_name("bandit.db-wal").stat().st_size
        soak.samples.append(
            Sample(
                at_seconds=time.monotonic() - began_at,
                resident_mib=max(replica.resident_mib() for replica in stage.replicas),
                n_descriptors=max(replica.n_descriptors() for replica in stage.replicas),
                wal_mib=wal / 1024**2,
            )
        )
        await asyncio.sleep(_SAMPLE_SECONDS)


def _settle(soak: Soak, stage: _Stage, books: Books) -> LedgerComparison:
    """Stop the servers as a supervisor would, and compare."""
    for replica in stage.replicas:
        replica.signal(signal.SIGTERM)
    exit_codes = [replica.wait() for replica in stage.replicas]
    if any(exit_codes):
        raise ChildError(f"servers exited with {exit_codes} after SIGTERM")
    if stage.postgresql is not None and "deadlock detected" in stage.postgresql.log:
        books.wrong.append("PostgreSQL had a deadlock")
    n_expired = clocks.N_EXPIRED if soak.has_wrong_clocks else 0
    return check(stage.url, books, NAME, n_expired=n_expired)


def _document(soak: Soak, books: Books, comparison: LedgerComparison) -> dict[str, object]:
    seen = {"refusals": dict(books.refusals), "replays": books.n_replays, "nonsense": books.n_nonsense}
    counts = {"decisions": books.n_chosen, "acknowledged": books.n_acked, "failovers": books.failovers}
    return asdict(soak) | {"seen": seen | counts, "verdict": asdict(comparison)}

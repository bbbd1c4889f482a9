"""Mixed chaos: `python -m benchmarks.soak --minutes 30`, under load, with one fault after the other.

The load chooses, rewards, replays, revises and sends nonsense; meanwhile servers are killed, stopped and
frozen, and so is the database, or its file is locked, or a replica cut off. At the end every acknowledged
reward must be in the log with its last value, the log must hold nothing that was not sent, and the sums must
be its fold. What is drawn comes from `--seed`, which is printed; what the clock makes of it does not repeat.
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
from typing import Final, Literal

import click

from bandit.client import AsyncBanditClient
from bandit.v1 import experiment_pb2 as pb
from benchmarks.cable import Cable
from benchmarks.postgresql import PostgresqlProcess
from benchmarks.replicas import Replica
from benchmarks.serving import ChildError, database_of, end_on_sigterm
from benchmarks.soak_check import Verdict, check
from benchmarks.soak_faults import ON_POSTGRESQL, ON_SERVERS, ON_SQLITE, Happened, Scene, do_faults
from benchmarks.soak_load import Books, Load
from benchmarks.soak_tables import print_soak
from benchmarks.tables import console

NAME: Final = "soak"
_N_REPLICAS: Final = 3
_FLAGS: Final = ("--lag-seconds", "5", "--drain-seconds", "5")
_SAMPLE_SECONDS: Final = 5.0
_SETTLING_SECONDS: Final = 60.0

Database = Literal["sqlite", "postgresql"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What the service weighed at a moment.

    Attributes:
        at_seconds: Since the start.
        resident_mib: Of the heaviest server.
        n_descriptors: Open in the server with the most.
        wal_mib: SQLite's write-ahead log.
    """

    at_seconds: float
    resident_mib: float
    n_descriptors: int
    wal_mib: float


@dataclass(slots=True)
class Soak:
    """What was seen.

    Attributes:
        database: Which kind.
        seed: Of everything that was drawn.
        n_replicas: Servers.
        seconds: How long the load lasted.
        happened: Faults, in order.
        samples: Weights, in order.
    """

    database: Database
    seed: int
    n_replicas: int
    seconds: float = 0.0
    happened: list[Happened] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)


@click.command()
@click.option("--minutes", type=click.FloatRange(0.1, 7 * 24 * 60), default=5.0, show_default=True)
@click.option("--seed", type=int, help="Of the faults and of the load; drawn and printed if not given.")
@click.option(
    "--database",
    type=click.Choice(["sqlite", "postgresql"]),
    default="sqlite",
    show_default=True,
    help="One server on SQLite, or three on a PostgreSQL of their own.",
)
@click.option("--workers", type=click.IntRange(1, 1_000), default=16, show_default=True, help="Of the load.")
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write all that was seen there.",
)
def main(
    *, minutes: float, seed: int | None, database: Database, workers: int, json_file: Path | None
) -> None:
    """Put the service under load and through every fault, and compare its books with what was sent."""
    end_on_sigterm()
    soak = Soak(database, secrets.randbits(32) if seed is None else seed, 1 if database == "sqlite" else 3)
    print(f"seed {soak.seed}, {soak.n_replicas} servers on {database}, {minutes:g} minutes", flush=True)
    try:
        with TemporaryDirectory(prefix="bandit-soak-") as folder, _stage(soak, Path(folder)) as stage:
            books = asyncio.run(_run(soak, stage, minutes * 60, workers))
            verdict = _settle(stage, books)
    except ChildError as error:
        raise click.ClickException(str(error)) from error
    print_soak(soak, books, verdict, console())
    if json_file is not None:
        json_file.write_text(json.dumps(_document(soak, books, verdict), indent=2) + "\n", encoding="utf-8")
    sys.exit(0 if verdict.is_clean and all(f.recovery_seconds is not None for f in soak.happened) else 1)


@dataclass(slots=True)
class _Stage:
    """What is up.

    Attributes:
        url: The database, for those that look at it beside the servers.
        replicas: The servers.
    """

    url: str
    replicas: list[Replica]
    sqlite_file: Path | None = None
    postgresql: PostgresqlProcess | None = None
    cables: list[Cable] = field(default_factory=list)


@contextmanager
def _stage(soak: Soak, folder: Path) -> Iterator[_Stage]:
    """Starts everything, and takes everything down, whatever state it is in."""
    with ExitStack() as stack:
        if soak.database == "sqlite":
            url = database_of(folder)
            stage = _Stage(url, [Replica(folder, url, _FLAGS)], sqlite_file=folder / "bandit.db")
        else:
            stage = _with_postgresql(folder, stack)
        for replica in stage.replicas:
            stack.callback(replica.take_down)
            replica.start()
        yield stage


def _with_postgresql(folder: Path, stack: ExitStack) -> _Stage:
    postgresql = PostgresqlProcess(folder / "postgresql")
    stack.callback(postgresql.kill)
    url = postgresql.create_database()
    cables = [Cable(postgresql.port) for _ in range(_N_REPLICAS)]
    for cable in cables:
        stack.callback(cable.close)
    replicas = [
        Replica(folder, url.replace(str(postgresql.port), str(cable.port)), _FLAGS) for cable in cables
    ]
    return _Stage(url, replicas, postgresql=postgresql, cables=cables)


async def _run(soak: Soak, stage: _Stage, seconds: float, n_workers: int) -> Books:
    """The load and the faults, until the time is over and every reward acknowledged."""
    await _declare(stage.replicas[0].address)
    generator = random.Random(soak.seed)
    load = Load([replica.address for replica in stage.replicas], NAME, n_workers, generator.getrandbits(64))
    scene = Scene(load, stage.replicas, generator, stage.sqlite_file, stage.postgresql, stage.cables)
    kinds = ON_SERVERS | (ON_SQLITE if soak.database == "sqlite" else ON_POSTGRESQL)

    def note(happened: Happened) -> None:
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
        await load.finish(_SETTLING_SECONDS)
    except TimeoutError:
        raise ChildError("the service did not settle: some rewards were never acknowledged") from None
    finally:
        sampling.cancel()
        await load.abandon()
    return load.books


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


def _settle(stage: _Stage, books: Books) -> Verdict:
    """Stops the servers as a supervisor would, and compares."""
    for replica in stage.replicas:
        replica.signal(signal.SIGTERM)
    exit_codes = [replica.wait() for replica in stage.replicas]
    if any(exit_codes):
        raise ChildError(f"servers that were told to stop ended with {exit_codes}")
    if stage.postgresql is not None and "deadlock detected" in stage.postgresql.log:
        books.wrong.append("PostgreSQL saw a deadlock")
    return check(stage.url, books)


def _document(soak: Soak, books: Books, verdict: Verdict) -> dict[str, object]:
    seen = {"refusals": dict(books.refusals), "replays": books.n_replays, "nonsense": books.n_nonsense}
    counts = {"decisions": books.n_chosen, "acknowledged": books.n_acked, "failovers": books.failovers}
    return asdict(soak) | {"seen": seen | counts, "verdict": asdict(verdict)}


if __name__ == "__main__":
    main()

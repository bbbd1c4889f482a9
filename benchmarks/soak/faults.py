"""The faults of a soak: one after the other, each undone before the next."""

import asyncio
import random
import signal
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from benchmarks.harness.postgresql import PostgresqlProcess
from benchmarks.harness.processes import ChildError
from benchmarks.harness.replicas import Replica
from benchmarks.harness.tcp_proxy import TcpProxy
from benchmarks.soak.clients import Load

RECOVERY_SECONDS: Final = 30.0
"""A fault counts as not survived if recovery takes longer than this after its cause is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRecord:
    """A fault that is over.

    Attributes:
        kind: Its kind.
        at_seconds: When it began, since the start of the soak.
        lasted_seconds: Until its cause was gone.
        recovery_seconds: From then until a reward sent since was acknowledged, by the replica that it hit
            or by any, and, where clocks are set, until new epochs began; None if not in time.
    """

    kind: str
    at_seconds: float
    lasted_seconds: float
    recovery_seconds: float | None


@dataclass(slots=True)
class Scene:
    """The service that faults are done to.

    Attributes:
        load: The clients, which notice.
        replicas: The servers.
        sqlite_file: The database, if it is one.
        postgresql: The database, if it is one.
        proxies: Proxies between the replicas and PostgreSQL, one each.
        generator: Generator of replicas and durations.
        until_learning: Waits for epochs that begin after a moment, within a number of seconds; returns how
            long that took, None if none began. Only for soaks in which clocks are set.
    """

    load: Load
    replicas: list[Replica]
    generator: random.Random
    sqlite_file: Path | None = None
    postgresql: PostgresqlProcess | None = None
    proxies: list[TcpProxy] = field(default_factory=list)
    until_learning: Callable[[float, float], Awaitable[float | None]] | None = None

    def hit(self) -> int:
        """Draw a replica, whose failed calls are excused until it has recovered."""
        number = self.generator.randrange(len(self.replicas))
        self.load.ailing.add(number)
        return number


Fault: TypeAlias = Callable[[Scene], Awaitable[int | None]]
"""Causes a fault, and returns when its cause is gone: the replica that it hit, or None for all."""


async def kill_server(scene: Scene) -> int:
    """Send SIGKILL, and start again."""
    number = scene.hit()
    scene.replicas[number].signal(signal.SIGKILL)
    await asyncio.to_thread(scene.replicas[number].wait)
    await asyncio.to_thread(scene.replicas[number].start)
    return number


async def stop_server(scene: Scene) -> int:
    """Send SIGTERM, and start again: the exit code must be 0."""
    number = scene.hit()
    replica = scene.replicas[number]
    replica.signal(signal.SIGTERM)
    exit_code = await asyncio.to_thread(replica.wait)
    if exit_code != 0:
        raise ChildError(f"a server exited with {exit_code} after SIGTERM: {replica.last_words()}")
    await asyncio.to_thread(replica.start)
    return number


async def freeze_server(scene: Scene) -> int:
    """Send SIGSTOP in pulses."""
    number = scene.hit()
    for _ in range(scene.generator.randint(1, 4)):
        scene.replicas[number].signal(signal.SIGSTOP)
        await asyncio.sleep(scene.generator.uniform(0.2, 1.5))
        scene.replicas[number].signal(signal.SIGCONT)
        await asyncio.sleep(scene.generator.uniform(0.05, 0.3))
    return number


async def hold_lock(scene: Scene) -> None:
    """Hold SQLite's write lock from another process, for up to longer than a commit waits for it."""
    with closing(_connect(scene)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        await asyncio.sleep(scene.generator.uniform(0.5, 7.0))
        connection.execute("ROLLBACK")


async def hold_read(scene: Scene) -> None:
    """Read from another process for long, so that the write-ahead log can't be copied back."""
    with closing(_connect(scene)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM rewards").fetchone()
        await asyncio.sleep(scene.generator.uniform(1.0, 6.0))
        connection.execute("ROLLBACK")


async def kill_database(scene: Scene) -> None:
    """Send SIGKILL to PostgreSQL and every backend, and start again."""
    await _restart_database(scene, lambda postgresql: postgresql.kill())


async def stop_database(scene: Scene) -> None:
    """Shut down fast, and start again."""
    await _restart_database(scene, lambda postgresql: postgresql.stop(signal.SIGINT))


async def crash_database(scene: Scene) -> None:
    """Shut down immediately, and start again."""
    await _restart_database(scene, lambda postgresql: postgresql.stop(signal.SIGQUIT))


async def freeze_database(scene: Scene) -> None:
    """Freeze PostgreSQL: it answers nothing and closes nothing."""
    assert scene.postgresql is not None  # noqa: S101 - for the type checker
    scene.postgresql.freeze()
    try:
        await asyncio.sleep(scene.generator.uniform(0.5, 8.0))
    finally:
        scene.postgresql.thaw()


async def cut_network(scene: Scene) -> int:
    """Cut one replica off from its database."""
    number = scene.generator.randrange(len(scene.replicas))
    scene.proxies[number].cut()
    try:
        await asyncio.sleep(scene.generator.uniform(1.0, 8.0))
    finally:
        scene.proxies[number].mend()
    return number


ON_SERVERS: Final[dict[str, Fault]] = {
    "server: SIGKILL": kill_server,
    "server: SIGTERM": stop_server,
    "server: SIGSTOP pulses": freeze_server,
}
ON_SQLITE: Final[dict[str, Fault]] = {
    "file: write lock held": hold_lock,
    "file: long read held": hold_read,
}
ON_POSTGRESQL: Final[dict[str, Fault]] = {
    "database: SIGKILL": kill_database,
    "database: SIGINT": stop_database,
    "database: SIGQUIT": crash_database,
    "database: SIGSTOP": freeze_database,
    "network: one replica cut off": cut_network,
}


async def do_faults(
    scene: Scene, kinds: dict[str, Fault], seconds: float, on_fault: Callable[[FaultRecord], None]
) -> None:
    """Do one fault after the other until the time is over; every kind once before any is repeated."""
    began_at = time.monotonic()
    deck: list[str] = []
    while time.monotonic() - began_at < seconds:
        await asyncio.sleep(scene.generator.uniform(0.5, 3.0))
        if not deck:
            deck = scene.generator.sample(sorted(kinds), len(kinds))
        kind = deck.pop()
        fault_at = time.monotonic()
        replica = await kinds[kind](scene)
        gone_at = time.monotonic()
        recovery = await _recovery(scene, replica, gone_at)
        scene.load.ailing.clear()
        on_fault(
            FaultRecord(
                kind=kind,
                at_seconds=fault_at - began_at,
                lasted_seconds=gone_at - fault_at,
                recovery_seconds=recovery,
            )
        )


async def _recovery(scene: Scene, replica: int | None, gone_at: float) -> float | None:
    acked = await scene.load.until_acked(replica, gone_at, RECOVERY_SECONDS)
    if acked is None or scene.until_learning is None:
        return acked
    learned = await scene.until_learning(gone_at, RECOVERY_SECONDS)
    return None if learned is None else max(acked, learned)


async def _restart_database(scene: Scene, end: Callable[[PostgresqlProcess], None]) -> None:
    assert scene.postgresql is not None  # noqa: S101 - for the type checker
    await asyncio.to_thread(end, scene.postgresql)
    await asyncio.sleep(scene.generator.uniform(0.2, 5.0))
    await asyncio.to_thread(scene.postgresql.start)


def _connect(scene: Scene) -> sqlite3.Connection:
    assert scene.sqlite_file is not None  # noqa: S101 - for the type checker
    return sqlite3.connect(scene.sqlite_file, isolation_level=None, timeout=30)

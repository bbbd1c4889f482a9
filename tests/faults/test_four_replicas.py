"""Four replicas under load, while their database is killed and frozen, and replicas are killed.

The clients keep what they sent and what was acknowledged. At the end what was acknowledged is in the log
with its last value, what is in the log was sent, the facts are the fold of the log, no transaction met a
deadlock, and all replicas serve the same shares. The test is sensitive: it fails unless retries came back as
duplicates, so that outcomes really were in doubt.
"""

import asyncio
import logging
import os
import random
import time
from pathlib import Path
from typing import Final

import pytest

from benchmarks.soak.check import check
from benchmarks.soak.clients import REPLAYED, Load
from tests.replicas.conftest import FLAGS, N_REPLICAS, running_replicas
from tests.support.postgresql import PostgresqlProcess, query
from tests.support.process import ServerProcess, eventually
from tests.support.wire import Wire

N_WORKERS: Final = 12
MOST_KILLS: Final = 40
"""Nearly half of all kills leave an outcome in doubt, and the first one in doubt ends the search."""
FROZEN_SECONDS: Final = 7.0
"""Longer than the watchdog lets a call wait, so that commits are given up and may still happen afterwards."""

SEED_VARIABLE: Final = "BANDIT_TEST_SEED"
PASSING: Final = {"UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED"}

log = logging.getLogger(__name__)


@pytest.fixture
def generator() -> random.Random:
    """The test's random generator; the seed is logged, and a variable sets it to repeat a run."""
    seed = int(os.environ.get(SEED_VARIABLE, "20_261_122"))
    log.info("%s=%d", SEED_VARIABLE, seed)
    return random.Random(seed)


async def test_replicas_and_database_die_and_the_ledger_is_exact(
    own_postgresql: PostgresqlProcess, tmp_path: Path, generator: random.Random
) -> None:
    """The database is killed and frozen, then replicas are killed, under load with replays and revisions."""
    url = own_postgresql.create_database()
    with running_replicas(url, tmp_path, "--lag-seconds", "2") as start:
        servers = await asyncio.to_thread(start, N_REPLICAS)
        wires = [Wire(server.address) for server in servers]
        name = wires[0].running()
        load = Load([server.address for server in servers], name, N_WORKERS, generator.getrandbits(64))
        books = load.books
        async with load.settled(60.0):
            await await_work(load)
            await asyncio.to_thread(own_postgresql.kill)
            await asyncio.to_thread(own_postgresql.start)
            await await_work(load)
            with own_postgresql.frozen():
                await asyncio.sleep(FROZEN_SECONDS)  # the duration of the fault
            await await_work(load)
            assert books.failed_chooses == []
            linger_in_commits(url)
            n_kills = 0
            while n_kills == 0 or (books.in_doubt == 0 and n_kills < MOST_KILLS):
                victim = generator.randrange(N_REPLICAS)
                await asyncio.sleep(generator.random() / 5)  # the duration of the fault
                load.ailing.add(victim)
                await asyncio.to_thread(servers[victim].kill)
                servers[victim] = await asyncio.to_thread(replace, servers[victim], url, tmp_path, n_kills)
                assert await load.until_acked(victim, time.monotonic(), 60.0) is not None
                load.ailing.clear()
                await await_work(load)
                n_kills += 1
        eventually(lambda: is_one_service(wires, name))
        for wire in wires:
            wire.close()
        assert {server.terminate() for server in servers} == {0}
    log.info("%d sent, %d refused, %d kills", len(books.sent), books.refusals.total(), n_kills)
    comparison = check(url, books, name, n_expired=0)
    assert comparison.is_clean, comparison
    assert comparison.n_logged == len(books.sent)
    assert set(books.refusals) <= PASSING
    assert books.n_replays > len(books.sent) * REPLAYED / 2
    assert any(len(clicks) > 1 for clicks in books.sent.values()), "nothing was revised"
    assert books.in_doubt > 0, f"no outcome was in doubt after {n_kills} kills: the test saw nothing"
    assert "deadlock detected" not in own_postgresql.log


async def await_work(load: Load) -> None:
    """Wait until many more rewards have been acknowledged."""
    n_acked = load.books.n_acked
    await asyncio.to_thread(eventually, lambda: load.books.n_acked > n_acked + 50)


def linger_in_commits(url: str) -> None:
    """Make commits so slow that a killed replica is most likely in one, which is then in doubt."""
    query(url, "ALTER SYSTEM SET commit_siblings = 0")
    query(url, "ALTER SYSTEM SET commit_delay = 50000")  # microseconds
    query(url, "SELECT pg_reload_conf()")


def replace(victim: ServerProcess, url: str, folder: Path, number: int) -> ServerProcess:
    """Start another server where one was killed."""
    flags = ("--database", url, *FLAGS, "--lag-seconds", "2")
    return ServerProcess.start(folder / f"again-{number}.db", *flags, port=victim.port)


def is_one_service(wires: list[Wire], name: str) -> bool:
    """True if every replica gives the same units the same arms at the same propensity, in one epoch."""
    answers = [
        [(c.epoch, c.arm, c.propensity) for c in (wire.choose(name, unit=f"u{n}") for n in range(20))]
        for wire in wires
    ]
    return all(answer == answers[0] for answer in answers)

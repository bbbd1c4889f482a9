"""A disk that fails, fills up or is slow under a real server: its answers, and an exact ledger.

The server runs on a disk with faults that a test switches on and off. `test_broken_disk.py` has the same
failure from the kernel.
"""

import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import grpc
import pytest

from bandit.v1 import bandit_pb2
from tests.conftest import Connect, StartServer
from tests.replicas.conftest import running_replicas
from tests.support.faults.disk import Fault
from tests.support.ledger import decision_of, integrity, logged_decisions
from tests.support.postgresql import PostgresqlProcess, query
from tests.support.process import ServerProcess, eventually, refused_start, verify
from tests.support.refusals import refused
from tests.support.wire import Wire

BROKEN: Final = 70
RECORDED: Final = {"click": bandit_pb2.OUTCOME_RESULT_RECORDED}
DUPLICATE: Final = {"click": bandit_pb2.OUTCOME_RESULT_DUPLICATE}
N_CALLERS: Final = 24
SYNC_SECONDS: Final = 0.1
"""Seconds that a commit takes on the slow disk: one by one, the rewards posted would take 24 s."""

METRICS: Final = ("--metrics-listen", "127.0.0.1:0")


@dataclass(frozen=True)
class FaultyDisk:
    """The switches of a disk.

    Attributes:
        folder: Where they are.
    """

    folder: Path

    @property
    def program(self) -> tuple[str, ...]:
        """The program that runs a server on this disk."""
        return ("tests.support.faults.serve_on_faulty_disk", str(self.folder))

    def begin(self, fault: Fault, text: str = "") -> None:
        """Switch a fault on."""
        (self.folder / fault.value).write_text(text)

    def end(self, fault: Fault) -> None:
        """Switch it off."""
        (self.folder / fault.value).unlink()


@pytest.fixture
def disk(tmp_path: Path) -> FaultyDisk:
    """A disk without faults, until they are switched on."""
    folder = tmp_path / "faults"
    folder.mkdir()
    return FaultyDisk(folder)


def decisions(wire: Wire, name: str, n: int) -> list[str]:
    """Return the ids of `n` decisions."""
    results = wire.batch_choose(*[bandit_pb2.ChooseRequest(experiment=name)] * n)
    return [result.choice.decision_id for result in results]


def check_ledger(database: Path, sent: list[str], acked: list[str]) -> None:
    """Check that acked is within logged and logged within sent, the facts are the fold, the file is sound."""
    logged = logged_decisions(database)
    assert set(map(decision_of, acked)) <= logged <= set(map(decision_of, sent))
    assert integrity(database) == ["ok"]
    verify(database)


def test_a_failed_sync_is_never_acknowledged(
    start_server: StartServer, connect: Connect, disk: FaultyDisk
) -> None:
    """After a failed fdatasync the reward is UNAVAILABLE, and the process ends with 70.

    A later sync could succeed without proving anything. After a restart the server has every acknowledged
    reward, and takes the others once.
    """
    server = start_server("--epoch-interval-seconds", "60", program=disk.program)
    wire = connect(server)
    name = wire.running()
    ids = decisions(wire, name, 60)
    acked = ids[:30]
    for decision_id in acked:
        assert wire.reward(decision_id, {"click": 1}) == RECORDED
    assert sum(wire.n_decisions(name).values()) == len(ids)  # flushed: the reward is the next write
    disk.begin(Fault.SYNC_FAILS)
    refusal = refused(lambda: wire.reward(ids[30], {"click": 1}))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")
    assert refusal.retry_seconds
    assert server.wait() == BROKEN
    assert [event["event"] for event in server.events() if event["level"] == "critical"] == ["store.broken"]

    disk.end(Fault.SYNC_FAILS)
    second = start_server(program=disk.program)
    wire = connect(second)
    answers = {decision_id: wire.reward(decision_id, {"click": 1}) for decision_id in ids}
    assert all(answers[decision_id] == DUPLICATE for decision_id in acked)
    assert answers[ids[30]] in (DUPLICATE, RECORDED)
    assert all(answers[decision_id] == RECORDED for decision_id in ids[31:])
    assert second.terminate() == 0
    check_ledger(second.database, ids, ids)


def test_a_full_disk_refuses_rewards_and_nothing_else(
    start_server: StartServer, connect: Connect, disk: FaultyDisk
) -> None:
    """Without room Reward is RESOURCE_EXHAUSTED with a retry delay; Choose goes on; with room all resumes."""
    server = start_server(*METRICS, program=disk.program)
    wire = connect(server)
    name = wire.running()
    ids = decisions(wire, name, 40)
    for decision_id in ids[:20]:
        assert wire.reward(decision_id, {"click": 1}) == RECORDED
    disk.begin(Fault.FULL)
    for decision_id in ids[20:]:
        refusal = refused(partial(wire.reward, decision_id, {"click": 1}))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "STORAGE_FULL")
        assert refusal.retry_seconds
    assert {wire.choose(name).reason for _ in range(50)} == {bandit_pb2.REASON_POLICY}
    eventually(lambda: server.sample("bandit_store_up") == 0.0)
    assert {wire.choose(name).reason for _ in range(50)} == {bandit_pb2.REASON_POLICY}
    disk.end(Fault.FULL)
    answers = post_all(wire, ids)
    assert answers == [DUPLICATE] * 20 + [RECORDED] * 20
    eventually(lambda: server.sample("bandit_store_up") == 1.0)
    assert server.terminate() == 0
    check_ledger(server.database, ids, ids)


def posted(wire: Wire, decision_id: str) -> dict[str, "bandit_pb2.OutcomeResult.ValueType"]:
    """Return the result of a reward, or None while it is refused."""
    with suppress(grpc.RpcError):
        return wire.reward(decision_id, {"click": 1})
    return {}


def post_all(wire: Wire, ids: list[str]) -> list[dict[str, "bandit_pb2.OutcomeResult.ValueType"]]:
    """Return the results of rewards that are each posted until they are taken."""
    return [eventually(partial(posted, wire, decision_id)) for decision_id in ids]


@dataclass(frozen=True)
class SlowStore:
    """A server whose commits can be slowed down.

    Attributes:
        server: The server.
        slow_down: Make every commit take `SYNC_SECONDS` and more.
    """

    server: ServerProcess
    slow_down: Callable[[], None]


@pytest.fixture(params=["sqlite", "postgresql"])
def slow_store(
    request: pytest.FixtureRequest, tmp_path: Path, start_server: StartServer, disk: FaultyDisk
) -> Iterator[SlowStore]:
    """On SQLite a sync is slow; on PostgreSQL a setting makes a commit wait before it flushes."""
    if request.param == "sqlite":
        server = start_server(*METRICS, program=disk.program)
        yield SlowStore(server, lambda: disk.begin(Fault.SLOW, str(SYNC_SECONDS)))
        return
    postgresql = request.getfixturevalue("postgresql")
    assert isinstance(postgresql, PostgresqlProcess)
    url = postgresql.create_database()
    name = url.rpartition("/")[2]

    def slow_down() -> None:
        for setting in (f"commit_delay = {SYNC_SECONDS * 1e6:.0f}", "commit_siblings = 0"):
            query(url, f"ALTER DATABASE {name} SET {setting}")
        cut_off(url)

    with running_replicas(url, tmp_path, *METRICS) as start:
        yield SlowStore(start(1)[0], slow_down)


def cut_off(url: str) -> None:
    """End every other connection to a database, so that new ones have its new settings."""
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    query(url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")  # noqa: S608 - no input


def test_larger_commits_make_up_for_a_slow_disk(slow_store: SlowStore, connect: Connect) -> None:
    """Callers share slow commits, so that together they are many times faster than one by one.

    The queue never holds more than the waiting callers' rewards, and Choose does not wait for the disk.
    """
    server = slow_store.server
    wire = connect(server)
    name = wire.running()
    ids = decisions(wire, name, 10 * N_CALLERS)
    slow_store.slow_down()
    eventually(lambda: posted(wire, ids[0]))
    rows, commits = (server.sample(f"bandit_commit_outcomes_{what}") for what in ("sum", "count"))
    queued: list[float] = []
    waits: list[float] = []
    began_at = time.monotonic()
    with ThreadPoolExecutor(N_CALLERS) as callers:
        posts = [callers.submit(wire.reward, decision_id, {"click": 1}) for decision_id in ids[1:]]
        while not all(post.done() for post in posts):
            asked_at = time.monotonic()
            wire.choose(name)
            waits.append(time.monotonic() - asked_at)
            queued.append(server.sample("bandit_reward_queue_rows"))
    seconds = time.monotonic() - began_at
    assert all(post.result() == RECORDED for post in posts)
    n_commits = server.sample("bandit_commit_outcomes_count") - commits
    n_rows = server.sample("bandit_commit_outcomes_sum") - rows
    assert n_rows == len(posts)
    assert n_commits * SYNC_SECONDS < seconds + SYNC_SECONDS, "commits were not slow: the test saw nothing"
    assert n_rows / n_commits > N_CALLERS / 4
    assert seconds < len(posts) * SYNC_SECONDS / 2
    assert 0 < max(queued) <= N_CALLERS
    assert statistics.median(waits) < SYNC_SECONDS


def test_a_database_that_turns_read_only_refuses_rewards_and_nothing_else(
    postgresql: PostgresqlProcess, tmp_path: Path, connect: Connect
) -> None:
    """As after a failover to a standby, Reward is UNAVAILABLE, Choose goes on, and all resumes by itself.

    A report is made of what can be read, and states how many decisions it lacks.

    A server that is started meanwhile fails with the reason in one line.
    """
    url = postgresql.create_database()
    name = url.rpartition("/")[2]
    with running_replicas(url, tmp_path) as start:
        (server,) = start(1)
        wire = connect(server)
        experiment = wire.running()
        ids = decisions(wire, experiment, 3)
        assert wire.reward(ids[0], {"click": 1}) == RECORDED
        assert sum(arm.decisions.policy for arm in wire.report(experiment).arms) == 3  # now they are stored
        query(url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        cut_off(url)
        refusal = refused(lambda: wire.reward(ids[1], {"click": 1}))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")
        assert {wire.choose(experiment).reason for _ in range(20)} == {bandit_pb2.REASON_POLICY}
        report = wire.report(experiment)
        assert sum(arm.decisions.policy for arm in report.arms) == 3
        assert report.uncounted_decisions == 20
        assert "up to 20 decisions of the answering server are not counted here" in report.notes[0]
        assert refused_start(url, tmp_path) == "error: the database takes no writes"
        query(url.replace(name, "postgres"), f"ALTER DATABASE {name} RESET ALL")
        cut_off(url)
        answers = post_all(wire, ids)
        assert answers == [DUPLICATE, RECORDED, RECORDED]
        report = wire.report(experiment)
        assert (report.uncounted_decisions, sum(arm.decisions.policy for arm in report.arms)) == (0, 23)


def test_a_read_only_folder_is_one_line_at_start(start_server: StartServer, connect: Connect) -> None:
    """A server on a file that it can't write to exits with one line, and leaves the file as it was."""
    first = start_server()
    wire = connect(first)
    wire.reward(decisions(wire, wire.running(), 1)[0], {"click": 1})
    assert first.terminate() == 0
    folder = first.database.parent / "read-only"
    folder.mkdir()
    shutil.copy(first.database, folder)
    before = (folder / "bandit.db").read_bytes()
    (folder / "bandit.db").chmod(0o444)
    folder.chmod(0o555)
    try:
        line = refused_start(f"sqlite:///{folder / 'bandit.db'}", folder)
    finally:
        folder.chmod(0o755)
    assert line.startswith("error: ")
    assert "bandit.db" in line
    assert (folder / "bandit.db").read_bytes() == before

"""kill -9 under load: no acknowledged reward is lost and none counts twice.

The ledger check: the clients keep what they sent and what was acknowledged. At the end what was acknowledged
is in the log, what is in the log was sent with that value, and the facts are exactly the fold of the log. The
check is sensitive: it fails unless the kills left outcomes in doubt, so that a retry came back as a
duplicate.
"""

import asyncio
import logging
import random
import re
import signal
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc

from bandit.v1 import bandit_pb2, bandit_pb2_grpc, experiment_pb2
from benchmarks.harness.processes import free_port
from tests.conftest import Connect, StartServer
from tests.support.ledger import arm_names, decision_of, integrity, number_of, query
from tests.support.process import run_command
from tests.support.wire import metric

N_WORKERS: Final = 32
N_KILLS: Final = 5
MOST_KILLS: Final = 40
REPLAYED: Final = 0.1
BATCHED: Final = 0.2
SEED: Final = 4_711
RETRYABLE: Final = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
RECORDED: Final = bandit_pb2.OUTCOME_RESULT_RECORDED
DUPLICATE: Final = bandit_pb2.OUTCOME_RESULT_DUPLICATE

log = logging.getLogger(__name__)

Outcome = tuple[str, int, int]
"""Arm, click, and hundredths of a euro spent."""


@dataclass
class Ledger:
    """What the clients know.

    Attributes:
        sent: Every decision that a reward was posted for, with what was posted.
        acked: Those whose reward was answered with OK.
        n_asked: Decisions asked for, answered or not.
        in_doubt: Decisions whose first OK was an answer to a retry, and said duplicate.
        wrong: Answers that can't be.
    """

    sent: dict[bytes, Outcome] = field(default_factory=dict)
    acked: set[bytes] = field(default_factory=set)
    n_asked: int = 0
    n_replays: int = 0
    in_doubt: set[bytes] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)

    def acknowledge(self, decision: bytes, results: set[int], *, is_retry: bool) -> None:
        """Record the first OK for a decision."""
        self.acked.add(decision)
        if results == {DUPLICATE} and is_retry:
            self.in_doubt.add(decision)
        elif results != {RECORDED}:
            self.wrong.append(f"first OK returned {results}, retry: {is_retry}")

    def replay(self, results: set[int]) -> None:
        """Record the answer to a reward that had been acknowledged before."""
        self.n_replays += 1
        if results != {DUPLICATE}:
            self.wrong.append(f"a replay returned {results}")


class Worker:
    """A backend and a reporter in one: it asks, rewards until it gets OK, and at times repeats itself."""

    def __init__(
        self, name: str, ledger: Ledger, stub: "bandit_pb2_grpc.BanditServiceAsyncStub", seed: int
    ) -> None:
        self.name = name
        self.ledger = ledger
        self.stub = stub
        self.generator = random.Random(seed)
        self.is_over = asyncio.Event()

    async def run(self) -> None:
        """Work until it is over; what was begun is completed."""
        while not self.is_over.is_set():
            try:
                self.ledger.n_asked += 1
                choice = await self.stub.Choose(bandit_pb2.ChooseRequest(experiment=self.name), timeout=5)
            except grpc.aio.AioRpcError as error:
                assert error.code() in RETRYABLE, error  # noqa: PT017 - any other status is a failure
                await asyncio.sleep(0.02)
                continue
            await self.report(choice)

    async def report(self, choice: bandit_pb2.ChooseResponse) -> None:
        """Post the outcome of a decision."""
        click, cents = self.generator.randrange(2), self.generator.randrange(10_001)
        request = bandit_pb2.RewardRequest(
            decision_id=choice.decision_id, outcomes={"click": click, "spend": cents / 100}
        )
        decision = decision_of(choice.decision_id)
        assert decision not in self.ledger.sent
        self.ledger.sent[decision] = (choice.arm, click, cents)
        results, is_retry = await self.post_until_ok(request)
        self.ledger.acknowledge(decision, results, is_retry=is_retry)
        while self.generator.random() < REPLAYED:
            results, _ = await self.post_until_ok(request)
            self.ledger.replay(results)

    async def post_until_ok(self, request: bandit_pb2.RewardRequest) -> tuple[set[int], bool]:
        """Post the same reward until it is acknowledged; return the results, and whether it took a retry."""
        is_retry = False
        while True:
            try:
                if self.generator.random() < BATCHED:
                    return await self.post_twice(request), is_retry
                return set((await self.stub.Reward(request, timeout=5)).results.values()), is_retry
            except grpc.aio.AioRpcError as error:
                assert error.code() in RETRYABLE, error  # noqa: PT017 - any other status is a failure
                is_retry = True
                await asyncio.sleep(0.02)

    async def post_twice(self, request: bandit_pb2.RewardRequest) -> set[int]:
        """Post a batch that has it twice: the second must be a duplicate, whatever the first is."""
        batch = bandit_pb2.BatchRewardRequest(requests=[request, request])
        first, second = (await self.stub.BatchReward(batch, timeout=5)).results
        if set(second.reward.results.values()) != {DUPLICATE}:
            self.ledger.wrong.append(f"the second of a batch returned {second}")
        return set(first.reward.results.values())


async def test_kill_9_under_load_loses_and_doubles_nothing(
    start_server: StartServer, connect: Connect
) -> None:
    """32 workers, unique decisions, the same id until OK, 10 % replays, and a SIGKILL after each SERVING."""
    flags = ("--epoch-interval-seconds", "0.05", "--poll-seconds", "0.1")
    generator = random.Random(SEED)
    server = start_server(*flags, port=free_port())
    spend = metric("spend", kind=experiment_pb2.METRIC_KIND_REAL, maximum=100)
    arms = [experiment_pb2.Arm(id=arm) for arm in "abc"]
    name = connect(server).running(arms=arms, metrics=[metric("click"), spend])
    ledger = Ledger()
    options = [("grpc.initial_reconnect_backoff_ms", 20), ("grpc.max_reconnect_backoff_ms", 100)]
    delays: list[float] = []
    async with grpc.aio.insecure_channel(server.address, options=options) as channel:
        stub = bandit_pb2_grpc.BanditServiceStub(channel)
        workers = [Worker(name, ledger, stub, generator.randrange(2**32)) for _ in range(N_WORKERS)]
        tasks = [asyncio.create_task(worker.run()) for worker in workers]
        while len(delays) < N_KILLS or (not ledger.in_doubt and len(delays) < MOST_KILLS):
            n_acked = len(ledger.acked)
            delays.append(generator.uniform(0.3, 0.9))
            await asyncio.sleep(delays[-1])  # the duration of the fault, not a wait for anything
            server.signal(signal.SIGKILL)
            await asyncio.to_thread(server.wait)
            assert len(ledger.acked) > n_acked, "nothing was under way when it was killed"
            server = await asyncio.to_thread(start_server, *flags, port=server.port)
        await asyncio.sleep(0.3)
        for worker in workers:
            worker.is_over.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 30)
    log.info("seed %d, killed after %s s", SEED, delays)
    log.info(
        "%d sent, %d of them in doubt, %d replays", len(ledger.sent), len(ledger.in_doubt), ledger.n_replays
    )
    assert server.terminate() == 0

    assert ledger.wrong == []
    assert ledger.acked == ledger.sent.keys()
    assert ledger.in_doubt, f"no outcome was in doubt after {len(delays)} kills: the test saw nothing"
    assert ledger.n_replays > len(ledger.acked) * REPLAYED / 2
    check_log(server.database, name, ledger)
    check_facts(server.database, name, ledger)
    assert integrity(server.database) == ["ok"]
    done = run_command("verify", "--database", server.url, folder=server.database.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"clean: {2 * len(ledger.sent):,} outcomes of 1 experiment " in done.stdout


def check_log(database: Path, name: str, ledger: Ledger) -> None:
    """Check that what was acknowledged is logged, what is logged was sent, and each has both its outcomes."""
    names = arm_names(database, name)
    rows = query(database, "SELECT decision, metric, arm, quanta, is_late, is_apart, revision FROM rewards")
    logged: dict[bytes, dict[int, tuple[str, int]]] = {}
    for decision, metric_number, arm, quanta, *flags in rows:
        assert flags == [0, 0, 0]
        logged.setdefault(decision, {})[metric_number] = (names[arm], quanta)
    assert ledger.acked <= logged.keys() <= ledger.sent.keys()
    expected = {
        decision: {0: (arm, click), 1: (arm, round(cents / 100 / (100 / 2**20)))}
        for decision, (arm, click, cents) in ledger.sent.items()
    }
    assert logged == {decision: expected[decision] for decision in logged}


def check_facts(database: Path, name: str, ledger: Ledger) -> None:
    """Check by arm that outcomes are those sent, and no more decisions are counted than were asked for."""
    names = arm_names(database, name)
    parameters = [number_of(database, name)]
    counted = {
        (names[arm], metric_number): (n, total)
        for arm, metric_number, n, total in query(
            database,
            "SELECT arm, metric, SUM(n), SUM(total) FROM outcome_facts WHERE experiment = ? GROUP BY 1, 2",
            parameters,
        )
    }
    sent: Counter[tuple[str, int]] = Counter()
    totals: Counter[tuple[str, int]] = Counter()
    for arm, click, cents in ledger.sent.values():
        for metric_number, quanta in enumerate((click, round(cents / 100 / (100 / 2**20)))):
            sent[arm, metric_number] += 1
            totals[arm, metric_number] += quanta
    assert counted == {key: (sent[key], totals[key]) for key in sent}
    ((n_decisions,),) = query(
        database, "SELECT SUM(decisions) FROM decision_facts WHERE experiment = ?", parameters
    )
    assert 0 < n_decisions <= ledger.n_asked


def test_the_ledger_check_can_fail(start_server: StartServer, connect: Connect) -> None:
    """`verify` finds a reward deleted from the log behind the server's back: exit 1, and which sum."""
    server = start_server()
    wire = connect(server)
    name = wire.running()
    decision_ids = [wire.choose(name).decision_id for _ in range(3)]
    for decision_id in decision_ids:
        wire.reward(decision_id, {"click": 1})
    assert server.terminate() == 0
    with closing(sqlite3.connect(server.database)) as connection, connection:
        connection.execute("DELETE FROM rewards WHERE decision = ?", [decision_of(decision_ids[0])])
    done = run_command("verify", "--database", server.url, folder=server.database.parent)
    assert done.returncode == 1
    assert re.search(r"n is \d but \d in the log", done.stderr)

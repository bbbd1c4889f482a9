"""A long read of the SQLite file: its log can't be copied back, which is visible, and passes."""

import sqlite3
from contextlib import closing
from typing import Final

from bandit.v1 import bandit_pb2
from tests.conftest import Connect, StartServer
from tests.support.ledger import integrity
from tests.support.observing import MIB
from tests.support.process import eventually, verify
from tests.support.wire import Wire, metric

KEPT_BYTES: Final = 8 * MIB
"""The size to which the log is cut when possible."""

METRICS: Final = [f"m{number}" for number in range(6)]


def post_batch(wire: Wire, name: str) -> None:
    """Make a thousand decisions and post every metric of each; all must be recorded."""
    outcomes = dict.fromkeys(METRICS, 1.0)
    choices = wire.batch_choose(*[bandit_pb2.ChooseRequest(experiment=name)] * 1_000)
    ids = [each.choice.decision_id for each in choices]
    results = wire.batch_reward(
        *(bandit_pb2.RewardRequest(decision_id=decision_id, outcomes=outcomes) for decision_id in ids)
    )
    answers = {answer for result in results for answer in result.reward.results.values()}
    assert answers == {bandit_pb2.OUTCOME_RESULT_RECORDED}


def test_a_long_reader_makes_the_log_grow_and_no_longer_than_it_reads(
    start_server: StartServer, connect: Connect
) -> None:
    """While a read is open the log grows with each commit, as `bandit_wal_bytes` shows; rewards are taken.

    Once it has ended the log is copied back, and cut to its usual size.
    """
    server = start_server("--metrics-listen", "127.0.0.1:0")
    wire = connect(server)
    name = wire.running(metrics=[metric(each) for each in METRICS], reward_metric="m0")
    post_batch(wire, name)
    with closing(sqlite3.connect(server.database, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM rewards").fetchone() == (6_000,)
        sizes = [server.sample("bandit_wal_bytes")]
        while sizes[-1] <= KEPT_BYTES + MIB:
            post_batch(wire, name)
            sizes.append(server.sample("bandit_wal_bytes"))
            assert sizes[-1] > sizes[-2]
        log = server.database.with_name("bandit.db-wal")  # counts and epochs are written at any time
        eventually(lambda: server.sample("bandit_wal_bytes") == log.stat().st_size)
        assert reader.execute("SELECT count(*) FROM rewards").fetchone() == (6_000,)
        reader.execute("ROLLBACK")

    def log_after_a_commit() -> float:
        post_batch(wire, name)
        return server.sample("bandit_wal_bytes")

    eventually(log_after_a_commit, until=lambda size: size <= KEPT_BYTES)
    assert server.terminate() == 0
    assert integrity(server.database) == ["ok"]
    verify(server.database)

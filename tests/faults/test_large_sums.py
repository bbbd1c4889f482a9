"""Sums that outgrow 64 bits: eight million outcomes at a metric's maximum in one epoch, and more."""

import sqlite3
from contextlib import closing
from typing import Final

from bandit.v1 import bandit_pb2, experiment_pb2
from server.app import maintenance
from server.settings import Settings
from tests.conftest import Connect, StartServer
from tests.support.postgresql import query
from tests.support.wire import metric

N_BEFORE: Final = 2**23 - 2
"""As many outcomes at the maximum have squares that add up to just below 2^63; two more are too much."""

COLUMNS: Final = "experiment, epoch, segment, arm, basis, metric"
SEAL: Final = f"""
    INSERT INTO sealed_facts ({COLUMNS}, n, total, squares, late_n, late_total, late_squares)
    SELECT {COLUMNS}, {N_BEFORE}, {N_BEFORE << 20}, {N_BEFORE << 40}, 0, 0, 0 FROM outcome_facts
"""  # noqa: S608 - made of what stands here
COUNT: Final = f"""
    UPDATE outcome_facts
    SET n = n + {N_BEFORE}, total = total + {N_BEFORE << 20}, squares = squares + {N_BEFORE << 40}
"""  # noqa: S608 - as above
"""What those outcomes leave once they are purged from the log, as a server of version 0.2 writes it."""

MOST: Final = {"spend": 8.0, "plays": 2.0**20}
METRICS: Final = [
    metric("spend", kind=experiment_pb2.METRIC_KIND_REAL, maximum=MOST["spend"]),
    metric("plays", kind=experiment_pb2.METRIC_KIND_COUNT, maximum=MOST["plays"]),
]


def execute(url: str, *statements: str) -> None:
    """Run statements on a database; no server may have an SQLite file open."""
    if url.startswith("sqlite:///"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement)
    else:
        for statement in statements:
            query(url, statement)


def test_a_last_epoch_takes_any_traffic(url: str, start_server: StartServer, connect: Connect) -> None:
    """A paused experiment's outcomes outgrow 64 bits: all are recorded, reported and exact."""
    server = start_server("--database", url)
    wire = connect(server)
    name = wire.running(
        arms=[experiment_pb2.Arm(id="a")], champion="a", metrics=METRICS, reward_metric="spend"
    )
    first, *others = [wire.choose(name).decision_id for _ in range(4)]
    wire.reward(first, MOST)
    wire.pause(name)
    assert server.terminate() == 0
    execute(url, SEAL, COUNT)
    wire = connect(start_server("--database", url))
    for decision_id in others:
        assert set(wire.reward(decision_id, MOST).values()) == {bandit_pb2.OUTCOME_RESULT_RECORDED}
        (arm,) = wire.report(name).arms
    assert {each.metric: each.outcomes for each in arm.metrics} == dict.fromkeys(MOST, N_BEFORE + 4)
    assert {each.metric: each.mean for each in arm.metrics} == MOST
    wire.start(name)
    report = maintenance.verify(Settings(database=url), lambda _done, _total: None)
    assert report.is_clean, report.differences

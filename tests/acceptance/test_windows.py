"""Outcomes and silence under a window: counted together, when the epoch has closed, and late truth apart."""

import time

import pytest
from google.protobuf.duration_pb2 import Duration

from bandit.v1 import bandit_pb2, experiment_pb2
from tests.conftest import Connect, StartServer
from tests.support.process import eventually, verify
from tests.support.wire import Wire, metric


def ask(wire: Wire, name: str, n: int) -> list[bandit_pb2.ChooseResponse]:
    """So many decisions for arm a."""
    request = bandit_pb2.ChooseRequest(experiment=name, eligible_arms=["a"])
    return [result.choice for result in wire.batch_choose(*[request] * n)]


def post(wire: Wire, choices: list[bandit_pb2.ChooseResponse]) -> set[int]:
    """Posts a click for each; what became of them."""
    results = wire.batch_reward(
        *(bandit_pb2.RewardRequest(decision_id=c.decision_id, outcomes={"click": 1}) for c in choices)
    )
    return {result.reward.results["click"] for result in results}


def click_of(wire: Wire, name: str) -> experiment_pb2.MetricReport:
    """What is known of arm a."""
    return wire.report(name).arms[0].metrics[0]


def test_silence_is_evidence_when_its_epoch_has_closed(start_server: StartServer, connect: Connect) -> None:
    """Until then nothing counts, neither what came nor what did not; then all decisions do, late ones as silent."""
    server = start_server(
        "--lag-seconds", "0.2", "--poll-seconds", "0.05", "--epoch-interval-seconds", "0.05"
    )
    wire = connect(server)
    name = wire.running(metrics=[metric("click", window=Duration(seconds=2), default_value=0.0)])
    decided_at = time.monotonic()
    in_time, late, silent = (ask(wire, name, n) for n in (10, 4, 16))
    assert post(wire, in_time) == {bandit_pb2.OUTCOME_RESULT_RECORDED}
    posted = click_of(wire, name)
    assert (posted.outcomes, posted.open_outcomes, posted.observations) == (0, 10, 0)
    assert not posted.HasField("mean")

    eventually(lambda: time.monotonic() - decided_at > 2.1)
    assert post(wire, late) == {bandit_pb2.OUTCOME_RESULT_LATE}
    closed = eventually(lambda: (m := click_of(wire, name)).open_outcomes == 0 and m)
    n_decisions = len(in_time) + len(late) + len(silent)
    assert closed.observations == n_decisions
    assert (closed.outcomes, closed.late_outcomes) == (len(in_time), len(late))
    assert closed.mean == pytest.approx(len(in_time) / n_decisions)
    assert server.terminate() == 0
    verify(server.database)


def test_silence_without_a_default_counts_for_nothing(start_server: StartServer, connect: Connect) -> None:
    """Decisions that nothing came of are left out; outcomes count when their epoch has closed."""
    server = start_server(
        "--lag-seconds", "0.2", "--poll-seconds", "0.05", "--epoch-interval-seconds", "0.05"
    )
    wire = connect(server)
    name = wire.running(metrics=[metric("click", window=Duration(seconds=2))])
    choices = ask(wire, name, 30)
    assert post(wire, choices[:5]) == {bandit_pb2.OUTCOME_RESULT_RECORDED}
    closed = eventually(lambda: (m := click_of(wire, name)).outcomes and m)
    assert (closed.outcomes, closed.observations, closed.mean) == (5, 5, 1.0)


def test_without_a_window_outcomes_count_at_once(shared_wire: Wire) -> None:
    """And silence never does."""
    name = shared_wire.running()
    choices = ask(shared_wire, name, 20)
    shared_wire.reward(choices[0].decision_id, {"click": 1})
    shared_wire.reward(choices[1].decision_id, {"click": 0})
    known = click_of(shared_wire, name)
    assert (known.outcomes, known.observations, known.mean) == (2, 2, 0.5)

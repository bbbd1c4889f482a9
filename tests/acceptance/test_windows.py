"""Windows: outcomes and silence count together after the epoch has closed, late outcomes separately."""

import time
from collections.abc import Iterator

import pytest
from google.protobuf.duration_pb2 import Duration

from bandit.v1 import bandit_pb2, experiment_pb2
from tests.support.process import eventually, serving
from tests.support.wire import Wire, metric


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """Open a channel to a server whose epochs close soon after their windows."""
    flags = ("--lag-seconds", "0.2", "--poll-seconds", "0.05", "--epoch-interval-seconds", "0.05")
    with serving(tmp_path_factory.mktemp("windows") / "bandit.db", *flags) as server:
        wire = Wire(server.address)
        yield wire
        wire.close()


def ask(wire: Wire, name: str, n: int) -> list[bandit_pb2.ChooseResponse]:
    """Make `n` decisions for arm a."""
    request = bandit_pb2.ChooseRequest(experiment=name, eligible_arms=["a"])
    return [result.choice for result in wire.batch_choose(*[request] * n)]


def post(wire: Wire, choices: list[bandit_pb2.ChooseResponse]) -> set[int]:
    """Post a click for each, and return the results."""
    results = wire.batch_reward(
        *(bandit_pb2.RewardRequest(decision_id=c.decision_id, outcomes={"click": 1}) for c in choices)
    )
    return {result.reward.results["click"] for result in results}


def click_of(wire: Wire, name: str) -> experiment_pb2.MetricReport:
    """Return the report on the clicks of arm a."""
    return wire.report(name).arms[0].metrics[0]


def test_silence_is_evidence_when_its_epoch_has_closed(wire: Wire) -> None:
    """Before that, neither outcomes nor silence count; afterwards every decision counts once."""
    name = wire.running(metrics=[metric("click", window=Duration(seconds=2), default_value=0.0)])
    decided_at = time.monotonic()
    in_time, late, silent = (ask(wire, name, n) for n in (10, 4, 16))
    assert post(wire, in_time) == {bandit_pb2.OUTCOME_RESULT_RECORDED}
    posted = click_of(wire, name)
    assert (posted.outcomes, posted.open_outcomes, posted.observations) == (0, 10, 0)
    assert not posted.HasField("mean")

    eventually(lambda: time.monotonic() - decided_at > 2.1)
    assert post(wire, late) == {bandit_pb2.OUTCOME_RESULT_LATE}
    closed = eventually(lambda: click_of(wire, name), until=lambda click: click.open_outcomes == 0)
    n_decisions = len(in_time) + len(late) + len(silent)
    assert closed.observations == n_decisions
    assert (closed.outcomes, closed.late_outcomes) == (len(in_time), len(late))
    assert closed.mean == pytest.approx(len(in_time) / n_decisions)


def test_silence_without_a_default_counts_for_nothing(wire: Wire) -> None:
    """Decisions without an outcome are left out; outcomes count when their epoch has closed."""
    name = wire.running(metrics=[metric("click", window=Duration(seconds=2))])
    choices = ask(wire, name, 30)
    assert post(wire, choices[:5]) == {bandit_pb2.OUTCOME_RESULT_RECORDED}
    closed = eventually(lambda: click_of(wire, name), until=lambda click: click.outcomes)
    assert (closed.outcomes, closed.observations, closed.mean) == (5, 5, 1.0)


def test_without_a_window_outcomes_count_at_once(wire: Wire) -> None:
    """Outcomes count at once, and silence never counts."""
    name = wire.running()
    choices = ask(wire, name, 20)
    wire.reward(choices[0].decision_id, {"click": 1})
    wire.reward(choices[1].decision_id, {"click": 0})
    known = click_of(wire, name)
    assert (known.outcomes, known.observations, known.mean) == (2, 2, 0.5)

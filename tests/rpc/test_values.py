"""Values over the wire are kept, compared and counted as posted."""

import math

import grpc
import pytest

from bandit.v1 import bandit_pb2, experiment_pb2
from tests.support.refusals import refused
from tests.support.wire import Wire, metric

pytestmark = pytest.mark.both_listeners
RECORDED = bandit_pb2.OUTCOME_RESULT_RECORDED
DUPLICATE = bandit_pb2.OUTCOME_RESULT_DUPLICATE
SPEND = metric("spend", kind=experiment_pb2.METRIC_KIND_REAL, maximum=10_000_000.0)
PLAYS = metric("plays", kind=experiment_pb2.METRIC_KIND_COUNT, maximum=10.0, clip=True)


@pytest.fixture
def name(wire: Wire) -> str:
    """Start an experiment of one arm, with a metric of a wide range and one that clips."""
    return wire.running(
        arms=[experiment_pb2.Arm(id="a")], champion="a", metrics=[SPEND, PLAYS], reward_metric="spend"
    )


@pytest.mark.parametrize(
    ("which", "posted", "others"),
    [("spend", 5.0, (9.99, 14.0, 4.76, math.nextafter(5.0, 6.0))), ("plays", 14.0, (10.0, 11.0))],
)
def test_another_value_is_a_conflict(
    wire: Wire, name: str, which: str, posted: float, others: tuple[float, ...]
) -> None:
    """Another value conflicts, however near in a range of ten million, or far beyond where a metric clips."""
    decision_id = wire.choose(name).decision_id
    assert wire.reward(decision_id, {which: posted}) == {which: RECORDED}
    for other in others:
        refusal = refused(lambda other=other: wire.reward(decision_id, {which: other}))  # type: ignore[misc]
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "OUTCOME_CONFLICT")
    assert wire.reward(decision_id, {which: posted}) == {which: DUPLICATE}


@pytest.mark.parametrize("value", [4.76, 0.01, 9_999_999.99])
def test_a_small_value_counts(wire: Wire, name: str, value: float) -> None:
    """The mean is the posted value, within 2^-40 of the range."""
    wire.reward(wire.choose(name).decision_id, {"spend": value})
    (arm,) = wire.report(name).arms
    (spend,) = (each for each in arm.metrics if each.metric == "spend")
    assert spend.mean == pytest.approx(value, abs=10_000_000 / 2**40)


@pytest.mark.parametrize("zero", [-0.0, 5e-324])
def test_zeros_are_one_value(wire: Wire, name: str, zero: float) -> None:
    """Negative zero and a subnormal number count as 0, and are duplicates of it."""
    decision_id = wire.choose(name).decision_id
    assert wire.reward(decision_id, {"spend": zero}) == {"spend": RECORDED}
    assert wire.reward(decision_id, {"spend": 0.0}) == {"spend": DUPLICATE}

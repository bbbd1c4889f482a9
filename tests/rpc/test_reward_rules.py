"""Results of rewards over the wire, as in the table of `wire.md`."""

from functools import partial
from typing import Final

import grpc
import pytest

from bandit.v1 import bandit_pb2, experiment_pb2
from tests.support.ledger import decision_of
from tests.support.process import eventually
from tests.support.refusals import refused
from tests.support.wire import Wire, experiment, metric

pytestmark = pytest.mark.both_listeners
RECORDED: Final = bandit_pb2.OUTCOME_RESULT_RECORDED
DUPLICATE: Final = bandit_pb2.OUTCOME_RESULT_DUPLICATE
REVISED: Final = bandit_pb2.OUTCOME_RESULT_REVISED
SUPERSEDED: Final = bandit_pb2.OUTCOME_RESULT_SUPERSEDED
LATE: Final = bandit_pb2.OUTCOME_RESULT_LATE


@pytest.fixture
def name(wire: Wire) -> str:
    """Start a separate experiment with two metrics."""
    return wire.running(metrics=[metric("click"), metric("buy")])


def decided_ms(decision_id: str) -> int:
    """Return when a decision was made, by the server's clock, in milliseconds since 1970."""
    return int.from_bytes(decision_of(decision_id)[:6])


def wait_until_older(wire: Wire, name: str, decision_id: str, seconds: float) -> None:
    """Wait until a decision is older than `seconds` by the server's clock, which may lag the host's."""
    end = decided_ms(decision_id) + seconds * 1000
    eventually(lambda: decided_ms(wire.choose(name).decision_id) > end)


def test_a_replay_is_a_duplicate_however_often(wire: Wire, name: str) -> None:
    """Every replay is a duplicate, and the facts have one outcome."""
    decision_id = wire.choose(name).decision_id
    assert wire.reward(decision_id, {"click": 1}) == {"click": RECORDED}
    for _ in range(20):
        assert wire.reward(decision_id, {"click": 1}) == {"click": DUPLICATE}
    assert wire.n_outcomes(name) == 1


def test_a_replay_with_another_value_is_a_conflict(wire: Wire, name: str) -> None:
    """It gets ALREADY_EXISTS with the metric; the first value stays, and nothing else in it is stored."""
    decision_id = wire.choose(name).decision_id
    wire.reward(decision_id, {"click": 1})
    refusal = refused(lambda: wire.reward(decision_id, {"click": 0, "buy": 1}))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "OUTCOME_CONFLICT")
    assert "click" in refusal.message
    assert wire.n_outcomes(name) == 1
    assert wire.reward(decision_id, {"click": 1, "buy": 0}) == {"click": DUPLICATE, "buy": RECORDED}


def test_a_higher_revision_replaces_and_a_lower_one_is_superseded(wire: Wire, name: str) -> None:
    """The highest revision stays, in whatever order they arrive."""
    decision_id = wire.choose(name).decision_id
    assert wire.reward(decision_id, {"click": 1}) == {"click": RECORDED}
    assert wire.reward(decision_id, {"click": 0}, revision=2) == {"click": REVISED}
    assert wire.reward(decision_id, {"click": 1}, revision=1) == {"click": SUPERSEDED}
    assert wire.reward(decision_id, {"click": 1}) == {"click": SUPERSEDED}
    assert wire.reward(decision_id, {"click": 0}, revision=2) == {"click": DUPLICATE}
    refusal = refused(lambda: wire.reward(decision_id, {"click": 1}, revision=2))
    assert refusal.code is grpc.StatusCode.ALREADY_EXISTS
    assert wire.reward(decision_id, {"click": 1}, revision=2**32 - 1) == {"click": REVISED}
    (clicks,) = [
        m for arm in wire.report(name).arms for m in arm.metrics if m.metric == "click" and m.outcomes
    ]
    assert (clicks.outcomes, clicks.mean) == (1, 1.0)


def test_a_decision_in_a_batch_twice_counts_once(wire: Wire, name: str) -> None:
    """In the order of the batch, the first is recorded and its copies are duplicates."""
    decision_id = wire.choose(name).decision_id
    request = bandit_pb2.RewardRequest(decision_id=decision_id, outcomes={"click": 1})
    results = wire.batch_reward(request, request, request)
    assert [dict(result.reward.results) for result in results] == [
        {"click": RECORDED},
        {"click": DUPLICATE},
        {"click": DUPLICATE},
    ]
    assert wire.n_outcomes(name) == 1


def test_a_decision_in_a_batch_twice_with_other_values_conflicts(wire: Wire, name: str) -> None:
    """The first stays, only the second fails, and a later item with a higher revision replaces the first."""
    decision_id = wire.choose(name).decision_id
    first, other, higher = wire.batch_reward(
        bandit_pb2.RewardRequest(decision_id=decision_id, outcomes={"click": 1}),
        bandit_pb2.RewardRequest(decision_id=decision_id, outcomes={"click": 0}),
        bandit_pb2.RewardRequest(decision_id=decision_id, outcomes={"click": 0}, revision=1),
    )
    assert dict(first.reward.results) == {"click": RECORDED}
    assert (other.error.code, other.error.reason) == (6, "OUTCOME_CONFLICT")
    assert dict(higher.reward.results) == {"click": REVISED}


def test_an_expired_decision_accepts_no_first_outcome(wire: Wire) -> None:
    """It gets FAILED_PRECONDITION after max_decision_age; timely outcomes can be repeated and revised."""
    declared = experiment(metrics=[metric("click"), metric("buy")])
    declared.max_decision_age.FromMilliseconds(1_500)
    wire.create(declared)
    wire.start(declared.name)
    decision_id = wire.choose(declared.name).decision_id
    assert wire.reward(decision_id, {"click": 1}) == {"click": RECORDED}
    wait_until_older(wire, declared.name, decision_id, 1.5)
    refusal = refused(lambda: wire.reward(decision_id, {"buy": 1}))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "DECISION_EXPIRED")
    assert "buy" in refusal.message
    assert wire.reward(decision_id, {"click": 1}) == {"click": DUPLICATE}
    assert refused(lambda: wire.reward(decision_id, {"click": 0})).reason == "OUTCOME_CONFLICT"
    assert wire.reward(decision_id, {"click": 0}, revision=1) == {"click": REVISED}
    mixed = refused(lambda: wire.reward(decision_id, {"click": 0, "buy": 1}, revision=1))
    assert mixed.reason == "DECISION_EXPIRED"
    assert wire.n_outcomes(declared.name) == 1


def test_an_outcome_past_its_window_is_late(wire: Wire) -> None:
    """It is kept and reported separately, does not steer, and its repeat is a duplicate."""
    slow = metric("click")
    slow.window.FromMilliseconds(300)
    name = wire.running(metrics=[slow, metric("buy")])
    decision_id = wire.choose(name).decision_id
    wait_until_older(wire, name, decision_id, 0.3)
    assert wire.reward(decision_id, {"click": 1, "buy": 1}) == {"click": LATE, "buy": RECORDED}
    assert wire.reward(decision_id, {"click": 1}) == {"click": DUPLICATE}
    clicks = [m for arm in wire.report(name).arms for m in arm.metrics if m.metric == "click"]
    assert sum(m.late_outcomes for m in clicks) == 1
    assert sum(m.outcomes + m.open_outcomes for m in clicks) == 0


def test_rewards_are_accepted_while_paused_and_after_the_conclusion(wire: Wire, name: str) -> None:
    """A decision's outcome counts even if its experiment was paused or concluded since."""
    ids = [wire.choose(name).decision_id for _ in range(2)]
    wire.pause(name)
    assert wire.reward(ids[0], {"click": 1}) == {"click": RECORDED}
    wire.conclude(name, "b")
    assert wire.reward(ids[1], {"click": 1}) == {"click": RECORDED}
    assert wire.n_outcomes(name) == 2


def test_rewards_of_a_fallback_are_kept_and_do_not_steer(wire: Wire, name: str) -> None:
    """A paused experiment's answer can be rewarded, and the report's means exclude the outcome."""
    wire.pause(name)
    decision_id = wire.choose(name).decision_id
    assert wire.reward(decision_id, {"click": 1}) == {"click": RECORDED}
    assert wire.reward(decision_id, {"click": 1}) == {"click": DUPLICATE}
    assert wire.n_outcomes(name) == 0


def test_rewards_of_a_deleted_experiment_are_not_found(wire: Wire, name: str) -> None:
    """New rewards and repeats get NOT_FOUND."""
    ids = [wire.choose(name).decision_id for _ in range(2)]
    wire.reward(ids[0], {"click": 1})
    wire.pause(name)
    wire.delete(name)
    for decision_id in ids:
        refusal = refused(partial(wire.reward, decision_id, {"click": 1}))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "EXPERIMENT_NOT_FOUND")


def test_rewards_of_a_removed_arm_are_accepted(wire: Wire, name: str) -> None:
    """The decision has its arm, and the report still shows the arm, out of service."""
    decision_id = wire.choose(name, eligible_arms=["b"]).decision_id
    wire.update(experiment(name=name, arms=[experiment_pb2.Arm(id="a")]), "arms")
    assert wire.reward(decision_id, {"click": 1}) == {"click": RECORDED}
    dropped = wire.report(name).arms[-1]
    assert (dropped.arm, dropped.out_of_service, dropped.share) == ("b", True, 0.0)
    assert dropped.metrics[0].outcomes == 1


def test_rewards_of_a_removed_metric_are_refused(wire: Wire, name: str) -> None:
    """A removed metric has no rules to check, and is refused; other metrics still work."""
    decision_id = wire.choose(name).decision_id
    wire.update(experiment(name=name, metrics=[metric("click")]), "metrics")
    assert refused(lambda: wire.reward(decision_id, {"buy": 1})).reason == "INVALID_INPUT"
    assert wire.reward(decision_id, {"click": 1}) == {"click": RECORDED}


def test_a_metric_that_clips_accepts_values_out_of_range(wire: Wire) -> None:
    """Values beyond the range count as its nearest end, and are kept as posted; infinity is refused."""
    real = metric("spend", kind=experiment_pb2.METRIC_KIND_REAL, minimum=-1, maximum=1, clip=True)
    name = wire.running(metrics=[real], reward_metric="spend")
    decision_id = wire.choose(name).decision_id
    assert wire.reward(decision_id, {"spend": 1e308}) == {"spend": RECORDED}
    assert wire.reward(decision_id, {"spend": 1e308}) == {"spend": DUPLICATE}
    assert refused(lambda: wire.reward(decision_id, {"spend": 1})).reason == "OUTCOME_CONFLICT"
    assert refused(lambda: wire.reward(decision_id, {"spend": float("inf")})).reason == "INVALID_INPUT"

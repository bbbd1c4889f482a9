"""Limits hold in every stored epoch."""

from itertools import pairwise

import pytest
from google.protobuf.duration_pb2 import Duration

from bandit.v1 import bandit_pb2, experiment_pb2
from tests.support.ledger import StoredEpoch, stored_epochs
from tests.support.process import ServerProcess, eventually
from tests.support.wire import Wire, experiment

HOUR = 3_600e6
"""Microseconds."""


def reward_all(wire: Wire, name: str, rewards: dict[str, float], n: int = 300) -> None:
    """Make `n` decisions, and reward each by its arm."""
    results = wire.batch_choose(*[bandit_pb2.ChooseRequest(experiment=name)] * n)
    wire.batch_reward(
        *(
            bandit_pb2.RewardRequest(
                decision_id=result.choice.decision_id, outcomes={"click": rewards[result.choice.arm]}
            )
            for result in results
        )
    )


def moved(server: ServerProcess, name: str, n_epochs: int) -> list[StoredEpoch]:
    """Wait for `n_epochs` epochs, and return them."""
    return eventually(
        lambda: stored_epochs(server.database, name), until=lambda epochs: len(epochs) >= n_epochs
    )


def arms(*names: str) -> list[experiment_pb2.Arm]:
    """Return arms with these ids."""
    return [experiment_pb2.Arm(id=name) for name in names]


def test_floors_and_caps_hold_under_overwhelming_evidence(
    shared_process: ServerProcess, shared_wire: Wire
) -> None:
    """The champion keeps its floor, every other arm its own, and the best arm stays below the cap."""
    limits = experiment_pb2.Limits(minimum_share=0.05, minimum_shares={"a": 0.2}, maximum_share=0.6)
    name = shared_wire.running(arms=arms(*"abcd"), limits=limits)
    for _ in range(4):
        reward_all(shared_wire, name, {"a": 0, "b": 1, "c": 0, "d": 0})
    epochs = moved(shared_process, name, 2)
    for epoch in epochs:
        assert epoch.shares["a"] >= 0.2 - 1e-12
        assert min(epoch.shares.values()) >= 0.05 - 1e-12
        assert max(epoch.shares.values()) <= 0.6 + 1e-12
    assert epochs[-1].shares["b"] == pytest.approx(0.6)


def test_shares_move_no_faster_than_the_step(shared_process: ServerProcess, shared_wire: Wire) -> None:
    """Between two stored epochs, no share moves by more than the step times the hours between them."""
    step = 1.0
    limits = experiment_pb2.Limits(maximum_step_per_hour=step)
    name = shared_wire.running(arms=arms(*"ab"), limits=limits, policy=split(a=1, b=999))
    changed = experiment(name=name, policy=split(a=1, b=1))
    shared_wire.update(changed, "policy")
    reward_all(shared_wire, name, {"a": 0, "b": 1})
    shared_wire.update(experiment(name=name, policy=split(a=9, b=1)), "policy")
    epochs = moved(shared_process, name, 3)
    for before, after in pairwise(epochs):
        furthest = max(abs(after.shares[arm] - before.shares[arm]) for arm in "ab")
        assert furthest <= step * (after.started_at - before.started_at) / HOUR + 1e-12
    assert epochs[0].shares["a"] < epochs[-1].shares["a"] < 0.1


def test_an_arm_taken_out_gets_no_traffic_at_once(shared_process: ServerProcess, shared_wire: Wire) -> None:
    """From the answer of Update on, an arm taken out has no share, whatever the step and its floor."""
    limits = experiment_pb2.Limits(minimum_share=0.2, maximum_step_per_hour=0.01)
    name = shared_wire.running(arms=arms(*"abc"), limits=limits)
    out = [*arms(*"ab"), experiment_pb2.Arm(id="c", taken_out=True)]
    answer = shared_wire.update(experiment(name=name, arms=out), "arms")
    assert answer.epoch.shares["c"] == 0
    results = shared_wire.batch_choose(*[bandit_pb2.ChooseRequest(experiment=name)] * 300)
    assert {result.choice.arm for result in results} == {"a", "b"}
    assert stored_epochs(shared_process.database, name)[-1].shares["c"] == 0


def test_a_new_arm_warms_up_and_then_has_to_earn_its_share(
    shared_process: ServerProcess, shared_wire: Wire
) -> None:
    """It has an equal part of the share above the floors until its warm-up decisions are made."""
    limits = experiment_pb2.Limits(
        minimum_shares={"a": 0.5}, warm_up_decisions=200, warm_up_duration=Duration(seconds=3_600)
    )
    name = shared_wire.running(arms=arms("a"), limits=limits)
    reward_all(shared_wire, name, {"a": 1})
    shared_wire.update(experiment(name=name, arms=arms("a", "b")), "arms")
    assert dict(shared_wire.get(name).epoch.shares) == {"a": pytest.approx(0.75), "b": pytest.approx(0.25)}

    def share_of_b() -> float:
        reward_all(shared_wire, name, {"a": 1, "b": 0})
        return shared_wire.report(name).arms[1].share

    eventually(share_of_b, until=lambda share: share < 0.1)
    assert not shared_wire.get(name).epoch.warming_up
    assert stored_epochs(shared_process.database, name)[-1].shares["a"] > 0.9


def split(**weights: float) -> experiment_pb2.Policy:
    """Return a static split."""
    return experiment_pb2.Policy(static_split=experiment_pb2.StaticSplit(weights=weights))

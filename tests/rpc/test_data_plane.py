"""BanditService, every RPC and every field, as a backend and a reporter use it."""

import base64
import time
from collections import Counter
from typing import Final

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct

from bandit.assignment import Picker, unit_hash
from bandit.v1 import bandit_pb2, experiment_pb2
from tests.support.process import eventually
from tests.support.wire import Wire, experiment, metric

pytestmark = pytest.mark.both_listeners
RECORDED: Final = bandit_pb2.OUTCOME_RESULT_RECORDED
SALT: Final = "00112233445566778899aabbccddeeff"


def rich_payload() -> Struct:
    """Return a payload with every kind of value."""
    payload = Struct()
    payload.update(
        {"prompt": "be “kind” \U0001f600\n", "t": 0.7, "n": None, "on": True, "deep": {"a": [1, [], {}]}}
    )
    return payload


def chooses(name: str, n: int) -> list[bandit_pb2.ChooseRequest]:
    """Return `n` requests, each for another unit."""
    return [bandit_pb2.ChooseRequest(experiment=name, unit=f"user-{number}") for number in range(n)]


def test_a_started_experiment_decides_at_once(wire: Wire) -> None:
    """Choose right after Create and Start is always answered."""
    for _ in range(20):
        name = wire.running()
        choice = wire.choose(name)
        assert (choice.reason, choice.epoch, choice.propensity) == (bandit_pb2.REASON_POLICY, 1, 0.5)


def test_an_answer_has_every_field(wire: Wire) -> None:
    """An answer has the declared arm, the signed decision, its propensity, the reason, and the data's age."""
    declared = experiment(
        arms=[
            experiment_pb2.Arm(id="v1", model_uri="models:/m/1", digest="sha256:1", payload=rich_payload())
        ],
        champion="v1",
    )
    wire.create(declared)
    wire.start(declared.name)
    choice = wire.choose(declared.name, unit="user-1", attributes={"country": "nl"})
    assert (choice.arm, choice.model_uri, choice.payload) == ("v1", "models:/m/1", rich_payload())
    assert (choice.reason, choice.propensity, choice.epoch) == (bandit_pb2.REASON_POLICY, 1.0, 1)
    assert len(choice.decision_id) == 80
    assert set(choice.decision_id) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert list(choice.shadow_arms) == []
    assert choice.HasField("snapshot_age")
    assert 0 <= choice.snapshot_age.ToTimedelta().total_seconds() < 5


def test_the_unit_is_not_in_the_decision_id(wire: Wire) -> None:
    """The id is signed but not encrypted, so it contains nothing of the unit."""
    unit = "alice@example.org"
    decision = base64.urlsafe_b64decode(wire.choose(wire.running(), unit=unit).decision_id)
    assert unit.encode() not in decision
    assert not any(unit.encode()[i : i + 4] in decision for i in range(len(unit) - 3))


def test_a_unit_keeps_its_arm_and_decisions_are_unique(wire: Wire) -> None:
    """A repeated call, alone or in a batch, gets the same arm with another decision id."""
    name = wire.running()
    batches = [wire.batch_choose(*chooses(name, 200)) for _ in range(2)]
    arms = [[result.choice.arm for result in batch] for batch in batches]
    assert arms[0] == arms[1]
    assert wire.choose(name, unit="user-7").arm == arms[0][7]
    ids = [result.choice.decision_id for batch in batches for result in batch]
    assert len(set(ids)) == 400


def test_an_assignment_can_be_computed_by_anyone(wire: Wire) -> None:
    """The library computes the server's arm of every unit from salt, unit and shares."""
    weights = {"a": 1.0, "b": 2.0, "c": 5.0}
    arms = [experiment_pb2.Arm(id=arm) for arm in weights]
    policy = experiment_pb2.Policy(static_split=experiment_pb2.StaticSplit(weights=weights))
    name = wire.running(arms=arms, policy=policy, salt=SALT)
    picker = Picker(list(weights), [weight / 8 for weight in weights.values()])
    expected = [picker.arm_ids[picker.pick(unit_hash(bytes.fromhex(SALT), f"user-{i}"))] for i in range(300)]
    answers = wire.batch_choose(*chooses(name, 300))
    assert [result.choice.arm for result in answers] == expected
    assert [result.choice.propensity for result in answers] == [weights[arm] / 8 for arm in expected]


def test_without_a_unit_arms_are_drawn_at_random(wire: Wire) -> None:
    """Without a unit, both arms are chosen, in a different order each time."""
    name = wire.running()
    arms = [
        result.choice.arm for result in wire.batch_choose(*[bandit_pb2.ChooseRequest(experiment=name)] * 200)
    ]
    assert set(arms) == {"a", "b"}  # all the same with probability 2^-199
    again = wire.batch_choose(*[bandit_pb2.ChooseRequest(experiment=name)] * 200)
    assert arms != [result.choice.arm for result in again]


def test_eligible_arms_share_in_proportion(wire: Wire) -> None:
    """Among eligible arms, the propensity is the share over their sum, and the decision is restricted."""
    weights = {"a": 1.0, "b": 2.0, "c": 5.0}
    policy = experiment_pb2.Policy(static_split=experiment_pb2.StaticSplit(weights=weights))
    name = wire.running(arms=[experiment_pb2.Arm(id=arm) for arm in weights], policy=policy)
    seen = {}
    for number in range(60):
        choice = wire.choose(name, unit=f"u{number}", eligible_arms=["a", "b", "no-such-arm"])
        assert choice.reason == bandit_pb2.REASON_POLICY
        seen[choice.arm] = choice.propensity
    assert seen == {"a": pytest.approx(1 / 3), "b": pytest.approx(2 / 3)}
    expected = {"policy": 0, "restricted": 60, "fallback": 0, "unconfirmed": 0}
    assert eventually(lambda: wire.n_decisions(name), until=lambda n: n["restricted"] >= 60) == expected


def test_a_previous_decision_is_returned_while_it_holds(wire: Wire) -> None:
    """The same decision id is returned with the same fields, and not counted again."""
    name = wire.running()
    first = wire.choose(name, unit="u")
    for _ in range(5):
        again = wire.choose(name, unit="u", previous_decision_id=first.decision_id)
        assert again.reason == bandit_pb2.REASON_PINNED
        assert (again.decision_id, again.arm, again.propensity, again.epoch) == (
            first.decision_id,
            first.arm,
            first.propensity,
            first.epoch,
        )
    last = wire.choose(name, unit="u")
    assert last.decision_id != first.decision_id
    assert eventually(lambda: wire.n_decisions(name)["policy"]) == 2


def test_a_previous_decision_of_another_unit_is_ignored(wire: Wire) -> None:
    """A decision of another unit or experiment, or on an arm that is not eligible, gives a new one."""
    name, other = wire.running(), wire.running()
    mine = wire.choose(name, unit="u").decision_id
    assert wire.choose(name, unit="v", previous_decision_id=mine).reason == bandit_pb2.REASON_POLICY
    assert wire.choose(name, previous_decision_id=mine).reason == bandit_pb2.REASON_POLICY
    assert wire.choose(other, unit="u", previous_decision_id=mine).reason == bandit_pb2.REASON_POLICY
    arm = wire.choose(name, unit="u").arm
    elsewhere = {"a": "b", "b": "a"}[arm]
    choice = wire.choose(name, unit="u", previous_decision_id=mine, eligible_arms=[elsewhere])
    assert (choice.arm, choice.reason) == (elsewhere, bandit_pb2.REASON_POLICY)


def test_a_previous_decision_holds_across_epochs_and_not_on_an_arm_taken_out(wire: Wire) -> None:
    """It is returned while shares move, until its arm is taken out."""
    name = wire.running()
    first = wire.choose(name, unit="u")
    changed = wire.update(experiment(name=name, limits=experiment_pb2.Limits(minimum_share=0.1)), "limits")
    assert changed.epoch.number == 2
    held = wire.choose(name, unit="u", previous_decision_id=first.decision_id)
    assert (held.decision_id, held.epoch) == (first.decision_id, 1)
    arms = [experiment_pb2.Arm(id=arm, taken_out=arm == first.arm) for arm in ("a", "b")]
    wire.update(experiment(name=name, arms=arms), "arms")
    moved = wire.choose(name, unit="u", previous_decision_id=first.decision_id)
    assert moved.arm != first.arm
    assert moved.decision_id != first.decision_id


def test_a_previous_decision_ends_with_its_window(wire: Wire) -> None:
    """After the longest window, when outcomes are late, the unit gets a new decision."""
    short = metric("click")
    short.window.FromMilliseconds(400)
    name = wire.running(metrics=[short])
    first = wire.choose(name, unit="u").decision_id
    began_at = time.monotonic()
    again = eventually(
        lambda: wire.choose(name, unit="u", previous_decision_id=first),
        until=lambda choice: choice.reason != bandit_pb2.REASON_PINNED,
    )
    assert time.monotonic() - began_at > 0.3
    assert again.decision_id != first


def test_a_warming_arm_has_its_reason(wire: Wire) -> None:
    """The reason is warm-up if the arm's warm-up set its share."""
    limits = experiment_pb2.Limits(warm_up_decisions=10**6)
    limits.warm_up_duration.FromSeconds(3_600)
    choice = wire.choose(wire.running(limits=limits))
    assert (choice.reason, choice.propensity) == (bandit_pb2.REASON_WARM_UP, 0.5)


def test_paused_and_concluded_experiments_give_a_certain_answer(wire: Wire) -> None:
    """The champion or winner answers with propensity 1, and the report counts fallbacks."""
    name = wire.running(arms=[experiment_pb2.Arm(id=arm) for arm in "abc"], champion="b")
    wire.pause(name)
    for unit in ("u", "v", ""):
        choice = wire.choose(name, unit=unit)
        assert (choice.arm, choice.reason, choice.propensity) == ("b", bandit_pb2.REASON_PAUSED, 1.0)
    restricted = wire.choose(name, eligible_arms=["a"])
    assert (restricted.arm, restricted.reason) == ("b", bandit_pb2.REASON_PAUSED)
    wire.conclude(name, "c")
    for unit in ("u", "v"):
        choice = wire.choose(name, unit=unit)
        assert (choice.arm, choice.reason, choice.propensity) == ("c", bandit_pb2.REASON_CONCLUDED, 1.0)
    expected = {"policy": 0, "restricted": 0, "fallback": 6, "unconfirmed": 0}
    assert eventually(lambda: wire.n_decisions(name), until=lambda n: n["fallback"] >= 6) == expected
    by_arm = {arm.arm: arm.decisions.fallback for arm in wire.report(name).arms}
    assert by_arm == {"a": 0, "b": 4, "c": 2}


def test_a_paused_experiment_pins_no_one(wire: Wire) -> None:
    """A previous decision is ignored, and the champion answers until the experiment runs again."""
    name = wire.running()
    first = wire.choose(name, unit="u", eligible_arms=["b"])
    wire.pause(name)
    assert wire.choose(name, unit="u", previous_decision_id=first.decision_id).arm == "a"
    wire.start(name)
    again = wire.choose(name, unit="u", previous_decision_id=first.decision_id)
    assert (again.reason, again.decision_id) == (bandit_pb2.REASON_PINNED, first.decision_id)


def test_one_bad_question_fails_alone(wire: Wire) -> None:
    """BatchChoose returns results in order, each an answer or an error."""
    name, draft = wire.running(), wire.create(experiment()).name
    requests = chooses(name, 100)
    requests[40] = bandit_pb2.ChooseRequest(experiment="no-such-one")
    requests[50] = bandit_pb2.ChooseRequest(experiment=draft)
    requests[60] = bandit_pb2.ChooseRequest(experiment=name, unit="\n")
    requests[70] = bandit_pb2.ChooseRequest(experiment="Not A Name")
    results = wire.batch_choose(*requests)
    errors = {i: result.error for i, result in enumerate(results) if result.HasField("error")}
    assert {i: (error.code, error.reason) for i, error in errors.items()} == {
        40: (grpc.StatusCode.NOT_FOUND.value[0], "EXPERIMENT_NOT_FOUND"),
        50: (grpc.StatusCode.FAILED_PRECONDITION.value[0], "EXPERIMENT_NOT_STARTED"),
        60: (grpc.StatusCode.INVALID_ARGUMENT.value[0], "INVALID_INPUT"),
        70: (grpc.StatusCode.INVALID_ARGUMENT.value[0], "INVALID_INPUT"),
    }
    assert [v.field for v in errors[60].field_violations] == ["unit"]
    assert all(result.choice.arm for i, result in enumerate(results) if i not in errors)
    assert results[99].choice.arm == wire.choose(name, unit="user-99").arm


def test_a_batch_answers_for_many_experiments(wire: Wire) -> None:
    """Each of a thousand results belongs to its own request."""
    names = [wire.running(champion=arm, arms=[experiment_pb2.Arm(id=arm)]) for arm in ("x", "y", "z")]
    requests = [bandit_pb2.ChooseRequest(experiment=names[i % 3]) for i in range(1_000)]
    assert [result.choice.arm for result in wire.batch_choose(*requests)] == [*"xyz" * 333, "x"]


def test_one_bad_reward_fails_alone(wire: Wire) -> None:
    """BatchReward returns results in order, and stores the good rewards only."""
    name = wire.running(metrics=[metric("click"), metric("buy")])
    ids = [result.choice.decision_id for result in wire.batch_choose(*chooses(name, 6))]
    wire.reward(ids[1], {"click": 1})
    results = wire.batch_reward(
        bandit_pb2.RewardRequest(decision_id=ids[0], outcomes={"click": 1, "buy": 0}),
        bandit_pb2.RewardRequest(decision_id=ids[1], outcomes={"click": 0}),
        bandit_pb2.RewardRequest(decision_id=ids[2], outcomes={"click": 7, "nope": 1}),
        bandit_pb2.RewardRequest(decision_id="forged", outcomes={"click": 1}),
        bandit_pb2.RewardRequest(decision_id=ids[4]),
        bandit_pb2.RewardRequest(decision_id=ids[5], outcomes={"click": 0}),
    )
    assert [result.error.reason for result in results] == [
        "",
        "OUTCOME_CONFLICT",
        "INVALID_INPUT",
        "DECISION_ID_INVALID",
        "INVALID_INPUT",
        "",
    ]
    assert dict(results[0].reward.results) == {"click": RECORDED, "buy": RECORDED}
    assert {v.field for v in results[2].error.field_violations} == {"outcomes['click']", "outcomes['nope']"}
    assert wire.n_outcomes(name) == 4


def test_outcomes_are_credited_to_the_arm_of_the_decision(wire: Wire) -> None:
    """The report's mean of each arm is that of the rewards for its decisions."""
    real = metric("spend", kind=experiment_pb2.METRIC_KIND_REAL, minimum=0, maximum=8)
    count = metric("items", kind=experiment_pb2.METRIC_KIND_COUNT, maximum=100)
    name = wire.running(metrics=[real, count], reward_metric="spend")
    choices = [result.choice for result in wire.batch_choose(*chooses(name, 400))]
    results = wire.batch_reward(
        *(
            bandit_pb2.RewardRequest(
                decision_id=choice.decision_id,
                outcomes={"spend": {"a": 2.0, "b": 6.0}[choice.arm], "items": number % 3},
            )
            for number, choice in enumerate(choices)
        )
    )
    assert all(dict(result.reward.results) == {"spend": RECORDED, "items": RECORDED} for result in results)
    n_chosen = Counter(choice.arm for choice in choices)
    report = wire.report(name)
    for arm in report.arms:
        spend, items = arm.metrics
        assert (spend.metric, items.metric) == ("spend", "items")
        assert spend.outcomes == items.outcomes == n_chosen[arm.arm]
        assert spend.mean == {"a": 2.0, "b": 6.0}[arm.arm]
        expected = [number % 3 for number, choice in enumerate(choices) if choice.arm == arm.arm]
        assert items.mean == pytest.approx(sum(expected) / len(expected), abs=1e-12)
        assert spend.interval.lower < spend.interval.upper
        assert spend.interval.level == 0.95
    assert report.arms[1].probability_best > 0.99

"""LaunchService, every RPC, as people and pipelines use it."""

from typing import Any

import grpc
import pytest
from google.protobuf import json_format

from bandit.v1 import bandit_pb2, experiment_pb2, launch_pb2
from tests.support.refusals import refused
from tests.support.wire import Wire, experiment, metric

CANARY = launch_pb2.LaunchStage(
    kind=launch_pb2.LAUNCH_STAGE_KIND_CANARY, share=0.05, minimum_decisions=1_000_000
)
RAMP = launch_pb2.LaunchStage(kind=launch_pb2.LAUNCH_STAGE_KIND_RAMP, shares=[0.1, 0.2], approval=True)
BANDIT = launch_pb2.LaunchStage(kind=launch_pb2.LAUNCH_STAGE_KIND_BANDIT)


def launching(*arms: str, mode: str = "AUTOMATIC", **changes: Any) -> experiment_pb2.Experiment:
    """Return an experiment with a launch of canary, ramp (with approval) and bandit; champion a."""
    plan = {
        "stages": [CANARY, RAMP, BANDIT],
        "mode": launch_pb2.LaunchMode.Value(f"LAUNCH_MODE_{mode}"),
        "holdback": launch_pb2.LaunchHoldback(share=0.05),
    }
    return experiment(
        arms=[experiment_pb2.Arm(id=arm) for arm in ("a", *(arms or ("b",)))],
        metrics=[metric("click")],
        limits=experiment_pb2.Limits(champion_minimum_share=0.2),
        launch=launch_pb2.LaunchPlan(**plan | changes),  # type: ignore[arg-type]
    )


def started(wire: Wire, *arms: str, **changes: Any) -> str:
    """Create and start such an experiment, and return its name."""
    declared = launching(*arms, **changes)
    wire.create(declared)
    wire.start(declared.name)
    return declared.name


def states(launch: launch_pb2.Launch) -> dict[str, str]:
    """Return arm to step or state."""
    return {
        arm.arm: arm.step
        or launch_pb2.ArmLaunchState.Name(arm.state).removeprefix("ARM_LAUNCH_STATE_").lower()
        for arm in launch.arms
    }


def in_bandit(wire: Wire, name: str, arm: str = "b") -> None:
    """Take an arm to the bandit stage by hand."""
    wire.move("Advance", name, arm=arm)
    for _ in range(2):
        wire.move("Approve", name, arm=arm)
        wire.move("Advance", name, arm=arm)


def test_a_launch_that_moves_itself_takes_the_first_step_at_the_start(wire: Wire) -> None:
    """Challengers are in the first step at once, each with its share, and the champion has the rest."""
    name = started(wire, "b", "c")
    launch = wire.launch(name)
    assert states(launch) == {"b": "canary at 5 %", "c": "canary at 5 %"}
    assert (launch.champion, launch.former_champion) == ("a", "")
    assert dict(wire.get(name).epoch.shares) == pytest.approx({"a": 0.9, "b": 0.05, "c": 0.05})
    (gate,) = launch.arms[0].gates
    assert (gate.name, gate.figure, gate.threshold, gate.is_open) == (
        "minimum_decisions",
        0,
        1_000_000,
        False,
    )
    assert launch.arms[0].next == "advance to ramp at 10 %"


def test_in_mode_recommend_people_take_every_step(wire: Wire) -> None:
    """A challenger waits, without traffic, until somebody advances it."""
    name = started(wire, mode="RECOMMEND")
    assert states(wire.launch(name)) == {"b": "waiting"}
    assert dict(wire.get(name).epoch.shares) == {"a": 1.0, "b": 0.0}
    assert states(wire.move("Advance", name)) == {"b": "canary at 5 %"}


def test_advance_passes_over_numbers_and_says_which(wire: Wire) -> None:
    """The event of a step that a person takes has the reason, the caller and the gates that were closed."""
    name = started(wire)
    wire.move("Advance", name, reason="we are late")
    event = wire.list_events(experiment=name).events[-1]
    assert (event.kind, event.arm, event.actor, event.reason) == ("stage", "b", "anyone", "we are late")
    assert event.figures["to"] == "ramp at 10 %"
    assert json_format.MessageToDict(event.figures)["passed_over"] == ["0 of 1,000,000 decisions"]


def test_advance_does_not_pass_over_an_approval(wire: Wire) -> None:
    """A step that asks for an approval is left only with one, and an approval is for one visit."""
    name = started(wire)
    wire.move("Advance", name)
    refusal = refused(lambda: wire.move("Advance", name))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "LAUNCH_REFUSED")
    assert "waits for an approval" in refusal.message
    wire.move("Approve", name)
    assert states(wire.move("Advance", name)) == {"b": "ramp at 20 %"}
    assert "waits for an approval" in refused(lambda: wire.move("Advance", name)).message


def test_pressing_twice_skips_no_step(wire: Wire) -> None:
    """A verb that means an earlier visit is refused, and names the one that the arm is in."""
    name = started(wire)
    entry = wire.launch(name).arms[0].entry
    wire.move("Advance", name, entry=entry)
    refusal = refused(lambda: wire.move("Advance", name, entry=entry))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "LAUNCH_MOVED")
    assert f"it is in visit {entry + 1}" in refusal.message
    assert states(wire.launch(name)) == {"b": "ramp at 10 %"}


def test_a_request_is_carried_out_once(wire: Wire) -> None:
    """The same request again moves nothing; its id with other arguments is refused."""
    name = started(wire)
    for _ in range(2):
        launch = wire.move("Advance", name, request_id="deploy-7")
        assert states(launch) == {"b": "ramp at 10 %"}
    refusal = refused(lambda: wire.move("Hold", name, request_id="deploy-7"))
    assert (refusal.code, list(refusal.violations)) == (grpc.StatusCode.INVALID_ARGUMENT, ["request_id"])
    events = wire.list_events(experiment=name).events
    assert [event.request_id for event in events if event.kind == "stage"] == ["", "deploy-7"]


def test_validation_changes_nothing(wire: Wire) -> None:
    """With `validate_only` the answer is the launch as it would be, and a refusal is the same."""
    name = started(wire)
    before = wire.get(name).etag
    launch = wire.move("Advance", name, validate_only=True)
    assert (launch.validated_only, states(launch)) == (True, {"b": "ramp at 10 %"})
    assert wire.get(name).etag == before
    assert refused(lambda: wire.move("Promote", name, validate_only=True)).reason == "LAUNCH_REFUSED"


def test_hold_and_resume(wire: Wire) -> None:
    """A person's hold stands in the launch with its reason until it is resumed."""
    name = started(wire)
    held = wire.move("Hold", name, reason="the dashboard looks odd")
    (hold,) = held.arms[0].holds
    assert (hold.cause, hold.sentence) == (
        launch_pb2.LAUNCH_HOLD_CAUSE_OPERATOR,
        "held by anyone: the dashboard looks odd",
    )
    assert list(wire.move("Resume", name).arms[0].holds) == []
    assert "nobody holds it" in refused(lambda: wire.move("Resume", name)).message
    kinds = [event.kind for event in wire.list_events(experiment=name).events]
    assert kinds[-2:] == ["held", "resumed"]


def test_rollback_takes_the_traffic_away(wire: Wire) -> None:
    """The arm has share 0 at once, whatever visit was meant, and neither eligible arms nor a pin get it."""
    name = started(wire)
    launch = wire.move("RollBack", name, entry=99, reason="it swears")
    assert states(launch) == {"b": "rolled_back"}
    assert launch.arms[0].sentence == "Rolled back by anyone: it swears. a answers; find out why."
    assert dict(wire.get(name).epoch.shares) == {"a": 1.0, "b": 0.0}
    answer = wire.choose(name, unit="u", eligible_arms=["b"])
    assert (answer.arm, answer.reason) == ("a", bandit_pb2.REASON_NO_ELIGIBLE_ARM)
    assert "nothing to take back" in refused(lambda: wire.move("RollBack", name, arm="b")).message


def test_a_waiting_arm_is_not_in_service(wire: Wire) -> None:
    """A caller that can serve nothing but a waiting arm gets the champion."""
    name = started(wire, mode="RECOMMEND")
    answer = wire.choose(name, unit="u", eligible_arms=["b"])
    assert (answer.arm, answer.reason) == ("a", bandit_pb2.REASON_NO_ELIGIBLE_ARM)


def test_promotion_and_back(wire: Wire) -> None:
    """A promoted arm is champion while the former one keeps the holdback; a rollback brings that back."""
    name = started(wire)
    in_bandit(wire, name)
    promoted = wire.move("Promote", name)
    assert (promoted.champion, promoted.former_champion) == ("b", "a")
    assert states(promoted) == {"b": "promoted", "a": "holdback"}
    assert dict(wire.get(name).epoch.shares) == pytest.approx({"a": 0.05, "b": 0.95})
    back = wire.move("RollBack", name, arm="b")
    assert (back.champion, back.former_champion) == ("a", "")
    assert states(back) == {"a": "succeeded", "b": "rolled_back"}
    assert wire.get(name).champion == "a"


def test_an_old_file_does_not_undo_a_promotion(wire: Wire) -> None:
    """The file that declared the first champion changes nothing; one that names another arm is refused."""
    declared = launching("b", "c")
    wire.create(declared)
    wire.start(declared.name)
    in_bandit(wire, declared.name)
    wire.move("Promote", declared.name, arm="b")
    assert wire.update(declared).champion == "b"
    declared.champion = "c"
    refusal = refused(lambda: wire.update(declared))
    assert (refusal.code, list(refusal.violations)) == (grpc.StatusCode.INVALID_ARGUMENT, ["champion"])
    assert "launch promote" in refusal.message


def test_restart_begins_again(wire: Wire) -> None:
    """An ended arm waits for the first stage again; one that is under way can't be restarted."""
    name = started(wire, mode="RECOMMEND")
    assert "only an ended launch" in refused(lambda: wire.move("Restart", name, arm="b")).message
    wire.move("Advance", name)
    wire.move("RollBack", name)
    assert states(wire.move("Restart", name)) == {"b": "waiting"}


def test_the_arm_may_be_left_out_if_there_is_one(wire: Wire) -> None:
    """With several candidates the verb is refused, and they are named."""
    name = started(wire, "b", "c")
    refusal = refused(lambda: wire.move("Advance", name))
    assert (refusal.code, list(refusal.violations)) == (grpc.StatusCode.INVALID_ARGUMENT, ["arm"])
    assert "there are b, c" in refusal.message
    unknown = refused(lambda: wire.move("Advance", name, arm="z"))
    assert (unknown.code, unknown.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "LAUNCH_REFUSED")
    assert "it is not in a launch; arms that are: b, c" in unknown.message
    champion = refused(lambda: wire.move("RollBack", name, arm="a"))
    assert "it is the champion, and not in a launch" in champion.message


@pytest.mark.parametrize(
    ("arguments", "field"),
    [({"reason": " "}, "reason"), ({"reason": "x" * 1_001}, "reason"), ({"request_id": "é"}, "request_id")],
)
def test_bad_arguments_are_named(wire: Wire, arguments: dict[str, Any], field: str) -> None:
    """A missing reason, one that is too long, or an id that is no ASCII is refused, and nothing is moved."""
    name = started(wire)
    refusal = refused(lambda: wire.move("Advance", name, **arguments))
    assert (refusal.code, list(refusal.violations)) == (grpc.StatusCode.INVALID_ARGUMENT, [field])
    assert states(wire.launch(name)) == {"b": "canary at 5 %"}


def test_without_a_launch_there_is_none(wire: Wire) -> None:
    """An experiment without a launch, or that has not started, says so; an unknown one is not found."""
    refusal = refused(lambda: wire.launch(wire.running()))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_LAUNCH")
    draft = launching()
    wire.create(draft)
    assert "begins when it is started" in refused(lambda: wire.move("Advance", draft.name)).message
    assert refused(lambda: wire.launch("nowhere")).code is grpc.StatusCode.NOT_FOUND


def test_report_list_and_get_carry_the_launch(wire: Wire) -> None:
    """The report has the same launch as GetLaunch; experiments have where each arm is."""
    name = started(wire)
    assert wire.report(name).launch.arms == wire.launch(name).arms
    (listed,) = [each for each in wire.list_page(page_size=1_000).experiments if each.name == name]
    assert states(listed.launch_status) == states(wire.get(name).launch_status) == {"b": "canary at 5 %"}
    assert not wire.get(wire.running()).HasField("launch_status")


def test_conclusion_ends_every_launch(wire: Wire) -> None:
    """The winner has succeeded, and the others are withdrawn."""
    name = started(wire, "b", "c")
    wire.conclude(name, "b")
    assert states(wire.launch(name)) == {"b": "succeeded", "c": "withdrawn"}


def test_arms_come_and_go(wire: Wire) -> None:
    """A new arm begins at the first stage, one that is taken out is rolled back, a removed one withdrawn."""
    declared = launching("b", "c", mode="RECOMMEND")
    wire.create(declared)
    wire.start(declared.name)
    del declared.arms[1]
    declared.arms[1].taken_out = True
    declared.arms.add(id="d")
    wire.update(declared)
    assert states(wire.launch(declared.name)) == {"c": "rolled_back", "d": "waiting", "b": "withdrawn"}


def test_a_plan_that_cannot_be_met_is_refused_with_its_numbers(wire: Wire) -> None:
    """The refusal names the field, the shares and their sum."""
    declared = launching()
    declared.limits.champion_minimum_share = 0.9
    refusal = refused(lambda: wire.create(declared))
    assert refusal.violations == {
        "launch.stages[1]": (
            "its largest share, 0.2 and the champion's reserve, 0.9, sum to 1.1; "
            "together they must be at most 1"
        )
    }

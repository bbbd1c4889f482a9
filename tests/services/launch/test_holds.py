"""What keeps a challenger from moving although its gates are open: people, room, and time that is up."""

from dataclasses import replace

import pytest

from bandit.experiment import Arm, Experiment
from bandit.launch.gates import HoldCause
from bandit.launch.plan import Mode, OnInconclusive, Stage, StageKind
from bandit.launch.state import ArmState
from bandit.limits import Limits
from server.services.errors import LaunchRefusedError
from server.services.launch.verbs import Verb
from tests.bandit.builders import MINUTE
from tests.services.launch.conftest import Launch
from tests.services.launch.launched import ALIKE, BANDIT, CANARY, FEW, RAMP, declared
from tests.support.answers import answering


def test_an_approval_is_waited_for(launch: Launch) -> None:
    """A step that asks for it is left only once a person has approved that, and at the next look."""
    at = launch(declared(stages=[replace(CANARY, approval=True), RAMP, BANDIT]))
    at.steps(6)
    assert (at.state(), at.holds()) == (ArmState.CANARY, {HoldCause.APPROVAL})
    with pytest.raises(LaunchRefusedError, match="waits for an approval"):
        at.act(Verb.ADVANCE)
    at.act(Verb.APPROVE, caller="bob")
    assert at.events[-1].actor == "bob"
    assert at.state() is ArmState.CANARY
    at.step()
    assert at.state() is ArmState.RAMP


def test_an_approval_is_of_one_visit(launch: Launch) -> None:
    """Approving one step of a ramp says nothing of the next."""
    at = launch(declared(stages=[replace(RAMP, approval=True), BANDIT]))
    at.act(Verb.APPROVE)
    at.steps(8)
    assert (at.state(), at.arm().step) == (ArmState.RAMP, 1)
    assert at.holds() == {HoldCause.APPROVAL}


def test_an_operators_hold_lasts_until_it_is_ended(launch: Launch) -> None:
    """Whatever the gates say; the hold names who gave it, and why."""
    at = launch(declared())
    at.act(Verb.HOLD, reason="the index is rebuilt")
    at.steps(8)
    assert (at.state(), at.holds()) == (ArmState.CANARY, {HoldCause.OPERATOR})
    assert "ann: the index is rebuilt" in at.view().sentence
    at.act(Verb.RESUME)
    at.until(ArmState.RAMP, most=2)


def crowded() -> Experiment:
    """Return a launch whose ramp has room for one challenger at a time."""
    stages = [
        Stage(kind=StageKind.CANARY, share=0.05),
        Stage(kind=StageKind.RAMP, shares=(0.3,), minimum_decisions=10**9),
        BANDIT,
    ]
    return declared("v2", "v4", stages=stages, limits=Limits(champion_minimum_share=0.5))


def test_a_step_waits_for_room_and_the_longest_wait_goes_first(launch: Launch) -> None:
    """No share is cut to make room; when it is there, the first to have come takes it."""
    at = launch(crowded())
    at.until(ArmState.RAMP, arm_id="v2")
    added = (Arm(id="v3"),)
    at.service.run(
        at.service.experiments.update("ranker", lambda old: replace(old, arms=(*old.arms, *added)), None)
    )
    at.steps(6)
    assert {arm_id: at.state(arm_id) for arm_id in ("v2", "v3", "v4")} == {
        "v2": ArmState.RAMP,
        "v3": ArmState.CANARY,
        "v4": ArmState.CANARY,
    }
    for arm_id in ("v3", "v4"):
        assert at.holds(arm_id) == {HoldCause.ROOM}
        assert "no room for its step" in at.view(arm_id).sentence
    assert at.share("v2") == pytest.approx(0.3)
    assert at.share("v3") == pytest.approx(0.05)
    with pytest.raises(LaunchRefusedError, match="no room for its step"):
        at.act(Verb.ADVANCE, "v3")
    at.act(Verb.ROLL_BACK, "v2")
    at.step()
    assert (at.state("v4"), at.state("v3")) == (ArmState.RAMP, ArmState.CANARY)


def test_a_stage_before_the_bandit_that_takes_too_long_holds(launch: Launch) -> None:
    """It shows nothing, so it neither goes on nor is blamed."""
    slow = replace(CANARY, minimum_outcomes=10**6, maximum_duration=5 * MINUTE)
    at = launch(declared(stages=[slow, RAMP, BANDIT]))
    at.steps(12)
    assert (at.state(), at.holds()) == (ArmState.CANARY, {HoldCause.INCONCLUSIVE})
    assert at.share() == pytest.approx(0.1)
    at.act(Verb.ADVANCE)
    assert at.state() is ArmState.RAMP


LIMITED = [CANARY, replace(BANDIT, maximum_duration=12 * MINUTE)]


def test_a_bandit_that_takes_too_long_ends_inconclusive(launch: Launch) -> None:
    """Nothing is shipped, and the share is 0."""
    at = launch(declared(stages=LIMITED))
    at.until(ArmState.INCONCLUSIVE, most=30)
    assert (at.champion, at.share("v1"), at.share("v2")) == ("v1", 1, 0)
    assert "v2 lies between -" in at.events[-1].reason


def test_a_bandit_may_go_on_when_it_is_inconclusive(launch: Launch) -> None:
    """With `on_inconclusive = "hold"` it says so, keeps its share, and is promoted when evidence comes."""
    at = launch(declared(stages=LIMITED, on_inconclusive=OnInconclusive.HOLD))
    at.steps(25)
    assert (at.state(), at.holds()) == (ArmState.BANDIT, {HoldCause.INCONCLUSIVE})
    assert at.share() > 0
    at.answer = answering(click=ALIKE | {"v2": 0.9}, error=FEW)
    at.until(ArmState.SUCCEEDED, most=30)
    assert at.champion == "v2"


def test_in_mode_recommend_people_move_challengers(launch: Launch) -> None:
    """The service says what is due, and does nothing by itself."""
    at = launch(declared(mode=Mode.RECOMMEND))
    at.steps(5)
    assert (at.state(), at.share(), at.what()) == (ArmState.WAITING, 0, [("v2", "stage")])
    assert at.view().next == "enter canary"
    at.act(Verb.ADVANCE)
    at.steps(8)
    assert at.state() is ArmState.CANARY
    assert at.view().next == "advance to ramp at 20 %"
    assert "It waits for a person to move it" in at.view().sentence
    for _ in range(3):
        at.act(Verb.ADVANCE)
    at.answer = answering(click=ALIKE | {"v2": 0.9}, error=FEW)
    at.steps(25)
    assert (at.state(), at.champion) == (ArmState.BANDIT, "v1")
    at.act(Verb.PROMOTE)
    assert at.champion == "v2"

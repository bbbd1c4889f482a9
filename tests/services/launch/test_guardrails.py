"""Guardrails in a launch: whom they take out, whom they don't, and when."""

import pytest

from bandit.launch.gates import HoldCause
from bandit.launch.plan import GuardrailAction, Holdback, Mode
from bandit.launch.state import ArmState
from server.services.errors import LaunchRefusedError
from server.services.launch.verbs import Verb
from server.services.reward.ledger import PostedReward
from tests.services.launch.conftest import Launch
from tests.services.launch.launched import ALIKE, FEW, NAME, declared
from tests.support.answers import answering

HARMFUL = answering(click=ALIKE, error=FEW | {"v2": 0.5})


def test_a_champion_that_breaks_a_guardrail_itself_takes_nobody_out(launch: Launch) -> None:
    """A guardrail compares: where the champion errs as much or more, challengers go on."""
    at = launch(declared("v2", "v3"))
    at.answer = answering(click=ALIKE, error={"v1": 0.5, "v2": 0.5, "v3": 0.1})
    at.steps(12)
    assert at.state("v2") is ArmState.BANDIT
    assert at.state("v3") is ArmState.BANDIT


def test_two_challengers_that_fire_at_one_look_leave_together(launch: Launch) -> None:
    """Both are out in one change, and the champion has the traffic of both."""
    at = launch(declared("v2", "v3", "v4"))
    at.answer = answering(click=ALIKE, error=FEW | {"v2": 0.9, "v3": 0.9})
    at.step(3_000)
    at.step()
    out = [event for event in at.events if event.kind == "rolled_back"]
    assert [event.arm for event in out] == ["v2", "v3"]
    assert len({(event.revision, event.epoch) for event in out}) == 1
    assert all("error" in event.reason for event in out)
    assert (at.share("v2"), at.share("v3")) == (0, 0)
    assert at.share("v1") == pytest.approx(0.9)
    assert at.state("v4") is ArmState.CANARY


def test_a_guardrail_acts_between_looks_at_gates(launch: Launch) -> None:
    """It waits neither for the next look at gates nor for the step's time."""
    at = launch(declared())
    at.step(0)
    at.answer = HARMFUL
    at.traffic(3_000)
    at.wait(20)
    at.service.control()
    assert at.state() is ArmState.ROLLED_BACK


def test_a_guardrail_acts_in_mode_recommend(launch: Launch) -> None:
    """People make the steps, but harm does not wait for them."""
    at = launch(declared(mode=Mode.RECOMMEND))
    at.act(Verb.ADVANCE)
    at.answer = HARMFUL
    at.until(ArmState.ROLLED_BACK, most=5, n=1_000)
    assert at.share() == 0


@pytest.mark.parametrize("mode", Mode)
def test_a_guardrail_may_only_recommend(launch: Launch, mode: Mode) -> None:
    """With `guardrail_action = "recommend"` the arm stays, held; no verb but a rollback moves it."""
    at = launch(declared(mode=mode, guardrail_action=GuardrailAction.RECOMMEND))
    if mode is Mode.RECOMMEND:
        at.act(Verb.ADVANCE)
    at.answer = HARMFUL
    at.steps(5, n=1_000)
    assert at.state() is ArmState.CANARY
    assert HoldCause.GUARDRAIL in at.holds()
    assert "error shows harm: roll it back" in at.view().sentence
    with pytest.raises(LaunchRefusedError, match="error shows harm"):
        at.act(Verb.ADVANCE)
    at.act(Verb.ROLL_BACK)
    assert at.state() is ArmState.ROLLED_BACK


def test_a_guardrail_brings_the_former_champion_back(launch: Launch) -> None:
    """A champion that does harm in its holdback gives back to the arm that it replaced."""
    at = launch(declared(holdback=Holdback(share=0.2, cycles=3)))
    at.until(ArmState.BANDIT)
    at.act(Verb.PROMOTE)
    assert (at.champion, at.state("v1")) == ("v2", ArmState.HOLDBACK)
    at.answer = HARMFUL
    at.until(ArmState.ROLLED_BACK, most=10, n=1_000)
    assert (at.champion, at.share("v1"), at.share("v2")) == ("v1", 1, 0)


def test_while_paused_a_guardrail_acts_on_outcomes_that_come_in(launch: Launch) -> None:
    """The harm of decisions made before a pause takes the arm out during it."""
    at = launch(declared())
    at.until(ArmState.RAMP)
    at.answer = answering()
    decided = at.traffic(3_000)
    at.service.flush()
    at.service.run(at.service.experiments.pause(NAME, None))
    at.service.reward_each([PostedReward(id_, HARMFUL(arm_id), 0) for id_, arm_id in decided])
    at.wait()
    at.service.control()
    assert at.state() is ArmState.ROLLED_BACK

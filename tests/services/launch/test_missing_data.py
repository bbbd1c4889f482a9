"""Launches whose numbers can't be judged: no outcomes come in, or decisions do not follow the shares."""

import random
from dataclasses import replace

import pytest

from bandit.launch.gates import HoldCause
from bandit.launch.plan import Holdback, OnTrouble, Stage, StageKind
from bandit.launch.state import ArmState
from server.services.launch.verbs import Verb
from tests.bandit.builders import MINUTE
from tests.services.launch.conftest import Launch
from tests.services.launch.launched import (
    ALIKE,
    BANDIT,
    CANARY,
    CLICK,
    ERROR,
    FEW,
    NAME,
    RAMP,
    SEEN,
    declared,
)
from tests.support.answers import answering

ONLY_V1 = answering(click={"v1": 0.1}, error={"v1": 0.02})
NOBODY = answering()


def test_without_outcomes_a_challenger_is_held(launch: Launch) -> None:
    """Silence is neither success nor failure; once outcomes come in, it goes on by itself."""
    at = launch(declared())
    at.answer = ONLY_V1
    at.steps(10)
    assert at.state() is ArmState.CANARY
    assert at.holds() == {HoldCause.NO_DATA}
    assert at.share() == pytest.approx(0.1)
    assert "no outcome" in at.view().sentence
    at.answer = answering(click=ALIKE, error=FEW)
    at.until(ArmState.RAMP, most=3)


def test_a_silent_challenger_is_rolled_back_where_chance_cannot_explain_it(launch: Launch) -> None:
    """With `on_no_data = "rollback"` it is held while it could be chance, and then taken out."""
    at = launch(declared(on_no_data=OnTrouble.ROLLBACK))
    at.answer = answering(click={"v1": 1.0}, error={"v1": 0.0})
    at.steps(4, n=40)
    assert (at.state(), at.holds()) == (ArmState.CANARY, {HoldCause.NO_DATA})
    at.until(ArmState.ROLLED_BACK, most=12, n=40)
    assert at.events[-1].reason.startswith("v2 had no outcome in ")
    figures = at.events[-1].figures
    assert figures["expected_outcomes"] == pytest.approx(figures["decisions"])
    assert figures["decisions"] in range(20, 30)
    assert at.share() == 0


@pytest.mark.parametrize("on_no_data", OnTrouble)
def test_when_nobody_answers_nobody_is_to_blame(launch: Launch, on_no_data: OnTrouble) -> None:
    """If the champion is silent, too, the pipe is broken: challengers are held, and none is taken out."""
    at = launch(declared(on_no_data=on_no_data))
    at.answer = NOBODY
    at.steps(10)
    assert at.state() is ArmState.CANARY
    assert at.holds() == {HoldCause.NO_DATA}


@pytest.mark.parametrize("on_no_data", OnTrouble)
def test_outcomes_that_stop_in_the_middle_hold_everybody(launch: Launch, on_no_data: OnTrouble) -> None:
    """The pipe breaks in a stage under way: nothing moves however long it takes, and then it goes on."""
    ramp = replace(RAMP, minimum_duration=20 * MINUTE)
    at = launch(declared(stages=[CANARY, ramp, BANDIT], on_no_data=on_no_data))
    at.until(ArmState.RAMP)
    at.step()
    assert at.holds() == set()
    at.answer = NOBODY
    at.steps(40)
    assert (at.state(), at.holds()) == (ArmState.RAMP, {HoldCause.NO_DATA})
    assert "no outcomes for 40 min, of any arm; silence is not taken for failure" in at.view().sentence
    assert any(event.reason.startswith("no outcomes for ") for event in at.events)
    assert at.covered() < 5 * MINUTE
    at.answer = answering(click=ALIKE, error=FEW)
    at.steps(1)
    assert at.holds() == set()


def test_silence_ends_neither_a_launch_nor_a_holdback(launch: Launch) -> None:
    """However long it lasts: what is over then is over when outcomes come in again."""
    bandit = replace(BANDIT, maximum_duration=20 * MINUTE)
    at = launch(declared("v2", "v3", stages=[bandit], holdback=Holdback(share=0.2, cycles=1)))
    at.until(ArmState.BANDIT)
    at.steps(3)
    at.act(Verb.PROMOTE, "v2")
    at.answer = NOBODY
    at.steps(40)
    assert (at.state("v2"), at.state("v3")) == (ArmState.PROMOTED, ArmState.BANDIT)
    assert at.holds("v3") == {HoldCause.NO_DATA}
    at.answer = answering(click=ALIKE, error=FEW)
    at.until(ArmState.SUCCEEDED, most=20)


def test_after_a_pause_nothing_is_due_yet(launch: Launch) -> None:
    """Decisions whose window has not passed say nothing, however long ago the last outcome came."""
    at = launch(declared(stages=[replace(CANARY, minimum_decisions=10**6), BANDIT]))
    at.until(ArmState.CANARY)
    at.steps(3)
    at.service.run(at.service.experiments.pause(NAME, None))
    at.clock.advance(3_600)
    at.service.run(at.service.experiments.start(NAME, None))
    at.traffic(3_000)
    at.service.flush()
    at.service.refresh()
    assert at.holds() == set()


def test_another_goal_is_another_silence(launch: Launch) -> None:
    """Outcomes of the goal before, however many, do not make the new one seem silent."""
    rare = replace(CLICK, name="purchase")
    at = launch(
        declared(stages=[replace(CANARY, minimum_decisions=10**6), BANDIT], metrics=[CLICK, rare, ERROR])
    )
    at.answer = answering(click=dict.fromkeys(ALIKE, 0.9), error=FEW, purchase=ALIKE)
    at.steps(5)
    at.service.run(
        at.service.experiments.update(NAME, lambda old: replace(old, reward_metric="purchase"), None)
    )
    at.steps(3)
    assert at.holds() == set()


def test_a_lull_in_the_traffic_is_no_silence(launch: Launch) -> None:
    """Without decisions there is nothing to have outcomes of."""
    at = launch(declared())
    at.steps(3)
    for _ in range(30):
        at.wait()
        at.service.control()
    assert at.holds() == set()


@pytest.mark.parametrize("on_no_data", OnTrouble)
def test_a_shadow_that_nobody_mirrors_does_not_go_on(launch: Launch, on_no_data: OnTrouble) -> None:
    """A caller that never mirrors shows no errors: the challenger is held, or in time taken out."""
    shadow = Stage(kind=StageKind.SHADOW, minimum_decisions=10**6)
    at = launch(declared(stages=[shadow, BANDIT], on_no_data=on_no_data, metrics=[CLICK, SEEN]))
    at.steps(1)
    assert at.state() is ArmState.SHADOW
    at.steps(5)
    if on_no_data is OnTrouble.HOLD:
        assert (at.state(), at.holds()) == (ArmState.SHADOW, {HoldCause.NO_DATA})
    else:
        assert at.state() is ArmState.ROLLED_BACK
    assert {arm_id for _, arm_id in at.traffic(100)} == {"v1"}


def test_a_shadow_that_is_mirrored_goes_on(launch: Launch) -> None:
    """Its outcomes open its gates, and it answers nobody meanwhile."""
    shadow = Stage(kind=StageKind.SHADOW, minimum_decisions=500)
    at = launch(declared(stages=[shadow, CANARY, BANDIT], metrics=[CLICK, SEEN]))
    at.is_mirroring = True
    assert {arm_id for _, arm_id in at.traffic(100)} == {"v1"}
    at.until(ArmState.CANARY, most=6)
    assert at.what()[-1] == ("v2", "stage")


class _Biased(random.Random):
    """A generator whose numbers are too large."""

    def random(self) -> float:
        """Return a number in [0, 1) that is seldom small."""
        return float(super().random() ** 0.6)


def test_a_sample_ratio_alarm_holds_challengers(launch: Launch) -> None:
    """While decisions do not follow the shares nothing moves, however open the gates are."""
    at = launch(declared("v2", "v3"))
    at.service.chooser._generator = _Biased(1)
    at.steps(8)
    for arm_id in ("v2", "v3"):
        assert at.state(arm_id) in {ArmState.CANARY, ArmState.RAMP}
        assert at.holds(arm_id) == {HoldCause.SAMPLE_RATIO}
    before = at.what()
    at.steps(5)
    assert at.what() == before


def test_a_sample_ratio_alarm_may_roll_back(launch: Launch) -> None:
    """With `on_sample_ratio_alarm = "rollback"` every challenger is taken out, in one change."""
    at = launch(declared("v2", "v3", on_sample_ratio_alarm=OnTrouble.ROLLBACK))
    at.service.chooser._generator = _Biased(1)
    at.until(ArmState.ROLLED_BACK, most=8)
    assert at.state("v3") is ArmState.ROLLED_BACK
    assert len({event.revision for event in at.events if event.kind == "rolled_back"}) == 1
    assert at.share("v1") == 1
    assert at.events[-1].reason == "decisions do not follow the shares"

"""Verbs: carried out once, on the visit that is meant, and refused with a reason."""

from typing import Any

import pytest

from bandit.launch.gates import HoldCause
from bandit.launch.plan import Holdback, Mode
from bandit.launch.state import ArmState
from server.services.errors import (
    ExperimentNotFoundError,
    InvalidInputError,
    LaunchMovedError,
    LaunchRefusedError,
    NoLaunchError,
)
from server.services.launch.verbs import Verb, VerbArguments
from tests.bandit.builders import declare
from tests.services.launch.conftest import Launch
from tests.services.launch.launched import ALIKE, CLICK, FEW, Launched, declared
from tests.support.answers import answering


@pytest.fixture
def at(launch: Launch) -> Launched:
    """A launch of v2 and v3 whose steps people take, with v2 in its canary."""
    at = launch(declared("v2", "v3", mode=Mode.RECOMMEND, holdback=Holdback(share=0.1)))
    at.act(Verb.ADVANCE)
    at.traffic(50)
    at.wait()
    return at


def told(at: Launched) -> tuple[int, int]:
    """Return the revision and the number of events."""
    return at.record.revision, len(at.events)


def test_a_retry_moves_nothing_twice(at: Launched) -> None:
    """The same request again gets the launch as it is, also after the arm has moved on."""
    first = at.act(Verb.ADVANCE, request_id="r-1")
    before = told(at)
    again = at.act(Verb.ADVANCE, request_id="r-1")
    assert told(at) == before
    assert first.view.arms[0].launch == again.view.arms[0].launch == at.arm()
    assert at.events[-1].request_id == "r-1"
    at.act(Verb.ROLL_BACK)
    at.act(Verb.ADVANCE, request_id="r-1")
    assert at.state() is ArmState.ROLLED_BACK


@pytest.mark.parametrize("other", [{"arm": "v3"}, {"reason": "another"}, {"entry": 2}, {"verb": Verb.HOLD}])
def test_a_request_id_is_of_one_request(at: Launched, other: dict[str, Any]) -> None:
    """With other arguments it is refused, and nothing moves."""
    at.act(Verb.ADVANCE, request_id="r-1")
    before = told(at)
    with pytest.raises(InvalidInputError, match="r-1"):
        at.act(**{"verb": Verb.ADVANCE, "request_id": "r-1"} | other)
    assert told(at) == before


def test_a_request_id_belongs_to_its_caller(at: Launched) -> None:
    """Two callers that count from 1 do not take each other's answers."""
    at.act(Verb.ADVANCE, request_id="1", caller="ann")
    entry = at.arm().entry
    at.act(Verb.ADVANCE, request_id="1", caller="bob")
    assert at.arm().entry == entry + 1


VERBS = [Verb.ADVANCE, Verb.APPROVE, Verb.HOLD, Verb.PROMOTE]


@pytest.mark.parametrize("verb", VERBS)
def test_another_visit_than_the_one_meant_is_refused(at: Launched, verb: Verb) -> None:
    """Whoever presses twice skips no stage."""
    entry = at.arm().entry
    at.act(Verb.ADVANCE, entry=entry)
    before = told(at)
    with pytest.raises(LaunchMovedError, match="has moved on"):
        at.act(verb, entry=entry)
    assert told(at) == before


def test_a_rollback_of_an_older_visit_is_carried_out(at: Launched) -> None:
    """Whoever wants an arm out does not look first where it is."""
    entry = at.arm().entry
    at.act(Verb.ADVANCE)
    at.act(Verb.ROLL_BACK, entry=entry)
    assert (at.state(), at.share()) == (ArmState.ROLLED_BACK, 0)


@pytest.mark.parametrize("verb", [Verb.ADVANCE, Verb.HOLD, Verb.ROLL_BACK])
def test_validation_changes_nothing_and_shows_what_would_be(at: Launched, verb: Verb) -> None:
    """Neither the launch nor its events change, and the answer is the launch afterwards."""
    before, arm = told(at), at.arm()
    answer = at.act(verb, validate_only=True, request_id="r-1")
    assert answer.is_validated_only
    assert answer.view.arms[0].launch != arm
    assert (told(at), at.arm()) == (before, arm)
    at.act(verb, request_id="r-1")
    assert at.record.launch is not None
    assert at.arm() == answer.view.arms[0].launch


def test_validation_refuses_what_the_verb_would(at: Launched) -> None:
    """So that a pipeline can ask first."""
    with pytest.raises(LaunchRefusedError, match="only the bandit stage leads to promotion"):
        at.act(Verb.PROMOTE, validate_only=True)


def test_a_verb_passes_over_gates_and_says_which(at: Launched) -> None:
    """The event of an early step names every gate that was not open."""
    at.act(Verb.ADVANCE)
    assert at.events[-1].figures["passed_over"] == ["0 s of 1 min 25 s with traffic"]


@pytest.mark.parametrize("verb", Verb)
@pytest.mark.parametrize(
    ("arm", "why"), [("v1", "it is the champion"), ("v9", "not in a launch; arms that are: v2, v3")]
)
def test_a_verb_on_an_arm_that_is_not_in_a_launch_is_refused(
    at: Launched, verb: Verb, arm: str, why: str
) -> None:
    """The error says why, and which arms are; nothing changes."""
    before = told(at)
    with pytest.raises(LaunchRefusedError, match=why):
        at.act(verb, arm)
    assert told(at) == before


def test_without_a_launch_there_is_nothing_to_move(at: Launched) -> None:
    """An experiment without one, a draft of one and an unknown name each get their own error."""
    run, experiments = at.service.run, at.service.experiments
    run(experiments.create(declare("plain", metrics=[CLICK])))
    for name, error, text in (
        ("plain", NoLaunchError, "declares no"),
        ("unknown", ExperimentNotFoundError, "unknown"),
    ):
        with pytest.raises(error, match=text):
            run(at.service.launches.act(Verb.ADVANCE, VerbArguments(name=name, reason="because"), "ann"))


@pytest.mark.parametrize("reason", ["", "  ", "a\x00b"])
def test_a_verb_needs_a_reason(at: Launched, reason: str) -> None:
    """Whoever reads the events wants to know why."""
    with pytest.raises(InvalidInputError, match="reason"):
        at.act(Verb.ADVANCE, reason=reason)


def test_the_arm_may_be_left_out_if_there_is_only_one(at: Launched) -> None:
    """With several the error names them."""
    with pytest.raises(InvalidInputError, match="v2, v3"):
        at.act(Verb.HOLD, "")
    at.act(Verb.ROLL_BACK, "")
    assert at.state() is ArmState.ROLLED_BACK
    at.act(Verb.HOLD, "")
    assert at.holds("v3") == {HoldCause.OPERATOR}


def test_a_restart_begins_anew(launch: Launch) -> None:
    """After a rollback the arm waits for the first stage, and what it did before is not held against it."""
    at = launch(declared())
    at.answer = answering(click=ALIKE, error=FEW | {"v2": 0.9})
    at.until(ArmState.ROLLED_BACK, most=6, n=1_000)
    at.act(Verb.RESTART)
    assert at.state() is ArmState.WAITING
    with pytest.raises(LaunchRefusedError, match="only an ended launch"):
        at.act(Verb.RESTART)
    at.answer = answering(click=ALIKE, error=FEW)
    at.step()
    assert at.state() is ArmState.CANARY
    at.until(ArmState.BANDIT, ArmState.ROLLED_BACK, most=20)
    assert at.state() is ArmState.BANDIT, at.arm().reason
    assert at.what("rolled_back") == [("v2", "rolled_back")]

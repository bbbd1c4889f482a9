"""Arms out of service: Choose gives them to nobody, whatever is asked for."""

from collections.abc import Callable

import pytest

from bandit.launch.plan import Mode
from bandit.launch.state import ArmState
from server.services.choose.chooser import Choice, Question
from server.services.launch.verbs import Verb
from server.services.snapshot.offers import Reason
from tests.services.launch.conftest import Launch
from tests.services.launch.launched import Launched, declared


def leave_waiting(_: Launched) -> None:
    """Do nothing: in mode `recommend` it waits for a person."""


def roll_back(at: Launched) -> None:
    """Let it have traffic, and take it out."""
    at.act(Verb.ADVANCE)
    at.act(Verb.ROLL_BACK)


def roll_back_and_restart(at: Launched) -> None:
    """Let it wait again."""
    roll_back(at)
    at.act(Verb.RESTART)


def ask(at: Launched, **question: object) -> Choice:
    """Return Choose's answer."""
    return at.service.chooser.choose_within(at.found, Question(**question))  # type: ignore[arg-type]


@pytest.mark.parametrize("happens", [leave_waiting, roll_back, roll_back_and_restart])
def test_eligible_arms_do_not_get_it(launch: Launch, happens: Callable[[Launched], None]) -> None:
    """A caller that can serve nothing else gets the champion; beside others it has no chance."""
    at = launch(declared("v2", "v3", mode=Mode.RECOMMEND))
    happens(at)
    only = ask(at, eligible_arms=["v2"])
    assert (only.offer.arm.id, only.offer.reason) == ("v1", Reason.NO_ELIGIBLE_ARM)
    at.act(Verb.ADVANCE, "v3")
    answers = [ask(at, eligible_arms=["v2", "v3"]) for _ in range(50)]
    assert {(each.offer.arm.id, each.offer.terms.propensity) for each in answers} == {("v3", 1.0)}
    assert {arm_id for _, arm_id in at.traffic(200)} <= {"v1", "v3"}


def test_a_pin_ends_with_the_service(launch: Launch) -> None:
    """A unit stays with its arm while the arm is on its way, and gets another one afterwards."""
    at = launch(declared())
    pinned = next(id_ for id_, arm_id in at.traffic(200) if arm_id == "v2")
    assert ask(at, previous_decision_id=pinned).offer.reason is Reason.PINNED
    at.act(Verb.ROLL_BACK)
    again = ask(at, previous_decision_id=pinned)
    assert (again.offer.arm.id, again.offer.reason) == ("v1", Reason.POLICY)
    at.act(Verb.RESTART)
    assert ask(at, previous_decision_id=pinned).offer.arm.id == "v1"
    assert at.state() is ArmState.WAITING

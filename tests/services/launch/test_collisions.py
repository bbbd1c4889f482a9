"""Moves while somebody else keeps changing the experiment: an abort is repeated until it is applied."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from itertools import count

import pytest

from bandit.launch.state import ArmState
from server.services.errors import ExperimentChangedError
from server.services.launch.verbs import Verb
from tests.services.launch.conftest import Launch
from tests.services.launch.launched import ALIKE, FEW, NAME, Launched, declared
from tests.services.support import ManualClock
from tests.support.answers import answering

CHANGES = 30
"""More than five attempts see: the clock is read some three times in each."""


class BusyClock(ManualClock):
    """A clock at whose next readings something else happens first.

    Attributes:
        happens: What happens.
        left: At how many readings.
    """

    def __init__(self) -> None:
        super().__init__()
        self.happens: Callable[[], None] = lambda: None
        self.left = 0

    def now(self) -> datetime:
        """Return the instant, after what happens."""
        if self.left:
            self.left -= 1
            self.happens()
        return super().now()


@pytest.fixture
def clock() -> BusyClock:
    """A clock that the test moves, and at whose readings the experiment may change."""
    return BusyClock()


@pytest.fixture
def at(launch: Launch, clock: BusyClock) -> Launched:
    """A launch with v2 in its canary, whose description somebody else changes at readings of the clock."""
    at = launch(declared())
    at.step()
    numbers = count()

    def happen() -> None:
        store = at.service.store
        before = store.find_experiment(NAME)
        assert before is not None
        other = replace(before.experiment, description=f"change {next(numbers)}")
        store.change_experiment(before, replace(before, experiment=other), None)

    clock.happens = happen
    return at


def changed(at: Launched) -> int:
    """Return how many changes of somebody else there were."""
    return int(at.record.experiment.description.removeprefix("change ")) + 1


def test_a_rollback_gets_through(at: Launched, clock: BusyClock) -> None:
    """A person's rollback lands between two changes of somebody else, once."""
    clock.left = CHANGES
    at.act(Verb.ROLL_BACK)
    assert changed(at) == CHANGES
    assert at.state() is ArmState.ROLLED_BACK
    assert at.what("rolled_back") == [("v2", "rolled_back")]


def test_a_guardrail_gets_through(at: Launched, clock: BusyClock) -> None:
    """The service's own rollback is repeated, too, within the one look that found the harm."""
    at.answer = answering(click=ALIKE, error=FEW | {"v2": 0.9})
    at.traffic(1_000)
    at.wait()
    clock.left = CHANGES
    at.service.control()
    assert changed(at) == CHANGES
    assert at.state() is ArmState.ROLLED_BACK
    assert at.what("rolled_back") == [("v2", "rolled_back")]


@pytest.mark.parametrize("verb", [Verb.HOLD, Verb.ADVANCE])
def test_another_move_gives_up(at: Launched, clock: BusyClock, verb: Verb) -> None:
    """What is no abort is refused after some attempts, and nothing has moved."""
    before = at.arm()
    clock.left = CHANGES
    with pytest.raises(ExperimentChangedError):
        at.act(verb)
    assert at.arm() == before

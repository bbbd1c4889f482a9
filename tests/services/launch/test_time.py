"""The time of a launch: what counts for a step, and what does not."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from bandit.launch.gates import HoldCause
from bandit.launch.plan import Stage, StageKind
from bandit.launch.state import ArmState
from server.services.launch.verbs import Verb
from tests.bandit.builders import HOUR, MINUTE, SECOND
from tests.services.launch.conftest import Launch
from tests.services.launch.launched import BANDIT, CANARY, CYCLE, LIMITS, RAMP, STEP, Launched, declared

DAY = timedelta(days=1)
GATE_SECONDS = 30.0
LONG = Stage(kind=StageKind.CANARY, share=0.1, minimum_duration=10 * MINUTE)


def test_one_step_is_taken_at_a_look(launch: Launch) -> None:
    """Where every gate of every step is open, a challenger still sees each step, one at a look."""
    quick = [
        Stage(kind=StageKind.CANARY, share=0.1, minimum_decisions=1),
        Stage(kind=StageKind.RAMP, shares=(0.2, 0.3), minimum_decisions=1),
        BANDIT,
    ]
    at = launch(declared(stages=quick))
    at.traffic()
    seen = [at.arm().entry]
    for _ in range(4):
        at.step()
        seen.append(at.arm().entry)
        at.service.control()
        assert at.arm().entry == seen[-1]
    assert seen == sorted(seen)
    assert all(after - before <= 1 for before, after in pairwise(seen))
    assert at.state() is ArmState.BANDIT


def test_a_pause_in_a_ramp_adds_no_time(launch: Launch) -> None:
    """The step's time stands, however long the pause is, and goes on where it stood."""
    at = launch(
        declared(stages=[Stage(kind=StageKind.RAMP, shares=(0.2, 0.3), minimum_duration=5 * MINUTE), BANDIT])
    )
    at.steps(3)
    before, entry = at.covered(), at.arm().entry
    assert timedelta() < before < 5 * MINUTE
    at.service.run(at.service.experiments.pause("ranker", None))
    assert at.holds() == {HoldCause.PAUSED}
    at.steps(20)
    assert (at.covered(), at.arm().entry) == (before, entry)
    at.service.run(at.service.experiments.start("ranker", None))
    assert at.holds() == set()
    at.steps(1)
    assert before <= at.covered() <= before + timedelta(seconds=STEP)
    at.steps(5)
    assert at.arm().entry == entry + 1


def test_time_without_traffic_does_not_count(launch: Launch) -> None:
    """A night without a decision brings no challenger further."""
    at = launch(declared(stages=[LONG, RAMP, BANDIT]))
    at.steps(3)
    before = at.covered()
    at.steps(30, n=0)
    assert at.covered() <= before + timedelta(seconds=3 * GATE_SECONDS)
    assert at.state() is ArmState.CANARY


def test_time_counts_once_the_full_share_is_reached(launch: Launch) -> None:
    """Where shares move slowly, a step's time begins when its own share is there."""
    slow = Stage(kind=StageKind.RAMP, shares=(0.1, 0.2), minimum_duration=3 * MINUTE)
    at = launch(declared(stages=[slow, BANDIT], limits=replace(LIMITS, maximum_step_per_hour=0.9)))
    while at.arm().step == 0:
        at.step()
    while at.share() < 0.2 - 1e-9:
        assert at.covered() == timedelta()
        at.step()
    assert at.clock.now() - at.arm().entered_at >= 5 * MINUTE
    assert timedelta() < at.covered() <= timedelta(seconds=STEP)


def let_no_controller_run(at: Launched) -> None:
    """Let an hour pass in which decisions are made and no look is."""
    for _ in range(60):
        at.traffic(20)
        at.wait()


def suspend(at: Launched) -> None:
    """Let the machine sleep for a day."""
    at.clock.advance(DAY.total_seconds())


def set_ahead(at: Launched) -> None:
    """Set the clock a day ahead."""
    at.clock.jump(DAY)


@pytest.mark.parametrize("happens", [let_no_controller_run, suspend, set_ahead])
def test_an_outage_adds_at_most_three_ticks(launch: Launch, happens: Callable[[Launched], None]) -> None:
    """Neither an hour without a controller, nor a machine that slept, nor a jump of the clock counts."""
    at = launch(declared(stages=[LONG, RAMP, BANDIT]))
    at.steps(3)
    before = at.covered()
    happens(at)
    at.step()
    at.traffic()
    at.service.control()
    assert at.covered() <= before + timedelta(seconds=3 * GATE_SECONDS + STEP)
    assert at.state() is ArmState.CANARY


def test_a_clock_in_doubt_holds_everything(launch: Launch) -> None:
    """While the clock is set back nothing moves and no time counts; afterwards the launch goes on."""
    at = launch(declared(stages=[LONG, RAMP, BANDIT]), trust_after=2 * HOUR)
    at.steps(3)
    before, told = at.covered(), len(at.events)
    at.clock.jump(-3 * HOUR)
    at.steps(8)
    assert at.service.clock.is_doubted
    assert at.holds() == {HoldCause.CLOCK}
    assert (at.covered(), len(at.events)) == (before, told)
    at.clock.jump(3 * HOUR)
    at.wait(5 * SECOND.total_seconds())
    assert at.holds() == set()
    at.until(ArmState.RAMP, most=12)


def test_in_doubt_a_person_can_still_roll_back(launch: Launch) -> None:
    """Whoever is on call does not wait for the clock."""
    at = launch(declared(stages=[LONG, RAMP, BANDIT]), trust_after=2 * HOUR)
    at.steps(2)
    at.clock.jump(-3 * HOUR)
    at.wait()
    assert at.service.clock.is_doubted
    at.act(Verb.ROLL_BACK)
    assert (at.state(), at.share()) == (ArmState.ROLLED_BACK, 0)


def test_a_cycle_counts_when_it_is_over(launch: Launch) -> None:
    """A rhythm is seen only with its last tenth: neither before the end, nor earlier than the gate says."""
    at = launch(declared(stages=[replace(CANARY, whole_cycles=1), BANDIT]))
    at.steps(9)
    (gate,) = (gate for gate, _ in at.view().gates)
    assert (gate.figure, gate.opens_at) == (0, at.arm().entered_at + CYCLE)
    at.steps(1)
    assert at.state() is ArmState.BANDIT
    assert at.clock.now() - at.record.updated_at == timedelta()
    assert [event.kind for event in at.events][-2:] == ["look", "stage"]

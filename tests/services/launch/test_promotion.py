"""Promotion, the holdback after it, and what may take it back."""

import asyncio
from dataclasses import replace
from functools import partial

import pytest

from bandit.experiment import Arm
from bandit.launch import moves
from bandit.launch.gates import HoldCause
from bandit.launch.plan import AfterHoldback, Holdback, Mode
from bandit.launch.rulings import Action, rule
from bandit.launch.state import ArmState
from server.services.errors import ExperimentChangedError, InvalidInputError, LaunchRefusedError
from server.services.experiments import launching
from server.services.launch.verbs import Verb, VerbArguments
from server.store.records import ExperimentRecord, State
from tests.services.launch.conftest import Launch
from tests.services.launch.launched import ALIKE, BANDIT, CANARY, FEW, NAME, Launched, declared
from tests.support.answers import answering

BETTER = answering(click=ALIKE | {"v2": 0.9}, error=FEW)
HOLDBACK = Holdback(share=0.2, cycles=1)


def promote(at: Launched, arm_id: str = "v2") -> None:
    """Let a person promote an arm as soon as it is in the bandit stage."""
    at.until(ArmState.BANDIT, arm_id=arm_id)
    at.act(Verb.PROMOTE, arm_id)


def test_after_the_holdback_the_experiment_goes_on(launch: Launch) -> None:
    """The former champion leaves; the new one and other challengers stay."""
    at = launch(declared("v2", "v3", stages=[CANARY, BANDIT], holdback=HOLDBACK))
    promote(at)
    assert at.share("v1") == pytest.approx(0.2)
    at.until(ArmState.SUCCEEDED, most=20)
    assert at.record.state is State.RUNNING
    assert (at.state("v1"), at.share("v1")) == (ArmState.REPLACED, 0)
    assert at.state("v3") is ArmState.BANDIT
    assert at.share("v3") > 0


def test_after_the_holdback_the_experiment_may_conclude(launch: Launch) -> None:
    """With `after_holdback = "conclude"` the new champion is the winner, and the others are withdrawn."""
    at = launch(declared("v2", "v3", holdback=HOLDBACK, after_holdback=AfterHoldback.CONCLUDE))
    promote(at)
    at.until(ArmState.SUCCEEDED, most=20)
    assert (at.record.state, at.record.winner) == (State.CONCLUDED, "v2")
    assert (at.state("v1"), at.state("v3")) == (ArmState.REPLACED, ArmState.WITHDRAWN)
    assert {arm_id for _, arm_id in at.traffic(50)} == {"v2"}


def test_a_rollback_in_the_holdback_brings_the_former_champion_back(launch: Launch) -> None:
    """The promoted arm ends at 0; one that has succeeded for good has nothing to go back to."""
    at = launch(declared(holdback=HOLDBACK))
    promote(at)
    at.act(Verb.ROLL_BACK)
    assert (at.champion, at.share("v1"), at.share("v2")) == ("v1", 1, 0)
    assert at.what("promoted", "rolled_back") == [("v2", "promoted"), ("v2", "rolled_back")]


TURNED = answering(click=ALIKE | {"v1": 0.6, "v2": 0.05}, error=FEW)


def test_a_goal_that_turns_in_the_holdback_brings_the_former_champion_back(launch: Launch) -> None:
    """The comparison begins anew with the promotion, so what led to it does not hide the reversal."""
    at = launch(declared(holdback=Holdback(share=0.2, cycles=20)))
    at.answer = BETTER
    promote(at)
    at.steps(5)
    at.answer = TURNED
    at.until(ArmState.ROLLED_BACK, most=60)
    assert (at.champion, at.share("v1"), at.share("v2")) == ("v1", 1, 0)
    assert at.arm().reason.startswith("v1 is better than v2 on click since the promotion (e-value ")


def test_where_people_promote_a_goal_that_turns_is_theirs_to_judge(launch: Launch) -> None:
    """Nothing is swapped back, but the holdback does not end either, and the sentence asks for a rollback."""
    at = launch(declared(holdback=HOLDBACK, mode=Mode.RECOMMEND, stages=[BANDIT]))
    at.steps(2)
    at.act(Verb.ADVANCE)
    promote(at)
    at.answer = TURNED
    at.steps(40)
    assert (at.champion, at.state()) == ("v2", ArmState.PROMOTED)
    assert at.view().sentence.startswith("Roll back v2: v1 is better than v2 on click since the promotion")
    at.act(Verb.ROLL_BACK)
    assert at.champion == "v1"


def test_a_rollback_after_the_holdback_brings_the_champion_before_back(launch: Launch) -> None:
    """A champion for good may turn out to be bad, too."""
    at = launch(declared())
    promote(at)
    assert (at.state(), at.state("v1")) == (ArmState.SUCCEEDED, ArmState.REPLACED)
    at.act(Verb.ROLL_BACK)
    assert (at.champion, at.share("v1"), at.share("v2")) == ("v1", 1, 0)


def test_without_a_champion_before_there_is_nothing_to_go_back_to(launch: Launch) -> None:
    """The error says what to do instead, and the champion stays."""
    at = launch(declared())
    promote(at)
    only = (Arm(id="v2"),)
    at.service.run(at.service.experiments.update(NAME, lambda old: replace(old, arms=only), None))
    with pytest.raises(LaunchRefusedError, match="promote another arm"):
        at.act(Verb.ROLL_BACK)
    assert (at.champion, at.share()) == ("v2", 1)


def about_to_promote(launch: Launch) -> Launched:
    """Return a launch that will promote v2 at its next look."""
    at = launch(declared(stages=[CANARY, BANDIT], holdback=HOLDBACK))
    at.answer = BETTER
    at.until(ArmState.BANDIT)
    at.act(Verb.HOLD)
    at.steps(14)
    assert at.holds() == {HoldCause.OPERATOR}
    at.act(Verb.RESUME)
    at.wait()
    return at


ROLL_BACK = VerbArguments(name=NAME, arm="v2", reason="complaints")


@pytest.mark.parametrize("person_first", [False, True])
def test_taken_out_in_the_second_of_its_promotion(launch: Launch, *, person_first: bool) -> None:
    """Whichever of the two commits first, the arm ends at 0 and v1 is champion."""
    at = about_to_promote(launch)

    async def both() -> None:
        person = at.service.launches.act(Verb.ROLL_BACK, ROLL_BACK, "ann")
        calls = [at.service.controller.run_once(), person]
        await asyncio.gather(*(reversed(calls) if person_first else calls))

    at.service.run(both())
    assert at.what("promoted", "rolled_back")[-1] == ("v2", "rolled_back")
    assert (at.champion, at.state(), at.share("v1"), at.share("v2")) == ("v1", ArmState.ROLLED_BACK, 1, 0)
    at.steps(3)
    assert (at.champion, at.state()) == ("v1", ArmState.ROLLED_BACK)


def test_a_promotion_of_an_older_look_is_not_carried_out(launch: Launch) -> None:
    """It holds for the revision that was looked at, and a rollback since then made another one."""
    at = about_to_promote(launch)
    _, look = at.service.run(at.service.launches._look(NAME))
    rulings, fence = rule(look), at.service._services.lease.held()
    assert [each.action for each in rulings] == [Action.PROMOTE]
    assert fence is not None
    before = at.record
    at.act(Verb.ROLL_BACK)
    with pytest.raises(ExperimentChangedError):
        at.service.run(at.service.controller._act(before, look, rulings, fence))
    assert (at.champion, at.state()) == ("v1", ArmState.ROLLED_BACK)


def test_an_abort_of_an_older_look_is_carried_out(launch: Launch) -> None:
    """It is repeated until it is applied: an arm promoted meanwhile gives back to the former champion."""
    at = launch(declared(stages=[CANARY, BANDIT], holdback=HOLDBACK))
    at.until(ArmState.BANDIT)
    at.answer = answering(click=ALIKE, error=FEW | {"v2": 0.9})
    at.traffic(2_000)
    at.wait()
    _, look = at.service.run(at.service.launches._look(NAME))
    rulings, fence = rule(look), at.service._services.lease.held()
    assert [each.action for each in rulings] == [Action.ROLL_BACK]
    assert fence is not None
    before = at.record
    promoted = partial(launching.moved, move=lambda now, occasion: moves.promoted(now, "v2", occasion))

    def change(record: ExperimentRecord) -> ExperimentRecord:
        return promoted(record, occasion=launching.occasion_for(record, at.clock.now(), "ann"))

    at.service.run(at.service.experiments.move(NAME, change, event="promote", caller="ann"))
    assert at.champion == "v2"
    at.service.run(at.service.controller._act(before, look, rulings, fence))
    assert (at.champion, at.state(), at.share()) == ("v1", ArmState.ROLLED_BACK, 0)


def test_an_old_file_does_not_undo_a_promotion(launch: Launch) -> None:
    """Its champion is the one of the start, which changes nothing; another champion is refused."""
    old = declared("v2", "v3", holdback=HOLDBACK)
    at = launch(old)
    promote(at)
    at.service.run(at.service.experiments.update(NAME, lambda _: replace(old, description="old"), None))
    assert (at.champion, at.record.experiment.description) == ("v2", "old")
    assert at.share("v1") == pytest.approx(0.2)
    with pytest.raises(InvalidInputError, match="v2"):
        at.service.run(at.service.experiments.update(NAME, lambda old: replace(old, champion="v3"), None))
    assert at.champion == "v2"


def test_a_file_from_before_the_new_champion_is_refused(launch: Launch) -> None:
    """It would remove the arm that answers; nothing changes."""
    at = launch(declared("v2", "v3"))
    promote(at)
    before = at.record
    with pytest.raises(InvalidInputError, match="champion"):
        at.service.run(at.service.experiments.update(NAME, lambda _: declared("v3"), None))
    assert at.record == before


def test_a_file_that_removes_a_challenger_withdraws_it(launch: Launch) -> None:
    """The file is a person's hand: its arm is withdrawn, which is no rollback."""
    at = launch(declared("v2", "v3"))
    at.steps(2)
    arms = (Arm(id="v1"), Arm(id="v3"))
    at.service.run(at.service.experiments.update(NAME, lambda old: replace(old, arms=arms), None))
    assert (at.state("v2"), at.state("v3")) == (ArmState.WITHDRAWN, ArmState.CANARY)
    at.until(ArmState.RAMP, arm_id="v3")


def test_taken_out_by_a_file_is_a_rollback(launch: Launch) -> None:
    """`taken_out = true` ends the launch of an arm at once."""
    at = launch(declared("v2", "v3"))
    at.steps(2)
    arms = (Arm(id="v1"), Arm(id="v2", is_taken_out=True), Arm(id="v3"))
    at.service.run(at.service.experiments.update(NAME, lambda old: replace(old, arms=arms), None))
    assert (at.state("v2"), at.share("v2"), at.state("v3")) == (ArmState.ROLLED_BACK, 0, ArmState.CANARY)
    with pytest.raises(LaunchRefusedError, match="taken_out"):
        at.act(Verb.RESTART, "v2")

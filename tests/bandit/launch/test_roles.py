"""Roles in a launch: champion, former champion and winner, and how they change."""

from dataclasses import replace

import pytest

from bandit.experiment import Arm
from bandit.launch.launching import MoveRefusedError, NoRoomError
from bandit.launch.moves import (
    advanced,
    concluded,
    concludes,
    current_champion,
    ended,
    held,
    holdback_ended,
    promoted,
    redeclared,
    rolled_back,
)
from bandit.launch.plan import AfterHoldback, Holdback
from bandit.launch.state import ArmState, Launch
from bandit.limits import Limits
from tests.bandit.launch.launches import (
    BANDIT,
    PLAN,
    RAMP,
    WITH_B_IN,
    after_promotion,
    declare_launch,
    in_bandit,
    occasion,
    states,
    underway,
    waiting,
)

W, C, R, B = ArmState.WAITING, ArmState.CANARY, ArmState.RAMP, ArmState.BANDIT
PROMOTED, SUCCEEDED, ROLLED_BACK = ArmState.PROMOTED, ArmState.SUCCEEDED, ArmState.ROLLED_BACK
HOLDBACK, REPLACED, WITHDRAWN = ArmState.HOLDBACK, ArmState.REPLACED, ArmState.WITHDRAWN
NOW = occasion(9, "because")
WITHOUT_HOLDBACK = declare_launch(plan=replace(PLAN, holdback=None))


def test_a_promotion_swaps_the_roles() -> None:
    """The winner is champion, the former one keeps the holdback, and other challengers stay as they are."""
    before = in_bandit("b", "c")
    after = promoted(before, "b", NOW)
    assert after.experiment.champion == "b"
    assert (after.launch.former_champion, after.launch.holdback) == ("a", PLAN.holdback)
    assert states(after) == {"a": HOLDBACK, "b": PROMOTED, "c": B, "d": C}
    assert (after.arm("c"), after.arm("d")) == (before.arm("c"), before.arm("d"))
    assert after.launch.declared_champion == "a"
    assert replace(after.experiment, champion="a") == before.experiment


def test_one_promotion_at_a_time() -> None:
    """While a holdback lasts, nobody else is promoted; afterwards the next one may be."""
    launching = after_promotion()
    with pytest.raises(MoveRefusedError, match="'c': the holdback of 'a' is not over"):
        promoted(launching, "c", NOW)
    launching = promoted(holdback_ended(launching, occasion(4)), "c", occasion(5))
    assert states(launching) == {"a": REPLACED, "b": HOLDBACK, "c": PROMOTED, "d": C}
    assert launching.experiment.champion == "c"
    launching = holdback_ended(launching, occasion(6))
    assert states(launching) == {"a": REPLACED, "b": REPLACED, "c": SUCCEEDED, "d": C}


def test_a_promotion_without_a_holdback_succeeds_at_once() -> None:
    """The former champion leaves, and comes back all the same if the new one is rolled back."""
    launching = promoted(in_bandit("b", experiment=WITHOUT_HOLDBACK), "b", NOW)
    assert states(launching) == {"a": REPLACED, "b": SUCCEEDED, "c": C, "d": C}
    assert launching.launch.former_champion is None
    back = rolled_back(launching, "b", NOW)
    assert states(back) == {"a": SUCCEEDED, "b": ROLLED_BACK, "c": C, "d": C}
    assert back.experiment.champion == "a"
    with pytest.raises(MoveRefusedError, match="'b': there is no holdback"):
        holdback_ended(launching, NOW)


def test_a_holdback_that_does_not_fit_is_refused() -> None:
    """A promotion takes no share from the arms on their way."""
    plan = replace(PLAN, stages=(RAMP, BANDIT), holdback=Holdback(share=0.4))
    limits = Limits(champion_minimum_share=0.4)
    launching = in_bandit("b", experiment=declare_launch(plan=plan, limits=limits))
    launching = advanced(launching, "c", occasion(3))
    with pytest.raises(NoRoomError, match=r"'b': no room for its step: .*a 0\.4.*together 1\.1"):
        promoted(launching, "b", NOW)


def test_a_rollback_of_the_champion_swaps_back() -> None:
    """The former champion is champion again and keeps no holdback; the promoted arm has nothing."""
    before = after_promotion()
    after = rolled_back(before, "b", NOW)
    assert after.experiment == in_bandit("b", "c").experiment
    assert (after.launch.former_champion, after.launch.holdback) == (None, None)
    assert states(after) == {"a": SUCCEEDED, "b": ROLLED_BACK, "c": B, "d": C}
    assert after.arm("c") == before.arm("c")
    with pytest.raises(MoveRefusedError, match="it is rolled back and has nothing to take back"):
        rolled_back(after, "b", NOW)


def test_each_holdback_is_another_visit() -> None:
    """Time is counted by arm and visit, so a champion that is replaced once more gets a new one."""
    first = after_promotion()
    second = promoted(rolled_back(first, "b", occasion(4)), "c", occasion(5))
    assert (first.arm("a").entry, second.arm("a").entry) == (1, 3)
    assert states(second) == {"a": HOLDBACK, "b": ROLLED_BACK, "c": PROMOTED, "d": C}


def test_a_former_challenger_remembers_its_last_step() -> None:
    """A champion by its launch that loses its role again keeps its stages and its last step."""
    launching = WITH_B_IN[HOLDBACK]()
    assert (launching.arm("b").step, len(launching.arm("b").steps)) == (3, 4)
    assert rolled_back(launching, "c", NOW).arm("b").step == 3


def test_a_running_holdback_is_frozen() -> None:
    """A changed plan does not change the share of a holdback under way."""
    launching = redeclared(after_promotion(), replace(in_bandit("b").experiment, champion="b"), occasion(4))
    changed = replace(launching.experiment, launch=replace(PLAN, holdback=Holdback(share=0.5)))
    assert redeclared(launching, changed, occasion(5)).launch.holdback == PLAN.holdback


@pytest.mark.parametrize("arms", [["b", "c", "d"], [Arm(id="a", is_taken_out=True), "b", "c", "d"]])
def test_removing_the_former_champion_ends_the_holdback(arms: list[str | Arm]) -> None:
    """There is nothing to go back to, so the promotion has succeeded."""
    declared = replace(declare_launch(arms), champion="b")
    after = redeclared(after_promotion(), declared, NOW)
    assert states(after) == {"a": REPLACED, "b": SUCCEEDED, "c": B, "d": C}
    assert (after.launch.former_champion, after.launch.holdback) == (None, None)


def test_taking_the_promoted_arm_out_swaps_back() -> None:
    """During its holdback, `taken_out = true` means a rollback of the promotion."""
    declared = replace(declare_launch(["a", Arm(id="b", is_taken_out=True), "c", "d"]), champion="b")
    after = redeclared(after_promotion(), declared, NOW)
    assert after.experiment.champion == "a"
    assert states(after) == {"a": SUCCEEDED, "b": ROLLED_BACK, "c": B, "d": C}


def test_the_first_champion_can_not_be_taken_out() -> None:
    """There is none to go back to."""
    arms = [Arm(id=each, is_taken_out=each == "a") for each in "abcd"]
    with pytest.raises(MoveRefusedError, match="'a': it is the champion"):
        redeclared(underway(), replace(declare_launch(arms), champion="a"), NOW)


def test_a_champion_for_good_gives_back_when_it_is_taken_out() -> None:
    """After its holdback, too, the champion before it comes back, unless that is taken out as well."""
    launching = WITH_B_IN[SUCCEEDED]()
    arms = [Arm(id=each, is_taken_out=each == "b") for each in "abcd"]
    after = redeclared(launching, replace(declare_launch(arms), champion="b"), NOW)
    assert (after.experiment.champion, states(after)["b"]) == ("a", ROLLED_BACK)
    both = [Arm(id=each, is_taken_out=each in "ab") for each in "abcd"]
    with pytest.raises(MoveRefusedError, match="'b': there is no champion before it to go back to"):
        redeclared(launching, replace(declare_launch(both), champion="b"), NOW)


def test_a_held_arm_is_moved_by_nobody() -> None:
    """Neither a step nor a promotion passes over a person's hold; a rollback does."""
    launching = held(in_bandit("b"), "b", occasion(3))
    with pytest.raises(MoveRefusedError, match=r"holds it .* resume it first"):
        promoted(launching, "b", NOW)
    with pytest.raises(MoveRefusedError, match=r"holds it .* resume it first"):
        advanced(held(underway(), "b", NOW), "b", NOW)
    assert states(rolled_back(launching, "b", NOW))["b"] is ROLLED_BACK


@pytest.mark.parametrize(
    ("winner", "expected"),
    [
        ("a", {"a": SUCCEEDED, "b": REPLACED, "c": WITHDRAWN, "d": WITHDRAWN}),
        ("b", {"a": REPLACED, "b": SUCCEEDED, "c": WITHDRAWN, "d": WITHDRAWN}),
        ("c", {"a": REPLACED, "b": REPLACED, "c": SUCCEEDED, "d": WITHDRAWN}),
    ],
)
def test_a_conclusion_ends_every_launch(winner: str, expected: dict[str, ArmState]) -> None:
    """The winner has succeeded, a champion was replaced, everyone else is withdrawn; no holdback is left."""
    after = concluded(after_promotion(), winner, NOW)
    assert states(after) == expected
    assert (after.launch.former_champion, after.launch.holdback) == (None, None)


def test_a_conclusion_keeps_how_launches_ended() -> None:
    """Only launches under way are withdrawn; a rolled back arm stays rolled back."""
    before = ended(rolled_back(underway(), "b", occasion(2)), "c", ArmState.INCONCLUSIVE, occasion(3))
    after = concluded(before, "a", NOW)
    assert states(after) == {"b": ROLLED_BACK, "c": ArmState.INCONCLUSIVE, "d": WITHDRAWN}
    assert after.arm("b") == before.arm("b")


@pytest.mark.parametrize("choice", AfterHoldback)
def test_the_plan_says_whether_the_experiment_ends_with_its_holdback(choice: AfterHoldback) -> None:
    """By default challengers under way go on."""
    plan = replace(PLAN, after_holdback=choice)
    assert concludes(waiting(declare_launch(plan=plan))) is (choice is AfterHoldback.CONCLUDE)
    assert not concludes(waiting())


def test_an_old_file_never_undoes_a_promotion() -> None:
    """The declared champion and the current one change nothing; any other asks for a change."""
    launch = Launch(declared_champion="a")
    assert current_champion(launch, "b", "a") == "b"
    assert current_champion(launch, "b", "b") == "b"
    assert current_champion(launch, "b", "c") is None

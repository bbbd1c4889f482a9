"""Moves: where each takes an arm, and what forbids it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from bandit.experiment import Arm
from bandit.launch.launching import Launching, MoveRefusedError, NoRoomError, words
from bandit.launch.moves import (
    admitted,
    advanced,
    approved,
    begun,
    ended,
    held,
    promoted,
    redeclared,
    restarted,
    resumed,
    rolled_back,
)
from bandit.launch.plan import Stage, StageKind
from bandit.launch.state import ENDED, ON_ITS_WAY, ArmState
from bandit.limits import Limits
from tests.bandit.launch.launches import (
    BANDIT,
    CANARY,
    PLAN,
    RAMP,
    WITH_B_IN,
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


MOVES: dict[str, Callable[[Launching], Launching]] = {
    "advance": lambda launching: advanced(launching, "b", NOW),
    "hold": lambda launching: held(launching, "b", NOW),
    "rollback": lambda launching: rolled_back(launching, "b", NOW),
    "promote": lambda launching: promoted(launching, "b", NOW),
    "retire": lambda launching: ended(launching, "b", ArmState.RETIRED, NOW),
    "restart": lambda launching: restarted(launching, "b", NOW),
}

TABLE: dict[ArmState, dict[str, ArmState]] = {
    W: {"advance": C, "hold": W, "rollback": ROLLED_BACK},
    ArmState.SHADOW: {
        "advance": C,
        "hold": ArmState.SHADOW,
        "rollback": ROLLED_BACK,
        "retire": ArmState.RETIRED,
    },
    C: {"advance": R, "hold": C, "rollback": ROLLED_BACK, "retire": ArmState.RETIRED},
    R: {"advance": R, "hold": R, "rollback": ROLLED_BACK, "retire": ArmState.RETIRED},
    B: {"hold": B, "rollback": ROLLED_BACK, "promote": PROMOTED, "retire": ArmState.RETIRED},
    PROMOTED: {"rollback": ROLLED_BACK},
    SUCCEEDED: {"rollback": ROLLED_BACK},
    HOLDBACK: {},
    **{state: {"restart": W} for state in ENDED},
    WITHDRAWN: {},
}
"""What each move makes of an arm in each state; a move that is missing is refused."""


@pytest.mark.parametrize("state", ArmState)
@pytest.mark.parametrize("move", MOVES)
def test_the_table_of_states_is_complete(state: ArmState, move: str) -> None:
    """Each move leads from each state to exactly what the table says, or is refused and names the arm."""
    before = WITH_B_IN[state]()
    assert before.arm("b").state is state
    expected = TABLE[state].get(move)
    if expected is None:
        with pytest.raises(MoveRefusedError, match=r"^arm 'b': ") as caught:
            MOVES[move](before)
        assert caught.value.arm == "b"
        return
    after = MOVES[move](before)
    assert after.arm("b").state is expected
    if move == "hold":
        assert after.arm("b").entry == before.arm("b").entry
    else:
        visit = after.arm("b")
        assert visit.entry == before.arm("b").entry + 1
        assert (visit.entered_at, visit.revision, visit.reason) == (NOW.at, NOW.revision, NOW.reason)
        assert (visit.hold, visit.is_approved) == (None, False)


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("arm", ["a", "nobody"])
def test_only_arms_in_a_launch_move(move: str, arm: str) -> None:
    """The champion and an unknown arm are refused, and the error says which arms are in a launch."""
    launching = in_bandit("b")
    launching = replace(launching, launch=replace(launching.launch, arms={"c": launching.arm("c")}))
    text = "it is not in a launch; arms that are: c"
    with pytest.raises(MoveRefusedError, match=text):
        MOVES[move](launching)
    with pytest.raises(
        MoveRefusedError, match=r"it is the champion, and not in a launch" if arm == "a" else text
    ):
        launching.arm(arm)


def test_a_launch_begins_with_every_challenger_waiting() -> None:
    """The champion has no launch; an arm that is taken out has ended before it began."""
    launching = waiting(declare_launch(["a", "b", Arm(id="c", is_taken_out=True)]))
    assert states(launching) == {"b": W, "c": ROLLED_BACK}
    assert launching.launch.declared_champion == "a"
    assert launching.arm("b").entry == 1
    assert launching.arm("b").stages == ()


def test_a_launch_of_a_running_experiment_leaves_arms_their_traffic() -> None:
    """Challengers that the policy serves already are in the bandit stage, at its last step."""
    arms: list[str | Arm] = ["a", "b", Arm(id="c", is_taken_out=True)]
    launching = begun(declare_launch(arms), occasion(), is_started=True)
    assert states(launching) == {"b": B, "c": ROLLED_BACK}
    step = launching.arm("b").current
    assert step is not None
    assert step.label == "bandit"
    assert launching.arm("b").next is None
    assert launching.arm("b").entry == 1


@pytest.mark.parametrize("is_started", [True, False])
def test_no_launch_begins_with_a_champion_that_is_taken_out(*, is_started: bool) -> None:
    """Someone has to answer beside the fixed shares, so that is refused with what to do."""
    experiment = declare_launch([Arm(id="a", is_taken_out=True), "b"])
    with pytest.raises(MoveRefusedError, match="'a': it is the champion, which a launch can't do without"):
        begun(experiment, occasion(), is_started=is_started)


def test_a_launch_of_a_running_experiment_cuts_no_floor() -> None:
    """If the reserve does not fit beside the challengers that have traffic, the launch is refused."""
    experiment = declare_launch(limits=Limits(champion_minimum_share=0.7, minimum_share=0.15))
    with pytest.raises(NoRoomError, match=r"together 1\.15, more than 1"):
        begun(experiment, occasion(), is_started=True)
    assert set(states(begun(experiment, occasion(), is_started=False)).values()) == {W}


def test_the_longest_wait_goes_first() -> None:
    """Arms enter in the order in which they began to wait, while there is room, and no share is cut."""
    limits = Limits(champion_minimum_share=0.3)
    plan = replace(PLAN, stages=(Stage(kind=StageKind.CANARY, share=0.3), BANDIT))
    launching = waiting(declare_launch(["a", "b", "d"], plan=plan, limits=limits))
    launching = redeclared(
        launching, declare_launch(["a", "c", "b", "d"], plan=plan, limits=limits), occasion(1)
    )
    launching = rolled_back(launching, "b", occasion(2))
    launching = restarted(launching, "b", occasion(3))
    assert launching.launch.in_state(W) == ("d", "c", "b")
    after = admitted(launching, occasion(4))
    assert states(after) == {"d": C, "c": C, "b": W}
    assert admitted(after, occasion(5)) == after
    with pytest.raises(NoRoomError, match=r"'b': no room for its step: .*together 1\.2, more than 1"):
        advanced(after, "b", occasion(5))
    room = rolled_back(after, "d", occasion(6))
    assert states(admitted(room, occasion(7))) == {"d": ROLLED_BACK, "c": C, "b": C}


def test_an_arm_that_is_held_goes_on_waiting() -> None:
    """A person's hold keeps a challenger from entering; the others enter."""
    after = admitted(held(waiting(), "b", NOW), occasion(1))
    assert states(after) == {"b": W, "c": C, "d": C}
    assert states(admitted(resumed(after, "b"), occasion(2)))["b"] is C


def test_a_challenger_takes_one_step_at_a_time() -> None:
    """It walks through every step of the plan, and the last one leads nowhere by itself."""
    launching = waiting()
    labels: list[str] = []
    while launching.arm("b").state is not B:
        launching = advanced(launching, "b", occasion(len(labels) + 1))
        step = launching.arm("b").current
        assert step is not None
        labels.append(step.label)
    assert labels == ["canary at 1 %", "ramp at 5 %", "ramp at 25 %", "bandit"]
    assert launching.arm("b").entry == 5
    with pytest.raises(MoveRefusedError, match="in the last stage; promote it or roll it back"):
        advanced(launching, "b", NOW)


def test_a_step_that_does_not_fit_is_refused_with_the_numbers() -> None:
    """Fixed shares, floors and the reserve are named with their sum; nobody's share is cut."""
    plan = replace(PLAN, stages=(RAMP, BANDIT))
    limits = Limits(champion_minimum_share=0.4, minimum_share=0.02)
    launching = underway(declare_launch(plan=plan, limits=limits))
    for arm in "bc":
        launching = advanced(launching, arm, occasion(2))
    with pytest.raises(NoRoomError) as caught:
        advanced(launching, "d", NOW)
    assert str(caught.value) == (
        "arm 'd': no room for its step: b 0.25, c 0.25, d 0.25, a at least 0.4: together 1.15, more than 1"
    )


def test_an_approval_opens_one_step() -> None:
    """A step that asks for approval is not left without one, and the next step asks anew."""
    stages = (CANARY, replace(RAMP, approval=True), replace(BANDIT, approval=True))
    launching = underway(declare_launch(plan=replace(PLAN, stages=stages)))
    with pytest.raises(MoveRefusedError, match="its step, canary at 1 %, asks for no approval"):
        approved(launching, "b")
    launching = advanced(launching, "b", occasion(2))
    for expected in ("ramp at 5 %", "ramp at 25 %"):
        with pytest.raises(MoveRefusedError, match=f"its step, {expected}, waits for an approval"):
            advanced(launching, "b", NOW)
        launching = advanced(approved(launching, "b"), "b", NOW)
    with pytest.raises(MoveRefusedError, match="its step, bandit, waits for an approval"):
        promoted(launching, "b", NOW)
    assert promoted(approved(launching, "b"), "b", NOW).arm("b").state is PROMOTED


@pytest.mark.parametrize("state", sorted(set(ArmState) - ON_ITS_WAY))
def test_only_a_step_can_be_approved(state: ArmState) -> None:
    """Waiting and final states have nothing to approve."""
    with pytest.raises(MoveRefusedError, match=f"it is {words(state)}: there is nothing to approve"):
        approved(WITH_B_IN[state](), "b")


def test_a_hold_says_who_and_why() -> None:
    """It is kept until it is ended, a later one replaces it, and there is none to end twice."""
    launching = held(underway(), "b", NOW)
    hold = launching.arm("b").hold
    assert hold is not None
    assert (hold.actor, hold.reason, hold.at) == ("sam", "because", NOW.at)
    again = held(launching, "b", occasion(10, "another")).arm("b").hold
    assert again is not None
    assert again.reason == "another"
    launching = resumed(launching, "b")
    assert launching == underway()
    with pytest.raises(MoveRefusedError, match="nobody holds it"):
        resumed(launching, "b")


def test_a_hold_does_not_outlive_a_rollback() -> None:
    """Roll back passes over a hold and an approval, and leaves neither."""
    launching = rolled_back(held(underway(), "b", NOW), "b", NOW)
    assert (launching.arm("b").state, launching.arm("b").hold) == (ROLLED_BACK, None)


def test_stages_of_an_arm_on_its_way_are_frozen() -> None:
    """A changed plan holds for later entries: who is under way walks on by the plan that it began with."""
    before = underway(declare_launch(["a", "b", "c"]))
    slower = replace(PLAN, stages=(CANARY, Stage(kind=StageKind.RAMP, shares=(0.02, 0.03, 0.04)), BANDIT))
    after = redeclared(before, declare_launch(["a", "b", "c", "d"], plan=slower), occasion(2))
    assert after.arm("b") == before.arm("b")
    shares = [step.share for step in advanced(after, "b", NOW).arm("b").steps]
    assert shares == [0.01, 0.05, 0.25, None]
    assert [step.share for step in advanced(after, "d", NOW).arm("d").steps] == [0.01, 0.02, 0.03, 0.04, None]
    again = restarted(rolled_back(after, "b", occasion(3)), "b", occasion(4))
    assert again.arm("b").stages == ()
    assert again.arm("b").step == 0
    assert [step.share for step in advanced(again, "b", NOW).arm("b").steps] == [0.01, 0.02, 0.03, 0.04, None]


def test_arms_come_and_go_with_the_declaration() -> None:
    """A new arm waits, a removed one is withdrawn, one that is taken out is rolled back, others stay."""
    before = underway()
    arms: list[str | Arm] = ["a", Arm(id="c", is_taken_out=True), "d", "e", Arm(id="f", is_taken_out=True)]
    after = redeclared(before, declare_launch(arms), NOW)
    assert states(after) == {"b": WITHDRAWN, "c": ROLLED_BACK, "d": C, "e": W, "f": ROLLED_BACK}
    assert after.arm("d") == before.arm("d")
    assert redeclared(after, declare_launch(arms), occasion(10)) == after
    with pytest.raises(MoveRefusedError, match="'b': it was removed from the experiment"):
        restarted(after, "b", NOW)
    with pytest.raises(
        MoveRefusedError, match="`taken_out = true` keeps it out of service; remove that first"
    ):
        restarted(after, "c", NOW)


def test_removing_taken_out_restarts_nothing() -> None:
    """An arm that was taken out stays rolled back until it is restarted."""
    out = redeclared(underway(), declare_launch(["a", Arm(id="b", is_taken_out=True), "c", "d"]), occasion(2))
    back = redeclared(out, declare_launch(), occasion(3))
    assert back.arm("b").state is ROLLED_BACK
    assert restarted(back, "b", NOW).arm("b").state is W


def test_removing_an_arm_whose_launch_has_ended_changes_nothing() -> None:
    """How it ended stays: a rolled back arm is not called withdrawn once it is cleaned up."""
    before = WITH_B_IN[ROLLED_BACK]()
    after = redeclared(before, declare_launch(["a", "c", "d"]), NOW)
    assert after.launch == before.launch


def test_limits_that_cut_an_arm_under_way_are_refused() -> None:
    """A reserve that does not fit beside the fixed shares is refused; one that asks for less never is."""
    before = advanced(advanced(underway(), "b", occasion(2)), "b", occasion(2))
    high = declare_launch(limits=Limits(champion_minimum_share=0.74))
    with pytest.raises(
        NoRoomError, match=r"the limits leave no room for the arms under way: b 0\.25, c 0\.01"
    ):
        redeclared(before, high, NOW)
    beyond = replace(before, experiment=high)
    lower = declare_launch(limits=Limits(champion_minimum_share=0.735))
    assert redeclared(beyond, lower, NOW).experiment == lower


def test_states_read_as_words() -> None:
    """Errors name a state as people do."""
    assert words(ROLLED_BACK) == "rolled back"

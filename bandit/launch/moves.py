"""Moves: every change of a launch's state, with its rules.

Each takes an experiment with its launch and returns both as they are afterwards; nothing is changed in place.
A move that the rules forbid raises MoveRefusedError, and says what to do instead.
"""

from dataclasses import replace
from typing import Final

from bandit.experiment import Experiment
from bandit.launch.launching import (
    Launching,
    MoveRefusedError,
    NoRoomError,
    Occasion,
    moved,
    require_approval,
    require_room,
    require_unheld,
    visiting,
    waiting,
    words,
)
from bandit.launch.plan import AfterHoldback, StageKind
from bandit.launch.shares import demand_of
from bandit.launch.state import (
    CHAMPION,
    ENDED,
    FORMER_CHAMPION,
    ON_ITS_WAY,
    ArmLaunch,
    ArmState,
    Launch,
    OperatorHold,
)

_STATES: Final = {
    StageKind.SHADOW: ArmState.SHADOW,
    StageKind.CANARY: ArmState.CANARY,
    StageKind.RAMP: ArmState.RAMP,
    StageKind.BANDIT: ArmState.BANDIT,
}


def begun(experiment: Experiment, occasion: Occasion, *, is_started: bool) -> Launching:
    """Return the launch of an experiment that has had none.

    Challengers wait for the first stage. If the experiment has been running without a launch, those in
    service have traffic already: they are in the bandit stage.

    Raises:
        MoveRefusedError: The champion is taken out.
        NoRoomError: The limits leave too little for the challengers in service.
    """
    _require_champion_in_service(experiment)
    launching = Launching(experiment=experiment, launch=Launch(declared_champion=experiment.champion))
    for arm in experiment.arms:
        if arm.id == experiment.champion:
            continue
        launching = waiting(launching, arm.id, occasion)
        if arm.is_taken_out:
            launching = moved(launching, arm.id, ArmState.ROLLED_BACK, occasion)
        elif is_started:
            entered = _entered(launching, arm.id, occasion)
            last = len(entered.arm(arm.id).steps) - 1
            launching = entered.with_arm(
                arm.id, replace(entered.arm(arm.id), state=ArmState.BANDIT, step=last, entry=1)
            )
    _require_room_for_limits(None, launching)
    return launching


def redeclared(before: Launching, after: Experiment, occasion: Occasion) -> Launching:
    """Return the launch under another declaration: what was added waits, what was removed is withdrawn.

    The new declaration's champion is the current one, whatever a file says; see `current_champion`.

    Raises:
        MoveRefusedError: The champion is taken out or removed, and there is none to go back to.
        NoRoomError: The new limits leave too little for the arms under way.
    """
    declared = {arm.id: arm for arm in after.arms}
    launching = replace(before, experiment=after)
    for arm_id, arm in before.launch.arms.items():
        if arm_id not in declared:
            is_left = arm.state not in ENDED
            launching = _left(launching, arm_id, ArmState.WITHDRAWN, occasion) if is_left else launching
        elif declared[arm_id].is_taken_out and arm.state not in ENDED:
            launching = _left(launching, arm_id, ArmState.ROLLED_BACK, occasion)
    for arm_id, declared_arm in declared.items():
        if arm_id != launching.experiment.champion and arm_id not in launching.launch.arms:
            launching = waiting(launching, arm_id, occasion)
            if declared_arm.is_taken_out:
                launching = moved(launching, arm_id, ArmState.ROLLED_BACK, occasion)
    _require_champion_in_service(launching.experiment)
    _require_room_for_limits(before, launching)
    return launching


def admitted(launching: Launching, occasion: Occasion) -> Launching:
    """Let challengers that wait enter the first step while there is room; the longest wait goes first.

    One that a person holds goes on waiting.
    """
    for arm_id in launching.launch.in_state(ArmState.WAITING):
        if launching.arm(arm_id).hold is not None:
            continue
        entered = _entered(launching, arm_id, occasion)
        if demand_of(entered.experiment, entered.launch).has_room:
            launching = entered
    return launching


def advanced(launching: Launching, arm_id: str, occasion: Occasion) -> Launching:
    """Let a challenger take the next step.

    Raises:
        MoveRefusedError: It is not on its way, is in the last stage, is held, or waits for an approval.
        NoRoomError: The others and the champion's reserve leave too little.
    """
    arm = launching.arm(arm_id)
    require_unheld(launching, arm_id)
    if arm.state is ArmState.WAITING:
        after = _entered(launching, arm_id, occasion)
    elif arm.state not in ON_ITS_WAY:
        raise MoveRefusedError(arm_id, f"it is {words(arm.state)} and takes no steps")
    elif arm.next is None:
        raise MoveRefusedError(arm_id, "it is in the last stage; promote it or roll it back")
    else:
        require_approval(launching, arm_id)
        after = launching.with_arm(
            arm_id, visiting(arm, _STATES[arm.next.stage.kind], occasion, step=arm.step + 1)
        )
    require_room(after, arm_id)
    return after


def approved(launching: Launching, arm_id: str) -> Launching:
    """Note that a person approves that a challenger leaves its step, by a step or by a promotion."""
    arm = launching.arm(arm_id)
    if arm.current is None:
        raise MoveRefusedError(arm_id, f"it is {words(arm.state)}: there is nothing to approve")
    if not arm.current.stage.approval:
        raise MoveRefusedError(arm_id, f"its step, {arm.current.label}, asks for no approval")
    return launching.with_arm(arm_id, replace(arm, is_approved=True))


def held(launching: Launching, arm_id: str, occasion: Occasion) -> Launching:
    """Let a challenger stay where it is until `resumed`; a guardrail takes it out all the same."""
    arm = launching.arm(arm_id)
    if arm.state not in ON_ITS_WAY | {ArmState.WAITING}:
        raise MoveRefusedError(arm_id, f"it is {words(arm.state)}: there is nothing to hold")
    hold = OperatorHold(actor=occasion.actor, reason=occasion.reason, at=occasion.at)
    return launching.with_arm(arm_id, replace(arm, hold=hold))


def resumed(launching: Launching, arm_id: str) -> Launching:
    """End a person's hold."""
    arm = launching.arm(arm_id)
    if arm.hold is None:
        raise MoveRefusedError(arm_id, "nobody holds it; `launch show` says what keeps it from moving")
    return launching.with_arm(arm_id, replace(arm, hold=None))


def rolled_back(launching: Launching, arm_id: str, occasion: Occasion) -> Launching:
    """Take a challenger's traffic away; if it is champion by its launch, the champion before it comes back.

    Passes over every gate.
    """
    arm = launching.arm(arm_id)
    if arm.state in ENDED or arm.state is ArmState.HOLDBACK:
        raise MoveRefusedError(arm_id, f"it is {words(arm.state)} and has nothing to take back")
    return _left(launching, arm_id, ArmState.ROLLED_BACK, occasion)


def ended(launching: Launching, arm_id: str, outcome: ArmState, occasion: Occasion) -> Launching:
    """End a challenger's launch with `outcome`: retired or inconclusive. Its share is 0 from now on."""
    arm = launching.arm(arm_id)
    if arm.state not in ON_ITS_WAY:
        raise MoveRefusedError(arm_id, f"it is {words(arm.state)}")
    return moved(launching, arm_id, outcome, occasion)


def promoted(launching: Launching, arm_id: str, occasion: Occasion) -> Launching:
    """Make a challenger of the bandit stage the champion; the former champion keeps the holdback, if any.

    Raises:
        MoveRefusedError: It is not in the bandit stage, is held, or waits for an approval, or a holdback is
            under way.
        NoRoomError: The holdback does not fit beside the others and the champion's reserve.
    """
    arm = launching.arm(arm_id)
    if launching.launch.former_champion is not None:
        rule = f"the holdback of {launching.launch.former_champion!r} is not over; one promotion at a time"
        raise MoveRefusedError(arm_id, rule)
    if arm.state is not ArmState.BANDIT:
        raise MoveRefusedError(arm_id, f"it is {words(arm.state)}; only the bandit stage leads to promotion")
    require_unheld(launching, arm_id)
    require_approval(launching, arm_id)
    former, holdback = launching.experiment.champion, launching.plan.holdback
    after = replace(
        moved(launching, arm_id, ArmState.PROMOTED, occasion),
        experiment=replace(launching.experiment, champion=arm_id),
    )
    before = launching.launch.arms.get(former)
    kept = before or ArmLaunch(
        state=ArmState.HOLDBACK, entry=0, entered_at=occasion.at, revision=occasion.revision
    )
    after = after.with_arm(former, visiting(kept, ArmState.HOLDBACK, occasion, step=kept.step))
    # The winner was selected by its past data, so whoever meets it as champion begins now.
    after = after.comparing(former, arm_id, occasion.revision)
    for other in after.launch.in_state(*ON_ITS_WAY):
        after = after.comparing(other, arm_id, occasion.revision)
    after = replace(after, launch=replace(after.launch, former_champion=former, holdback=holdback))
    if holdback is None:
        return holdback_ended(after, occasion)
    require_room(after, arm_id)
    return after


def holdback_ended(launching: Launching, occasion: Occasion) -> Launching:
    """End the holdback: the former champion leaves, and the promotion has succeeded."""
    former = launching.launch.former_champion
    if former is None:
        raise MoveRefusedError(launching.experiment.champion, "there is no holdback")
    after = moved(launching, former, ArmState.REPLACED, occasion)
    after = moved(after, launching.experiment.champion, ArmState.SUCCEEDED, occasion)
    return replace(after, launch=replace(after.launch, former_champion=None, holdback=None))


def concludes(launching: Launching) -> bool:
    """Whether the experiment ends with its holdback."""
    return launching.plan.after_holdback is AfterHoldback.CONCLUDE


def concluded(launching: Launching, winner: str, occasion: Occasion) -> Launching:
    """End every launch: the winner's with success, the others', if under way, as withdrawn."""
    after = launching
    for arm_id, arm in launching.launch.arms.items():
        if arm_id == winner:
            after = moved(after, arm_id, ArmState.SUCCEEDED, occasion)
        elif arm.state is ArmState.HOLDBACK or (arm_id == launching.experiment.champion):
            after = moved(after, arm_id, ArmState.REPLACED, occasion)
        elif arm.state not in ENDED:
            after = moved(after, arm_id, ArmState.WITHDRAWN, occasion)
    return replace(after, launch=replace(after.launch, former_champion=None, holdback=None))


def restarted(launching: Launching, arm_id: str, occasion: Occasion) -> Launching:
    """Let an arm whose launch has ended wait for the first stage again, under the plan as it is now."""
    arm = launching.arm(arm_id)
    declared = {each.id: each for each in launching.experiment.arms}
    if arm.state not in ENDED:
        raise MoveRefusedError(arm_id, f"it is {words(arm.state)}; only an ended launch can be restarted")
    if arm_id not in declared:
        raise MoveRefusedError(arm_id, "it was removed from the experiment; add its model as a new arm")
    if declared[arm_id].is_taken_out:
        raise MoveRefusedError(arm_id, "`taken_out = true` keeps it out of service; remove that first")
    return launching.with_arm(arm_id, replace(visiting(arm, ArmState.WAITING, occasion), stages=()))


def current_champion(launch: Launch, current: str, declared: str) -> str | None:
    """Return the champion that a declaration leaves; None if it asks for a change, which needs a promotion.

    A file that names any arm that is or was champion changes nothing: so no old file undoes a promotion.
    """
    once = {launch.declared_champion, current, *launch.in_state(*CHAMPION, *FORMER_CHAMPION)}
    return current if declared in once else None


def _left(launching: Launching, arm_id: str, state: ArmState, occasion: Occasion) -> Launching:
    """Take an arm out of traffic; a champion by its launch gives back to the champion before it."""
    if arm_id == launching.launch.former_champion:
        return holdback_ended(launching, occasion)
    if arm_id != launching.experiment.champion:
        return moved(launching, arm_id, state, occasion)
    former = _champion_before(launching)
    back = launching.arm(former)
    after = replace(
        moved(launching, arm_id, state, occasion),
        experiment=replace(launching.experiment, champion=former),
    )
    # Kept even if it never was a challenger, so that its next holdback is another visit.
    restored = visiting(back, ArmState.SUCCEEDED, occasion, step=back.step)
    arms = {**after.launch.arms, former: restored}
    after = replace(after, launch=replace(after.launch, arms=arms, former_champion=None, holdback=None))
    for other in after.launch.in_state(*ON_ITS_WAY):
        if after.launch.hypothesis(other, former) is None:
            after = after.comparing(other, former, occasion.revision)
    return after


def _entered(launching: Launching, arm_id: str, occasion: Occasion) -> Launching:
    """Let a challenger enter the first step of the plan as it is declared now."""
    stages = launching.plan.stages
    arm = replace(launching.arm(arm_id), stages=stages)
    entered = launching.with_arm(arm_id, visiting(arm, _STATES[stages[0].kind], occasion))
    return entered.comparing(arm_id, launching.experiment.champion, occasion.revision)


def _champion_before(launching: Launching) -> str:
    """Return the champion before this one; MoveRefusedError if there is none to go back to."""
    launch, champion = launching.launch, launching.experiment.champion
    in_service = {arm.id for arm in launching.experiment.arms if not arm.is_taken_out}
    replaced = launch.in_state(ArmState.REPLACED)
    for former in (launch.former_champion, *reversed(replaced)):
        if former is not None and former in in_service and former != champion:
            return former
    rule = "there is no champion before it to go back to; promote another arm, or conclude with one"
    raise MoveRefusedError(champion, rule)


def _require_champion_in_service(experiment: Experiment) -> None:
    if experiment.arm(experiment.champion).is_taken_out:
        rule = (
            "it is the champion, which a launch can't do without; remove `taken_out`, or promote another arm"
        )
        raise MoveRefusedError(experiment.champion, rule)


def _require_room_for_limits(before: Launching | None, after: Launching) -> None:
    """Refuse a declaration that would cut a share or the reserve; one that asks for less is never refused."""
    demand = demand_of(after.experiment, after.launch)
    least = 0.0 if before is None else demand_of(before.experiment, before.launch).total
    if not demand.has_room and demand.total > least:
        rule = f"the limits leave no room for the arms under way: {demand}"
        raise NoRoomError(after.experiment.champion, rule)

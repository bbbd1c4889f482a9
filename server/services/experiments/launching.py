"""The launch of a stored experiment: how its declaration and its life change where challengers are."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Final, TypeAlias

from bandit.experiment import Experiment, JsonValue
from bandit.launch import moves
from bandit.launch.launching import Launching, MoveRefusedError, Occasion, words
from bandit.launch.plan import Mode
from bandit.launch.state import ON_ITS_WAY, ArmLaunch, ArmState
from server.services.errors import InvalidInputError, LaunchRefusedError, NoLaunchError
from server.store.records import EventKind, ExperimentRecord, Lease, NewEvent, State, VerbRequest

Move: TypeAlias = Callable[[Launching, Occasion], Launching]
"""A move, given the experiment as it is and the occasion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveTerms:
    """How a move is stored and told.

    Attributes:
        reason: Why, where the launch itself does not keep it.
        request: The request that is carried out, to be remembered with the change; None for none.
        figures: Arm id to what the move of it rests on, for its event.
        fence: The lease under which the move is made; None for a move that anyone may make.
    """

    reason: str = ""
    request: VerbRequest | None = None
    figures: Mapping[str, Mapping[str, JsonValue]] = field(default_factory=dict)
    fence: Lease | None = None


NO_TERMS: Final = MoveTerms()

_KINDS: Final[Mapping[ArmState, EventKind]] = {
    state: EventKind.STAGE if state in ON_ITS_WAY | {ArmState.WAITING} else EventKind(state.value)
    for state in ArmState
}


def events_between(
    before: ExperimentRecord, after: ExperimentRecord, actor: str, terms: MoveTerms = NO_TERMS
) -> tuple[NewEvent, ...]:
    """Return what happened to the arms of a launch between two revisions, in the order of the arms."""
    old = {} if before.launch is None else before.launch.arms
    new = {} if after.launch is None else after.launch.arms
    return tuple(
        event
        for arm_id, arm in new.items()
        for event in _arm_events(arm_id, old.get(arm_id), arm, actor, terms)
    )


def _arm_events(
    arm_id: str, before: ArmLaunch | None, after: ArmLaunch, actor: str, terms: MoveTerms
) -> Iterator[NewEvent]:
    request_id = None if terms.request is None else terms.request.request_id
    event = partial(NewEvent, arm=arm_id, actor=actor, request_id=request_id)
    if before is None or before.entry != after.entry:
        step = after.current
        figures: dict[str, JsonValue] = {"entry": after.entry, "to": _label(after)}
        figures |= {} if before is None else {"from": _label(before)}
        figures |= {} if step is None or step.share is None else {"share": step.share}
        figures |= terms.figures.get(arm_id, {})
        yield event(kind=_KINDS[after.state], reason=after.reason, figures=figures)
        return
    if after.hold != before.hold:
        held = after.hold is not None
        reason = after.hold.reason if after.hold is not None else terms.reason
        yield event(kind=EventKind.HELD if held else EventKind.RESUMED, reason=reason)
    if after.is_approved and not before.is_approved:
        yield event(kind=EventKind.APPROVED, reason=terms.reason, figures={"entry": after.entry})


def _label(arm: ArmLaunch) -> str:
    return words(arm.state) if arm.current is None else arm.current.label


def occasion_for(record: ExperimentRecord, at: datetime, actor: str, reason: str = "") -> Occasion:
    """Return the occasion of the next change of an experiment."""
    return Occasion(at=at, revision=record.revision + 1, actor=actor, reason=reason)


def moved(record: ExperimentRecord, move: Move, occasion: Occasion) -> ExperimentRecord:
    """Return an experiment after a move of its launch.

    Raises:
        NoLaunchError: It has no launch.
        LaunchRefusedError: The rules forbid the move.
    """
    try:
        after = move(launching_of(record), occasion)
    except MoveRefusedError as error:
        raise LaunchRefusedError(record.name, error) from None
    return replace(record, experiment=after.experiment, launch=after.launch)


def launching_of(record: ExperimentRecord) -> Launching:
    """Return an experiment with its launch; NoLaunchError if it has none."""
    if record.launch is None:
        raise NoLaunchError(record.name, is_declared=record.experiment.launch is not None)
    return Launching(experiment=record.experiment, launch=record.launch)


def started(record: ExperimentRecord, occasion: Occasion) -> ExperimentRecord:
    """Return a started experiment with the launch that its declaration asks for.

    A launch that takes its own steps takes the first at once.

    Raises:
        LaunchRefusedError: The champion is taken out.
    """
    plan = record.experiment.launch
    if plan is None or record.launch is not None:
        return record
    try:
        launching = moves.begun(record.experiment, occasion, is_started=False)
    except MoveRefusedError as error:
        raise LaunchRefusedError(record.name, error) from None
    if plan.mode is Mode.AUTOMATIC:
        launching = moves.admitted(launching, replace(occasion, reason="the experiment started"))
    return replace(record, launch=launching.launch)


def with_champion(record: ExperimentRecord, experiment: Experiment) -> Experiment:
    """Return a new declaration with the champion that promotions have left, which a file does not change.

    Raises:
        InvalidInputError: It names another champion than the one of its launch, or lacks that arm.
    """
    if record.launch is None or experiment.champion == record.experiment.champion:
        return experiment
    champion = moves.current_champion(record.launch, record.experiment.champion, experiment.champion)
    if champion is None:
        known = f"{record.experiment.champion!r} is champion in this launch"
        rule = f"{known}: promote {experiment.champion!r} with `bandit-server launch promote`, or conclude"
        raise InvalidInputError.of("champion", rule)
    if champion not in {arm.id for arm in experiment.arms}:
        rule = f"{champion!r} is champion in this launch, and is missing: add it, or roll it back first"
        raise InvalidInputError.of("arms", rule)
    return replace(experiment, champion=champion)


def redeclared(record: ExperimentRecord, declared: ExperimentRecord, occasion: Occasion) -> ExperimentRecord:
    """Return an experiment under a new declaration, with its launch: arms come, go and are taken out.

    Args:
        record: As it was.
        declared: With the new declaration.
        occasion: When, by whom and why.

    Raises:
        LaunchRefusedError: It would leave the champion without traffic, or cut the share of an arm under way.
    """
    if declared.experiment.launch is None or record.state is State.DRAFT:
        return declared
    try:
        if record.launch is None:
            after = moves.begun(declared.experiment, occasion, is_started=True)
        else:
            after = moves.redeclared(launching_of(record), declared.experiment, occasion)
    except MoveRefusedError as error:
        raise LaunchRefusedError(record.name, error) from None
    return replace(declared, experiment=after.experiment, launch=after.launch)


def concluded(record: ExperimentRecord, winner: str, occasion: Occasion) -> ExperimentRecord:
    """Return a concluded experiment with every launch at its end."""
    if record.launch is None or record.state is State.CONCLUDED:
        return record
    return replace(record, launch=moves.concluded(launching_of(record), winner, occasion).launch)

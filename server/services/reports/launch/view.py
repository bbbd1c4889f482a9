"""The launch as reports, `launch show` and lists show it: worded once, for all of them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bandit.launch.claims import LaunchClaim
from bandit.launch.gates import Gate, Hold, Look
from bandit.launch.plan import Mode
from bandit.launch.state import ON_ITS_WAY, ArmLaunch, ArmState, Launch
from server.services.reports.launch.sentences import (
    arm_sentence,
    claim_sentence,
    gate_sentence,
    hold_sentence,
    next_step,
)
from server.store.records import ExperimentRecord, StoredLook


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmView:
    """The launch of one arm, in figures and words.

    Attributes:
        arm: The arm's id.
        launch: Where it is.
        share: Its share in the epoch in force.
        holds: What keeps it from moving, each in words.
        gates: What its step asks for, each in words.
        claims: What is claimed of it, and how far the evidence is, each in words.
        sentence: Where it is, why, and what a person has to do.
        next: What comes next; empty if nothing does.
        next_at: The earliest time of that; None if it rests on traffic or on a person, or is due.
    """

    arm: str
    launch: ArmLaunch
    share: float
    holds: tuple[tuple[Hold, str], ...]
    gates: tuple[tuple[Gate, str], ...]
    claims: tuple[tuple[LaunchClaim, str], ...]
    sentence: str
    next: str
    next_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchView:
    """A launch, in figures and words.

    Attributes:
        champion: The champion's id.
        former_champion: The arm that keeps the holdback; None without one.
        mode: Who takes the steps.
        sentence: The launch in a sentence: that of the arm that most needs a person.
        arms: The challengers, in the order of the experiment; removed ones last.
    """

    champion: str
    former_champion: str | None
    mode: Mode
    sentence: str
    arms: tuple[ArmView, ...]


def view_of(look: Look) -> LaunchView:
    """Return the launch that a look was at, in figures and words."""
    experiment, launch = look.launching.experiment, look.launching.launch
    declared = [arm.id for arm in experiment.arms if arm.id in launch.arms]
    removed = sorted(launch.arms.keys() - set(declared))
    arms = tuple(_arm_view(arm_id, launch.arms[arm_id], look) for arm_id in (*declared, *removed))
    speaker = most_urgent(launch, {arm.arm for arm in arms if arm.holds})
    sentences = {arm.arm: arm.sentence for arm in arms}
    return LaunchView(
        champion=experiment.champion,
        former_champion=launch.former_champion,
        mode=look.launching.plan.mode,
        sentence=sentences.get(speaker or "", f"{experiment.champion} answers; no challenger is under way."),
        arms=arms,
    )


def _arm_view(arm_id: str, arm: ArmLaunch, look: Look) -> ArmView:
    holds, gates = look.holds(arm_id), look.gates(arm_id)
    closed = [gate for gate in gates if not gate.is_open]
    opening = [gate.opens_at for gate in closed if gate.opens_at is not None]
    is_timed = not holds and len(opening) == len(closed) > 0
    figures, champion = look.figures.get(arm_id), look.launching.experiment.champion
    return ArmView(
        arm=arm_id,
        launch=arm,
        share=0.0 if figures is None else figures.share,
        holds=tuple((hold, hold_sentence(hold)) for hold in holds),
        gates=tuple((gate, gate_sentence(gate)) for gate in gates),
        claims=tuple((claim, claim_sentence(claim, champion)) for claim in look.claims.get(arm_id, ())),
        sentence=arm_sentence(arm_id, arm, look),
        next=next_step(arm_id, arm, look),
        next_at=max(opening) if is_timed else None,
    )


def view_of_looks(
    record: ExperimentRecord, looks: Mapping[int, StoredLook], shares: Mapping[int, float]
) -> LaunchView:
    """Return a launch as the last look at each arm found it; what one says of an earlier visit is left out.

    Args:
        record: The experiment, which has a launch.
        looks: Arm number to the last look.
        shares: Arm number to share in force.
    """
    launch, plan, champion = record.launch, record.experiment.launch, record.experiment.champion
    assert launch is not None and plan is not None  # noqa: S101, PT018 - as the docstring says
    arms = []
    for arm_id, arm in launch.arms.items():
        number = record.arm_numbers[arm_id]
        look = looks.get(number)
        if look is None or look.entry != arm.entry:
            look = StoredLook(at=arm.entered_at, entry=arm.entry)
        arms.append(
            ArmView(
                arm=arm_id,
                launch=arm,
                share=shares.get(number, 0.0),
                holds=tuple((hold, hold_sentence(hold)) for hold in look.causes),
                gates=tuple((gate, gate_sentence(gate)) for gate in look.gates),
                claims=tuple((claim, claim_sentence(claim, champion)) for claim in look.claims),
                sentence=look.sentence,
                next=look.next,
                next_at=look.next_at,
            )
        )
    speaker = most_urgent(launch, {arm.arm for arm in arms if arm.holds})
    return LaunchView(
        champion=champion,
        former_champion=launch.former_champion,
        mode=plan.mode,
        sentence=next((arm.sentence for arm in arms if arm.arm == speaker), ""),
        arms=tuple(arms),
    )


_URGENCY: Final = (
    ArmState.ROLLED_BACK,
    ArmState.PROMOTED,
    ArmState.BANDIT,
    ArmState.RAMP,
    ArmState.CANARY,
    ArmState.SHADOW,
    ArmState.WAITING,
    ArmState.INCONCLUSIVE,
)


def most_urgent(launch: Launch, held: Collection[str]) -> str | None:
    """Return the arm whose sentence speaks for the launch: who is held, trouble, then who has come furthest.

    Args:
        launch: Where each arm is.
        held: The arms that something keeps from moving.
    """
    waiting = [arm_id for arm_id in launch.in_state(*ON_ITS_WAY) if arm_id in held]
    found = [waiting, *(launch.in_state(state) for state in _URGENCY)]
    return next((arms[-1] for arms in found if arms), None)

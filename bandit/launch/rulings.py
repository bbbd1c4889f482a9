"""Rulings: what a launch does after a look.

In this order, and at most one kind a look: what can't wait, which are arms to be taken out; the end of a
holdback; one promotion; one step an arm. In mode `recommend` people make the last two.
"""

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from bandit.launch import moves
from bandit.launch.gates import Finding, HoldCause, Look, is_silent
from bandit.launch.launching import Launching, MoveRefusedError, Occasion
from bandit.launch.plan import GuardrailAction, LaunchPlan, Mode, OnInconclusive, OnTrouble
from bandit.launch.state import CHAMPION, ON_ITS_WAY, ArmState

_TAKING_STEPS: Final = ON_ITS_WAY - {ArmState.BANDIT} | {ArmState.WAITING}
"""States that a step leaves; a promotion leaves the bandit stage."""


class Action(enum.StrEnum):
    """What is done about one arm."""

    ROLL_BACK = "roll back"
    END = "end"
    END_HOLDBACK = "end the holdback"
    PROMOTE = "promote"
    ADVANCE = "advance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """One action, and what it rests on.

    Attributes:
        action: What is done.
        arm: The arm.
        cause: Why, where it is taken out: a guardrail (or a goal that turned in the holdback), the sample
            ratio, missing outcomes, time that is up.
        finding: The finding of that guardrail or goal; None for other causes.
        figures: What the action rests on, by name.
        outcome: With what a launch ends, for `END`.
    """

    action: Action
    arm: str
    cause: HoldCause | None = None
    finding: Finding | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    outcome: ArmState = ArmState.INCONCLUSIVE

    @property
    def is_abort(self) -> bool:
        """Whether it takes an arm out because of trouble: then it is repeated until it is applied."""
        return self.action is Action.ROLL_BACK

    def applied(self, launching: Launching, occasion: Occasion) -> Launching:
        """Return the launch after the action.

        Raises:
            MoveRefusedError: The rules do not allow it any more.
        """
        match self.action:
            case Action.ROLL_BACK:
                return moves.rolled_back(launching, self.arm, occasion)
            case Action.END:
                return moves.ended(launching, self.arm, self.outcome, occasion)
            case Action.END_HOLDBACK:
                return moves.holdback_ended(launching, occasion)
            case Action.PROMOTE:
                return moves.promoted(launching, self.arm, occasion)
            case Action.ADVANCE:
                return moves.advanced(launching, self.arm, occasion)


def rule(look: Look) -> tuple[Ruling, ...]:
    """Return what is to be done now; empty if nothing is.

    Everything that is returned is of one kind, so that each look makes one change. Steps are in the order in
    which they are made: each leaves room for the next.
    """
    for rulings in (_aborts, _ends, _holdback, _promotion, _steps):
        found = tuple(rulings(look))
        if found:
            return found
    return ()


def _aborts(look: Look) -> Iterator[Ruling]:
    """Yield the arms to be taken out, also while the experiment is paused."""
    plan = look.launching.plan
    for arm_id, arm in look.launching.launch.arms.items():
        if arm.state not in ON_ITS_WAY | {ArmState.PROMOTED}:
            continue
        findings = [each for each in look.harmed.get(arm_id, ()) if takes_out(each, plan)]
        figures = look.figures.get(arm_id)
        if findings:
            yield Ruling(
                action=Action.ROLL_BACK,
                arm=arm_id,
                cause=HoldCause.GUARDRAIL,
                finding=findings[0],
                figures=findings[0].figures,
            )
        elif arm.state in CHAMPION or not look.is_running:
            continue
        elif look.is_alarming and plan.on_sample_ratio_alarm is OnTrouble.ROLLBACK:
            yield Ruling(action=Action.ROLL_BACK, arm=arm_id, cause=HoldCause.SAMPLE_RATIO)
        elif figures is None or plan.on_no_data is not OnTrouble.ROLLBACK:
            continue
        elif is_silent(figures, look.window):
            expected = {"expected_outcomes": figures.expected_outcomes, "decisions": figures.decisions}
            yield Ruling(action=Action.ROLL_BACK, arm=arm_id, cause=HoldCause.NO_DATA, figures=expected)


def takes_out(finding: Finding, plan: LaunchPlan) -> bool:
    """Whether the plan lets a finding take an arm out: a guardrail in both modes, the goal in one."""
    if finding.is_reversal:
        return plan.mode is Mode.AUTOMATIC
    return plan.guardrail_action is GuardrailAction.ROLLBACK


def _ends(look: Look) -> Iterator[Ruling]:
    """Yield the challengers of the bandit stage that have shown too little, or nothing in time."""
    plan = look.launching.plan
    if plan.mode is not Mode.AUTOMATIC or not look.is_running or look.is_alarming or look.silence:
        return
    for arm_id in look.launching.launch.in_state(ArmState.BANDIT):
        figures = look.figures[arm_id]
        if _is_negligible(look, arm_id):
            shown = {"most_lift": figures.most_lift or 0.0, "least_lift": plan.least_lift or 0.0}
            yield Ruling(action=Action.END, arm=arm_id, figures=shown, outcome=ArmState.RETIRED)
        elif plan.on_inconclusive is OnInconclusive.END and _is_over(look, arm_id):
            covered = {"covered_seconds": figures.covered.total_seconds()}
            yield Ruling(action=Action.END, arm=arm_id, cause=HoldCause.INCONCLUSIVE, figures=covered)


def _is_negligible(look: Look, arm_id: str) -> bool:
    """Whether what an arm could gain is below the least lift, after the whole cycles of a promotion."""
    least, most = look.launching.plan.least_lift, look.figures[arm_id].most_lift
    has_cycles = all(gate.is_open for gate in look.gates(arm_id) if gate.name == "minimum_cycles")
    return least is not None and most is not None and has_cycles and most < least


def _is_over(look: Look, arm_id: str) -> bool:
    return HoldCause.INCONCLUSIVE in {hold.cause for hold in look.holds(arm_id)}


def _holdback(look: Look) -> Iterator[Ruling]:
    launching = look.launching
    if launching.launch.former_champion is None or not look.is_running or look.silence:
        return
    champion = launching.experiment.champion
    gates = look.gates(champion)
    if all(gate.is_open for gate in gates) and not look.harmed.get(champion):
        figures = {gate.name: gate.figure for gate in gates}
        yield Ruling(action=Action.END_HOLDBACK, arm=champion, figures=figures)


def _promotion(look: Look) -> Iterator[Ruling]:
    """Yield the promotion of the winner that is most probably best, if one is due."""
    if look.launching.plan.mode is not Mode.AUTOMATIC:
        return
    ready = [
        arm_id
        for arm_id in look.launching.launch.in_state(ArmState.BANDIT)
        if look.figures[arm_id].is_winner and look.is_free(arm_id)
    ]
    if ready:
        numbers = {arm.id: index for index, arm in enumerate(look.launching.experiment.arms)}
        best = max(ready, key=lambda arm_id: (look.figures[arm_id].probability_best, -numbers[arm_id]))
        yield Ruling(action=Action.PROMOTE, arm=best, figures=_gate_figures(look, best))


def _steps(look: Look) -> Iterator[Ruling]:
    """Yield one step for each challenger that is free to take it, while there is room."""
    if not look.is_running or look.is_clock_doubted:
        return
    if look.launching.plan.mode is not Mode.AUTOMATIC:
        return
    launching = look.launching
    for arm_id in launching.launch.in_state(*_TAKING_STEPS):
        if not look.is_free(arm_id):
            continue
        ruling = Ruling(action=Action.ADVANCE, arm=arm_id, figures=_gate_figures(look, arm_id))
        try:
            launching = ruling.applied(launching, Occasion(at=look.at, revision=0, actor=""))
        except MoveRefusedError:
            continue
        yield ruling


def _gate_figures(look: Look, arm_id: str) -> dict[str, float]:
    return {gate.name: gate.figure for gate in look.gates(arm_id)}

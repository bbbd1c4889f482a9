"""An experiment with its launch, and what every move is made of."""

from dataclasses import dataclass, replace
from datetime import datetime

from bandit.experiment import Experiment
from bandit.launch.plan import LaunchPlan
from bandit.launch.shares import demand_of
from bandit.launch.state import ArmLaunch, ArmState, Hypothesis, Launch


class MoveRefusedError(ValueError):
    """The rules forbid a move of arm {arm}: {rule}."""

    def __init__(self, arm: str, rule: str) -> None:
        self.arm = arm
        self.rule = rule
        super().__init__(f"arm {arm!r}: {rule}")


class NoRoomError(MoveRefusedError):
    """A step needs a share that the others and the champion's reserve do not leave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """When, by whom and why a move is made.

    Attributes:
        at: When.
        revision: The experiment's revision that the move makes.
        actor: Who makes it.
        reason: Why; empty if nobody gave a reason.
    """

    at: datetime
    revision: int
    actor: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launching:
    """An experiment and its launch."""

    experiment: Experiment
    launch: Launch

    @property
    def plan(self) -> LaunchPlan:
        """The declared plan."""
        plan = self.experiment.launch
        assert plan is not None  # noqa: S101 - a launch is of a plan: `redeclared` refuses to remove it
        return plan

    def arm(self, arm_id: str) -> ArmLaunch:
        """Return the launch of an arm; MoveRefusedError if it has none."""
        found = self.launch.arms.get(arm_id)
        if found is not None:
            return found
        if arm_id == self.experiment.champion:
            raise MoveRefusedError(arm_id, "it is the champion, and not in a launch")
        known = ", ".join(sorted(self.launch.arms)) or "none yet"
        raise MoveRefusedError(arm_id, f"it is not in a launch; arms that are: {known}")

    def comparing(self, challenger: str, champion: str, revision: int) -> "Launching":
        """Return the same with a new comparison of a pair, from a revision on."""
        n_guardrails = sum(metric.is_guardrail for metric in self.experiment.metrics)
        hypothesis = Hypothesis(
            challenger=challenger, champion=champion, revision=revision, n_guardrails=n_guardrails
        )
        hypotheses = (*self.launch.hypotheses, hypothesis)
        return replace(self, launch=replace(self.launch, hypotheses=hypotheses))

    def with_arm(self, arm_id: str, arm: ArmLaunch) -> "Launching":
        """Return the same with another launch of one arm."""
        return replace(self, launch=replace(self.launch, arms={**self.launch.arms, arm_id: arm}))


def waiting(launching: Launching, arm_id: str, occasion: Occasion) -> Launching:
    """Return the same with an arm that waits for the first stage, for the first time."""
    arm = ArmLaunch(
        state=ArmState.WAITING,
        entered_at=occasion.at,
        revision=occasion.revision,
        actor=occasion.actor,
        reason=occasion.reason,
    )
    return launching.with_arm(arm_id, arm)


def moved(launching: Launching, arm_id: str, state: ArmState, occasion: Occasion) -> Launching:
    """Return the same with an arm in another state; it remembers its last step."""
    arm = launching.arm(arm_id)
    return launching.with_arm(arm_id, visiting(arm, state, occasion, step=arm.step))


def visiting(arm: ArmLaunch, state: ArmState, occasion: Occasion, step: int = 0) -> ArmLaunch:
    """Return the launch of an arm that enters a step or a state."""
    return replace(
        arm,
        state=state,
        step=step,
        entry=arm.entry + 1,
        entered_at=occasion.at,
        revision=occasion.revision,
        hold=None,
        is_approved=False,
        actor=occasion.actor,
        reason=occasion.reason,
    )


def require_approval(launching: Launching, arm_id: str) -> None:
    """Raise MoveRefusedError if the arm's step asks for an approval that is missing."""
    arm = launching.arm(arm_id)
    if arm.current is not None and arm.current.stage.approval and not arm.is_approved:
        raise MoveRefusedError(arm_id, f"its step, {arm.current.label}, waits for an approval")


def require_unheld(launching: Launching, arm_id: str) -> None:
    """Raise MoveRefusedError if a person holds the arm."""
    hold = launching.arm(arm_id).hold
    if hold is not None:
        raise MoveRefusedError(arm_id, f"{hold.actor} holds it ({hold.reason}): resume it first")


def require_room(after: Launching, arm_id: str) -> None:
    """Raise NoRoomError if the arms would ask for more than there is."""
    demand = demand_of(after.experiment, after.launch)
    if not demand.has_room:
        raise NoRoomError(arm_id, f"no room for its step: {demand}")


def words(state: ArmState) -> str:
    """Return a state as people say it."""
    return "the former champion" if state is ArmState.HOLDBACK else state.replace("_", " ")

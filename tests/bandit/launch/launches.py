"""Plans and launches that tests of launches start from: champion `a`, challengers `b`, `c` and `d`."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Final

from bandit.experiment import Arm, Experiment
from bandit.launch.launching import Launching, Occasion
from bandit.launch.moves import (
    admitted,
    advanced,
    begun,
    ended,
    holdback_ended,
    promoted,
    redeclared,
    rolled_back,
)
from bandit.launch.plan import Holdback, LaunchPlan, Stage, StageKind
from bandit.launch.state import ArmState
from bandit.limits import Limits
from tests.bandit.builders import HOUR, START, declare

CANARY: Final = Stage(kind=StageKind.CANARY, share=0.01)
SHADOW: Final = Stage(kind=StageKind.SHADOW)
RAMP: Final = Stage(kind=StageKind.RAMP, shares=(0.05, 0.25))
BANDIT: Final = Stage(kind=StageKind.BANDIT)
PLAN: Final = LaunchPlan(stages=(CANARY, RAMP, BANDIT), holdback=Holdback(share=0.05))
LIMITS: Final = Limits(champion_minimum_share=0.2, minimum_share=0.02)


def occasion(n_hours: int = 0, reason: str = "") -> Occasion:
    """Return an occasion so many hours after the start; each hour makes a revision."""
    return Occasion(at=START + n_hours * HOUR, revision=2 + n_hours, actor="sam", reason=reason)


def declare_launch(
    arms: Iterable[str | Arm] = ("a", "b", "c", "d"), plan: LaunchPlan = PLAN, limits: Limits = LIMITS
) -> Experiment:
    """Return an experiment with a launch; the first arm is the champion, and the reward has a window."""
    declared = [arm if isinstance(arm, Arm) else Arm(id=arm) for arm in arms]
    experiment = declare(arms=declared, limits=limits)
    metrics = (replace(experiment.metrics[0], window=timedelta(hours=1)), *experiment.metrics[1:])
    return replace(experiment, metrics=metrics, launch=plan)


def waiting(experiment: Experiment | None = None) -> Launching:
    """Return a launch that has just begun: every challenger waits."""
    return begun(experiment or declare_launch(), occasion(), is_started=False)


def underway(experiment: Experiment | None = None) -> Launching:
    """Return a launch whose challengers have entered the first step."""
    return admitted(waiting(experiment), occasion(1))


def in_bandit(*arms: str, experiment: Experiment | None = None) -> Launching:
    """Return a launch under way in which these arms have reached the bandit stage."""
    launching = underway(experiment)
    for arm in arms:
        while launching.arm(arm).state is not ArmState.BANDIT:
            launching = advanced(launching, arm, occasion(2))
    return launching


def states(launching: Launching) -> dict[str, ArmState]:
    """Return arm id to state."""
    return {arm_id: arm.state for arm_id, arm in launching.launch.arms.items()}


def after_promotion() -> Launching:
    """Return a launch in which `b` is champion and `a` keeps the holdback; `c` is in the bandit stage."""
    return promoted(in_bandit("b", "c"), "b", occasion(3))


def _after_holdback() -> Launching:
    return holdback_ended(after_promotion(), occasion(4))


def _former() -> Launching:
    return promoted(_after_holdback(), "c", occasion(5))


def _without_b() -> Launching:
    return redeclared(in_bandit("b"), declare_launch(["a", "c", "d"]), occasion(3))


WITH_B_IN: Final[Mapping[ArmState, Callable[[], Launching]]] = {
    ArmState.WAITING: waiting,
    ArmState.SHADOW: lambda: underway(declare_launch(plan=replace(PLAN, stages=(SHADOW, *PLAN.stages)))),
    ArmState.CANARY: underway,
    ArmState.RAMP: lambda: advanced(underway(), "b", occasion(2)),
    ArmState.BANDIT: lambda: in_bandit("b"),
    ArmState.PROMOTED: after_promotion,
    ArmState.SUCCEEDED: _after_holdback,
    ArmState.HOLDBACK: _former,
    ArmState.REPLACED: lambda: holdback_ended(_former(), occasion(6)),
    ArmState.ROLLED_BACK: lambda: rolled_back(in_bandit("b"), "b", occasion(3)),
    ArmState.RETIRED: lambda: ended(in_bandit("b"), "b", ArmState.RETIRED, occasion(3)),
    ArmState.INCONCLUSIVE: lambda: ended(in_bandit("b"), "b", ArmState.INCONCLUSIVE, occasion(3)),
    ArmState.WITHDRAWN: _without_b,
}
"""A launch whose arm `b` is in this state, with no one else in its way."""

"""The state of a launch: where each challenger is, and how it came there.

Only what can't be derived is kept. What keeps a challenger from moving, such as missing outcomes, follows
from the facts at each look; a person's hold and approval are kept here.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from bandit.launch.plan import Holdback, Stage, Step, steps_of


class ArmState(enum.StrEnum):
    """Where an arm is in its launch."""

    WAITING = "waiting"
    SHADOW = "shadow"
    """It sees the champion's requests, and never answers."""
    CANARY = "canary"
    RAMP = "ramp"
    BANDIT = "bandit"
    PROMOTED = "promoted"
    """Champion, while the former one keeps the holdback."""
    HOLDBACK = "holdback"
    """The former champion."""
    SUCCEEDED = "succeeded"
    """Champion for good, or the winner."""
    REPLACED = "replaced"
    """A former champion after its holdback."""
    ROLLED_BACK = "rolled_back"
    RETIRED = "retired"
    """Not worth having: what it could gain is below the least lift."""
    INCONCLUSIVE = "inconclusive"
    """The bandit stage was over without a finding."""
    WITHDRAWN = "withdrawn"
    """Removed by a person, or the experiment was concluded without it."""


ON_ITS_WAY: Final = frozenset({ArmState.SHADOW, ArmState.CANARY, ArmState.RAMP, ArmState.BANDIT})
"""States of a challenger that is in a step of its plan."""

CHAMPION: Final = frozenset({ArmState.PROMOTED, ArmState.SUCCEEDED})
"""States of an arm that became champion by its launch."""

FORMER_CHAMPION: Final = frozenset({ArmState.HOLDBACK, ArmState.REPLACED})
"""States of an arm that was champion before the current one."""

ENDED: Final = frozenset(
    {
        ArmState.REPLACED,
        ArmState.ROLLED_BACK,
        ArmState.RETIRED,
        ArmState.INCONCLUSIVE,
        ArmState.WITHDRAWN,
    }
)
"""States that only a restart leaves; the arm has no traffic."""

IN_SERVICE: Final = (ON_ITS_WAY - {ArmState.SHADOW}) | CHAMPION | {ArmState.HOLDBACK}
"""States in which an arm may answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorHold:
    """A person's order that a challenger stays where it is.

    Attributes:
        actor: Who gave it.
        reason: Why.
        at: When.
    """

    actor: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmLaunch:
    """The launch of one arm.

    Attributes:
        state: Where it is.
        step: Index of its step while it is on its way; the last one it was in afterwards.
        entry: How many times it has entered a step or a state: it names one visit to one of them.
        entered_at: When this visit began.
        revision: The experiment's revision with which it began: epochs from this revision on belong to it.
        stages: The stages that it walks through, as they were declared when it entered the first; empty while
            it waits, and for a former champion that never was a challenger.
        hold: A person's hold.
        is_approved: Whether a person has approved that it leaves this step.
        actor: Who began this visit.
        reason: Why it began; empty if nobody gave a reason.
    """

    state: ArmState
    step: int = 0
    entry: int = 1
    entered_at: datetime
    revision: int
    stages: tuple[Stage, ...] = ()
    hold: OperatorHold | None = None
    is_approved: bool = False
    actor: str = ""
    reason: str = ""

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that it walks through."""
        return steps_of(self.stages)

    @property
    def current(self) -> Step | None:
        """The step that it is in; None unless it is on its way."""
        return self.steps[self.step] if self.state in ON_ITS_WAY else None

    @property
    def next(self) -> Step | None:
        """The step after this one; None in the last one, and unless it is on its way."""
        following = self.steps[self.step + 1 :]
        return following[0] if self.state in ON_ITS_WAY and following else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """A comparison of a challenger with a champion, from the epoch on with which it began.

    Hypotheses are numbered as they start; `bandit.inference.verdict.families` says what level each has.

    Attributes:
        challenger: The challenger's id.
        champion: The champion's id.
        revision: Epochs from this revision of the experiment on belong to it.
        n_guardrails: Guardrails that were declared then: they share the level for a rollback evenly.
    """

    challenger: str
    champion: str
    revision: int
    n_guardrails: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """The launches of an experiment's arms.

    Attributes:
        declared_champion: The champion as the experiment's file says it. A file that still says so does not
            undo a promotion.
        arms: Arm id to its launch, of every arm that ever was a challenger or kept a holdback; a
            champion that did neither has none.
        former_champion: The arm that keeps the holdback; None without a holdback.
        holdback: The holdback under way; None without one.
        hypotheses: Every comparison that ever began, in order.
    """

    declared_champion: str
    arms: Mapping[str, ArmLaunch] = field(default_factory=dict)
    former_champion: str | None = None
    holdback: Holdback | None = None
    hypotheses: tuple[Hypothesis, ...] = ()

    def is_in_service(self, arm_id: str) -> bool:
        """Whether an arm may answer: one in waiting, in shadow or in a final state may not."""
        launch = self.arms.get(arm_id)
        return launch is None or launch.state in IN_SERVICE

    @property
    def samples(self) -> Mapping[str, float]:
        """Id of each arm in shadow to the part of the champion's decisions that it sees, in order of id."""
        steps = {arm_id: launch.current for arm_id, launch in sorted(self.arms.items())}
        return {
            arm_id: step.stage.sample
            for arm_id, step in steps.items()
            if step is not None and self.arms[arm_id].state is ArmState.SHADOW
        }

    def in_state(self, *states: ArmState) -> tuple[str, ...]:
        """Return the ids of the arms in one of these states, who entered it first first."""
        found = [arm_id for arm_id, launch in self.arms.items() if launch.state in states]
        return tuple(sorted(found, key=lambda arm_id: (self.arms[arm_id].entered_at, arm_id)))

    def hypothesis(self, challenger: str, champion: str) -> tuple[int, Hypothesis] | None:
        """Return the latest comparison of a pair with its number, from 1; None if there never was one."""
        numbered = enumerate(self.hypotheses, 1)
        pairs = [
            each for each in numbered if (each[1].challenger, each[1].champion) == (challenger, champion)
        ]
        return pairs[-1] if pairs else None

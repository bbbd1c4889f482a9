"""The plan of a launch: its stages, and what is done when something goes wrong."""

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

DAYS_IN_A_CYCLE: Final = 7
"""A step without any minimum takes this part of a cycle: a day of a week."""

MOST_SHADOWS: Final = 3
"""The most arms in shadow at once: each costs the caller a model's answer."""


class StageKind(enum.StrEnum):
    """The kinds of stages, in the order in which a challenger walks through them."""

    SHADOW = "shadow"
    """It sees the champion's requests; its answers are compared and never served."""
    CANARY = "canary"
    RAMP = "ramp"
    BANDIT = "bandit"


class Mode(enum.StrEnum):
    """Who takes the steps."""

    RECOMMEND = "recommend"
    AUTOMATIC = "automatic"


class GuardrailAction(enum.StrEnum):
    """What a guardrail does that shows harm."""

    ROLLBACK = "rollback"
    RECOMMEND = "recommend"


class OnTrouble(enum.StrEnum):
    """What happens to a challenger while its numbers can't be judged."""

    HOLD = "hold"
    ROLLBACK = "rollback"


class OnInconclusive(enum.StrEnum):
    """What happens when the bandit stage has lasted as long as it may, and shows nothing."""

    END = "end"
    HOLD = "hold"


class AfterHoldback(enum.StrEnum):
    """What happens when the holdback is over."""

    GO_ON = "continue"
    CONCLUDE = "conclude"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of a plan. What it asks for holds for each step of a ramp by itself.

    Attributes:
        kind: Its kind.
        sample: The part of the champion's decisions that a shadow sees, in (0, 1]; 1 for other kinds.
        minimum_mirrored: The part of a shadow's decisions of which an outcome has to be posted, in (0, 1],
            before it goes on; what is not posted is no value. 0.9 for other kinds, and of no effect there.
        share: The share of a canary, in (0, 1); 0 for other kinds.
        shares: The shares of a ramp, in (0, 1), rising; empty for other kinds.
        minimum_decisions: Policy decisions for the challenger, or its shadow decisions, before it goes on.
        minimum_outcomes: Outcomes of the reward metric before it goes on; of a shadow, pairs of each metric
            that is compared.
        minimum_duration: Covered time before it goes on; None for no such bound.
        whole_cycles: Whole cycles before it goes on.
        approval: Whether a person has to approve that it goes on.
        maximum_duration: Covered time after which it is *inconclusive*; None for no such bound.
    """

    kind: StageKind
    sample: float = 1.0
    minimum_mirrored: float = 0.9
    share: float = 0.0
    shares: tuple[float, ...] = ()
    minimum_decisions: int = 0
    minimum_outcomes: int = 0
    minimum_duration: timedelta | None = None
    whole_cycles: int = 0
    approval: bool = False
    maximum_duration: timedelta | None = None

    @property
    def has_minimum(self) -> bool:
        """Whether it asks for any time or number."""
        numbers = (self.minimum_decisions, self.minimum_outcomes, self.whole_cycles)
        return self.minimum_duration is not None or any(numbers)

    def least_duration(self, cycle: timedelta) -> timedelta:
        """Return the covered time that a step takes at least: a seventh of a cycle without any minimum."""
        if not self.has_minimum:
            return cycle / DAYS_IN_A_CYCLE
        return max(self.minimum_duration or timedelta(), self.whole_cycles * cycle)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A stage at one share: a ramp has a step for each of its shares, other stages have one.

    Attributes:
        stage: The stage.
        share: The challenger's share, 0 for a shadow; None if the policy decides.
    """

    stage: Stage
    share: float | None

    @property
    def label(self) -> str:
        """The step as people name it.

        >>> Step(stage=Stage(kind=StageKind.RAMP, shares=(0.05,)), share=0.05).label
        'ramp at 5 %'
        """
        return f"{self.stage.kind} at {100 * self.share:.4g} %" if self.share else str(self.stage.kind)


def steps_of(stages: Iterable[Stage]) -> tuple[Step, ...]:
    """Return the steps of a plan, in order."""
    steps: list[Step] = []
    for stage in stages:
        match stage.kind:
            case StageKind.SHADOW:
                steps.append(Step(stage=stage, share=0.0))
            case StageKind.CANARY:
                steps.append(Step(stage=stage, share=stage.share))
            case StageKind.RAMP:
                steps += [Step(stage=stage, share=share) for share in stage.shares]
            case StageKind.BANDIT:
                steps.append(Step(stage=stage, share=None))
    return tuple(steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdback:
    """What the former champion keeps after a promotion: a fuse that can show a large loss.

    Attributes:
        share: Its share, in (0, 1).
        cycles: How many whole cycles it lasts, at least 1.
    """

    share: float
    cycles: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchPlan:
    """How challengers get from their first request to champion. Each walks through the stages by itself.

    Attributes:
        stages: The stages, ending with the bandit.
        mode: Whether steps and promotions are recommended or taken.
        cycle: Period of the traffic's rhythm; promotion looks at whole cycles only.
        minimum_cycles: Whole cycles in the bandit stage before a promotion, at least 1.
        holdback: What the former champion keeps after a promotion; None for nothing.
        guardrail_action: What a guardrail does that shows harm, in both modes.
        on_no_data: What happens to a challenger without outcomes.
        on_sample_ratio_alarm: What happens to challengers while decisions do not follow the shares.
        on_inconclusive: What happens at the end of the bandit stage's `maximum_duration`.
        after_holdback: What happens when the holdback is over.
        least_lift: The smallest relative improvement worth having, in (0, 1): a challenger that is shown to
            gain less is retired. None retires nobody.
        max_staleness: A server that can't confirm for longer that its shares are in force answers with an arm
            that was not rolled back: what it serves meanwhile may be.
    """

    stages: tuple[Stage, ...]
    mode: Mode = Mode.RECOMMEND
    cycle: timedelta = timedelta(days=7)
    minimum_cycles: int = 2
    holdback: Holdback | None = None
    guardrail_action: GuardrailAction = GuardrailAction.ROLLBACK
    on_no_data: OnTrouble = OnTrouble.HOLD
    on_sample_ratio_alarm: OnTrouble = OnTrouble.HOLD
    on_inconclusive: OnInconclusive = OnInconclusive.END
    after_holdback: AfterHoldback = AfterHoldback.GO_ON
    least_lift: float | None = None
    max_staleness: timedelta = timedelta(seconds=60)

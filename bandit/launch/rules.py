"""Rules for launch plans: each broken one with its field, its numbers and what would keep it."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Final

from bandit.experiment import Experiment
from bandit.launch.plan import LaunchPlan, Stage, StageKind
from bandit.launch.shares import reserve_of
from bandit.limits import FORGIVEN
from bandit.number_text import exact

SHORTEST_CYCLE: Final = timedelta(seconds=1)
LONGEST_CYCLE: Final = timedelta(days=90)
LONGEST_STAGE: Final = timedelta(days=400)
SHORTEST_STALENESS: Final = timedelta(seconds=1)
LONGEST_STALENESS: Final = timedelta(hours=1)
MOST_CYCLES: Final = 1_000
MOST_STEPS: Final = 100
_ORDER: Final = tuple(StageKind)
_PATH: Final = "launch"

Broken = tuple[str, str]
"""The path of a field, and the rule that it breaks."""


def broken_rules(experiment: Experiment) -> Iterator[Broken]:
    """Yield every rule of launches that an experiment breaks, with its field."""
    plan, limits = experiment.launch, experiment.limits
    if plan is None:
        if limits.champion_minimum_share:
            rule = "belongs to a launch; without one, name the champion in minimum_shares"
            yield "limits.champion_minimum_share", rule
        return
    if limits.warm_up_decisions or limits.warm_up_duration is not None:
        rule = "a launch has stages in place of a warm-up: leave warm_up_decisions and warm_up_duration out"
        yield "limits.warm_up_duration", rule
    if limits.champion_minimum_share == 1:
        yield "limits.champion_minimum_share", "1 must be below 1"
    broken = [*_stages_out_of_order(plan.stages), *_broken_times(plan)]
    for index, stage in enumerate(plan.stages):
        broken += [(f"{_PATH}.stages[{index}].{field}", rule) for field, rule in _broken_stage(stage)]
    if not broken:
        broken += [
            *_falling_shares(plan.stages),
            *_unmet_numbers(experiment, plan),
            *_no_room(experiment, plan),
        ]
    yield from broken


def _stages_out_of_order(stages: tuple[Stage, ...]) -> Iterator[Broken]:
    path = f"{_PATH}.stages"
    if not stages or stages[-1].kind is not StageKind.BANDIT:
        yield path, "the last stage must be of kind bandit, where the policy decides"
    for index, (before, stage) in enumerate(pairwise(stages), 1):
        if _ORDER.index(stage.kind) <= _ORDER.index(before.kind):
            rule = f"a {stage.kind} can't follow a {before.kind}: each once at most, in the order"
            yield f"{path}[{index}].kind", f"{rule} {', '.join(_ORDER)}"


def _broken_stage(stage: Stage) -> Iterator[Broken]:
    yield from _broken_shadow(stage)
    if stage.kind is StageKind.CANARY and not 0 < stage.share < 1:
        yield "share", f"a canary needs a share in (0, 1), got {exact(stage.share)}"
    elif stage.kind is not StageKind.CANARY and stage.share:
        yield "share", f"a {stage.kind} has none; {_WHERE[stage.kind]}"
    if stage.kind is not StageKind.RAMP and stage.shares:
        yield "shares", f"a {stage.kind} has none: they belong to a ramp"
    elif stage.kind is StageKind.RAMP and not 0 < len(stage.shares) <= MOST_STEPS:
        yield "shares", f"a ramp needs 1 to {MOST_STEPS} shares, got {len(stage.shares)}"
    for index, share in enumerate(stage.shares):
        if not 0 < share < 1:
            yield f"shares[{index}]", f"{exact(share)} must be in (0, 1)"
    if stage.whole_cycles > MOST_CYCLES:
        yield "whole_cycles", f"{stage.whole_cycles} must be at most {MOST_CYCLES}"
    for name in ("minimum_duration", "maximum_duration"):
        duration = getattr(stage, name)
        if duration is not None and not timedelta() < duration <= LONGEST_STAGE:
            yield name, f"{duration} must be more than zero and at most {LONGEST_STAGE.days} days"


def _broken_shadow(stage: Stage) -> Iterator[Broken]:
    """Yield what is wrong with the two fields that only a shadow has."""
    defaults = Stage(kind=stage.kind)
    for name in ("sample", "minimum_mirrored"):
        value = getattr(stage, name)
        if stage.kind is not StageKind.SHADOW and value != getattr(defaults, name):
            yield name, f"a {stage.kind} has none: it belongs to a shadow"
        elif not 0 < value <= 1:
            yield name, f"{exact(value)} must be in (0, 1]"


_WHERE: Final = {
    StageKind.SHADOW: "it never answers",
    StageKind.RAMP: "it has shares, a list",
    StageKind.BANDIT: "the policy decides",
}


def _broken_times(plan: LaunchPlan) -> Iterator[Broken]:
    if not SHORTEST_CYCLE <= plan.cycle <= LONGEST_CYCLE:
        yield (
            f"{_PATH}.cycle",
            f"{plan.cycle} must be at least 1 second and at most {LONGEST_CYCLE.days} days",
        )
    if not 1 <= plan.minimum_cycles <= MOST_CYCLES:
        yield f"{_PATH}.minimum_cycles", f"{plan.minimum_cycles} must be in [1, {MOST_CYCLES}]"
    if plan.least_lift is not None and not 0 < plan.least_lift < 1:
        yield f"{_PATH}.least_lift", f"{exact(plan.least_lift)} must be in (0, 1)"
    if not SHORTEST_STALENESS <= plan.max_staleness <= LONGEST_STALENESS:
        yield f"{_PATH}.max_staleness", f"{plan.max_staleness} must be at least 1 second and at most 1 hour"
    if plan.holdback is not None:
        if not 0 < plan.holdback.share < 1:
            yield f"{_PATH}.holdback.share", f"{exact(plan.holdback.share)} must be in (0, 1)"
        if not 1 <= plan.holdback.cycles <= MOST_CYCLES:
            yield f"{_PATH}.holdback.cycles", f"{plan.holdback.cycles} must be in [1, {MOST_CYCLES}]"


def _falling_shares(stages: tuple[Stage, ...]) -> Iterator[Broken]:
    """Yield the shares that do not rise from each step to the next."""
    last = 0.0
    for index, stage in enumerate(stages):
        path = f"{_PATH}.stages[{index}]"
        if stage.kind is StageKind.CANARY:
            last = stage.share
        for place, share in enumerate(stage.shares):
            if share <= last:
                yield (
                    f"{path}.shares[{place}]",
                    f"{exact(share)} must be more than the {exact(last)} before it",
                )
            last = share


def _unmet_numbers(experiment: Experiment, plan: LaunchPlan) -> Iterator[Broken]:
    """Yield what a stage asks for and can't get."""
    reward = next((each for each in experiment.metrics if each.name == experiment.reward_metric), None)
    for index, stage in enumerate(plan.stages):
        path = f"{_PATH}.stages[{index}]"
        if stage.kind is StageKind.SHADOW:
            if stage.minimum_outcomes and not any(metric.is_shadow for metric in experiment.metrics):
                rule = "needs a metric with shadow = true: only those are compared with the champion's"
                yield f"{path}.minimum_outcomes", rule
        elif stage.minimum_outcomes and reward is not None and reward.window is None:
            rule = f"needs a window on metric {reward.name!r}: without one, outcomes are never complete"
            yield f"{path}.minimum_outcomes", rule
        least = stage.least_duration(plan.cycle)
        if stage.kind is StageKind.BANDIT:
            least = max(least, plan.minimum_cycles * plan.cycle)
        if stage.maximum_duration is not None and stage.maximum_duration < least:
            rule = f"{stage.maximum_duration} is over before the stage can be: it takes at least {least}"
            yield f"{path}.maximum_duration", rule


def _no_room(experiment: Experiment, plan: LaunchPlan) -> Iterator[Broken]:
    """Yield what the champion's reserve and the floors leave no room for, even with a single challenger."""
    limits, champion = experiment.limits, experiment.champion
    reserve = reserve_of(limits, champion)
    floors = sorted(limits.floor_of(arm.id) for arm in experiment.arms if arm.id != champion)
    for index, stage in enumerate(plan.stages):
        path = f"{_PATH}.stages[{index}]"
        share = max((stage.share, *stage.shares))
        if stage.kind is StageKind.BANDIT and floors and reserve + floors[-1] > 1 + FORGIVEN:
            yield path, _sum_rule({"the champion's reserve": reserve, "a challenger's floor": floors[-1]})
        elif share + reserve > 1 + FORGIVEN:
            yield path, _sum_rule({"its largest share": share, "the champion's reserve": reserve})
        elif share > limits.maximum_share:
            yield (
                path,
                f"its largest share, {exact(share)}, is above limits.maximum_share, {limits.maximum_share:g}",
            )
    if floors and floors[-1] > limits.maximum_share + FORGIVEN:
        rule = f"a challenger's floor, {exact(floors[-1])}, is above it"
        yield "limits.maximum_share", f"{exact(limits.maximum_share)}: {rule}"
    if plan.holdback is not None:
        # After a promotion, the reserve is the winner's: that of the role, or its own floor if it is larger.
        other = floors[-1] if len(floors) > 1 else 0.0
        winner = floors[-2] if len(floors) > 1 else max(floors, default=0.0)
        reserve = max(limits.champion_minimum_share, winner)
        parts = {"the holdback": plan.holdback.share, "the champion's reserve": reserve}
        parts |= {"another challenger's floor": other} if other else {}
        if sum(parts.values()) > 1 + FORGIVEN:
            yield f"{_PATH}.holdback.share", _sum_rule(parts)


def _sum_rule(parts: dict[str, float]) -> str:
    named = " and ".join(f"{name}, {exact(part)}" for name, part in parts.items())
    return f"{named}, sum to {sum(parts.values()):.6g}; together they must be at most 1"

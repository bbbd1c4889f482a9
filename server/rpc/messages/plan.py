"""Conversion of launch plans between messages and values: `to_plan` and `from_plan` are inverses."""

import enum
from collections.abc import Mapping
from typing import Final, TypeVar

from bandit.launch.plan import (
    AfterHoldback,
    GuardrailAction,
    Holdback,
    LaunchPlan,
    Mode,
    OnInconclusive,
    OnTrouble,
    Stage,
    StageKind,
)
from bandit.v1 import launch_pb2
from server.rpc.messages.reader import Reader
from server.rpc.messages.times import to_duration

_Choice = TypeVar("_Choice", bound=enum.StrEnum)
_PATH: Final = "launch"
_DEFAULTS: Final = LaunchPlan(stages=())
MODES: Final = {mode: launch_pb2.LaunchMode.Value(f"LAUNCH_MODE_{mode.value.upper()}") for mode in Mode}
_ACTIONS: Final = {
    action: launch_pb2.GuardrailAction.Value(f"GUARDRAIL_ACTION_{action.value.upper()}")
    for action in GuardrailAction
}
_TROUBLES: Final = {
    trouble: launch_pb2.OnTrouble.Value(f"ON_TROUBLE_{trouble.value.upper()}") for trouble in OnTrouble
}
_INCONCLUSIVE: Final = {
    choice: launch_pb2.OnInconclusive.Value(f"ON_INCONCLUSIVE_{choice.value.upper()}")
    for choice in OnInconclusive
}
_AFTER: Final = {
    choice: launch_pb2.AfterHoldback.Value(f"AFTER_HOLDBACK_{choice.value.upper()}")
    for choice in AfterHoldback
}
_KINDS: Final = {
    kind: launch_pb2.LaunchStageKind.Value(f"LAUNCH_STAGE_KIND_{kind.value.upper()}") for kind in StageKind
}
_KINDS_BACK: Final[Mapping[int, StageKind]] = {number: kind for kind, number in _KINDS.items()}


def to_plan(reader: Reader, message: launch_pb2.LaunchPlan) -> LaunchPlan:
    """Return the plan in a message; what can't be read is noted among the reader's violations."""
    cycle = reader.duration(f"{_PATH}.cycle", message, "cycle")
    max_staleness = reader.duration(f"{_PATH}.max_staleness", message, "max_staleness")
    return LaunchPlan(
        stages=tuple(_to_stage(reader, index, stage) for index, stage in enumerate(message.stages)),
        mode=_choice(reader, "mode", message.mode, MODES, Mode.RECOMMEND),
        cycle=_DEFAULTS.cycle if cycle is None else cycle,
        minimum_cycles=(
            message.minimum_cycles if message.HasField("minimum_cycles") else _DEFAULTS.minimum_cycles
        ),
        holdback=(
            Holdback(share=message.holdback.share, cycles=message.holdback.cycles or 1)
            if message.HasField("holdback")
            else None
        ),
        guardrail_action=_choice(
            reader, "guardrail_action", message.guardrail_action, _ACTIONS, GuardrailAction.ROLLBACK
        ),
        on_no_data=_choice(reader, "on_no_data", message.on_no_data, _TROUBLES, OnTrouble.HOLD),
        on_sample_ratio_alarm=_choice(
            reader, "on_sample_ratio_alarm", message.on_sample_ratio_alarm, _TROUBLES, OnTrouble.HOLD
        ),
        on_inconclusive=_choice(
            reader, "on_inconclusive", message.on_inconclusive, _INCONCLUSIVE, OnInconclusive.END
        ),
        least_lift=message.least_lift if message.HasField("least_lift") else None,
        after_holdback=_choice(reader, "after_holdback", message.after_holdback, _AFTER, AfterHoldback.GO_ON),
        max_staleness=_DEFAULTS.max_staleness if max_staleness is None else max_staleness,
    )


def from_plan(plan: LaunchPlan) -> launch_pb2.LaunchPlan:
    """Return the message of a plan; what is at its default is left out where that means the same."""
    message = launch_pb2.LaunchPlan(
        stages=[_from_stage(stage) for stage in plan.stages],
        mode=MODES[plan.mode],
        cycle=to_duration(plan.cycle),
        minimum_cycles=plan.minimum_cycles,
        least_lift=plan.least_lift,
    )
    if plan.holdback is not None:
        message.holdback.share, message.holdback.cycles = plan.holdback.share, plan.holdback.cycles
    if plan.guardrail_action is not _DEFAULTS.guardrail_action:
        message.guardrail_action = _ACTIONS[plan.guardrail_action]
    if plan.on_no_data is not _DEFAULTS.on_no_data:
        message.on_no_data = _TROUBLES[plan.on_no_data]
    if plan.on_sample_ratio_alarm is not _DEFAULTS.on_sample_ratio_alarm:
        message.on_sample_ratio_alarm = _TROUBLES[plan.on_sample_ratio_alarm]
    if plan.on_inconclusive is not _DEFAULTS.on_inconclusive:
        message.on_inconclusive = _INCONCLUSIVE[plan.on_inconclusive]
    if plan.after_holdback is not _DEFAULTS.after_holdback:
        message.after_holdback = _AFTER[plan.after_holdback]
    if plan.max_staleness != _DEFAULTS.max_staleness:
        message.max_staleness.CopyFrom(to_duration(plan.max_staleness))
    return message


def _to_stage(reader: Reader, index: int, message: launch_pb2.LaunchStage) -> Stage:
    path = f"{_PATH}.stages[{index}]"
    kind = reader.enum(f"{path}.kind", message.kind, _KINDS_BACK, f"must be one of {', '.join(StageKind)}")
    default = Stage(kind=kind)
    return Stage(
        kind=kind,
        sample=message.sample if message.HasField("sample") else default.sample,
        minimum_mirrored=(
            message.minimum_mirrored if message.HasField("minimum_mirrored") else default.minimum_mirrored
        ),
        share=message.share,
        shares=tuple(message.shares),
        minimum_decisions=message.minimum_decisions,
        minimum_outcomes=message.minimum_outcomes,
        minimum_duration=reader.duration(f"{path}.minimum_duration", message, "minimum_duration"),
        whole_cycles=message.whole_cycles,
        approval=message.approval,
        maximum_duration=reader.duration(f"{path}.maximum_duration", message, "maximum_duration"),
    )


def _from_stage(stage: Stage) -> launch_pb2.LaunchStage:
    message = launch_pb2.LaunchStage(
        kind=_KINDS[stage.kind],
        share=stage.share,
        shares=stage.shares,
        minimum_decisions=stage.minimum_decisions,
        minimum_outcomes=stage.minimum_outcomes,
        whole_cycles=stage.whole_cycles,
        approval=stage.approval,
    )
    if stage.kind is StageKind.SHADOW:
        message.sample, message.minimum_mirrored = stage.sample, stage.minimum_mirrored
    if stage.minimum_duration is not None:
        message.minimum_duration.CopyFrom(to_duration(stage.minimum_duration))
    if stage.maximum_duration is not None:
        message.maximum_duration.CopyFrom(to_duration(stage.maximum_duration))
    return message


def _choice(
    reader: Reader, name: str, number: int, known: Mapping[_Choice, int], default: _Choice
) -> _Choice:
    back = {0: default, **{value: choice for choice, value in known.items()}}
    return reader.enum(f"{_PATH}.{name}", number, back, f"must be one of {', '.join(known)}")

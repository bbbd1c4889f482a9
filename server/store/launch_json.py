"""A launch's plan and state as the JSON that an experiment's document holds, and back."""

import dataclasses
import enum
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeAlias

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
from bandit.launch.state import ArmLaunch, ArmState, Hypothesis, Launch, OperatorHold

# What json.loads returns: keys and types were written by this module, so they are taken at their word.
_Json: TypeAlias = dict[str, Any]
Known: TypeAlias = Callable[[type[Any], _Json, str], _Json]
"""Returns the part of a body that a dataclass has fields for, and notes the rest under a path."""


def to_json(value: object) -> Any:
    """Return a plan or a state as JSON: durations in seconds, instants in ISO 8601, enums by their value."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {key: to_json(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def plan_from_json(body: _Json, known: Known) -> LaunchPlan:
    """Return the plan of its JSON."""
    fields = known(LaunchPlan, body, "launch.plan")
    return LaunchPlan(
        **fields
        | {
            "stages": _stages(body["stages"], known, "launch.plan"),
            "mode": Mode(body["mode"]),
            "cycle": timedelta(seconds=body["cycle"]),
            "holdback": _holdback(body["holdback"], known),
            "guardrail_action": GuardrailAction(body["guardrail_action"]),
            "on_no_data": OnTrouble(body["on_no_data"]),
            "on_sample_ratio_alarm": OnTrouble(body["on_sample_ratio_alarm"]),
            "on_inconclusive": OnInconclusive(body["on_inconclusive"]),
            "after_holdback": AfterHoldback(body["after_holdback"]),
            "max_staleness": timedelta(seconds=body["max_staleness"]),
        }
    )


def state_from_json(body: _Json, known: Known) -> Launch:
    """Return the state of its JSON."""
    arms = {arm_id: _arm(arm, known, f"launch.state.arms.{arm_id}") for arm_id, arm in body["arms"].items()}
    hypotheses = tuple(
        Hypothesis(**known(Hypothesis, each, f"launch.state.hypotheses[{index}]"))
        for index, each in enumerate(body["hypotheses"])
    )
    return Launch(
        **known(Launch, body, "launch.state")
        | {"arms": arms, "holdback": _holdback(body["holdback"], known), "hypotheses": hypotheses}
    )


def _arm(body: _Json, known: Known, path: str) -> ArmLaunch:
    hold = body["hold"]
    return ArmLaunch(
        **known(ArmLaunch, body, path)
        | {
            "state": ArmState(body["state"]),
            "entered_at": datetime.fromisoformat(body["entered_at"]),
            "stages": _stages(body["stages"], known, path),
            "hold": None
            if hold is None
            else OperatorHold(**known(OperatorHold, hold, path) | {"at": datetime.fromisoformat(hold["at"])}),
        }
    )


def _stages(bodies: list[_Json], known: Known, path: str) -> tuple[Stage, ...]:
    return tuple(
        Stage(
            **known(Stage, body, f"{path}.stages[{index}]")
            | {
                "kind": StageKind(body["kind"]),
                "shares": tuple(body["shares"]),
                "minimum_duration": _duration(body["minimum_duration"]),
                "maximum_duration": _duration(body["maximum_duration"]),
            }
        )
        for index, body in enumerate(bodies)
    )


def _holdback(body: _Json | None, known: Known) -> Holdback | None:
    return None if body is None else Holdback(**known(Holdback, body, "launch.holdback"))


def _duration(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)

"""Arguments and results of the client: frozen values, no protobuf."""

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum, auto
from typing import TypeAlias

from google.protobuf.struct_pb2 import Struct, Value

from bandit.client.errors import CallError
from bandit.wrong_types import wrong_type

JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
"""A JSON value. The service's numbers are floats, whole ones too: `{"top_k": 10}` comes back as 10.0."""

_SCALARS = frozenset({"bool_value", "number_value", "string_value"})


class Reason(StrEnum):
    """Why this arm is the answer."""

    POLICY = auto()
    """Chosen by the epoch's shares: by the unit's hash, or by chance without a unit."""
    WARM_UP = auto()
    """As POLICY, and the arm's share was set by its warm-up."""
    PINNED = auto()
    """The previous decision still holds and is returned again."""
    PAUSED = auto()
    """The experiment is paused: the champion."""
    CONCLUDED = auto()
    """The experiment is concluded: the winner."""
    STALE = auto()
    """The service has lost its store for too long: the champion."""
    NO_ELIGIBLE_ARM = auto()
    """None of the eligible arms is in service: the champion, which may not be eligible either."""
    FALLBACK = auto()
    """No answer from the service: the caller's own fallback. `Choice.fallback_cause` says why."""
    UNRECOGNIZED = auto()
    """A reason of a newer service."""


class OutcomeResult(StrEnum):
    """The fate of one outcome."""

    RECORDED = auto()
    """New, and counted."""
    LATE = auto()
    """New, but after its window: stored and reported, and has no influence on shares."""
    DUPLICATE = auto()
    """Recorded before: nothing changed."""
    REVISED = auto()
    """Replaced the value of a lower revision."""
    SUPERSEDED = auto()
    """A higher revision is stored: nothing changed."""
    FALLBACK = auto()
    """Not sent: the arm was the caller's fallback, for which there is no decision."""
    UNRECOGNIZED = auto()
    """A result of a newer service."""


@dataclass(frozen=True, slots=True)
class Fallback:
    """The arm to serve when the service does not answer.

    Attributes:
        arm: what the caller serves without an answer; any string that is not empty.
        payload: data returned with it, in the shape of the arms' own payload.
    """

    arm: str
    payload: Mapping[str, JsonValue] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not isinstance(self.arm, str):
            raise wrong_type("a fallback's arm", self.arm, "a str")
        if not self.arm:
            raise ValueError("a fallback's arm must not be empty")
        if not isinstance(self.payload, Mapping):
            raise wrong_type("a fallback's payload", self.payload, "a mapping")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowDecision:
    """A request that an arm sees in shadow: let its model answer, and show the answer to nobody.

    Attributes:
        arm: the id of the arm.
        decision_id: the signed decision, which the rewards of that answer name.
        propensity: the probability with which the arm sees a decision of the champion, in (0, 1].
        model_uri: the URI of the arm's model.
        payload_source: the arm's own data as received; read `payload` instead.
    """

    arm: str
    decision_id: str
    propensity: float = 1.0
    model_uri: str = ""
    payload_source: Struct | Mapping[str, JsonValue] = field(default_factory=dict, repr=False, hash=False)

    @property
    def payload(self) -> dict[str, JsonValue]:
        """The arm's own data as a plain dict, converted at each call; all numbers are floats."""
        return _to_dict(self.payload_source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The arm that serves, and the decision that a reward names.

    Attributes:
        arm: the id of the chosen arm.
        decision_id: the signed decision, at most 128 characters; empty for a fallback.
        propensity: the probability with which this arm was chosen, in (0, 1]; 1 where the answer was certain.
        reason: why this arm is the answer.
        model_uri: the URI of the arm's model; empty for a fallback.
        epoch: the number of the epoch whose shares decided, counted from 1; 0 for a fallback.
        snapshot_age: how long ago the service last read its store; 0 for a fallback.
        fallback_cause: why the fallback was served; None if the service answered.
        shadows: who sees the request in shadow, beside a new decision by which the champion answers.
        payload_source: the arm's own data as received; read `payload` instead.
    """

    arm: str
    decision_id: str = ""
    propensity: float = 1.0
    reason: Reason = Reason.POLICY
    model_uri: str = ""
    epoch: int = 0
    snapshot_age: timedelta = timedelta(0)
    fallback_cause: CallError | None = None
    shadows: tuple[ShadowDecision, ...] = ()
    payload_source: Struct | Mapping[str, JsonValue] = field(default_factory=dict, repr=False, hash=False)
    _payload: dict[str, JsonValue] | None = field(
        default=None, init=False, repr=False, compare=False
    )  # converted when first read: a large payload costs more than the rest of a choice

    @property
    def is_fallback(self) -> bool:
        """True if the arm is the caller's fallback: a reward for it is a no-op."""
        return self.reason is Reason.FALLBACK

    @property
    def payload(self) -> dict[str, JsonValue]:
        """The arm's own data as a plain dict, which the caller may change; all numbers are floats."""
        payload = self._payload
        if payload is None:
            payload = _to_dict(self.payload_source)
            object.__setattr__(self, "_payload", payload)
        return payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One of the questions of `batch_choose`; the attributes are the arguments of `choose`."""

    experiment: str
    fallback: Fallback
    unit: str | None = None
    attributes: Mapping[str, str] | None = field(default=None, hash=False)
    eligible_arms: Collection[str] | None = field(default=None, hash=False)
    previous: Choice | str | None = None


Rewarded: TypeAlias = Choice | ShadowDecision | str
"""What a reward is for: an answer, what an arm saw in shadow, or a decision's id as text."""


@dataclass(frozen=True, slots=True)
class Reward:
    """One of the rewards of `batch_reward`; the attributes are the arguments of `reward`."""

    decision: Rewarded
    outcomes: Mapping[str, float] = field(hash=False)
    revision: int = 0


@dataclass(frozen=True, slots=True)
class RewardResult:
    """The fate of the outcomes of one decision.

    Attributes:
        metric_to_result: the same metrics as in the reward.
        is_fallback: True if nothing was sent, because the arm was the caller's fallback.
    """

    metric_to_result: Mapping[str, OutcomeResult] = field(hash=False)
    is_fallback: bool = False


def _to_dict(source: Struct | Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    return _struct_to_dict(source) if isinstance(source, Struct) else copy.deepcopy(dict(source))


def _struct_to_dict(struct: Struct) -> dict[str, JsonValue]:
    fields = struct.fields
    return {name: _value_to_json(fields[name]) for name in fields}


def _value_to_json(value: Value) -> JsonValue:
    kind = value.WhichOneof("kind")
    if kind in _SCALARS:
        scalar: JsonValue = getattr(value, kind)
        return scalar
    if kind == "struct_value":
        return _struct_to_dict(value.struct_value)
    if kind == "list_value":
        return [_value_to_json(each) for each in value.list_value.values]
    return None

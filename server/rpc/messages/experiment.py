"""Conversion of experiments between messages and values: `to_experiment` and `to_message` are inverses.

Enums, policies and priors are found by their names, which the protos and the library share.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

from google.protobuf import json_format

from bandit.experiment import (
    DEFAULT_MAX_DECISION_AGE,
    KIND_OF,
    AnalysisUnit,
    Arm,
    Experiment,
    JsonValue,
    PriorFrom,
)
from bandit.facts import Epoch
from bandit.limits import Limits
from bandit.metric import MARGINS, Direction, Margin, Metric, MetricKind, Role
from bandit.policies import POLICIES, DeclaredPolicy, ThompsonSampling
from bandit.posteriors.moments import OutcomeMoments
from bandit.posteriors.priors import PRIORS, Prior
from bandit.v1 import experiment_pb2
from bandit.validation import Violation, shown
from server.rpc.messages.plan import from_plan, to_plan
from server.rpc.messages.reader import Reader
from server.rpc.messages.times import to_duration, to_timestamp
from server.store.records import LiveExperiment, State

STATES: Final = {state: experiment_pb2.State.Value(f"STATE_{state.name}") for state in State}
KINDS: Final = {kind: experiment_pb2.MetricKind.Value(f"METRIC_KIND_{kind.name}") for kind in MetricKind}
DIRECTIONS: Final = {
    direction: experiment_pb2.Direction.Value(f"DIRECTION_{direction.name}") for direction in Direction
}
ROLES: Final[Mapping[Role | None, experiment_pb2.MetricRole.ValueType]] = {
    None: experiment_pb2.METRIC_ROLE_UNSPECIFIED,
    **{role: experiment_pb2.MetricRole.Value(f"METRIC_ROLE_{role.name}") for role in Role},
}
ANALYSIS_UNITS: Final = {
    unit: experiment_pb2.AnalysisUnit.Value(f"ANALYSIS_UNIT_{unit.name}") for unit in AnalysisUnit
}
_KINDS_BACK: Final[Mapping[int, MetricKind]] = {number: kind for kind, number in KINDS.items()}
_DIRECTIONS_BACK: Final[Mapping[int, Direction]] = {
    experiment_pb2.DIRECTION_UNSPECIFIED: Direction.MAXIMIZE,
    **{number: direction for direction, number in DIRECTIONS.items()},
}
_ROLES_BACK: Final = {number: role for role, number in ROLES.items()}
_ANALYSIS_UNITS_BACK: Final[Mapping[int, AnalysisUnit]] = {
    experiment_pb2.ANALYSIS_UNIT_UNSPECIFIED: AnalysisUnit.DECISION,
    **{number: unit for unit, number in ANALYSIS_UNITS.items()},
}
_ETAG: Final = re.compile(r"r([1-9][0-9]{0,9})", re.ASCII)


def to_experiment(message: experiment_pb2.Experiment, new_salt: bytes) -> Experiment:
    """Return the declaration in a message, with `new_salt` if it has no salt.

    Raises:
        InvalidInputError: Some values can't be read. Rules between fields are checked by the library.
    """
    reader = Reader()
    metrics = tuple(_to_metric(reader, index, metric) for index, metric in enumerate(message.metrics))
    windows = [metric.window for metric in metrics if metric.window is not None]
    default_age = max(DEFAULT_MAX_DECISION_AGE, 2 * max(windows, default=timedelta()))
    max_decision_age = reader.duration("max_decision_age", message, "max_decision_age")
    experiment = Experiment(
        name=message.name,
        description=message.description,
        arms=tuple(_to_arm(reader, index, arm) for index, arm in enumerate(message.arms)),
        champion=message.champion,
        policy=_to_policy(reader, message),
        metrics=metrics,
        reward_metric=message.reward_metric,
        limits=_to_limits(reader, message.limits),
        half_life=reader.duration("half_life", message, "half_life"),
        lookback=reader.duration("lookback", message, "lookback"),
        max_decision_age=default_age if max_decision_age is None else max_decision_age,
        salt=_to_salt(reader, message.salt) if message.salt else new_salt,
        analysis_unit=reader.enum(
            "analysis_unit",
            message.analysis_unit,
            _ANALYSIS_UNITS_BACK,
            f"{message.analysis_unit} is not an analysis unit",
        ),
        launch=to_plan(reader, message.launch) if message.HasField("launch") else None,
    )
    reader.require_valid()
    return experiment


def to_message(live: LiveExperiment) -> experiment_pb2.Experiment:
    """Return the message of an experiment with its state."""
    record = live.record
    message = declaration_to_message(record.experiment)
    message.taken_priors.extend(_to_taken_priors(record.taken_priors))
    message.state = STATES[record.state]
    message.winner = record.winner or ""
    message.etag = to_etag(record.revision)
    message.create_time.CopyFrom(to_timestamp(record.created_at))
    message.update_time.CopyFrom(to_timestamp(record.updated_at))
    if record.started_at is not None:
        message.start_time.CopyFrom(to_timestamp(record.started_at))
    if record.concluded_at is not None:
        message.conclude_time.CopyFrom(to_timestamp(record.concluded_at))
    if live.epoch is not None:
        message.epoch.CopyFrom(to_epoch(live.epoch, record.arm_numbers))
    return message


def _to_taken_priors(
    taken: Mapping[str, Mapping[str, OutcomeMoments]],
) -> Iterator[experiment_pb2.TakenPrior]:
    for arm, of_metric in taken.items():
        for metric, sums in of_metric.items():
            variance = sums.centred_squares / sums.n
            yield experiment_pb2.TakenPrior(
                arm=arm, metric=metric, outcomes=sums.n, mean=sums.mean, variance=variance
            )


def declaration_to_message(experiment: Experiment) -> experiment_pb2.Experiment:
    """Return the message of a declaration, without state."""
    message = experiment_pb2.Experiment(
        name=experiment.name,
        description=experiment.description,
        arms=[_from_arm(arm) for arm in experiment.arms],
        champion=experiment.champion,
        policy=experiment_pb2.Policy(**_from_kind(experiment.policy)),
        metrics=[_from_metric(metric) for metric in experiment.metrics],
        reward_metric=experiment.reward_metric,
        limits=_from_limits(experiment.limits),
        max_decision_age=to_duration(experiment.max_decision_age),
        salt=experiment.salt.hex(),
        analysis_unit=ANALYSIS_UNITS[experiment.analysis_unit],
    )
    if experiment.half_life is not None:
        message.half_life.CopyFrom(to_duration(experiment.half_life))
    if experiment.lookback is not None:
        message.lookback.CopyFrom(to_duration(experiment.lookback))
    if experiment.launch is not None:
        message.launch.CopyFrom(from_plan(experiment.launch))
    return message


def to_epoch(epoch: Epoch, arm_numbers: Mapping[str, int]) -> experiment_pb2.Epoch:
    """Return the message of an epoch, with arms by id."""
    ids = {number: arm_id for arm_id, number in arm_numbers.items()}
    return experiment_pb2.Epoch(
        number=epoch.number,
        start_time=to_timestamp(epoch.started_at),
        shares={ids[number]: share for number, share in epoch.shares.items()},
        warming_up=sorted(ids[number] for number in epoch.warming_up),
        shadows={ids[number]: sample for number, sample in epoch.shadows.items()},
    )


def to_etag(revision: int) -> str:
    """Return the etag of a revision."""
    return f"r{revision}"


def to_revision(etag: str) -> int | None:
    """Return the revision of an etag; -1 for one that no revision has, None for an empty one."""
    if not etag:
        return None
    match = _ETAG.fullmatch(etag)
    return -1 if match is None else int(match[1])


def _to_salt(reader: Reader, salt: str) -> bytes:
    def make() -> bytes:
        if len(salt) != 32 or not salt.isascii():  # noqa: PLR2004 - given in the text
            raise ValueError(f"must be 32 hexadecimal digits, got {shown(salt)}")
        return bytes.fromhex(salt)

    return reader.build("salt", make, bytes(16))


def _to_arm(reader: Reader, index: int, message: experiment_pb2.Arm) -> Arm:
    payload: dict[str, JsonValue] = {}
    try:
        payload = json_format.MessageToDict(message.payload)
    except ValueError:
        reader.violations.append(Violation(f"arms[{index}].payload", "numbers must be finite"))
    return Arm(
        id=message.id,
        model_uri=message.model_uri,
        digest=message.digest,
        payload=payload,
        is_taken_out=message.taken_out,
        prior_from=(
            PriorFrom(message.prior_from.arm, message.prior_from.weight)
            if message.HasField("prior_from")
            else None
        ),
    )


def _from_arm(arm: Arm) -> experiment_pb2.Arm:
    message = experiment_pb2.Arm(
        id=arm.id, model_uri=arm.model_uri, digest=arm.digest, taken_out=arm.is_taken_out
    )
    if arm.prior_from is not None:
        message.prior_from.CopyFrom(experiment_pb2.PriorFrom(**dataclasses.asdict(arm.prior_from)))
    if arm.payload:
        json_format.ParseDict(dict(arm.payload), message.payload)
    return message


def _to_policy(reader: Reader, message: experiment_pb2.Experiment) -> DeclaredPolicy:
    """Return the policy; Thompson sampling if the message has none."""
    policy = reader.kind("policy", message.policy, POLICIES) if message.HasField("policy") else None
    return policy or ThompsonSampling()


def _from_kind(value: DeclaredPolicy | Prior) -> dict[str, Any]:
    """Return the arguments of the message with a policy or prior."""
    return {KIND_OF[type(value)]: dataclasses.asdict(value)}


def _to_metric(reader: Reader, index: int, message: experiment_pb2.Metric) -> Metric:
    path = f"metrics[{index}]"
    kind = reader.enum(f"{path}.kind", message.kind, _KINDS_BACK, f"must be {_either(MetricKind)}")
    direction = reader.enum(
        f"{path}.direction", message.direction, _DIRECTIONS_BACK, f"must be {_either(Direction)}"
    )
    role = _to_role(reader, f"{path}.role", message)
    is_default_range = kind is MetricKind.BINARY and message.minimum == message.maximum == 0
    return Metric(
        name=message.name,
        kind=kind,
        direction=direction,
        minimum=message.minimum,
        maximum=1.0 if is_default_range else message.maximum,
        clip=message.clip,
        window=reader.duration(f"{path}.window", message, "window"),
        default_value=message.default_value if message.HasField("default_value") else None,
        is_guardrail=role is Role.GUARDRAIL,
        prior=reader.kind(f"{path}.prior", message.prior, PRIORS) if message.HasField("prior") else None,
        is_signal=role is Role.SIGNAL,
        worse_by=_to_margin(reader, f"{path}.worse_by", message),
        is_shadow=message.shadow,
    )


def _to_role(reader: Reader, field: str, message: experiment_pb2.Metric) -> Role | None:
    """Return the role that `role` and the older `guardrail` name; a violation where they disagree."""
    if message.role not in _ROLES_BACK:
        reader.violations.append(Violation(field, f"must be {_either(Role)}"))
        return None
    role = _ROLES_BACK[message.role]
    if message.guardrail and role is not None and role is not Role.GUARDRAIL:
        rule = f"{role} contradicts guardrail = true, which is the role guardrail; leave one of them out"
        reader.violations.append(Violation(field, rule))
    return Role.GUARDRAIL if message.guardrail else role


def _to_margin(reader: Reader, field: str, message: experiment_pb2.Metric) -> Margin | None:
    if not message.HasField("worse_by"):
        return None
    name = message.worse_by.WhichOneof("kind")
    if name is None:
        reader.violations.append(Violation(field, f"must be one of {', '.join(MARGINS)}"))
        return None
    return MARGINS[name](getattr(message.worse_by, name))


def to_margin_message(margin: Margin | None) -> experiment_pb2.Margin | None:
    """Return the message of a margin, if there is one."""
    return None if margin is None else experiment_pb2.Margin(**dataclasses.asdict(margin))


def _from_metric(metric: Metric) -> experiment_pb2.Metric:
    message = experiment_pb2.Metric(
        name=metric.name,
        kind=KINDS[metric.kind],
        direction=DIRECTIONS[metric.direction],
        minimum=metric.minimum,
        maximum=metric.maximum,
        clip=metric.clip,
        guardrail=metric.is_guardrail,
        role=ROLES[metric.role],
        worse_by=to_margin_message(metric.worse_by),
        shadow=metric.is_shadow,
        default_value=metric.default_value,
    )
    if metric.window is not None:
        message.window.CopyFrom(to_duration(metric.window))
    if metric.prior is not None:
        message.prior.CopyFrom(experiment_pb2.Prior(**_from_kind(metric.prior)))
    return message


def _either(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}"


def _to_limits(reader: Reader, message: experiment_pb2.Limits) -> Limits:
    duration = reader.duration("limits.warm_up_duration", message, "warm_up_duration")
    return reader.build(
        "limits",
        lambda: Limits(
            minimum_share=message.minimum_share,
            minimum_shares=dict(message.minimum_shares),
            maximum_share=message.maximum_share if message.HasField("maximum_share") else 1.0,
            maximum_step_per_hour=(
                message.maximum_step_per_hour if message.HasField("maximum_step_per_hour") else None
            ),
            warm_up_decisions=message.warm_up_decisions,
            warm_up_duration=duration,
            champion_minimum_share=message.champion_minimum_share,
        ),
        Limits(),
    )


def _from_limits(limits: Limits) -> experiment_pb2.Limits:
    message = experiment_pb2.Limits(
        minimum_share=limits.minimum_share,
        minimum_shares=limits.minimum_shares,
        warm_up_decisions=limits.warm_up_decisions,
        maximum_step_per_hour=limits.maximum_step_per_hour,
        champion_minimum_share=limits.champion_minimum_share,
    )
    if limits.maximum_share < 1:
        message.maximum_share = limits.maximum_share
    if limits.warm_up_duration is not None:
        message.warm_up_duration.CopyFrom(to_duration(limits.warm_up_duration))
    return message

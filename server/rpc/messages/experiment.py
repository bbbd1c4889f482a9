"""Experiments between wire and domain: `to_experiment` and `to_message` are inverse to each other."""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final, TypeVar, assert_never

from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from bandit.experiment import (
    DEFAULT_MAX_DECISION_AGE,
    AnalysisUnit,
    Arm,
    DeclaredPolicy,
    Experiment,
    JsonValue,
    WeightedSplit,
)
from bandit.facts import Epoch
from bandit.limits import Limits
from bandit.metric import Direction, Metric, MetricKind
from bandit.policies import EpsilonGreedy, ThompsonSampling
from bandit.posteriors.priors import BetaPrior, GammaPrior, NormalInverseGammaPrior, Prior
from bandit.v1 import experiment_pb2
from bandit.validation import Violation, shown
from server.rpc.messages.times import to_duration, to_timestamp
from server.services.errors import InvalidInputError
from server.store.records import LiveExperiment, State

STATES: Final = {
    State.DRAFT: experiment_pb2.STATE_DRAFT,
    State.RUNNING: experiment_pb2.STATE_RUNNING,
    State.PAUSED: experiment_pb2.STATE_PAUSED,
    State.CONCLUDED: experiment_pb2.STATE_CONCLUDED,
}
KINDS: Final = {
    MetricKind.BINARY: experiment_pb2.METRIC_KIND_BINARY,
    MetricKind.REAL: experiment_pb2.METRIC_KIND_REAL,
    MetricKind.COUNT: experiment_pb2.METRIC_KIND_COUNT,
}
DIRECTIONS: Final = {
    Direction.MAXIMIZE: experiment_pb2.DIRECTION_MAXIMIZE,
    Direction.MINIMIZE: experiment_pb2.DIRECTION_MINIMIZE,
}
ANALYSIS_UNITS: Final = {
    AnalysisUnit.DECISION: experiment_pb2.ANALYSIS_UNIT_DECISION,
    AnalysisUnit.UNIT: experiment_pb2.ANALYSIS_UNIT_UNIT,
}
_KINDS_BACK: Final = {number: kind for kind, number in KINDS.items()}
_DIRECTIONS_BACK: Final = {
    experiment_pb2.DIRECTION_UNSPECIFIED: Direction.MAXIMIZE,
    **{number: direction for direction, number in DIRECTIONS.items()},
}
_ANALYSIS_UNITS_BACK: Final[Mapping[int, AnalysisUnit]] = {
    experiment_pb2.ANALYSIS_UNIT_UNSPECIFIED: AnalysisUnit.DECISION,
    **{number: unit for unit, number in ANALYSIS_UNITS.items()},
}
_ETAG: Final = re.compile(r"r([1-9][0-9]{0,9})", re.ASCII)
_Built = TypeVar("_Built")


class Reader:
    """Turns messages into values, and collects what is wrong with them instead of stopping at the first."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []

    def build(self, field: str, make: Callable[[], _Built], otherwise: _Built) -> _Built:
        """What `make` returns; if it raises ValueError, notes that for `field` and returns `otherwise`."""
        try:
            return make()
        except ValueError as error:
            self.violations.append(Violation(field, str(error)))
            return otherwise

    def duration(self, field: str, message: Message, name: str) -> timedelta | None:
        """The duration in a field of `message`; None if it is not set."""
        if not message.HasField(name):
            return None
        duration: Duration = getattr(message, name)
        try:
            return duration.ToTimedelta()
        except (ValueError, OverflowError):
            self.violations.append(Violation(field, "is not a valid duration"))
            return None

    def require_valid(self) -> None:
        """Raises InvalidInputError if anything was wrong."""
        if self.violations:
            raise InvalidInputError(self.violations)


def to_experiment(message: experiment_pb2.Experiment, new_salt: bytes) -> Experiment:
    """The declaration in a message; `new_salt` if it has no salt.

    Raises:
        InvalidInputError: Some values can't be read. Rules between fields are the domain's to check.
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
        policy=_to_policy(reader, message.policy),
        metrics=metrics,
        reward_metric=message.reward_metric,
        limits=_to_limits(reader, message.limits),
        half_life=reader.duration("half_life", message, "half_life"),
        lookback=reader.duration("lookback", message, "lookback"),
        max_decision_age=default_age if max_decision_age is None else max_decision_age,
        salt=_to_salt(reader, message.salt) if message.salt else new_salt,
        analysis_unit=_to_analysis_unit(reader, message.analysis_unit),
    )
    reader.require_valid()
    return experiment


def to_message(live: LiveExperiment) -> experiment_pb2.Experiment:
    """An experiment with its life, as it is handed out."""
    record = live.record
    message = declaration_to_message(record.experiment)
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


def declaration_to_message(experiment: Experiment) -> experiment_pb2.Experiment:
    """What was declared, without its life."""
    message = experiment_pb2.Experiment(
        name=experiment.name,
        description=experiment.description,
        arms=[_from_arm(arm) for arm in experiment.arms],
        champion=experiment.champion,
        policy=_from_policy(experiment.policy),
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
    return message


def to_epoch(epoch: Epoch, arm_numbers: Mapping[str, int]) -> experiment_pb2.Epoch:
    """An epoch, with arms by their ids."""
    ids = {number: arm_id for arm_id, number in arm_numbers.items()}
    return experiment_pb2.Epoch(
        number=epoch.number,
        start_time=to_timestamp(epoch.started_at),
        shares={ids[number]: share for number, share in epoch.shares.items()},
        warming_up=sorted(ids[number] for number in epoch.warming_up),
    )


def to_etag(revision: int) -> str:
    """The etag of a revision."""
    return f"r{revision}"


def to_revision(etag: str) -> int | None:
    """The revision of an etag, -1 for one that no revision has; None for an empty one."""
    if not etag:
        return None
    match = _ETAG.fullmatch(etag)
    return -1 if match is None else int(match[1])


def _to_analysis_unit(reader: Reader, number: int) -> AnalysisUnit:
    unit = _ANALYSIS_UNITS_BACK.get(number)
    if unit is None:
        reader.violations.append(Violation("analysis_unit", f"{number} is not an analysis unit"))
    return unit or AnalysisUnit.DECISION


def _to_salt(reader: Reader, salt: str) -> bytes:
    def make() -> bytes:
        if len(salt) != 32 or not salt.isascii():  # noqa: PLR2004 - said in the text
            raise ValueError(f"{shown(salt)} must be 32 hexadecimal digits")
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
    )


def _from_arm(arm: Arm) -> experiment_pb2.Arm:
    message = experiment_pb2.Arm(
        id=arm.id, model_uri=arm.model_uri, digest=arm.digest, taken_out=arm.is_taken_out
    )
    if arm.payload:
        json_format.ParseDict(dict(arm.payload), message.payload)
    return message


def _to_policy(reader: Reader, message: experiment_pb2.Policy) -> DeclaredPolicy:
    match message.WhichOneof("kind"):
        case "epsilon_greedy":
            greedy = message.epsilon_greedy
            return reader.build(
                "policy.epsilon_greedy",
                lambda: EpsilonGreedy(
                    epsilon=greedy.epsilon, decay_observations=greedy.decay_observations or None
                ),
                EpsilonGreedy(epsilon=0.0),
            )
        case "static_split":
            return WeightedSplit(weights=dict(message.static_split.weights))
        case _:
            return ThompsonSampling()


def _from_policy(policy: DeclaredPolicy) -> experiment_pb2.Policy:
    match policy:
        case ThompsonSampling():
            return experiment_pb2.Policy(thompson_sampling=experiment_pb2.ThompsonSampling())
        case EpsilonGreedy():
            return experiment_pb2.Policy(
                epsilon_greedy=experiment_pb2.EpsilonGreedy(
                    epsilon=policy.epsilon, decay_observations=policy.decay_observations or 0.0
                )
            )
        case WeightedSplit():
            return experiment_pb2.Policy(static_split=experiment_pb2.StaticSplit(weights=policy.weights))
        case _:
            assert_never(policy)


def _to_metric(reader: Reader, index: int, message: experiment_pb2.Metric) -> Metric:
    path = f"metrics[{index}]"
    kind = _KINDS_BACK.get(message.kind)
    if kind is None:
        reader.violations.append(Violation(f"{path}.kind", "must be binary, real or count"))
        kind = MetricKind.BINARY
    direction = _DIRECTIONS_BACK.get(message.direction)
    if direction is None:
        reader.violations.append(Violation(f"{path}.direction", "must be maximize or minimize"))
        direction = Direction.MAXIMIZE
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
        is_guardrail=message.guardrail,
        prior=_to_prior(reader, f"{path}.prior", message.prior),
    )


def _from_metric(metric: Metric) -> experiment_pb2.Metric:
    message = experiment_pb2.Metric(
        name=metric.name,
        kind=KINDS[metric.kind],
        direction=DIRECTIONS[metric.direction],
        minimum=metric.minimum,
        maximum=metric.maximum,
        clip=metric.clip,
        guardrail=metric.is_guardrail,
        default_value=metric.default_value,
    )
    if metric.window is not None:
        message.window.CopyFrom(to_duration(metric.window))
    if metric.prior is not None:
        message.prior.CopyFrom(_from_prior(metric.prior))
    return message


def _to_prior(reader: Reader, path: str, message: experiment_pb2.Prior) -> Prior | None:
    match message.WhichOneof("kind"):
        case "beta":
            beta = message.beta
            return reader.build(f"{path}.beta", lambda: BetaPrior(beta.alpha, beta.beta), None)
        case "normal_inverse_gamma":
            normal = message.normal_inverse_gamma
            return reader.build(
                f"{path}.normal_inverse_gamma",
                lambda: NormalInverseGammaPrior(
                    mean=normal.mean,
                    pseudo_observations=normal.pseudo_observations,
                    shape=normal.shape,
                    scale=normal.scale,
                ),
                None,
            )
        case "gamma":
            gamma = message.gamma
            return reader.build(f"{path}.gamma", lambda: GammaPrior(gamma.shape, gamma.rate), None)
        case _:
            return None


def _from_prior(prior: Prior) -> experiment_pb2.Prior:
    match prior:
        case BetaPrior(alpha, beta):
            return experiment_pb2.Prior(beta=experiment_pb2.BetaPrior(alpha=alpha, beta=beta))
        case GammaPrior(shape, rate):
            return experiment_pb2.Prior(gamma=experiment_pb2.GammaPrior(shape=shape, rate=rate))
        case NormalInverseGammaPrior(mean, pseudo_observations, shape, scale):
            return experiment_pb2.Prior(
                normal_inverse_gamma=experiment_pb2.NormalInverseGammaPrior(
                    mean=mean, pseudo_observations=pseudo_observations, shape=shape, scale=scale
                )
            )
        case _:
            assert_never(prior)


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
        ),
        Limits(),
    )


def _from_limits(limits: Limits) -> experiment_pb2.Limits:
    message = experiment_pb2.Limits(
        minimum_share=limits.minimum_share,
        minimum_shares=limits.minimum_shares,
        warm_up_decisions=limits.warm_up_decisions,
        maximum_step_per_hour=limits.maximum_step_per_hour,
    )
    if limits.maximum_share < 1:
        message.maximum_share = limits.maximum_share
    if limits.warm_up_duration is not None:
        message.warm_up_duration.CopyFrom(to_duration(limits.warm_up_duration))
    return message

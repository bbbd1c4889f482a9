"""An experiment's declaration as the JSON document that its row holds, and back.

**Old and new code read the same documents.** What old code makes of a key that it does not know depends on
where the key is:

- at the top, it is ignored. What it says must be safe to ignore.
- inside an arm, a metric, the limits, the policy or a prior, it changes what these mean, and code before
  0.3.0 fails on it. So such a key is written only where its value differs from the default, and its first use
  passes the gate (`server.store.tables.gate`). Code from 0.3.0 on reads the rest and names the key among
  `unknown`: it answers for such an experiment with the champion, which is no evidence of anything, takes its
  rewards, and does not change it.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeAlias, TypeVar

from bandit.experiment import KIND_OF, AnalysisUnit, Arm, Experiment, PriorFrom
from bandit.launch.state import Launch
from bandit.limits import Limits
from bandit.metric import MARGINS, Direction, Margin, Metric, MetricKind
from bandit.policies import POLICIES, DeclaredPolicy, ThompsonSampling
from bandit.posteriors.moments import OutcomeMoments
from bandit.posteriors.priors import PRIORS, Prior
from server.store.launch_json import plan_from_json, state_from_json, to_json
from server.store.records import ExperimentRecord

# What json.loads returns: keys and types were written by this module, so they are taken at their word.
_Json: TypeAlias = dict[str, Any]
_Kind = TypeVar("_Kind", DeclaredPolicy, Prior)

WRITTEN_ALWAYS: Final[Mapping[type, frozenset[str]]] = {
    Arm: frozenset({"id", "model_uri", "digest", "payload", "is_taken_out"}),
    Metric: frozenset(
        {"name", "kind", "direction", "minimum", "maximum", "clip", "window", "default_value"}
        | {"is_guardrail", "prior"}
    ),
    Limits: frozenset(
        {"minimum_share", "minimum_shares", "maximum_share", "maximum_step_per_hour"}
        | {"warm_up_decisions", "warm_up_duration"}
    ),
}
"""The nested keys that every release knows, those before 0.3.0 included; never to be added to."""


_RESERVE: Final = "champion_minimum_share"
"""A limit that only a launch has. It is written beside the plan, since old code fails on it in the limits."""


class DocumentError(ValueError):
    """The document says something that this code can't read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What a document holds.

    Attributes:
        experiment: What was declared, as far as it is understood.
        arm_numbers: Arm id to number.
        metric_numbers: Metric name to number.
        winner: The arm that answers once concluded.
        launch: Where each challenger is in its launch; None without one, and before the experiment starts.
        taken_priors: Arm id to metric name to the discounted outcomes that its belief starts from.
        unknown: What was left out because this code does not know it, such as `arms[0].weight`.
    """

    experiment: Experiment
    arm_numbers: Mapping[str, int]
    metric_numbers: Mapping[str, int]
    winner: str | None
    launch: Launch | None = None
    taken_priors: Mapping[str, Mapping[str, OutcomeMoments]] = dataclasses.field(default_factory=dict)
    unknown: tuple[str, ...] = ()


def to_document(declaration: Declaration) -> str:
    """The document of a declaration, with keys in a fixed order."""
    experiment = declaration.experiment
    body = {
        "name": experiment.name,
        "description": experiment.description,
        "arms": [_arm_to_json(arm, declaration.launch) for arm in experiment.arms],
        "champion": experiment.champion,
        "policy": _kind_to_json(experiment.policy),
        "metrics": [_metric_to_json(metric) for metric in experiment.metrics],
        "reward_metric": experiment.reward_metric,
        "limits": _limits_to_json(experiment.limits, is_in_launch=experiment.launch is not None),
        "half_life": _to_seconds(experiment.half_life),
        "lookback": _to_seconds(experiment.lookback),
        "max_decision_age": _to_seconds(experiment.max_decision_age),
        "salt": experiment.salt.hex(),
        "analysis_unit": experiment.analysis_unit.value,
        "arm_numbers": dict(declaration.arm_numbers),
        "metric_numbers": dict(declaration.metric_numbers),
        "winner": declaration.winner,
    }
    if experiment.launch is not None:
        body["launch"] = {
            "plan": to_json(experiment.launch),
            "state": None if declaration.launch is None else to_json(declaration.launch),
            "taken_out": [arm.id for arm in experiment.arms if arm.is_taken_out],
            _RESERVE: experiment.limits.champion_minimum_share,
        }
    if declaration.taken_priors:
        body["taken_priors"] = {
            arm_id: {metric: dataclasses.asdict(moments) for metric, moments in of_arm.items()}
            for arm_id, of_arm in declaration.taken_priors.items()
        }
    # In ASCII, so that a database of any encoding holds every text.
    return json.dumps(body, allow_nan=False, separators=(",", ":"))


def document_of(record: ExperimentRecord) -> str:
    """Return the document of a stored experiment."""
    return to_document(
        Declaration(
            experiment=record.experiment,
            arm_numbers=record.arm_numbers,
            metric_numbers=record.metric_numbers,
            winner=record.winner,
            launch=record.launch,
            taken_priors=record.taken_priors,
        )
    )


def _limits_to_json(limits: Limits, *, is_in_launch: bool) -> _Json:
    """The body of limits; the champion's reserve is beside the launch, where old code does not fail on it."""
    body = without_new_defaults(limits, _with_seconds(dataclasses.asdict(limits)), Limits)
    return {key: value for key, value in body.items() if not (is_in_launch and key == _RESERVE)}


def _arm_to_json(arm: Arm, launch: Launch | None) -> _Json:
    """The body of an arm; one that its launch keeps out of service is taken out, for code that knows none."""
    body = without_new_defaults(arm, dataclasses.asdict(arm), Arm)
    return body | {"is_taken_out": arm.is_taken_out or not (launch is None or launch.is_in_service(arm.id))}


def without_new_defaults(value: Arm | Metric | Limits, body: _Json, kind: type) -> _Json:
    """The body of a nested value without the keys that old code does not know and that say nothing."""
    written = WRITTEN_ALWAYS[kind] | new_keys(value, kind)
    return {key: item for key, item in body.items() if key in written}


def new_keys(value: Arm | Metric | Limits, kind: type) -> frozenset[str]:
    """The keys of a nested value that code before 0.3.0 does not know and that say something."""
    return frozenset(
        field.name
        for field in dataclasses.fields(value)
        if field.name not in WRITTEN_ALWAYS[kind] and getattr(value, field.name) != _default_of(field)
    )


def _default_of(field: "dataclasses.Field[Any]") -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def from_document(document: str) -> Declaration:
    """The inverse of `to_document`.

    Raises:
        DocumentError: What it says can't even be read in part.
    """
    reading = _Reading()
    try:
        body = json.loads(document)
        launch = body.get("launch")
        state = None if launch is None else launch["state"]
        return Declaration(
            experiment=_experiment_from_json(body, reading),
            arm_numbers=body["arm_numbers"],
            metric_numbers=body["metric_numbers"],
            winner=body["winner"],
            launch=None if state is None else state_from_json(state, reading.known),
            taken_priors=_taken_from_json(body.get("taken_priors", {}), reading),
            unknown=tuple(reading.unknown),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DocumentError("the declaration holds what this version can't read") from error


class _Reading:
    """One reading of a document.

    Attributes:
        unknown: Paths of what was left out.
    """

    def __init__(self) -> None:
        self.unknown: list[str] = []

    def known(self, kind: type[Any], body: _Json, path: str) -> _Json:
        """The part of a body that a dataclass has fields for; the rest is noted."""
        names = {field.name for field in dataclasses.fields(kind)}
        self.unknown += [f"{path}.{key}" for key in body if key not in names]
        return {key: value for key, value in body.items() if key in names}


def _experiment_from_json(body: _Json, reading: _Reading) -> Experiment:
    limits = reading.known(Limits, body["limits"], "limits")
    limits["warm_up_duration"] = _from_seconds(limits["warm_up_duration"])
    max_decision_age = _from_seconds(body["max_decision_age"])
    assert max_decision_age is not None  # noqa: S101 - written by to_document, which always has it
    launch = body.get("launch")
    if launch is not None and _RESERVE in launch:
        limits[_RESERVE] = launch[_RESERVE]
    return Experiment(
        name=body["name"],
        description=body["description"],
        arms=tuple(
            _arm_from_json(arm, f"arms[{number}]", launch, reading) for number, arm in enumerate(body["arms"])
        ),
        champion=body["champion"],
        # Nothing is allocated by a declaration with an unknown part: then this only stands in for the policy.
        policy=_kind_from_json(POLICIES, body["policy"], "policy", reading) or ThompsonSampling(),
        metrics=tuple(
            _metric_from_json(metric, f"metrics[{number}]", reading)
            for number, metric in enumerate(body["metrics"])
        ),
        reward_metric=body["reward_metric"],
        limits=Limits(**limits),
        half_life=_from_seconds(body["half_life"]),
        lookback=_from_seconds(body["lookback"]),
        max_decision_age=max_decision_age,
        salt=bytes.fromhex(body["salt"]),
        analysis_unit=AnalysisUnit(body.get("analysis_unit", AnalysisUnit.DECISION)),
        launch=None if launch is None else plan_from_json(launch["plan"], reading.known),
    )


def _arm_from_json(arm: _Json, path: str, launch: _Json | None, reading: _Reading) -> Arm:
    known = reading.known(Arm, arm, path) | _taken_out(arm, launch)
    source = known.get("prior_from")
    if source is not None:
        known["prior_from"] = PriorFrom(**reading.known(PriorFrom, source, f"{path}.prior_from"))
    return Arm(**known)


def _taken_from_json(body: _Json, reading: _Reading) -> dict[str, dict[str, OutcomeMoments]]:
    return {
        arm_id: {
            metric: OutcomeMoments(
                **reading.known(OutcomeMoments, moments, f"taken_priors.{arm_id}.{metric}")
            )
            for metric, moments in of_arm.items()
        }
        for arm_id, of_arm in body.items()
    }


def _taken_out(arm: _Json, launch: _Json | None) -> _Json:
    """Whether an arm is declared to be out of service, where its launch may keep it out as well."""
    return {} if launch is None else {"is_taken_out": arm["id"] in launch["taken_out"]}


def _to_seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()


def _from_seconds(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def _with_seconds(values: _Json) -> _Json:
    return {key: _to_seconds(v) if isinstance(v, timedelta) else v for key, v in values.items()}


def _kind_to_json(value: DeclaredPolicy | Prior) -> _Json:
    return {"kind": KIND_OF[type(value)], **dataclasses.asdict(value)}


def _kind_from_json(
    kinds: Mapping[str, type[_Kind]], body: _Json, path: str, reading: _Reading
) -> _Kind | None:
    """The policy or prior of a body; None, named among `unknown`, for a kind that this code does not know."""
    kind = kinds.get(str(body["kind"]))
    if kind is None:
        reading.unknown.append(f"{path}.kind={body['kind']}")
        return None
    settings = {key: value for key, value in body.items() if key != "kind"}
    return kind(**reading.known(kind, settings, path))


def _metric_to_json(metric: Metric) -> _Json:
    body = _with_seconds({field.name: getattr(metric, field.name) for field in dataclasses.fields(metric)})
    if metric.prior is not None:
        body["prior"] = _kind_to_json(metric.prior)
    if metric.worse_by is not None:
        body["worse_by"] = dataclasses.asdict(metric.worse_by)
    return without_new_defaults(metric, body, Metric)


def _metric_from_json(body: _Json, path: str, reading: _Reading) -> Metric:
    prior = body["prior"]
    return Metric(
        **reading.known(Metric, body, path)
        | {
            "kind": MetricKind(body["kind"]),
            "direction": Direction(body["direction"]),
            "window": _from_seconds(body["window"]),
            "prior": None if prior is None else _kind_from_json(PRIORS, prior, f"{path}.prior", reading),
            "worse_by": _margin_from_json(body.get("worse_by"), f"{path}.worse_by", reading),
        }
    )


def _margin_from_json(body: _Json | None, path: str, reading: _Reading) -> Margin | None:
    """The margin of a body; None, with its keys named among `unknown`, if this code does not know them."""
    if body is None:
        return None
    for key, kind in MARGINS.items():
        if key in body:
            return kind(**reading.known(kind, body, path))
    reading.unknown += [f"{path}.{key}" for key in body]
    return None

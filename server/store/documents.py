"""An experiment's declaration as the JSON document that its row holds, and back."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias, assert_never

from bandit.experiment import AnalysisUnit, Arm, DeclaredPolicy, Experiment, WeightedSplit
from bandit.limits import Limits
from bandit.metric import Direction, Metric, MetricKind
from bandit.policies import EpsilonGreedy, ThompsonSampling
from bandit.priors import BetaPrior, GammaPrior, NormalInverseGammaPrior, Prior

# What json.loads returns: keys and types were written by this module, so they are taken at their word.
_Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What a document holds: an experiment, the numbers given to its names, and its winner."""

    experiment: Experiment
    arm_numbers: Mapping[str, int]
    metric_numbers: Mapping[str, int]
    winner: str | None


def to_document(declaration: Declaration) -> str:
    """The document of a declaration, with keys in a fixed order."""
    experiment = declaration.experiment
    body = {
        "name": experiment.name,
        "description": experiment.description,
        "arms": [dataclasses.asdict(arm) for arm in experiment.arms],
        "champion": experiment.champion,
        "policy": _policy_to_json(experiment.policy),
        "metrics": [_metric_to_json(metric) for metric in experiment.metrics],
        "reward_metric": experiment.reward_metric,
        "limits": _with_seconds(dataclasses.asdict(experiment.limits)),
        "half_life": _to_seconds(experiment.half_life),
        "lookback": _to_seconds(experiment.lookback),
        "max_decision_age": _to_seconds(experiment.max_decision_age),
        "salt": experiment.salt.hex(),
        "analysis_unit": experiment.analysis_unit.value,
        "arm_numbers": dict(declaration.arm_numbers),
        "metric_numbers": dict(declaration.metric_numbers),
        "winner": declaration.winner,
    }
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def from_document(document: str) -> Declaration:
    """The inverse of `to_document`."""
    body = json.loads(document)
    limits = dict(body["limits"])
    limits["warm_up_duration"] = _from_seconds(limits["warm_up_duration"])
    max_decision_age = _from_seconds(body["max_decision_age"])
    assert max_decision_age is not None  # noqa: S101 - written by to_document, which always has it
    experiment = Experiment(
        name=body["name"],
        description=body["description"],
        arms=tuple(Arm(**arm) for arm in body["arms"]),
        champion=body["champion"],
        policy=_policy_from_json(body["policy"]),
        metrics=tuple(_metric_from_json(metric) for metric in body["metrics"]),
        reward_metric=body["reward_metric"],
        limits=Limits(**limits),
        half_life=_from_seconds(body["half_life"]),
        lookback=_from_seconds(body["lookback"]),
        max_decision_age=max_decision_age,
        salt=bytes.fromhex(body["salt"]),
        analysis_unit=AnalysisUnit(body.get("analysis_unit", AnalysisUnit.DECISION)),
    )
    return Declaration(
        experiment=experiment,
        arm_numbers=body["arm_numbers"],
        metric_numbers=body["metric_numbers"],
        winner=body["winner"],
    )


def _to_seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()


def _from_seconds(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def _with_seconds(values: _Json) -> _Json:
    return {key: _to_seconds(v) if isinstance(v, timedelta) else v for key, v in values.items()}


def _policy_to_json(policy: DeclaredPolicy) -> _Json:
    match policy:
        case ThompsonSampling():
            return {"kind": "thompson_sampling"}
        case EpsilonGreedy():
            return {"kind": "epsilon_greedy", **dataclasses.asdict(policy)}
        case WeightedSplit():
            return {"kind": "static_split", "weights": dict(policy.weights)}
        case _:
            assert_never(policy)


def _policy_from_json(body: _Json) -> DeclaredPolicy:
    kinds: dict[str, type[DeclaredPolicy]] = {
        "thompson_sampling": ThompsonSampling,
        "epsilon_greedy": EpsilonGreedy,
        "static_split": WeightedSplit,
    }
    arguments = {key: value for key, value in body.items() if key != "kind"}
    return kinds[str(body["kind"])](**arguments)


_PRIOR_KINDS: dict[str, type[Prior]] = {
    "beta": BetaPrior,
    "normal_inverse_gamma": NormalInverseGammaPrior,
    "gamma": GammaPrior,
}


def _metric_to_json(metric: Metric) -> _Json:
    body = _with_seconds({field.name: getattr(metric, field.name) for field in dataclasses.fields(metric)})
    if metric.prior is not None:
        kind = next(kind for kind, prior in _PRIOR_KINDS.items() if isinstance(metric.prior, prior))
        body["prior"] = {"kind": kind, **dataclasses.asdict(metric.prior)}
    return body


def _metric_from_json(body: _Json) -> Metric:
    return Metric(
        **body
        | {
            "kind": MetricKind(body["kind"]),
            "direction": Direction(body["direction"]),
            "window": _from_seconds(body["window"]),
            "prior": None if body["prior"] is None else _prior_from_json(body["prior"]),
        }
    )


def _prior_from_json(body: _Json) -> Prior:
    arguments = {key: value for key, value in body.items() if key != "kind"}
    return _PRIOR_KINDS[str(body["kind"])](**arguments)

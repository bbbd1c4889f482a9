"""The types of a declared experiment, checked before its rules.

A salt of text would fail at the first decision, a window of a number at the first outcome. Each is a
TypeError that names the field.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import NoneType
from typing import Final

from bandit.experiment import AnalysisUnit, Arm, Experiment, PriorFrom
from bandit.launch.plan import LaunchPlan
from bandit.limits import Limits
from bandit.metric import AbsoluteMargin, Metric, RelativeMargin
from bandit.policies import POLICIES
from bandit.posteriors.priors import PRIORS
from bandit.wrong_types import require, require_number

_DURATION: Final = "a timedelta"


def require_types(experiment: object) -> None:
    """Raise TypeError for the first field of an experiment that has a value of a wrong type."""
    require("experiment", experiment, Experiment, "an Experiment")
    if not isinstance(experiment, Experiment):
        return
    for name in ("name", "description", "champion", "reward_metric"):
        require(name, getattr(experiment, name), str, "a str")
    require("salt", experiment.salt, bytes | bytearray, "bytes")
    require("policy", experiment.policy, tuple(POLICIES.values()), "a policy, such as ThompsonSampling()")
    require("limits", experiment.limits, Limits, "Limits")
    require("analysis_unit", experiment.analysis_unit, AnalysisUnit, "an AnalysisUnit")
    require("launch", experiment.launch, LaunchPlan | None, "a LaunchPlan or None")
    require("max_decision_age", experiment.max_decision_age, timedelta, _DURATION)
    for name in ("half_life", "lookback"):
        require(name, getattr(experiment, name), timedelta | NoneType, f"{_DURATION} or None")
    for name in ("arms", "metrics"):
        require(name, getattr(experiment, name), Sequence, "a tuple")
    for position, arm in enumerate(experiment.arms):
        _require_arm(f"arms[{position}]", arm)
    for position, metric in enumerate(experiment.metrics):
        _require_metric(f"metrics[{position}]", metric)


def _require_arm(path: str, arm: Arm) -> None:
    require(path, arm, Arm, "an Arm")
    for name in ("id", "model_uri", "digest"):
        require(f"{path}.{name}", getattr(arm, name), str, "a str")
    require(f"{path}.payload", arm.payload, Mapping, "a mapping")
    require(f"{path}.prior_from", arm.prior_from, PriorFrom | None, "a PriorFrom or None")
    if arm.prior_from is not None:
        require(f"{path}.prior_from.arm", arm.prior_from.arm, str, "a str")
        require_number(f"{path}.prior_from.weight", arm.prior_from.weight)


def _require_metric(path: str, metric: Metric) -> None:
    require(path, metric, Metric, "a Metric")
    require(f"{path}.name", metric.name, str, "a str")
    require_number(f"{path}.minimum", metric.minimum)
    require_number(f"{path}.maximum", metric.maximum)
    require(f"{path}.is_shadow", metric.is_shadow, bool, "a bool")
    require(f"{path}.window", metric.window, timedelta | NoneType, f"{_DURATION} or None")
    if metric.default_value is not None:
        require_number(f"{path}.default_value", metric.default_value)
    if metric.prior is not None:
        require(f"{path}.prior", metric.prior, tuple(PRIORS.values()), "a prior or None")
    match metric.worse_by:
        case RelativeMargin(value) | AbsoluteMargin(value):
            require_number(f"{path}.worse_by", value)
        case other:
            require(f"{path}.worse_by", other, NoneType, "a RelativeMargin, an AbsoluteMargin or None")

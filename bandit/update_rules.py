"""Update rules: a change to a started experiment must not falsify what was recorded of it."""

from collections.abc import Collection, Container, Iterable, Iterator
from typing import Final

from bandit.experiment import Experiment, PriorFrom
from bandit.metric import AbsoluteMargin, RelativeMargin
from bandit.number_text import exact
from bandit.validation import InvalidExperimentError, Violation, shown

MAX_ARMS_EVER: Final = 2**16
MAX_METRICS_EVER: Final = 2**15
"""Numbers of arms and metrics are never reused: decision ids and the log hold them."""


_OF_AN_ARM: Final = ("model_uri", "digest", "payload", "prior_from")


def require_compatible(
    before: Experiment, after: Experiment, *, arms_ever: Collection[str], metrics_ever: Collection[str]
) -> None:
    """Raise InvalidExperimentError if `after` would falsify what was recorded of a started experiment.

    An arm's model and where its belief started must not change, nor a metric's kind, direction, range, role
    and margin: whoever picks what is watched after the outcomes are known can find harm, or none, at will. An
    arm or a metric that was dropped must not come back, since the name might come back for a different one.
    """
    arms = {arm.id: arm for arm in before.arms}
    metrics = {metric.name: metric for metric in before.metrics}
    violations: list[Violation] = []
    for index, arm in enumerate(after.arms):
        path = f"arms[{index}]"
        violations += _fixed(path, arms.get(arm.id, arm), arm, _OF_AN_ARM)
        violations += _not_dropped(f"{path}.id", arm.id, arms, arms_ever)
    for index, metric in enumerate(after.metrics):
        path = f"metrics[{index}]"
        fields = ("kind", "direction", "minimum", "maximum", "role", "worse_by")
        violations += _fixed(path, metrics.get(metric.name, metric), metric, fields)
        violations += _not_dropped(f"{path}.name", metric.name, metrics, metrics_ever)
    if after.salt != before.salt:
        violations.append(Violation("salt", "can't change once the experiment has started"))
    if after.analysis_unit != before.analysis_unit:
        rule = (
            f"can't change from {before.analysis_unit} to {after.analysis_unit} once the experiment has "
            "started: earlier units were counted the other way; create a new experiment instead"
        )
        violations.append(Violation("analysis_unit", rule))
    violations += _launch_changes(before, after)
    if violations:
        raise InvalidExperimentError(violations)


def _launch_changes(before: Experiment, after: Experiment) -> Iterator[Violation]:
    if before.launch is not None and after.launch is None:
        rule = (
            "can't be removed once the experiment has started, or arms out of service would get traffic "
            "again; conclude the experiment instead"
        )
        yield Violation("launch", rule)
        return
    cycles = [each.launch.cycle for each in (before, after) if each.launch is not None]
    if len(set(cycles)) > 1:
        rule = (
            f"can't change from {cycles[0]} to {cycles[1]} once the experiment has started: "
            "the time of stages is counted in cycles; create a new experiment instead"
        )
        yield Violation("launch.cycle", rule)


def require_known_sources(experiment: Experiment, arms_ever: Container[str]) -> None:
    """Raise InvalidExperimentError if an arm's belief starts from an arm that the experiment never had."""
    violations = [
        Violation(
            f"arms[{index}].prior_from.arm", f"{shown(arm.prior_from.arm)} is not, and never was, an arm"
        )
        for index, arm in enumerate(experiment.arms)
        if arm.prior_from is not None and arm.prior_from.arm not in arms_ever
    ]
    if violations:
        raise InvalidExperimentError(violations)


def require_numbers_left(n_arms_ever: int, n_metrics_ever: int) -> None:
    """Raise InvalidExperimentError if an experiment had more arms or metrics than there are numbers."""
    counts = {"arms": (n_arms_ever, MAX_ARMS_EVER), "metrics": (n_metrics_ever, MAX_METRICS_EVER)}
    violations = [
        Violation(field, f"{count} over the experiment's life; at most {most}: create a new experiment")
        for field, (count, most) in counts.items()
        if count > most
    ]
    if violations:
        raise InvalidExperimentError(violations)


def _not_dropped(path: str, name: str, present: Container[str], ever: Container[str]) -> Iterator[Violation]:
    if name in ever and name not in present:
        rule = f"{shown(name)} was dropped from this experiment and can't come back; use another name"
        yield Violation(path, rule)


def _fixed(path: str, before: object, after: object, fields: Iterable[str]) -> Iterator[Violation]:
    for name in fields:
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            yield Violation(
                f"{path}.{name}",
                f"can't change from {_brief(old)} to {_brief(new)} once the experiment has started; "
                "add a new one under another name instead",
            )


def _brief(value: object) -> str:
    match value:
        case None:
            return "none"
        case PriorFrom(arm, weight):
            return f"{exact(weight)} of {shown(arm)}"
        case RelativeMargin(part):
            return f"relative {exact(part)}"
        case AbsoluteMargin(difference):
            return f"absolute {exact(difference)}"
        case _:
            return shown(str(value))

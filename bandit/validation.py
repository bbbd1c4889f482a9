"""Validation of declared experiments: each broken rule is reported with its field, value and rule."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from math import isfinite, ulp
from typing import Final, NamedTuple, assert_never

from bandit.assignment import SALT_BYTES
from bandit.declared_types import require_types
from bandit.experiment import KIND_OF, Arm, Experiment, PriorFrom
from bandit.launch.rules import broken_rules
from bandit.limits import InfeasibleLimitsError
from bandit.metric import (
    LARGEST_COUNT,
    N_COARSE_STEPS,
    AbsoluteMargin,
    Direction,
    Metric,
    MetricKind,
    OutcomeValueError,
    RelativeMargin,
)
from bandit.number_text import exact
from bandit.policies import WeightedSplit
from bandit.posteriors.priors import BetaPrior, GammaPrior, NormalInverseGammaPrior
from bandit.sizes import MAX_ARMS
from bandit.text import Kind, id_fault, text_fault

MAX_METRICS: Final = 64
MAX_DESCRIPTION: Final = 1_000
MAX_URI: Final = 2_048
MAX_DIGEST: Final = 256
MAX_PAYLOAD_BYTES: Final = 16 * 1024
LONGEST_WINDOW: Final = timedelta(days=90)
LONGEST_DECISION_AGE: Final = timedelta(days=400)
LONGEST_MEMORY: Final = timedelta(days=3650)
"""The longest half-life, lookback and warm-up."""

LARGEST_VALUE: Final = 1e100
NARROWEST_RANGE: Final = 1e-100
"""Within these two bounds, squares of values and of quanta neither overflow nor underflow."""

PRIOR_WEIGHTS: Final = (1e-6, 1e9)
"""The least and the greatest weight of a prior, in outcomes."""

LARGEST_RELATIVE_MARGIN: Final = 10.0
"""The largest part of the champion's mean by which a metric may be worse where less is better."""

_LEAST_SHAPE: Final = 0.1
_SCALE_BOUNDS: Final = (1e-12, 1e12)
NAME_RULE: Final = "[a-z0-9-]{1,63}"
"""What the name of an experiment, and a namespace, match."""

_EXPERIMENT_NAME: Final = re.compile(f"({NAME_RULE}/)?{NAME_RULE}", re.ASCII)
_SHOWN: Final = 80
_LONGEST_KEY: Final = 63


class Violation(NamedTuple):
    """A broken rule.

    Attributes:
        field: Path of the field, such as `arms[1].model_uri`.
        description: The value and the rule.
    """

    field: str
    description: str


class InvalidExperimentError(ValueError):
    """An experiment breaks rules; `violations` has one entry for each broken rule."""

    def __init__(self, violations: Iterable[Violation]) -> None:
        self.violations = tuple(violations)
        super().__init__("; ".join(f"{field}: {description}" for field, description in self.violations))


def shown(value: str) -> str:
    """Return a client's text for use in a message: escaped, in quotes, cut after 80 characters."""
    return ascii(value if len(value) <= _SHOWN else value[:_SHOWN] + "...")


def is_experiment_name(name: str) -> bool:
    """True if `name` is `[a-z0-9-]{1,63}`, optionally after a namespace of the same pattern and a slash.

    >>> [is_experiment_name(name) for name in ("ranker", "team-a/ranker", "Ranker", "a/b/c", "")]
    [True, True, False, False, False]
    """
    return _EXPERIMENT_NAME.fullmatch(name) is not None


def namespace_of(name: str) -> str:
    """Return the namespace in an experiment's name; empty if there is none.

    >>> namespace_of("team-a/ranker"), namespace_of("ranker")
    ('team-a', '')
    """
    return name.rpartition("/")[0]


def require_valid(experiment: Experiment, stored: Experiment | None = None) -> None:
    """Raise InvalidExperimentError with every broken rule, if there are any.

    Args:
        experiment: What is declared.
        stored: What it replaces: a description that stays as it was accepted breaks no rule.

    Raises:
        InvalidExperimentError: Lists every broken rule.
        TypeError: A field has a value of a wrong type; the message names the first one.
    """
    require_types(experiment)
    violations = [
        *_check_names(experiment),
        *_check_description(experiment.description, "" if stored is None else stored.description),
        *_check_arms(experiment.arms),
        *_check_metrics(experiment.metrics),
        *_check_references(experiment),
        *_check_durations(experiment),
    ]
    if not violations:
        violations.extend(_check_limits(experiment))
        violations.extend(Violation(field, rule) for field, rule in broken_rules(experiment))
    if violations:
        raise InvalidExperimentError(violations)


def _check_names(experiment: Experiment) -> Iterator[Violation]:
    if not is_experiment_name(experiment.name):
        rule = f"{shown(experiment.name)} must match {NAME_RULE}, optionally after a namespace and a slash"
        yield Violation("name", rule)
    if len(experiment.salt) != SALT_BYTES:
        yield Violation("salt", f"must have {SALT_BYTES * 2} hexadecimal digits")


def _check_description(text: str, stored: str) -> Iterator[Violation]:
    # Releases before 0.3.0 took any text: what they stored must not lock the rest of the experiment.
    if text != stored:
        yield from _check_text("description", text, Kind.DESCRIPTION, MAX_DESCRIPTION)


def _check_arms(arms: tuple[Arm, ...]) -> Iterator[Violation]:
    if not 1 <= len(arms) <= MAX_ARMS:
        yield Violation("arms", f"{len(arms)} arms; there must be 1 to {MAX_ARMS}")
    yield from _check_distinct("arms", "id", [arm.id for arm in arms])
    for index, arm in enumerate(arms):
        yield from _check_text(f"arms[{index}].model_uri", arm.model_uri, Kind.MODEL_URI, MAX_URI)
        yield from _check_text(f"arms[{index}].digest", arm.digest, Kind.DIGEST, MAX_DIGEST)
        n_bytes = len(json.dumps(arm.payload, default=str).encode())
        if n_bytes > MAX_PAYLOAD_BYTES:
            rule = f"{n_bytes} bytes as JSON; there may be at most {MAX_PAYLOAD_BYTES}"
            yield Violation(f"arms[{index}].payload", rule)
        if arm.prior_from is not None:
            yield from _check_prior_from(f"arms[{index}].prior_from", arm.id, arm.prior_from)


def _check_prior_from(path: str, arm_id: str, source: PriorFrom) -> Iterator[Violation]:
    if fault := id_fault(source.arm):
        yield Violation(f"{path}.arm", f"{shown(source.arm)}: {fault}")
    elif source.arm == arm_id:
        yield Violation(f"{path}.arm", "must be another arm: an arm has no outcomes before it is added")
    if not 0 < source.weight <= 1:
        rule = f"must be in (0, 1], got {exact(source.weight)}: what one outcome of {source.arm} counts as"
        yield Violation(f"{path}.weight", rule)


def _check_distinct(path: str, key: str, names: list[str]) -> Iterator[Violation]:
    counts = Counter(names)
    seen: set[str] = set()
    for index, name in enumerate(names):
        if fault := id_fault(name):
            yield Violation(f"{path}[{index}].{key}", f"{shown(name)}: {fault}")
        elif counts[name] > 1 and name in seen:
            yield Violation(f"{path}[{index}].{key}", f"{shown(name)} appears more than once")
        seen.add(name)


def _check_text(path: str, text: str, kind: Kind, longest: int) -> Iterator[Violation]:
    if fault := text_fault(text, kind, longest):
        yield Violation(path, fault)


def _check_metrics(metrics: tuple[Metric, ...]) -> Iterator[Violation]:
    if not 1 <= len(metrics) <= MAX_METRICS:
        yield Violation("metrics", f"{len(metrics)} metrics; there must be 1 to {MAX_METRICS}")
    yield from _check_distinct("metrics", "name", [metric.name for metric in metrics])
    for index, metric in enumerate(metrics):
        range_violations = list(_check_range(metric))
        for check in () if range_violations else (_check_silence, _check_prior, _check_role):
            range_violations.extend(check(metric))
        for field, description in range_violations:
            yield Violation(f"metrics[{index}].{field}", description)


def _check_range(metric: Metric) -> Iterator[Violation]:
    low, high = metric.minimum, metric.maximum
    if not (isfinite(low) and isfinite(high) and low < high and isfinite(high - low)):
        yield Violation("maximum", f"the range [{exact(low)}, {exact(high)}] must be finite and not empty")
    elif rule := _broken_range_rule(metric.kind, low, high):
        yield Violation("maximum", rule)
    elif max(abs(low), abs(high)) > LARGEST_VALUE:
        yield Violation(
            "maximum", f"the range [{exact(low)}, {exact(high)}] must be within {LARGEST_VALUE:g} of 0"
        )


def _broken_range_rule(kind: MetricKind, low: float, high: float) -> str:
    """The rule of the kind that a finite range breaks; empty if it keeps them."""
    match kind:
        case MetricKind.BINARY:
            if (low, high) != (0.0, 1.0):
                return f"a binary metric has the range [0, 1], got [{exact(low)}, {exact(high)}]"
        case MetricKind.COUNT:
            if not (
                low >= 0 and high <= LARGEST_COUNT and float(low).is_integer() and float(high).is_integer()
            ):
                bounds = f"[0, {LARGEST_COUNT}], got [{exact(low)}, {exact(high)}]"
                return f"a count has a range of whole numbers within {bounds}"
        case MetricKind.REAL:
            if high - low < NARROWEST_RANGE:
                rule = f"it must be at least {NARROWEST_RANGE:g} wide"
                return f"the range [{low!r}, {high!r}] is too narrow: {rule}"
            if (high - low) / N_COARSE_STEPS < ulp(max(abs(low), abs(high))):
                rule = f"it holds fewer than {N_COARSE_STEPS} distinct doubles"
                return f"the range [{low!r}, {high!r}] is too narrow: {rule}"
        case _:
            assert_never(kind)
    return ""


def _check_silence(metric: Metric) -> Iterator[Violation]:
    window = metric.window
    if window is not None and not timedelta() < window <= LONGEST_WINDOW:
        yield Violation("window", f"{window} must be more than zero and at most {LONGEST_WINDOW.days} days")
    if metric.default_value is None:
        return
    if window is None:
        yield Violation("default_value", "needs a window: without one, silence is never known")
    try:
        metric.quantise(metric.default_value)
    except OutcomeValueError as error:
        yield Violation("default_value", f"{exact(metric.default_value)}: {error.rule}")


def _check_prior(metric: Metric) -> Iterator[Violation]:
    prior = metric.prior
    if prior is None:
        return
    expected, found = (KIND_OF[type(each)].replace("_", "-") for each in (metric.weak_prior, prior))
    if found != expected:
        yield Violation("prior", f"a {metric.kind} metric takes a {expected} prior, not {found}")
        return
    least, most = PRIOR_WEIGHTS
    match prior:
        case BetaPrior(alpha, beta):
            yield from _check_bounds("prior", {"alpha": (alpha, least, most), "beta": (beta, least, most)})
        case GammaPrior(shape, rate):
            yield from _check_bounds("prior", {"shape": (shape, least, most), "rate": (rate, least, most)})
        case NormalInverseGammaPrior(mean, pseudo_observations, shape, scale):
            square = (metric.maximum - metric.minimum) ** 2
            bounds = {
                "mean": (mean, metric.minimum, metric.maximum),
                "pseudo_observations": (pseudo_observations, least, most),
                "shape": (shape, _LEAST_SHAPE, most),
                "scale": (scale, square * _SCALE_BOUNDS[0], square * _SCALE_BOUNDS[1]),
            }
            yield from _check_bounds("prior", bounds)


def _check_role(metric: Metric) -> Iterator[Violation]:
    if metric.is_guardrail and metric.is_signal:
        yield Violation("role", "is both a guardrail and a signal; a metric has one role")
    if metric.role is None:
        if metric.worse_by is not None:
            yield Violation("worse_by", "needs a role: only a guardrail or a signal is allowed to be worse")
        return
    yield from _check_margin(metric)
    # Guardrails without a margin have been accepted without a window ever since: a hint says what is missing.
    is_new = metric.is_signal or metric.worse_by is not None
    if is_new and metric.window is None and not metric.counts_early:
        rule = "needs a window: only yes/no events of which fewer are better count before it has closed"
        rule += ", and these not for an absolute margin"
        yield Violation("window" if metric.worse_by is None else "worse_by", rule)


def _check_margin(metric: Metric) -> Iterator[Violation]:
    """Check that the metric has a test of the margin; a signal is let go at twice its margin."""
    times = 2 if metric.is_signal else 1
    width, is_less_better = metric.maximum - metric.minimum, metric.direction is Direction.MINIMIZE
    match metric.worse_by:
        case AbsoluteMargin(value):
            if not 0 < value * times < width:
                most = f"{exact(width / times)}, {'half ' * (times > 1)}the width of the range"
                yield Violation("worse_by.absolute", f"{exact(value)} must be more than 0 and below {most}")
        case RelativeMargin() | None if metric.minimum < 0 and (metric.is_signal or metric.worse_by):
            rule = "a part of the champion's mean has no meaning, as values may be negative: use an absolute "
            yield Violation("worse_by", f"{rule}margin, worse_by = {{ absolute = ... }}")
        case RelativeMargin(value) if is_less_better and not 0 < value <= LARGEST_RELATIVE_MARGIN:
            rule = f"must be more than 0 and at most {exact(LARGEST_RELATIVE_MARGIN)}"
            yield Violation("worse_by.relative", f"{exact(value)} {rule}")
        case RelativeMargin(value) if not is_less_better and not 0 < value * times < 1:
            rule = f"must be more than 0 and below {exact(1 / times)}, since more is better"
            yield Violation("worse_by.relative", f"{exact(value)} {rule}")


def _check_bounds(path: str, bounds: Mapping[str, tuple[float, float, float]]) -> Iterator[Violation]:
    for name, (value, least, most) in bounds.items():
        if not least <= value <= most:
            yield Violation(f"{path}.{name}", f"{exact(value)} must be in [{exact(least)}, {exact(most)}]")


def _check_references(experiment: Experiment) -> Iterator[Violation]:
    arms = {arm.id for arm in experiment.arms}
    if experiment.champion not in arms:
        yield Violation("champion", f"{shown(experiment.champion)} is not one of the arms")
    reward = next((m for m in experiment.metrics if m.name == experiment.reward_metric), None)
    if reward is None:
        yield Violation("reward_metric", f"{shown(experiment.reward_metric)} is not one of the metrics")
    elif reward.is_guardrail:
        yield Violation("reward_metric", f"{shown(reward.name)} is a guardrail, which does not steer")
    elif reward.is_signal:
        yield Violation("reward_metric", f"{shown(reward.name)} is a signal, which does not steer")
    for arm_id in experiment.limits.minimum_shares.keys() - arms:
        path = f'limits.minimum_shares["{_key(arm_id)}"]'
        yield Violation(path, f"{shown(arm_id)} is not one of the arms")
    if isinstance(experiment.policy, WeightedSplit):
        yield from _check_weights(experiment.policy, arms)


def _key(name: str) -> str:
    """Return a name for a path; the beginning of what is no name, since each escape takes ten letters."""
    return name[:_LONGEST_KEY] if id_fault(name) else name


def _check_weights(split: WeightedSplit, arms: set[str]) -> Iterator[Violation]:
    path = "policy.static_split.weights"
    for arm_id, weight in split.weights.items():
        if arm_id not in arms:
            yield Violation(f'{path}["{_key(arm_id)}"]', f"{shown(arm_id)} is not one of the arms")
        elif not (isfinite(weight) and weight >= 0):
            yield Violation(f'{path}["{arm_id}"]', f"{exact(weight)} must be finite and at least 0")
    total = sum(split.weights.values())
    if not total > 0 or not isfinite(total):
        yield Violation(path, "the sum of the weights must be more than zero and finite")


def _check_durations(experiment: Experiment) -> Iterator[Violation]:
    durations = {
        "half_life": experiment.half_life,
        "lookback": experiment.lookback,
        "limits.warm_up_duration": experiment.limits.warm_up_duration,
    }
    for name, duration in durations.items():
        if duration is not None and not timedelta() < duration <= LONGEST_MEMORY:
            rule = f"{duration} must be more than zero and at most {LONGEST_MEMORY.days} days"
            yield Violation(name, rule)
    age, shortest = experiment.max_decision_age, experiment.longest_window
    if not (timedelta() < age <= LONGEST_DECISION_AGE and age >= shortest):
        longest = LONGEST_DECISION_AGE.days
        rule = f"{age} must be at least the longest window ({shortest}) and at most {longest} days"
        yield Violation("max_decision_age", rule)


def _check_limits(experiment: Experiment) -> Iterator[Violation]:
    limits = experiment.limits
    if limits.minimum_share == 1:
        yield Violation("limits.minimum_share", "1 must be below 1")
    step = limits.maximum_step_per_hour
    if step is not None and step > 1:
        yield Violation("limits.maximum_step_per_hour", f"{exact(step)} must be at most 1")
    if limits.warm_up_decisions and limits.warm_up_duration is None:
        rule = "is required with warm_up_decisions, so that an arm that never reports does not keep its share"
        yield Violation("limits.warm_up_duration", rule)
    if experiment.launch is not None:
        return  # its arms are not all in service at once; see bandit.launch.rules
    try:
        limits.require_feasible(arm.id for arm in experiment.arms)
    except InfeasibleLimitsError as error:
        yield Violation("limits", str(error))

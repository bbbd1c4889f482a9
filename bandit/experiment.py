"""Declared experiments: arms, metrics, policy and limits. Values only; the service adds the life cycle."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, TypeAlias

from bandit.launch.plan import LaunchPlan
from bandit.limits import Limits
from bandit.metric import Metric
from bandit.policies import POLICIES, DeclaredPolicy, ThompsonSampling
from bandit.posteriors.priors import PRIORS, Prior

JsonValue: TypeAlias = "bool | float | str | list[JsonValue] | dict[str, JsonValue] | None"
"""A value in an arm's payload: JSON, with numbers as doubles."""

DEFAULT_MAX_DECISION_AGE: Final = timedelta(days=30)
SEGMENT_ALL: Final = 0
"""The number of the one segment that every unit is in."""

KIND_OF: Final[Mapping[type[DeclaredPolicy | Prior], str]] = {
    known: kind for kinds in (POLICIES, PRIORS) for kind, known in kinds.items()
}
"""Each policy and prior to its kind: its name on the wire, in experiment files and in the store."""


class AnalysisUnit(enum.StrEnum):
    """What evidence counts as one observation."""

    DECISION = "decision"
    """Every decision: right if units do not come back."""
    UNIT = "unit"
    """A unit, at its first policy decision; see `bandit.facts.units`."""


@dataclass(frozen=True, slots=True)
class PriorFrom:
    """Where a new arm's belief starts from: the outcomes of another arm, discounted (a power prior).

    Each outcome of the source counts as `weight` outcomes, beside the metric's own prior (Ibrahim & Chen
    2000, "Power prior distributions for regression models"). The result is fixed when the arm is added.

    Attributes:
        arm: The id of the source, which the experiment has or had.
        weight: In (0, 1]; 0.1 lets 1,000 outcomes count as 100.
    """

    arm: str
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One immutable model version.

    Attributes:
        id: 1 to 128 ASCII letters and digits, with `.`, `_`, `-`, `/`, `:` and `@` inside; see `bandit.text`.
        model_uri: Where the model is, for the backend.
        digest: A digest of the model, for the backend to check.
        payload: Data handed out with every decision for this arm.
        is_taken_out: True if an operator took the arm out of service; the only attribute that may change.
        prior_from: Where its belief starts from beside the priors of the metrics; None: from these alone.
    """

    id: str
    model_uri: str = ""
    digest: str = ""
    payload: Mapping[str, JsonValue] = field(default_factory=dict)
    is_taken_out: bool = False
    prior_from: PriorFrom | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A question of which arm serves best.

    Attributes:
        name: `[a-z0-9-]{1,63}`, optionally after a namespace of the same pattern and a slash.
        description: For people.
        arms: The arms, in the order of the report.
        champion: The id of the arm in production.
        policy: Turns posteriors into shares.
        metrics: The metrics that outcomes may name.
        reward_metric: The name of the metric that steers.
        limits: What shares must keep to.
        half_life: Weights an epoch by 2^(-age / half_life) in the posterior; None: nothing is forgotten.
        lookback: Excludes epochs that began longer ago from the posterior; None: all count.
        max_decision_age: How long after a decision its first outcome is accepted.
        salt: 16 bytes that seed the assignment of units, and key the hashes that stand for them.
        analysis_unit: What evidence counts as one observation.
        launch: How challengers get to champion; None for an experiment that no launch runs.
    """

    name: str
    description: str = ""
    arms: tuple[Arm, ...]
    champion: str
    policy: DeclaredPolicy = field(default_factory=ThompsonSampling)
    metrics: tuple[Metric, ...]
    reward_metric: str
    limits: Limits = field(default_factory=Limits)
    half_life: timedelta | None = None
    lookback: timedelta | None = None
    max_decision_age: timedelta = DEFAULT_MAX_DECISION_AGE
    salt: bytes
    analysis_unit: AnalysisUnit = AnalysisUnit.DECISION
    launch: LaunchPlan | None = None

    def arm(self, arm_id: str) -> Arm:
        """Return the arm with this id; KeyError if there is no such arm."""
        return {arm.id: arm for arm in self.arms}[arm_id]

    def metric(self, name: str) -> Metric:
        """Return the metric with this name; KeyError if there is no such metric."""
        return {metric.name: metric for metric in self.metrics}[name]

    @property
    def longest_window(self) -> timedelta:
        """The longest window of any metric; zero if no metric has one."""
        return max((metric.window or timedelta() for metric in self.metrics), default=timedelta())

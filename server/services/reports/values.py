"""The parts of a report, as values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bandit.decision_id import Basis
from bandit.facts import Epoch
from bandit.facts.fold import ArmObservations
from bandit.facts.units import HeavyUnit
from bandit.metric import Margin, Role
from bandit.posteriors import Posterior
from server.services.reports.evidence import EvidenceSummary
from server.services.reports.launch.view import LaunchView
from server.store.records import ExperimentRecord

LEVEL: Final = 0.95
"""The level of the report's intervals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRequest:
    """A request for a report.

    Attributes:
        max_epochs: The most epochs of history.
        splits: Static splits to value, each arm id to weight; if empty, an even one over the arms in service.
        lift: The relative lift of the outlook, not 0; None for a tenth in the better direction.
        metrics: Names of the metrics to report on besides the reward metric; if empty, all.
    """

    max_epochs: int
    splits: Sequence[Mapping[str, float]] = ()
    lift: float | None = None
    metrics: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricReport:
    """The report on one arm and one metric.

    Attributes:
        metric: The metric's name.
        role: What the metric is watched for, if anything.
        worse_by: How much worse a challenger may be; None: not at all.
        observations: The arm's observations.
        mean: Mean of the observations, in the metric's unit; None without any.
        belief: The posterior of the mean.
        interval: Posterior interval of the mean at `LEVEL`, within the metric's range.
    """

    metric: str
    role: Role | None
    worse_by: Margin | None
    observations: ArmObservations
    mean: float | None
    belief: Posterior
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmReport:
    """The report on one arm.

    Attributes:
        arm: The arm's id.
        share: Its share in the epoch in force.
        is_out_of_service: Whether it gets no traffic from the policy.
        is_warming_up: Whether its share is set by its warm-up.
        decisions: Decisions by basis.
        n_units: Units whose first policy decision was for it, where units are counted; else 0.
        metrics: One for each metric, the reward metric first.
        probability_best: P(arm is best) on the reward metric; None out of service.
        expected_loss: Loss per decision from serving this arm; None out of service or if it is infinite.
    """

    arm: str
    share: float
    is_out_of_service: bool
    is_warming_up: bool
    decisions: Mapping[Basis, int]
    n_units: int
    metrics: tuple[MetricReport, ...]
    probability_best: float | None
    expected_loss: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A verdict in sentences.

    Attributes:
        headline: What to do, in one sentence.
        evidence: Sentences whose error rates hold at every look.
        belief: Sentences that follow from prior and outcomes, and promise no error rate.
    """

    headline: str
    evidence: tuple[str, ...]
    belief: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The report on an experiment at one moment.

    Attributes:
        record: The experiment.
        reported_at: The moment.
        arms: In the order of the experiment, then arms no longer in it.
        epochs: Shares over time, oldest first, thinned to the requested number.
        n_epochs: The number of epochs so far.
        metrics: Names of the reported metrics, the reward metric among them.
        evidence: The evidence, and the ruling on it.
        verdict: The ruling, evidence and beliefs in sentences.
        outlook: How long a lift takes to be seen, in a sentence.
        notes: Cautions for anyone who quotes a number.
        hints: What to declare differently, and why.
        heavy: Units, or groups where decisions are counted, that made too many of the decisions.
        n_uncounted: The most decisions of this server that may not be in the store yet.
        launch: Where each challenger is in its launch, and what comes next; None without a launch.
    """

    record: ExperimentRecord
    reported_at: datetime
    arms: tuple[ArmReport, ...]
    epochs: tuple[Epoch, ...]
    n_epochs: int
    metrics: frozenset[str]
    evidence: EvidenceSummary
    verdict: Verdict
    outlook: str
    notes: tuple[str, ...]
    hints: tuple[str, ...]
    heavy: Sequence[HeavyUnit] = ()
    n_uncounted: int = 0
    launch: LaunchView | None = None

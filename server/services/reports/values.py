"""What a report consists of, as values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bandit.decision_id import Basis
from bandit.facts import Epoch
from bandit.facts.fold import ArmObservations
from bandit.posteriors import Posterior
from server.services.reports.evidence import EvidenceSummary
from server.store.records import ExperimentRecord

LEVEL: Final = 0.95
"""The level of the report's intervals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRequest:
    """What a report is asked for.

    Attributes:
        max_epochs: At most so many epochs of history.
        splits: Static splits to value, each arm id to weight; none: an even one over the arms in service.
        lift: The relative lift of the outlook, not 0; None: a tenth, for the better.
        metrics: Names of the metrics to report on beside the reward metric; none: all.
    """

    max_epochs: int
    splits: Sequence[Mapping[str, float]] = ()
    lift: float | None = None
    metrics: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricReport:
    """What is known about one arm on one metric.

    Attributes:
        metric: The metric's name.
        is_guardrail: Whether it must not get worse.
        observations: What was counted.
        mean: Mean of the observations, in the metric's unit; None without any.
        belief: The posterior of the mean.
        interval: Posterior interval of the mean at `LEVEL`, within the metric's range.
    """

    metric: str
    is_guardrail: bool
    observations: ArmObservations
    mean: float | None
    belief: Posterior
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmReport:
    """What is known about one arm.

    Attributes:
        arm: The arm's id.
        share: Its share in the epoch in force.
        is_out_of_service: Whether it takes no traffic from the policy.
        is_warming_up: Whether its share is set by its warm-up.
        decisions: Decisions by basis.
        metrics: One for each metric, the reward metric first.
        probability_best: P(arm is best) on the reward metric; None out of service.
        expected_loss: What is lost a decision by serving this arm; None out of service or if it is infinite.
    """

    arm: str
    share: float
    is_out_of_service: bool
    is_warming_up: bool
    decisions: Mapping[Basis, int]
    metrics: tuple[MetricReport, ...]
    probability_best: float | None
    expected_loss: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A verdict for people.

    Attributes:
        headline: One sentence: what to do.
        evidence: Sentences whose error rates hold at every look.
        belief: Sentences that follow from prior and outcomes, and promise no error rate.
    """

    headline: str
    evidence: tuple[str, ...]
    belief: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What is known about an experiment at one moment.

    Attributes:
        record: The experiment.
        reported_at: The moment.
        arms: In the order of the experiment, then arms no longer in it.
        epochs: Share over time, oldest first, thinned to what was asked for.
        n_epochs: How many epochs there have been.
        metrics: Names of the metrics that are reported on, the reward metric among them.
        evidence: The evidence, and what it calls for.
        verdict: The same in sentences, beside what is believed.
        outlook: How long a lift takes to be seen, in a sentence.
        notes: What to know before quoting a number.
        n_uncounted: The most decisions of this server that the store may not have taken in yet.
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
    n_uncounted: int = 0

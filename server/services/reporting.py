"""The report on an experiment: what was counted, what is believed for it, and what is evident."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf, isfinite
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bandit.allocation import Standing
from bandit.decision import Basis
from bandit.experiment import Experiment
from bandit.facts import Epoch
from bandit.fold import ArmEvidence, posteriors_from
from bandit.metric import Direction, Metric
from bandit.posteriors import Posterior
from bandit.quadrature import BestArmSummary, best_arm_summary
from bandit.units import UnitFacts
from bandit.validation import Violation, shown
from server.services.allocating import standing_of
from server.services.clock import Clock
from server.services.errors import (
    ExperimentNotFoundError,
    ExperimentNotStartedError,
    InvalidInputError,
    StorageAwayError,
)
from server.services.weighing import DEFAULT_LIFT, Material, Weighed, material_of, weigh
from server.services.workers import Workers
from server.store.errors import StoreError
from server.store.interface import Store
from server.store.records import ExperimentFacts, ExperimentRecord, State

LEVEL: Final = 0.95
"""The level of the report's intervals."""

_BELIEFS: Final = (
    "Intervals, P(best) and expected loss are beliefs (posterior, 95 %): they follow from the prior and the "
    "outcomes so far, and promise no error rate under repeated looks."
)
_RETRY_AFTER: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a report is asked for.

    Attributes:
        max_epochs: At most so many epochs of history.
        splits: Static splits to value, each arm id to weight; none: an even one over the arms in service.
        lift: The relative lift of the outlook, not 0.
    """

    max_epochs: int
    splits: Sequence[Mapping[str, float]] = ()
    lift: float = DEFAULT_LIFT


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricReport:
    """What is known about one arm on one metric.

    Attributes:
        metric: The metric's name.
        evidence: What was counted.
        mean: Mean of the observations, in the metric's unit; None without any.
        interval: Posterior interval of the mean at `LEVEL`, within the metric's range.
    """

    metric: str
    evidence: ArmEvidence
    mean: float | None
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
class Report:
    """What is known about an experiment at one moment.

    Attributes:
        record: The experiment.
        reported_at: The moment.
        arms: In the order of the experiment, then arms no longer in it.
        epochs: Share over time, oldest first, thinned to what was asked for.
        n_epochs: How many epochs there have been.
        weighed: The evidence, and what it calls for.
        notes: What can't be said, and what to know before quoting a number.
    """

    record: ExperimentRecord
    reported_at: datetime
    arms: tuple[ArmReport, ...]
    epochs: tuple[Epoch, ...]
    n_epochs: int
    weighed: Weighed
    notes: tuple[str, ...]


class Reporter:
    """Makes reports.

    Args:
        store: Where the facts are.
        workers: Whose computing thread folds them.
        clock: The time.
        lag: How long a replica may go on with an epoch after its end.
        flush: Adds the decisions counted so far to the facts, so that the report has them.
    """

    def __init__(
        self,
        store: Store,
        workers: Workers,
        clock: Clock,
        *,
        lag: timedelta,
        flush: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._workers = workers
        self._clock = clock
        self._lag = lag
        self._flush = flush

    async def report(self, name: str, wanted: Wanted) -> Report:
        """The report on an experiment.

        Raises:
            InvalidInputError: A split names an arm that the experiment never had, or its weights are none.
            ExperimentNotFoundError: There is none of this name.
            ExperimentNotStartedError: It is a draft.
        """
        try:
            await self._flush()
            return await self._workers.compute(self._read_and_report, name, wanted)
        except StoreError as error:
            raise StorageAwayError(_RETRY_AFTER) from error

    def _read_and_report(self, name: str, wanted: Wanted) -> Report:
        record = self._store.find_experiment(name)
        found = None if record is None else self._store.read_facts(record.number)
        if found is None:
            raise ExperimentNotFoundError(name)
        if found.record.state is State.DRAFT:
            raise ExperimentNotStartedError(name)
        number = found.record.number
        declarations, units = self._store.read_declarations(number), self._store.read_units(number)
        if units is None:
            raise ExperimentNotFoundError(name)
        return make_report(found, declarations, units, wanted, self._lag, self._clock.now())


def make_report(
    found: ExperimentFacts,
    declarations: Sequence[Experiment],
    units: UnitFacts,
    wanted: Wanted,
    lag: timedelta,
    now: datetime,
) -> Report:
    """The report as it follows from what the store holds."""
    standing = standing_of(found.record, found.epochs, found.facts, lag, now)
    material = material_of(standing, declarations, units)
    splits = _numbered_splits(found.record, wanted.splits)
    experiment = found.record.experiment
    reward = experiment.metric(experiment.reward_metric)
    metrics = (reward, *(metric for metric in experiment.metrics if metric is not reward))
    everyone = list(found.record.arm_numbers.values())
    evidence = {metric.name: standing.evidence(metric, everyone) for metric in metrics}
    beliefs = {metric.name: posteriors_from(metric, evidence[metric.name]) for metric in metrics}
    in_service = [found.record.arm_numbers[arm.id] for arm in experiment.arms if not arm.is_taken_out]
    summary = _summarise([beliefs[reward.name][arm] for arm in in_service], reward)
    arms = tuple(
        ArmReport(
            arm=arm_id,
            share=found.epochs[-1].shares.get(number, 0.0),
            is_out_of_service=number not in in_service,
            is_warming_up=number in found.epochs[-1].warming_up,
            decisions=_decisions(standing, number),
            metrics=tuple(
                _metric_report(metric, evidence[metric.name][number], beliefs[metric.name][number])
                for metric in metrics
            ),
            probability_best=_at(in_service, number, None if summary is None else summary.probabilities),
            expected_loss=_at(in_service, number, None if summary is None else summary.expected_losses),
        )
        for arm_id, number in _in_order(found.record)
    )
    return Report(
        record=found.record,
        reported_at=now,
        arms=arms,
        epochs=_thinned(found.epochs, wanted.max_epochs),
        n_epochs=len(found.epochs),
        weighed=weigh(
            found.record,
            material,
            _by_arm(in_service, None if summary is None else summary.probabilities),
            _champion_loss(found.record, in_service, summary, evidence[reward.name]),
            splits=splits or [dict.fromkeys(in_service, 1 / len(in_service))] if in_service else splits,
            lift=wanted.lift,
        ),
        notes=tuple(_notes(material, reward, evidence[reward.name])),
    )


def _summarise(beliefs: Sequence[Posterior], reward: Metric) -> BestArmSummary | None:
    if not beliefs:
        return None
    return best_arm_summary(beliefs, maximize=reward.direction is Direction.MAXIMIZE)


def _numbered_splits(
    record: ExperimentRecord, splits: Sequence[Mapping[str, float]]
) -> list[dict[int, float]]:
    """The splits by number of arm.

    Raises:
        InvalidInputError: A split names an arm that the experiment never had, or its weights are none.
    """
    violations = []
    for index, split in enumerate(splits):
        unknown = [arm_id for arm_id in split if arm_id not in record.arm_numbers]
        violations += [
            Violation(f"splits[{index}].weights", f"{shown(arm_id)} is none of the arms")
            for arm_id in unknown
        ]
        total = sum(split.values())
        if not (all(isfinite(weight) and weight >= 0 for weight in split.values()) and 0 < total < inf):
            rule = "weights must be finite and at least 0, with a positive sum"
            violations.append(Violation(f"splits[{index}].weights", rule))
    if violations:
        raise InvalidInputError(violations)
    return [{record.arm_numbers[arm_id]: weight for arm_id, weight in split.items()} for split in splits]


def _by_arm(numbers: Sequence[int], values: NDArray[np.float64] | None) -> dict[int, float]:
    return {} if values is None else dict(zip(numbers, values.tolist(), strict=True))


def _champion_loss(
    record: ExperimentRecord,
    in_service: Sequence[int],
    summary: BestArmSummary | None,
    evidence: Mapping[int, ArmEvidence],
) -> float | None:
    """The champion's expected loss relative to its mean."""
    champion = record.arm_numbers[record.experiment.champion]
    loss = _at(in_service, champion, None if summary is None else summary.expected_losses)
    sums = evidence[champion].sums
    return None if loss is None or sums.n == 0 or sums.mean == 0 else loss / abs(sums.mean)


def _at(numbers: Sequence[int], number: int, values: NDArray[np.float64] | None) -> float | None:
    """The value of one arm; None if it has none, or none that is finite."""
    if values is None or number not in numbers:
        return None
    value = float(values[numbers.index(number)])
    return value if isfinite(value) else None


def _in_order(record: ExperimentRecord) -> list[tuple[str, int]]:
    declared = [arm.id for arm in record.experiment.arms]
    dropped = [arm_id for arm_id in record.arm_numbers if arm_id not in set(declared)]
    return [(arm_id, record.arm_numbers[arm_id]) for arm_id in (*declared, *dropped)]


def _decisions(standing: Standing, arm: int) -> dict[Basis, int]:
    counts = dict.fromkeys(Basis, 0)
    for key, count in standing.facts.decisions.items():
        if key.arm == arm:
            counts[key.basis] += count
    return counts


def _metric_report(metric: Metric, evidence: ArmEvidence, belief: Posterior) -> MetricReport:
    lower, upper = belief.interval(LEVEL)
    return MetricReport(
        metric=metric.name,
        evidence=evidence,
        mean=evidence.sums.mean if evidence.sums.n > 0 else None,
        interval=(max(lower, metric.minimum), min(upper, metric.maximum)),
    )


def _thinned(epochs: Sequence[Epoch], n_wanted: int) -> tuple[Epoch, ...]:
    """Evenly spaced epochs, the first and the last among them.

    >>> _thinned([1, 2, 3, 4, 5, 6, 7], 3)
    (1, 4, 7)
    """
    if len(epochs) <= n_wanted:
        return tuple(epochs)
    if n_wanted == 1:
        return (epochs[-1],)
    step = (len(epochs) - 1) / (n_wanted - 1)
    return tuple(epochs[round(index * step)] for index in range(n_wanted))


def _notes(material: Material, reward: Metric, evidence: Mapping[int, ArmEvidence]) -> list[str]:
    notes = [_BELIEFS]
    if material.repeats is not None and material.repeats.is_too_much:
        notes.append(f"Evidence is withheld: {material.repeats.explanation}.")
    if reward.window is not None:
        waiting = "count when their epoch has closed: the window and the replicas' lag after its end"
        notes.append(f"Outcomes of {reward.name} (window {reward.window}) {waiting}.")
    n_silent = sum(seen.sums.n == 0 for seen in evidence.values())
    if n_silent:
        notes.append(f"{n_silent} of {len(evidence)} arms have no counted observation: theirs is the prior.")
    for basis, what in ((Basis.FALLBACK, "fallbacks"), (Basis.UNCONFIRMED, "unconfirmed")):
        decided = material.standing.facts.decisions
        count = sum(n for key, n in decided.items() if key.basis is basis)
        if count:
            notes.append(f"{count} decisions were {what}: they do not steer and are in no mean.")
    return notes

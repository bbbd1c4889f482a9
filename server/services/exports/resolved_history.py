"""An experiment's history with its numbers resolved: arm ids, ends of epochs, and which are closed."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cached_property
from typing import NamedTuple

from bandit.facts import Epoch, ends_of, n_closed
from bandit.metric import Metric
from server.store.records import ExperimentFacts


class EpochKey(NamedTuple):
    """An epoch of a segment."""

    segment: int
    number: int


class ResolvedHistory:
    """The source of the rows of every table.

    Args:
        found: The experiment, its epochs and facts.
        metrics: Metric number to metric, for every metric that was ever declared.
        lag: How long a replica may go on with an epoch after its end.
        now: The moment at which epochs are open or closed; no later than the snapshot.

    Attributes:
        found: The experiment, its epochs and facts.
        metrics: Metric number to metric, for every metric that was ever declared.
        arm_ids: Arm number to id, for every arm that was ever declared.
        epochs: Every epoch, in order of segment and number.
    """

    def __init__(
        self, found: ExperimentFacts, metrics: Mapping[int, Metric], lag: timedelta, now: datetime
    ) -> None:
        self.found = found
        self.metrics = metrics
        self.arm_ids = {number: arm_id for arm_id, number in found.record.arm_numbers.items()}
        self.epochs = {EpochKey(epoch.segment, epoch.number): epoch for epoch in found.epochs}
        self._lag = lag
        self._now = now

    @property
    def reward_metric(self) -> int:
        """Number of the metric that steers."""
        return self.found.record.metric_numbers[self.found.record.experiment.reward_metric]

    @cached_property
    def declared_metrics(self) -> frozenset[int]:
        """Numbers of the metrics that are still declared."""
        record = self.found.record
        return frozenset(record.metric_numbers[metric.name] for metric in record.experiment.metrics)

    @cached_property
    def ends(self) -> Mapping[EpochKey, datetime]:
        """The end of each epoch, without those in force."""
        return {
            EpochKey(segment, epoch.number): end
            for segment, epochs in self._by_segment.items()
            for epoch, end in zip(epochs, ends_of(epochs), strict=False)
        }

    @cached_property
    def closed(self) -> Mapping[int, frozenset[EpochKey]]:
        """Metric number to the epochs that are closed for it."""
        return {number: self._closed_for(metric) for number, metric in self.metrics.items()}

    @cached_property
    def outcome_counts(self) -> Counter[EpochKey]:
        """The number of outcomes of each epoch in the facts."""
        counts: Counter[EpochKey] = Counter()
        for key, tally in self.found.facts.outcomes.items():
            counts[EpochKey(key.segment, key.epoch)] += tally.n + tally.late_n
        return counts

    @cached_property
    def _by_segment(self) -> Mapping[int, list[Epoch]]:
        by_segment: defaultdict[int, list[Epoch]] = defaultdict(list)
        for epoch in self.found.epochs:
            by_segment[epoch.segment].append(epoch)
        return by_segment

    def _closed_for(self, metric: Metric) -> frozenset[EpochKey]:
        return frozenset(
            EpochKey(segment, epoch.number)
            for segment, epochs in self._by_segment.items()
            for epoch in epochs[: n_closed(epochs, metric.window, self._lag, self._now)]
        )

"""The rows of an export's tables."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

from bandit.decision_id import Basis
from bandit.facts import DecisionKey, OutcomeKey, Tally
from bandit.facts.silence import silence_of, with_silence
from bandit.launch.shadow_id import seen_part
from bandit.metric import Metric
from server.services.exports.metric_scale import MetricScale
from server.services.exports.resolved_history import EpochKey, ResolvedHistory
from server.services.exports.tables import Row
from server.store.columns.times import to_micros
from server.store.records import LoggedOutcome

_MICROS_PER_MS: Final = 1000
_NOTHING: Final = Tally()
_Cell: TypeAlias = tuple[EpochKey, int, Basis]
"""Epoch, arm and basis, by which decisions are counted."""


def epoch_rows(history: ResolvedHistory) -> Iterator[Row]:
    """Yield a row for each arm of each epoch."""
    closed = history.closed[history.reward_metric]
    for key, epoch in history.epochs.items():
        for arm, share in epoch.shares.items():
            means = (epoch.means.get(metric, {}).get(arm) for metric in history.metrics)
            yield (
                epoch.number,
                epoch.segment,
                history.arm_ids.get(arm),
                share,
                arm == epoch.champion,
                arm in epoch.warming_up,
                to_micros(epoch.started_at),
                to_micros(history.ends.get(key)),
                key in closed,
                epoch.revision,
                *means,
                seen_part(epoch.shadows[arm]) if arm in epoch.shadows else None,
            )


def fact_rows(history: ResolvedHistory) -> Iterator[Row]:
    """Yield a row for each metric of each arm and basis with decisions or outcomes in an epoch.

    Policy decisions have a row for every arm with a share, since an arm that was never chosen is a fact too.
    A metric no longer declared has rows only where it has outcomes.
    """
    facts = history.found.facts
    number = history.found.record.number
    scales = {metric: MetricScale(declared) for metric, declared in history.metrics.items()}
    for cell in _cells(history):
        (segment, epoch), arm, basis = cell
        key = DecisionKey(number, epoch, segment, arm, basis)
        n_decisions = facts.decisions.get(key, 0)
        for metric, scale in scales.items():
            tally = facts.outcomes.get(OutcomeKey(*key, metric), _NOTHING)
            if metric in history.declared_metrics or tally != _NOTHING:
                yield _fact_row(history, cell, metric, scale, n_decisions, tally)


class RewardRows:
    """Makes rows of the reward log, and counts them.

    Attributes:
        logged: Rows by epoch so far, without those kept apart.
        n_apart: Rows kept apart so far.
    """

    def __init__(self, history: ResolvedHistory) -> None:
        self._history = history
        self._metrics = {number: metric.name for number, metric in history.metrics.items()}
        self._bases = {int(basis): basis.name.lower() for basis in Basis}
        self.logged: Counter[EpochKey] = Counter()
        self.n_apart = 0

    def of(self, outcomes: Iterable[LoggedOutcome]) -> list[Row]:
        """Return a row for each outcome."""
        return [self._row(outcome) for outcome in outcomes]

    def _row(self, outcome: LoggedOutcome) -> Row:
        key = EpochKey(outcome.segment, outcome.epoch)
        if outcome.is_apart:
            self.n_apart += 1
        else:
            self.logged[key] += 1
        return (
            outcome.decision.hex(),
            int.from_bytes(outcome.decision[:6]) * _MICROS_PER_MS,
            outcome.received_ms * _MICROS_PER_MS,
            outcome.epoch,
            outcome.segment,
            self._history.arm_ids.get(outcome.arm),
            self._bases[outcome.basis],
            None if outcome.is_apart else _propensity(self._history, key, outcome.arm, outcome.basis),
            self._metrics[outcome.metric],
            outcome.value,
            outcome.revision,
            outcome.is_late,
            outcome.is_apart,
        )


def _cells(history: ResolvedHistory) -> list[_Cell]:
    facts = history.found.facts
    decided = {(EpochKey(key.segment, key.epoch), key.arm, key.basis) for key in facts.decisions}
    posted = {(EpochKey(key.segment, key.epoch), key.arm, key.basis) for key in facts.outcomes}
    offered = {
        (key, arm, Basis.POLICY)
        for key, epoch in history.epochs.items()
        for arm, share in epoch.shares.items()
        if share > 0
    }
    return sorted(decided | posted | offered)


def _fact_row(
    history: ResolvedHistory, cell: _Cell, metric: int, scale: MetricScale, n_decisions: int, tally: Tally
) -> Row:
    key, arm, basis = cell
    is_closed = key in history.closed[metric]
    is_resolved = is_closed and metric in history.declared_metrics
    resolved = _resolved(history.metrics[metric], n_decisions, tally) if is_resolved else None
    epoch = history.epochs.get(key)
    return (
        key.number,
        key.segment,
        history.arm_ids.get(arm),
        basis.name.lower(),
        history.metrics[metric].name,
        _propensity(history, key, arm, basis),
        is_closed,
        n_decisions,
        tally.n,
        *scale.sums(tally),
        *((None, None, None) if resolved is None else (resolved.n, *scale.sums(resolved))),
        None if epoch is None else epoch.means.get(metric, {}).get(arm),
        tally.late_n,
        *scale.late_sums(tally),
    )


def _resolved(metric: Metric, n_decisions: int, tally: Tally) -> Tally:
    """Return the observations of a closed epoch as the posterior counts them, silence included."""
    moments, quanta = (tally.n, tally.total, tally.squares), silence_of(metric)
    return Tally(*moments if quanta is None else with_silence(moments, n_decisions, quanta))


def _propensity(history: ResolvedHistory, key: EpochKey, arm: int, basis: int) -> float | None:
    epoch = history.epochs.get(key)
    return None if epoch is None or basis != Basis.POLICY else epoch.shares.get(arm, 0.0)

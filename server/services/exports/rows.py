"""The rows of an export's tables."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

from bandit.decision_id import Basis
from bandit.facts import DecisionKey, OutcomeKey, Tally
from bandit.metric import Metric
from server.services.exports.metric_scale import Unit
from server.services.exports.resolved_history import EpochKey, View
from server.services.exports.tables import Row
from server.store.columns.times import to_micros
from server.store.records import LoggedOutcome

_MICROS_PER_MS: Final = 1000
_NOTHING: Final = Tally()
_Cell: TypeAlias = tuple[EpochKey, int, Basis]
"""Epoch, arm and basis: what decisions are counted by."""


def epoch_rows(view: View) -> Iterator[Row]:
    """A row for each arm of each epoch."""
    closed = view.closed[view.reward_metric]
    for key, epoch in view.epochs.items():
        for arm, share in epoch.shares.items():
            means = (epoch.means.get(metric, {}).get(arm) for metric in view.metrics)
            yield (
                epoch.number,
                epoch.segment,
                view.arm_ids.get(arm),
                share,
                arm == epoch.champion,
                arm in epoch.warming_up,
                to_micros(epoch.started_at),
                to_micros(view.ends.get(key)),
                key in closed,
                epoch.revision,
                *means,
            )


def fact_rows(view: View) -> Iterator[Row]:
    """A row for each metric of each arm and basis that an epoch has decisions or outcomes of.

    Policy decisions have a row for every arm with a share, since an arm that nobody was given is a fact too.
    A metric no longer declared has rows where it has outcomes.
    """
    facts = view.found.facts
    number = view.found.record.number
    units = {metric: Unit(declared) for metric, declared in view.metrics.items()}
    for cell in _cells(view):
        (segment, epoch), arm, basis = cell
        key = DecisionKey(number, epoch, segment, arm, basis)
        n_decisions = facts.decisions.get(key, 0)
        for metric, unit in units.items():
            tally = facts.outcomes.get(OutcomeKey(*key, metric), _NOTHING)
            if metric in view.declared_metrics or tally != _NOTHING:
                yield _fact_row(view, cell, metric, unit, n_decisions, tally)


class RewardRows:
    """Makes rows of the reward log, and counts them.

    Attributes:
        logged: Rows by epoch so far, without those kept apart.
        n_apart: Rows kept apart so far.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._metrics = {number: metric.name for number, metric in view.metrics.items()}
        self._bases = {int(basis): basis.name.lower() for basis in Basis}
        self.logged: Counter[EpochKey] = Counter()
        self.n_apart = 0

    def of(self, outcomes: Iterable[LoggedOutcome]) -> list[Row]:
        """A row for each outcome."""
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
            self._view.arm_ids.get(outcome.arm),
            self._bases[outcome.basis],
            None if outcome.is_apart else _propensity(self._view, key, outcome.arm, outcome.basis),
            self._metrics[outcome.metric],
            outcome.value,
            outcome.revision,
            outcome.is_late,
            outcome.is_apart,
        )


def _cells(view: View) -> list[_Cell]:
    facts = view.found.facts
    counted = {(EpochKey(key.segment, key.epoch), key.arm, key.basis) for key in facts.decisions}
    posted = {(EpochKey(key.segment, key.epoch), key.arm, key.basis) for key in facts.outcomes}
    offered = {
        (key, arm, Basis.POLICY)
        for key, epoch in view.epochs.items()
        for arm, share in epoch.shares.items()
        if share > 0
    }
    return sorted(counted | posted | offered)


def _fact_row(view: View, cell: _Cell, metric: int, unit: Unit, n_decisions: int, tally: Tally) -> Row:
    key, arm, basis = cell
    is_closed = key in view.closed[metric]
    is_resolved = is_closed and metric in view.declared_metrics
    resolved = _resolved(view.metrics[metric], n_decisions, tally) if is_resolved else None
    epoch = view.epochs.get(key)
    return (
        key.number,
        key.segment,
        view.arm_ids.get(arm),
        basis.name.lower(),
        view.metrics[metric].name,
        _propensity(view, key, arm, basis),
        is_closed,
        n_decisions,
        tally.n,
        *unit.sums(tally),
        *((None, None, None) if resolved is None else (resolved.n, *unit.sums(resolved))),
        None if epoch is None else epoch.means.get(metric, {}).get(arm),
        tally.late_n,
        *unit.late_sums(tally),
    )


def _resolved(metric: Metric, n_decisions: int, tally: Tally) -> Tally:
    """The observations of a closed epoch, silence with them where it has a value; as the posterior counts."""
    if metric.window is None or metric.default_value is None:
        return Tally(n=tally.n, total=tally.total, squares=tally.squares)
    n_silent = max(n_decisions - tally.n, 0)
    quanta = metric.quantise(metric.default_value)
    return Tally(
        n=tally.n + n_silent,
        total=tally.total + n_silent * quanta,
        squares=tally.squares + n_silent * quanta * quanta,
    )


def _propensity(view: View, key: EpochKey, arm: int, basis: int) -> float | None:
    epoch = view.epochs.get(key)
    return None if epoch is None or basis != Basis.POLICY else epoch.shares.get(arm, 0.0)

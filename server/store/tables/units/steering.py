"""Units as beliefs count them: each with its first three decisions, once the window of each has closed.

Rows of servers before 0.3.0 have no ids. Such a unit counts with its first decision alone, and no longer once
that decision's epoch is sealed: its outcomes may have left the log before their sums were kept, so decisions
and outcomes are left out together.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, func, select, text

from bandit.decision_id import Basis, new_id
from bandit.experiment import SEGMENT_ALL
from bandit.facts import DecisionKey, Facts, OutcomeKey, Tally
from bandit.facts.units import SteeringFacts
from bandit.metric import Metric
from server.store.columns.exact_sums import in_quanta
from server.store.columns.times import to_micros
from server.store.records import ExperimentRecord
from server.store.tables.schema import seals
from server.store.tables.units.portions import IS_IN_PORTION, MOMENTS, STEPS, portions, tally_of
from server.store.tables.units.sealed import read_steering_sums

_COUNTED: Final = text(
    f"""
    SELECT epoch, arm, sum(CASE
        WHEN first_id IS NULL THEN CASE WHEN first_ms <= :cutoff_ms AND epoch > :sealed THEN 1 ELSE 0 END
        ELSE CASE WHEN first_id < :bound THEN 1 ELSE 0 END
            + CASE WHEN second_id < :bound THEN 1 ELSE 0 END
            + CASE WHEN third_id < :bound THEN 1 ELSE 0 END END),
        sum(CASE WHEN first_id IS NULL THEN 1 ELSE 0 END)
    FROM units WHERE {IS_IN_PORTION}
    GROUP BY epoch, arm
    """  # noqa: S608 - made of texts that stand in the code
)
_LOGGED: Final = f"""
    FROM units JOIN rewards ON rewards.experiment = units.experiment
        AND rewards.segment = units.segment AND rewards.unit = units.unit
    WHERE {IS_IN_PORTION} AND rewards.metric = :metric AND rewards.basis = {int(Basis.POLICY)}
        AND NOT rewards.is_late AND NOT rewards.is_apart
"""
_FOLDED: Final = {
    is_real: text(
        f"""
        SELECT epoch, arm, is_open, {MOMENTS}
        FROM (
            SELECT units.epoch, units.arm, rewards.decision >= :bound AS is_open, {steps} AS outcome
            {_LOGGED} AND rewards.decision IN (units.first_id, units.second_id, units.third_id)
        ) AS steering
        GROUP BY epoch, arm, is_open
        """  # noqa: S608 - as above
    )
    for is_real, steps in STEPS.items()
}
"""By whether the metric is real."""

_WITHOUT_IDS: Final = {
    is_real: text(
        f"""
        SELECT units.epoch, units.arm, units.first_ms, rewards.decision, {steps} AS outcome
        {_LOGGED} AND units.first_id IS NULL AND units.epoch > :sealed
            AND rewards.epoch = units.epoch AND rewards.arm = units.arm
        """
    )
    for is_real, steps in STEPS.items()
}
"""Candidates for the outcomes of first decisions, of which only time, epoch and arm are known."""


class _Fold:
    """The fold of one metric, which grows by a portion at a time.

    Args:
        number: Number of the metric.
        metric: The metric.
        cutoff_ms: The latest time of decisions, as ids have it, that are closed.
    """

    def __init__(self, number: int, metric: Metric, cutoff_ms: int) -> None:
        self.number = number
        self.metric = metric
        self.cutoff_ms = cutoff_ms
        self._outcomes = defaultdict[OutcomeKey, Tally](Tally)
        self._n_open = Counter[int]()

    def add(self, key: OutcomeKey, tally: Tally, *, is_open: bool = False) -> None:
        """Add outcomes."""
        if is_open:
            self._n_open[key.arm] += tally.n
        else:
            self._outcomes[key] = self._outcomes[key].plus(tally)

    def to_facts(self, decisions: Mapping[DecisionKey, int]) -> SteeringFacts:
        """Return what was added, with the decisions that are closed."""
        facts = Facts(decisions=dict(decisions), outcomes=dict(self._outcomes))
        return SteeringFacts(facts=facts, n_open=dict(self._n_open))


def read_steering(
    connection: Connection, record: ExperimentRecord, lag: timedelta, now: datetime
) -> dict[int, SteeringFacts]:
    """Metric number to what units steer with, folded in the database a portion at a time.

    Args:
        connection: Inside a transaction.
        record: The experiment, which counts units.
        lag: What is waited for beyond the window of a decision.
        now: The moment.
    """
    sealed = _sealed_epoch(connection, record.number)
    folds = [
        _Fold(record.metric_numbers[metric.name], metric, _closing(metric, lag, now))
        for metric in record.experiment.metrics
    ]
    decisions = {fold.cutoff_ms: Counter[DecisionKey]() for fold in folds}
    for portion in portions(connection, record.number):
        n_without_ids = 0
        for cutoff_ms, counted in decisions.items():
            rows = connection.execute(_COUNTED, portion | _bounds(cutoff_ms, sealed)).all()
            for epoch, arm, count, _ in rows:
                counted[DecisionKey(record.number, epoch, SEGMENT_ALL, arm, Basis.POLICY)] += int(count)
            n_without_ids = sum(int(row[3]) for row in rows)
        for fold in folds:
            arguments = portion | _bounds(fold.cutoff_ms, sealed)
            _add_outcomes(connection, fold, arguments, has_units_without_ids=n_without_ids > 0)
    by_number = {fold.number: fold for fold in folds}
    for key, stored in read_steering_sums(connection, record.number).items():
        if key.metric in by_number:
            fold = by_number[key.metric]
            fold.add(key, in_quanta(stored.in_steps(), is_real=fold.metric.is_real))
    return {fold.number: fold.to_facts(decisions[fold.cutoff_ms]) for fold in folds}


def _sealed_epoch(connection: Connection, experiment: int) -> int:
    query = select(func.coalesce(func.max(seals.c.epoch), 0))
    is_own = (seals.c.experiment == experiment, seals.c.segment == SEGMENT_ALL)
    return int(connection.execute(query.where(*is_own)).scalar_one())


def _closing(metric: Metric, lag: timedelta, now: datetime) -> int:
    """The latest time of decisions, as ids have it, whose window has closed; without one, now."""
    waits_for = timedelta() if metric.window is None else metric.window + lag
    return max(to_micros(now - waits_for) // 1000, 0)


def _bounds(cutoff_ms: int, sealed: int) -> dict[str, Any]:
    """Arguments of the queries: `bound` is the first id of a decision that is later than the cutoff."""
    return {"cutoff_ms": cutoff_ms, "bound": new_id(cutoff_ms + 1, 0), "sealed": sealed}


def _add_outcomes(
    connection: Connection, fold: _Fold, arguments: Mapping[str, Any], *, has_units_without_ids: bool
) -> None:
    """Add the outcomes of a portion's units, those of open windows apart."""
    experiment, is_real = arguments["experiment"], fold.metric.is_real

    def key_of(epoch: int, arm: int) -> OutcomeKey:
        return OutcomeKey(experiment, epoch, SEGMENT_ALL, arm, Basis.POLICY, fold.number)

    common = {name: arguments[name] for name in ("experiment", "segment", "first", "end")}
    common["metric"] = fold.number
    for epoch, arm, is_open, *moments in connection.execute(
        _FOLDED[is_real], common | {"bound": arguments["bound"]}
    ):
        fold.add(key_of(epoch, arm), tally_of(moments, is_real=is_real), is_open=bool(is_open))
    if not has_units_without_ids:
        return
    rows = connection.execute(_WITHOUT_IDS[is_real], common | {"sealed": arguments["sealed"]})
    for epoch, arm, first_ms, decision, outcome in rows:
        if int.from_bytes(decision[:6]) == first_ms:
            tally = in_quanta(Tally.of(outcome, is_late=False), is_real=is_real)
            fold.add(key_of(epoch, arm), tally, is_open=first_ms > fold.cutoff_ms)

"""Units in SQL: rows that grow or move to an earlier first decision, and the log summed by unit.

A unit's outcomes are not stored twice: which of them came within the window of its first decision is known
only when that is, and a flush on its way may move it. The log is indexed by unit instead.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, func, select, text

from bandit.decision import Basis
from bandit.facts import DecisionKey, Facts, OutcomeKey, Tally
from bandit.metric import Metric
from bandit.units import UnitFacts, largest_quanta
from server.store.records import ExperimentRecord, Flush
from server.store.schema import unit_groups, units

UnitRow: TypeAlias = tuple[int, int, int, int, int, int, int]
"""The columns of `units`."""

UPSERT: Final = """
    INSERT INTO units (experiment, segment, unit, first_ms, epoch, arm, decisions)
    {rows}
    ON CONFLICT (experiment, segment, unit) DO UPDATE SET
        first_ms = CASE WHEN (excluded.first_ms, excluded.epoch, excluded.arm)
            < (units.first_ms, units.epoch, units.arm) THEN excluded.first_ms ELSE units.first_ms END,
        epoch = CASE WHEN (excluded.first_ms, excluded.epoch, excluded.arm)
            < (units.first_ms, units.epoch, units.arm) THEN excluded.epoch ELSE units.epoch END,
        arm = CASE WHEN (excluded.first_ms, excluded.epoch, excluded.arm)
            < (units.first_ms, units.epoch, units.arm) THEN excluded.arm ELSE units.arm END,
        decisions = units.decisions + excluded.decisions
"""
"""The earliest decision is the first, whatever the order of flushes; a dialect says where rows come from."""

_ADD_GROUPS: Final = text(
    """
    INSERT INTO unit_groups (experiment, unit_group, slot, decisions)
    VALUES (:experiment, :unit_group, :slot, :decisions)
    ON CONFLICT (experiment, unit_group, slot) DO UPDATE SET
        decisions = unit_groups.decisions + excluded.decisions
    """
)
_OUTCOMES: Final = text(
    """
    SELECT segment, epoch, arm, count(*), sum(outcome), sum(outcome * outcome)
    FROM (
        SELECT segment, epoch, arm, CASE WHEN sum(total) > :most THEN :most ELSE sum(total) END AS outcome
        FROM (
            SELECT units.segment, units.epoch, units.arm, units.unit, rewards.quanta AS total
            FROM units JOIN rewards ON rewards.experiment = units.experiment
                AND rewards.segment = units.segment AND rewards.unit = units.unit
            WHERE units.experiment = :experiment AND rewards.metric = :metric
                AND rewards.received_ms <= units.first_ms + :window_ms
            UNION ALL
            SELECT units.segment, units.epoch, units.arm, units.unit, unit_sums.total
            FROM units JOIN unit_sums ON unit_sums.experiment = units.experiment
                AND unit_sums.segment = units.segment AND unit_sums.unit = units.unit
            WHERE units.experiment = :experiment AND unit_sums.metric = :metric
        ) AS outcomes
        GROUP BY segment, epoch, arm, unit
    ) AS sums
    GROUP BY segment, epoch, arm
    """
)
_SEAL: Final = text(
    """
    INSERT INTO unit_sums (experiment, segment, unit, metric, n, total)
    SELECT rewards.experiment, rewards.segment, rewards.unit, rewards.metric, count(*), sum(rewards.quanta)
    FROM rewards JOIN units ON units.experiment = rewards.experiment
        AND units.segment = rewards.segment AND units.unit = rewards.unit
    WHERE rewards.experiment = :experiment AND rewards.segment = :segment AND rewards.epoch = :epoch
        AND rewards.unit IS NOT NULL AND rewards.metric = :metric
        AND rewards.received_ms <= units.first_ms + :window_ms
    GROUP BY rewards.experiment, rewards.segment, rewards.unit, rewards.metric
    ORDER BY rewards.unit
    ON CONFLICT (experiment, segment, unit, metric) DO UPDATE SET
        n = unit_sums.n + excluded.n, total = unit_sums.total + excluded.total
    """
)


def rows_of(flush: Flush) -> list[UnitRow]:
    """One row for each unit of a flush, in key order, so that two writers never wait in a circle."""
    rows: dict[tuple[int, int, int], UnitRow] = {}
    for (experiment, epoch, segment, arm, _), sightings in flush.units:
        for mark, (decision, count) in sightings.items():
            unit = int.from_bytes(mark)
            row = (experiment, segment, unit, int.from_bytes(decision[:6]), epoch, arm, count)
            known = rows.get((experiment, segment, unit))
            rows[experiment, segment, unit] = row if known is None else _merged(row, known)
    return sorted(rows.values())


def _merged(row: UnitRow, other: UnitRow) -> UnitRow:
    """Both rows of a unit: the earlier first decision, and the decisions of both. Commutes."""
    experiment, segment, unit, first_ms, epoch, arm, _ = min(row, other)
    return experiment, segment, unit, first_ms, epoch, arm, row[-1] + other[-1]


def add_groups(connection: Connection, flush: Flush) -> None:
    """Adds decisions by group of units, in key order."""
    if flush.groups:
        connection.execute(
            _ADD_GROUPS,
            [
                {"experiment": experiment, "unit_group": group, "slot": flush.slot, "decisions": count}
                for (experiment, group), count in sorted(flush.groups.items())
            ],
        )


def read(connection: Connection, record: ExperimentRecord) -> UnitFacts:
    """The units of an experiment, folded in the database: as many rows as it has epochs, arms and metrics."""
    exposed = connection.execute(
        select(units.c.segment, units.c.epoch, units.c.arm, func.count(), func.sum(units.c.decisions))
        .where(units.c.experiment == record.number)
        .group_by(units.c.segment, units.c.epoch, units.c.arm)
    ).all()
    groups = connection.execute(
        select(unit_groups.c.unit_group, func.sum(unit_groups.c.decisions))
        .where(unit_groups.c.experiment == record.number)
        .group_by(unit_groups.c.unit_group)
    )
    outcomes: dict[OutcomeKey, Tally] = {}
    for metric in record.experiment.metrics if exposed else ():
        outcomes |= _read_outcomes(connection, record, metric)
    return UnitFacts(
        facts=Facts(
            decisions={
                DecisionKey(record.number, epoch, segment, arm, Basis.POLICY): int(n_units)
                for segment, epoch, arm, n_units, _ in exposed
            },
            outcomes=outcomes,
        ),
        n_decisions=sum(int(row[-1]) for row in exposed),
        groups={group: int(count) for group, count in groups},
    )


def seal(connection: Connection, record: ExperimentRecord, segment: int, epoch: int) -> None:
    """Keeps the outcomes of an epoch's decisions by unit; in this transaction they must leave the log.

    Only once no first decision of the epoch's units can still arrive: long after its decisions have expired.
    """
    for metric in record.experiment.metrics:
        if metric.window is not None:
            connection.execute(_SEAL, _arguments(record, metric) | {"segment": segment, "epoch": epoch})


def _read_outcomes(
    connection: Connection, record: ExperimentRecord, metric: Metric
) -> Mapping[OutcomeKey, Tally]:
    """Number, sum and sum of squares of the outcomes of units; none without a window."""
    if metric.window is None:
        return {}
    arguments = _arguments(record, metric) | {"most": largest_quanta(metric)}
    rows: Sequence[Sequence[Any]] = connection.execute(_OUTCOMES, arguments).all()
    number = record.metric_numbers[metric.name]
    return {
        OutcomeKey(record.number, epoch, segment, arm, Basis.POLICY, number): Tally(*map(int, sums))
        for segment, epoch, arm, *sums in rows
    }


def _arguments(record: ExperimentRecord, metric: Metric) -> dict[str, int]:
    window = metric.window
    assert window is not None  # noqa: S101 - the callers leave out metrics without one
    return {
        "experiment": record.number,
        "metric": record.metric_numbers[metric.name],
        "window_ms": int(window.total_seconds() * 1000),
    }

"""Units in SQL: rows that grow or move to an earlier first decision, and the log summed by unit.

A unit's outcomes are not stored twice: which of them came within the window of its first decision is known
only when that is, and a flush on its way may move it. The log is indexed by unit instead.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final, NamedTuple, TypeAlias

from sqlalchemy import Connection, func, select, text, tuple_

from bandit.decision_id import Basis
from bandit.experiment import SEGMENT_ALL
from bandit.facts import DecisionKey, Facts, OutcomeKey, Tally
from bandit.facts.units import UnitFacts, largest_quanta
from bandit.metric import Metric
from server.store.columns.exact_sums import (
    QUANTA_OF_STEPS,
    STEP_BITS,
    addition_to,
    in_quanta,
    rests_of,
    to_columns,
)
from server.store.dialect import Dialect, RowsStatement
from server.store.records import ExperimentRecord, Flush
from server.store.tables.schema import unit_groups, units

UnitRow: TypeAlias = tuple[int, int, int, int, int, int, int]
"""The columns of `units`."""

_UPSERT: Final = RowsStatement(
    """
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
    """,
    list(units.c),
    is_write=True,
)
"""The earliest decision is the first, whatever the order of flushes."""

_ADD_GROUPS: Final = text(
    """
    INSERT INTO unit_groups (experiment, unit_group, slot, decisions)
    VALUES (:experiment, :unit_group, :slot, :decisions)
    ON CONFLICT (experiment, unit_group, slot) DO UPDATE SET
        decisions = unit_groups.decisions + excluded.decisions
    """
)
_EXPOSED: Final = text(
    """
    SELECT epoch, arm, count(*), sum(decisions) FROM units
    WHERE experiment = :experiment AND segment = :segment AND unit >= :first AND unit < :end
    GROUP BY epoch, arm
    """
)
_PORTION: Final = 20_000
"""Units that are folded at once: what a fold keeps in memory does not grow with their number."""

_BEYOND_UNITS: Final = 2**63 - 1
"""Larger than the hash of any unit, which has 48 bits."""

_MOST: Final = 1 << 2 * STEP_BITS
"""Steps of the largest outcome of a unit, whatever its metric."""

_LOGGED: Final = """
    SELECT units.epoch, units.arm, units.unit, {steps} AS total
    FROM units JOIN rewards ON rewards.experiment = units.experiment
        AND rewards.segment = units.segment AND rewards.unit = units.unit
    WHERE units.experiment = :experiment AND units.segment = :segment
        AND units.unit >= :first AND units.unit < :end
        AND rewards.metric = :metric AND rewards.received_ms <= units.first_ms + :window_ms
"""
_SEALED: Final = f"""
    SELECT units.epoch, units.arm, units.unit,
        CASE WHEN total_high > 0 OR total > {_MOST} THEN {_MOST}
            ELSE (total << {STEP_BITS}) + total_low + (total_high << 62) END
    FROM units JOIN unit_sums ON unit_sums.experiment = units.experiment
        AND unit_sums.segment = units.segment AND unit_sums.unit = units.unit
    WHERE units.experiment = :experiment AND units.segment = :segment
        AND units.unit >= :first AND units.unit < :end AND unit_sums.metric = :metric
"""  # noqa: S608 - made of numbers that stand in the code
_FOLDED: Final = """
    SELECT epoch, arm, count(*), sum(outcome),
        sum((outcome >> 20) * (outcome >> 20)), sum((outcome >> 20) * (outcome & 1048575)),
        sum((outcome & 1048575) * (outcome & 1048575))
    FROM (
        SELECT epoch, arm, CASE
            WHEN high >= CAST(:most AS bigint) >> 20 OR (high << 20) + low > :most THEN CAST(:most AS bigint)
            ELSE (high << 20) + low END AS outcome
        FROM (
            SELECT epoch, arm, CAST(sum(total >> 20) AS bigint) AS high,
                CAST(sum(total & 1048575) AS bigint) AS low
            FROM ({logged} UNION ALL {sealed}) AS outcomes
            GROUP BY epoch, arm, unit
        ) AS sums
    ) AS capped
    GROUP BY epoch, arm
    """
"""The moments of the outcomes of units, in steps: the sum of a unit's outcomes and the square of one may need
more than 64 bits, so both are taken in halves of 20 bits."""

_STEPS_OF_QUANTA: Final = f"(rewards.quanta << {STEP_BITS})"
_REAL_STEPS: Final = f"{_STEPS_OF_QUANTA} + coalesce(steps - ({QUANTA_OF_STEPS} << {STEP_BITS}), 0)"
_OUTCOMES: Final = {
    is_real: text(_FOLDED.format(logged=_LOGGED.format(steps=steps), sealed=_SEALED))
    for is_real, steps in {True: _REAL_STEPS, False: _STEPS_OF_QUANTA}.items()
}
"""By whether the metric is real; for any other the index of the log by unit has all that is read."""

_SEAL: Final = text(
    f"""
    INSERT INTO unit_sums (experiment, segment, unit, metric, n, total, total_low, total_high)
    VALUES (:experiment, :segment, :unit, :metric, :n, :total, :total_low, :total_high)
    ON CONFLICT (experiment, segment, unit, metric) DO UPDATE SET
        n = unit_sums.n + excluded.n, {addition_to("unit_sums", "total", STEP_BITS)}
    """  # noqa: S608 - as above
)


class UnitOutcome(NamedTuple):
    """An outcome of the log whose unit is counted."""

    experiment: int
    segment: int
    unit: int
    metric: int
    quanta: int
    steps: int | None
    received_ms: int


def rows_of(flush: Flush) -> list[UnitRow]:
    """One row for each unit of a flush, in key order, so that two writers never deadlock."""
    rows: dict[tuple[int, int, int], UnitRow] = {}
    for (experiment, epoch, segment, arm, _), sightings in flush.units:
        for mark, (decision, count) in sightings.items():
            unit = int.from_bytes(mark)
            row = (experiment, segment, unit, int.from_bytes(decision[:6]), epoch, arm, count)
            known = rows.get((experiment, segment, unit))
            rows[experiment, segment, unit] = row if known is None else _merged(row, known)
    return sorted(rows.values())


def add(connection: Connection, dialect: Dialect, flush: Flush) -> None:
    """Insert the units of a flush, or add them to those that are there."""
    dialect.execute_rows(connection, _UPSERT, rows_of(flush))


def _merged(row: UnitRow, other: UnitRow) -> UnitRow:
    """Both rows of a unit: the earlier first decision, and the decisions of both. Commutes."""
    experiment, segment, unit, first_ms, epoch, arm, _ = min(row, other)
    return experiment, segment, unit, first_ms, epoch, arm, row[-1] + other[-1]


def add_groups(connection: Connection, flush: Flush) -> None:
    """Add decisions by group of units, in key order."""
    if flush.groups:
        connection.execute(
            _ADD_GROUPS,
            [
                {"experiment": experiment, "unit_group": group, "slot": flush.slot, "decisions": count}
                for (experiment, group), count in sorted(flush.groups.items())
            ],
        )


def read(connection: Connection, record: ExperimentRecord) -> UnitFacts:
    """The units of an experiment, folded in the database a portion at a time.

    A unit is in one portion with all its outcomes, so the sums of portions add up to those of all, exactly.
    """
    exposed, n_decisions = Counter[DecisionKey](), 0
    outcomes = defaultdict[OutcomeKey, Tally](Tally)
    for portion in _portions(connection, record.number):
        for epoch, arm, n_units, n_made in connection.execute(_EXPOSED, portion):
            exposed[DecisionKey(record.number, epoch, SEGMENT_ALL, arm, Basis.POLICY)] += int(n_units)
            n_decisions += int(n_made)
        for metric in record.experiment.metrics:
            for key, tally in _read_outcomes(connection, record, metric, portion):
                outcomes[key] = outcomes[key].plus(tally)
    groups = connection.execute(
        select(unit_groups.c.unit_group, func.sum(unit_groups.c.decisions))
        .where(unit_groups.c.experiment == record.number)
        .group_by(unit_groups.c.unit_group)
    )
    return UnitFacts(
        facts=Facts(decisions=dict(exposed), outcomes=dict(outcomes)),
        n_decisions=n_decisions,
        groups={group: int(count) for group, count in groups},
    )


def _portions(connection: Connection, experiment: int) -> Iterator[dict[str, int]]:
    """Ranges of units that hold all of them, each a portion or less; as arguments of the queries."""
    known = select(units.c.unit).where(units.c.experiment == experiment, units.c.segment == SEGMENT_ALL)
    first: int | None = connection.execute(known.order_by(units.c.unit).limit(1)).scalar_one_or_none()
    while first is not None:
        following = known.where(units.c.unit >= first).order_by(units.c.unit).offset(_PORTION).limit(1)
        end = connection.execute(following).scalar_one_or_none()
        yield {
            "experiment": experiment,
            "segment": SEGMENT_ALL,
            "first": first,
            "end": _BEYOND_UNITS if end is None else end,
        }
        first = end


def seal(
    connection: Connection, outcomes: Iterable[UnitOutcome], windows_ms: Mapping[tuple[int, int], int]
) -> None:
    """Add outcomes to the sums by unit; in this transaction they must leave the log.

    Only once no first decision of their units can still arrive: long after the decisions have expired.

    Args:
        connection: Inside a transaction.
        outcomes: What leaves the log.
        windows_ms: (Experiment, metric) to the metric's window; what is not named is not kept.
    """
    counted = [outcome for outcome in outcomes if (outcome.experiment, outcome.metric) in windows_ms]
    first_ms = read_first(connection, {outcome[:3] for outcome in counted})
    sums: defaultdict[tuple[int, int, int, int], list[int]] = defaultdict(lambda: [0, 0, 0])
    for outcome in counted:
        first = first_ms.get(outcome[:3])
        window_ms = windows_ms[outcome.experiment, outcome.metric]
        if first is not None and outcome.received_ms <= first + window_ms:
            total = sums[outcome[:4]]
            total[0] += 1
            total[1] += outcome.quanta
            total[2] += rests_of(outcome.steps)[0]
    if sums:
        names = ("experiment", "segment", "unit", "metric", "n")
        rows = [
            dict(zip(names, (*key, n), strict=True)) | to_columns("total", STEP_BITS, total, rest)
            for key, (n, total, rest) in sorted(sums.items())
        ]
        connection.execute(_SEAL, rows)


def read_first(
    connection: Connection, keys: Collection[tuple[int, int, int]]
) -> dict[tuple[int, int, int], int]:
    """When the first decisions of these units were made, as far as they are counted."""
    if not keys:
        return {}
    key = tuple_(units.c.experiment, units.c.segment, units.c.unit)
    query = select(units.c.experiment, units.c.segment, units.c.unit, units.c.first_ms)
    return {
        (row[0], row[1], row[2]): row[3] for row in connection.execute(query.where(key.in_(sorted(keys))))
    }


def _read_outcomes(
    connection: Connection, record: ExperimentRecord, metric: Metric, portion: Mapping[str, int]
) -> Iterator[tuple[OutcomeKey, Tally]]:
    """Number, sum and sum of squares of the outcomes of a portion's units; none without a window."""
    if metric.window is None:
        return
    number, is_real = record.metric_numbers[metric.name], metric.is_real
    most = largest_quanta(metric)
    arguments = {
        **portion,
        "metric": number,
        "window_ms": int(metric.window.total_seconds() * 1000),
        "most": most if is_real else most << STEP_BITS,
    }
    for epoch, arm, *moments in connection.execute(_OUTCOMES[is_real], arguments):
        n, total, high, middle, low = map(int, moments)
        squares = (high << 2 * STEP_BITS) + (middle << STEP_BITS + 1) + low
        key = OutcomeKey(record.number, epoch, SEGMENT_ALL, arm, Basis.POLICY, number)
        yield key, in_quanta(Tally(n, total, squares), is_real=is_real)

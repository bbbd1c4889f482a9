"""What stays of the outcomes of units when their rows leave the log: sums by unit, and sums that steer.

Nothing may leave before no first decision of its unit can still arrive: long after decisions have expired.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection, Row, select, text, tuple_

from bandit.decision_id import Basis
from bandit.facts import OutcomeKey
from server.store.columns.exact_sums import (
    STEP_BITS,
    SUM_COLUMNS,
    StoredTally,
    addition_of_tallies,
    addition_to,
    rests_of,
    to_columns,
)
from server.store.tables.schema import sealed_steering, units
from server.store.tables.units.rows import UnitKey

_ADD_SUMS: Final = text(
    f"""
    INSERT INTO unit_sums (experiment, segment, unit, metric, n, total, total_low, total_high)
    VALUES (:experiment, :segment, :unit, :metric, :n, :total, :total_low, :total_high)
    ON CONFLICT (experiment, segment, unit, metric) DO UPDATE SET
        n = unit_sums.n + excluded.n, {addition_to("unit_sums", "total", STEP_BITS)}
    """  # noqa: S608 - made of names that stand in the code
)
_ADD_STEERING: Final = text(addition_of_tallies("sealed_steering", OutcomeKey._fields))
_STEERING_COLUMNS: Final = [sealed_steering.c[name] for name in SUM_COLUMNS]


class LeavingOutcome(NamedTuple):
    """An outcome of a unit's decision whose row leaves the log."""

    experiment: int
    segment: int
    unit: int
    metric: int
    decision: bytes
    basis: int
    quanta: int
    steps: int | None
    is_late: bool
    received_ms: int


def seal(
    connection: Connection, outcomes: Sequence[LeavingOutcome], windows_ms: Mapping[tuple[int, int], int]
) -> None:
    """Add outcomes to the sums; in this transaction they must leave the log.

    Args:
        connection: Inside a transaction.
        outcomes: What leaves the log.
        windows_ms: (Experiment, metric) to the metric's window; what is not named is not kept by unit.
    """
    known = _read_units(connection, {outcome[:3] for outcome in outcomes})
    _keep_by_unit(connection, outcomes, windows_ms, known)
    _keep_steering(connection, outcomes, known)


def _read_units(connection: Connection, keys: Collection[UnitKey]) -> dict[UnitKey, Row[tuple[object, ...]]]:
    if not keys:
        return {}
    key = tuple_(units.c.experiment, units.c.segment, units.c.unit)
    rows = connection.execute(select(units).where(key.in_(sorted(keys))))
    return {(row.experiment, row.segment, row.unit): row for row in rows}


def _keep_by_unit(
    connection: Connection,
    outcomes: Sequence[LeavingOutcome],
    windows_ms: Mapping[tuple[int, int], int],
    known: Mapping[UnitKey, Row[tuple[object, ...]]],
) -> None:
    """Add those that came within the window of their unit's first decision to the sums by unit."""
    sums: defaultdict[tuple[int, int, int, int], list[int]] = defaultdict(lambda: [0, 0, 0])
    for outcome in outcomes:
        row, window_ms = known.get(outcome[:3]), windows_ms.get((outcome.experiment, outcome.metric))
        if row is None or window_ms is None or outcome.received_ms > row.first_ms + window_ms:
            continue
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
        connection.execute(_ADD_SUMS, rows)


def _keep_steering(
    connection: Connection,
    outcomes: Sequence[LeavingOutcome],
    known: Mapping[UnitKey, Row[tuple[object, ...]]],
) -> None:
    """Add outcomes in time of decisions with which their unit steers to the sums that steer."""
    tallies: defaultdict[OutcomeKey, StoredTally] = defaultdict(StoredTally)
    for outcome in outcomes:
        row = known.get(outcome[:3])
        if row is None or outcome.is_late or outcome.basis != Basis.POLICY:
            continue
        if outcome.decision in {row.first_id, row.second_id, row.third_id}:
            key = OutcomeKey(
                outcome.experiment, row.epoch, outcome.segment, row.arm, Basis.POLICY, outcome.metric
            )
            tally = StoredTally.of(outcome.quanta, outcome.steps, is_late=False)
            tallies[key] = tallies[key].plus(tally)
    if tallies:
        rows = [
            {**key._asdict(), "basis": int(key.basis), **tally.to_columns()}
            for key, tally in sorted(tallies.items())
        ]
        connection.execute(_ADD_STEERING, rows)


def read_steering_sums(connection: Connection, experiment: int) -> dict[OutcomeKey, StoredTally]:
    """The sums of what steers and has left the log, of one experiment."""
    keys = [sealed_steering.c[name] for name in OutcomeKey._fields]
    rows = connection.execute(
        select(*keys, *_STEERING_COLUMNS).where(sealed_steering.c.experiment == experiment)
    )
    found = {}
    for experiment_number, epoch, segment, arm, basis, metric, *sums in rows:
        key = OutcomeKey(experiment_number, epoch, segment, arm, Basis(basis), metric)
        found[key] = StoredTally.of_columns(sums)
    return found

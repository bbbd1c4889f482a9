"""Rows of units: they grow, move to an earlier first decision, and keep their three smallest ids."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from operator import itemgetter
from typing import Final, TypeAlias

from sqlalchemy import Connection, select, tuple_

from bandit.facts.units import N_STEERING
from server.store.dialect import Dialect, RowsStatement
from server.store.records import Flush
from server.store.tables.schema import unit_groups, units

UnitRow: TypeAlias = tuple[int, int, int, int, int, int, int, bytes | None, bytes | None, bytes | None]
"""The columns of `units`."""

UnitKey: TypeAlias = tuple[int, int, int]
"""Experiment, segment and unit."""

_ID_COLUMNS: Final = ("first_id", "second_id", "third_id")


def _smaller(a: str, b: str) -> str:
    """The smaller of two ids in SQL; null is larger than any."""
    return f"CASE WHEN {b} IS NULL OR {a} < {b} THEN {a} ELSE {b} END"


def _larger(a: str, b: str) -> str:
    """The larger of two ids in SQL; null is larger than any."""
    return f"CASE WHEN {a} < {b} THEN {b} WHEN {a} >= {b} THEN {a} END"


def _merged_ids() -> str:
    """What an upsert sets so that a row has the three smallest ids of both.

    Of two sorted lists, the k-th smallest of all is the smallest max(i-th of one, j-th of the other) over
    i + j = k, where the 0-th is smaller than any.
    """
    (a1, a2, a3), (b1, b2, b3) = (
        [f"{table}.{name}" for name in _ID_COLUMNS] for table in ("units", "excluded")
    )
    second = _smaller(f"({_smaller(a2, b2)})", f"({_larger(a1, b1)})")
    crossed = _smaller(f"({_larger(a1, b2)})", f"({_larger(a2, b1)})")
    third = _smaller(f"({_smaller(a3, b3)})", f"({crossed})")
    merged = zip(_ID_COLUMNS, (_smaller(a1, b1), second, third), strict=True)
    return ", ".join(f"{name} = {value}" for name, value in merged)


_UPSERT: Final = RowsStatement(
    f"""
    INSERT INTO units (experiment, segment, unit, first_ms, epoch, arm, decisions, {", ".join(_ID_COLUMNS)})
    {{rows}}
    ON CONFLICT (experiment, segment, unit) DO UPDATE SET
        first_ms = CASE WHEN (excluded.first_ms, excluded.epoch, excluded.arm)
            < (units.first_ms, units.epoch, units.arm) THEN excluded.first_ms ELSE units.first_ms END,
        epoch = CASE WHEN (excluded.first_ms, excluded.epoch, excluded.arm)
            < (units.first_ms, units.epoch, units.arm) THEN excluded.epoch ELSE units.epoch END,
        arm = CASE WHEN (excluded.first_ms, excluded.epoch, excluded.arm)
            < (units.first_ms, units.epoch, units.arm) THEN excluded.arm ELSE units.arm END,
        decisions = units.decisions + excluded.decisions,
        {_merged_ids()}
    """,
    list(units.c),
    is_write=True,
)
"""The earliest decision is the first, whatever the order of flushes."""

_ADD_GROUPS: Final = RowsStatement(
    """
    INSERT INTO unit_groups (experiment, unit_group, slot, decisions)
    {rows}
    ON CONFLICT (experiment, unit_group, slot) DO UPDATE SET
        decisions = unit_groups.decisions + excluded.decisions
    """,
    list(unit_groups.c),
    is_write=True,
)


def rows_of(flush: Flush) -> list[UnitRow]:
    """One row for each unit of a flush, in key order, so that two writers never deadlock."""
    rows: defaultdict[tuple[int, int], dict[int, UnitRow]] = defaultdict(dict)
    for (experiment, epoch, segment, arm, _), sightings in flush.units:
        unit_to_row = rows[experiment, segment]
        for mark, (ids, count) in sightings.items():
            unit = int.from_bytes(mark)
            first, second, third = _padded(ids)
            first_ms = int.from_bytes(min(ids)[:6])
            row = (experiment, segment, unit, first_ms, epoch, arm, count, first, second, third)
            known = unit_to_row.get(unit)
            unit_to_row[unit] = row if known is None else _merged(row, known)
    # Sorted by number: to sort the rows themselves holds the interpreter, and with it Choose, for 2 ms.
    return [
        unit_to_row[unit]
        for _, unit_to_row in sorted(rows.items(), key=itemgetter(0))
        for unit in sorted(unit_to_row)
    ]


def add(connection: Connection, dialect: Dialect, flush: Flush) -> None:
    """Insert the units of a flush, or add them to those that are there."""
    dialect.execute_rows(connection, _UPSERT, rows_of(flush))


def add_groups(connection: Connection, dialect: Dialect, flush: Flush) -> None:
    """Add decisions by group of units, in key order."""
    rows = [
        (experiment, group, flush.slot, count)
        for experiment, counts in sorted(flush.groups.items())
        for group, count in sorted(counts.items())
    ]
    dialect.execute_rows(connection, _ADD_GROUPS, rows)


def read_first(connection: Connection, keys: Collection[UnitKey]) -> dict[UnitKey, int]:
    """When the first decisions of these units were made, as far as they are counted."""
    if not keys:
        return {}
    key = tuple_(units.c.experiment, units.c.segment, units.c.unit)
    query = select(units.c.experiment, units.c.segment, units.c.unit, units.c.first_ms)
    return {
        (row[0], row[1], row[2]): row[3] for row in connection.execute(query.where(key.in_(sorted(keys))))
    }


def _merged(row: UnitRow, other: UnitRow) -> UnitRow:
    """Both rows of a unit: the earlier first decision, and the decisions of both. Commutes."""
    experiment, segment, unit, first_ms, epoch, arm, *_ = min(row, other, key=lambda each: each[:6])
    first, second, third = _padded(each for each in (*row[7:], *other[7:]) if each is not None)
    return experiment, segment, unit, first_ms, epoch, arm, row[6] + other[6], first, second, third


def _padded(ids: Iterable[bytes]) -> tuple[bytes | None, bytes | None, bytes | None]:
    """The three smallest ids, and null for those that are missing."""
    first, second, third = [*sorted(ids), None, None, None][:N_STEERING]
    return first, second, third

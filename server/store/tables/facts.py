"""Facts in SQL: rows that only grow, one for each writer's slot, summed over slots when they are read.

Policy decisions of a first epoch and their outcomes are counted by part; see `server.store.columns.slots`.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Select, and_, delete, func, not_, select, text

from bandit.decision_id import Basis
from bandit.facts import DecisionKey, Facts, OutcomeKey, Tally
from bandit.facts.columns import whole_numbers
from bandit.facts.parts import N_PARTS, SPLIT_BASIS, SPLIT_EPOCH, part_of
from server.store.columns.exact_sums import (
    QUANTA_OF_STEPS,
    REST_COLUMNS,
    STEP_BITS,
    SUM_BITS,
    SUM_COLUMNS,
    StoredTally,
    addition_of_tallies,
    tallies_in_quanta,
    tallies_in_steps,
)
from server.store.columns.slots import NO_PART, part_in, slot_of
from server.store.dialect import Dialect, RowsStatement
from server.store.records import Flush
from server.store.tables.schema import decision_facts, outcome_facts, rewards

_DECISION_KEY: Final = [decision_facts.c[name] for name in DecisionKey._fields]
_OUTCOME_KEY: Final = [outcome_facts.c[name] for name in OutcomeKey._fields]
_SUMS: Final = [func.sum(outcome_facts.c[name]).label(name) for name in Tally._fields]
_COLUMNS: Final = [outcome_facts.c[name] for name in SUM_COLUMNS]
_N_KEYS: Final = len(OutcomeKey._fields) - 1

_OUTCOME_PART: Final = [part_in(outcome_facts.c.slot).label("part"), *_OUTCOME_KEY[1:]]
_IS_SPLIT_OUTCOME: Final = and_(
    outcome_facts.c.epoch == SPLIT_EPOCH, outcome_facts.c.basis == int(SPLIT_BASIS)
)
_DECISION_PART: Final = [part_in(decision_facts.c.slot).label("part"), *_DECISION_KEY[1:]]
_DECISIONS_BY_PART: Final = (
    select(*_DECISION_PART, func.sum(decision_facts.c.decisions))
    .where(decision_facts.c.epoch == SPLIT_EPOCH, decision_facts.c.basis == int(SPLIT_BASIS))
    .group_by(*_DECISION_PART)
)

_PORTION: Final = 2_000
"""Rows that are fetched at once: 20,000 would hold the interpreter, and with it Choose, for 6 ms."""

_MOST_OF_A_SLOT: Final = 1 << 46
"""What 2^16 slots may have of a sum each, so that all together stay below 2^63."""

_HALF_MASK: Final = (1 << 31) - 1
_PLACE: Final = 11
"""The byte of a decision that says in which part it is."""

_ADD_DECISIONS: Final = RowsStatement(
    """
    INSERT INTO decision_facts (experiment, epoch, segment, arm, basis, slot, decisions)
    {rows}
    ON CONFLICT (experiment, epoch, segment, arm, basis, slot) DO UPDATE SET
        decisions = decision_facts.decisions + excluded.decisions
    """,
    list(decision_facts.c),
    is_write=True,
)
_ADD_OUTCOMES: Final = RowsStatement(
    addition_of_tallies("outcome_facts", [*OutcomeKey._fields, "slot"], rows="{rows}"),
    [outcome_facts.c[name] for name in (*OutcomeKey._fields, "slot", *SUM_COLUMNS)],
    is_write=True,
)
_IS_SMALL: Final = and_(
    *(outcome_facts.c[name] == 0 for name in REST_COLUMNS),
    *(outcome_facts.c[name].between(-_MOST_OF_A_SLOT, _MOST_OF_A_SLOT) for name in SUM_BITS),
)
"""Whether the sums of a row are in its first columns, and can be added up over all slots in 64 bits."""

_FOLD: Final = text(
    f"""
    SELECT experiment, epoch, segment, arm, basis, metric, place, is_late, count(*), sum(quanta),
        sum(squares >> 31), sum(squares & {_HALF_MASK}),
        sum(rest), sum(square_rest >> 31), sum(square_rest & {_HALF_MASK})
    FROM (
        SELECT experiment, epoch, segment, arm, basis, metric, place, is_late, quanta,
            quanta * quanta AS squares, rest, rest * ((logged << {STEP_BITS + 1}) + rest) AS square_rest
        FROM (
            SELECT *, steps - (logged << {STEP_BITS}) AS rest
            FROM (
                SELECT *, {QUANTA_OF_STEPS} AS logged,
                    CASE WHEN epoch = {SPLIT_EPOCH} AND basis = {SPLIT_BASIS:d}
                        THEN substr(decision, {_PLACE + 1}, 1) END AS place
                FROM rewards
                WHERE experiment = :experiment AND NOT is_apart
            ) AS known
        ) AS halved
    ) AS outcomes
    GROUP BY experiment, epoch, segment, arm, basis, metric, place, is_late
    """  # noqa: S608 - as above
)
"""The sums of the log by key, and in a first epoch by the byte of the decision that gives its part.

Squares are added up in halves: their sums need more than 64 bits.
"""


DecisionRow: TypeAlias = tuple[int, int, int, int, int, int, int]
"""The columns of `decision_facts`."""


class OutcomePart(NamedTuple):
    """The key of a tally of outcomes, and the part of a first epoch that it is of; `NO_PART` if not known."""

    key: OutcomeKey
    part: int = NO_PART


def add_decisions(connection: Connection, dialect: Dialect, flush: Flush) -> None:
    """Add the counts of a flush. Its slot may be another writer's by now: increments of two add up."""
    dialect.execute_rows(connection, _ADD_DECISIONS, rows_of(flush))


def rows_of(flush: Flush) -> list[DecisionRow]:
    """One row for each key of a flush, or for each of its parts, in key order.

    No two rows have one key, and no two writers deadlock.
    """
    experiment_to_rows: defaultdict[int, list[DecisionRow]] = defaultdict(list)
    slots = [slot_of(flush.slot, part) for part in range(N_PARTS)]
    known = flush.parts if slots[0] != flush.slot else {}
    for key, count in flush.counts.items():
        experiment, epoch, segment, arm, basis = key
        rows = experiment_to_rows[experiment]
        parts = known.get(key)
        if parts is None:
            rows.append((experiment, epoch, segment, arm, int(basis), flush.slot, count))
        else:
            pairs = zip(slots, parts, strict=True)
            rows += [(experiment, epoch, segment, arm, int(basis), slot, n) for slot, n in pairs if n]
    # One sort of all, 60,000 in a first epoch, would hold the interpreter, and with it Choose, for 47 ms.
    return [row for _, rows in sorted(experiment_to_rows.items(), key=itemgetter(0)) for row in sorted(rows)]


def add_outcomes(
    connection: Connection, dialect: Dialect, increments: Mapping[OutcomePart, StoredTally], slot: int
) -> None:
    """Add tallies, in key order, so that two writers never deadlock."""
    totals: dict[tuple[int, ...], StoredTally] = {}
    for (key, part), tally in increments.items():
        place = (*map(int, key), slot_of(slot, part))
        totals[place] = totals[place].plus(tally) if place in totals else tally
    rows = [place + tally.to_row() for place, tally in sorted(totals.items())]
    dialect.execute_rows(connection, _ADD_OUTCOMES, rows)


def read(
    connection: Connection, experiment: int, real_metrics: Collection[int], *, with_parts: bool = True
) -> Facts:
    """The facts of one experiment, summed over slots, in the quanta of its metrics.

    Args:
        connection: Inside a transaction.
        experiment: Number of the experiment.
        real_metrics: Numbers of its metrics of real values.
        with_parts: Whether to read the parts of the first epoch as well.
    """
    decisions = (
        select(*_DECISION_KEY[1:], func.sum(decision_facts.c.decisions))
        .where(decision_facts.c.experiment == experiment)
        .group_by(*_DECISION_KEY)
    )
    is_own = outcome_facts.c.experiment == experiment
    large = select(outcome_facts.c.metric).where(
        is_own, outcome_facts.c.metric.not_in(real_metrics), not_(_IS_SMALL)
    )
    exact = {*real_metrics, *connection.execute(large.distinct()).scalars()}
    outcomes = _read_outcomes(connection, is_own, (exact, real_metrics), _OUTCOME_KEY[1:])
    whole = Facts.of_rows(experiment, _fetch(connection, decisions), *outcomes)
    if not with_parts:
        return whole
    return replace(whole, parts=_read_parts(connection, experiment, (exact, real_metrics)))


def _read_parts(
    connection: Connection, experiment: int, exact_and_real: tuple[Collection[int], Collection[int]]
) -> tuple[Facts, ...]:
    """The parts of the first epoch; none if it is empty, or if any count of it is not known by part.

    A row without a part is enough for that, even one of zeros: an older server may have added to it what
    it took from a part. All other rows have a part, so the sums over parts are those of the epoch.
    """
    decisions = _fetch(connection, _DECISIONS_BY_PART.where(decision_facts.c.experiment == experiment))
    if not len(decisions) or _is_unknown(decisions):
        return ()
    is_wanted = and_(outcome_facts.c.experiment == experiment, _IS_SPLIT_OUTCOME)
    outcomes = _read_outcomes(connection, is_wanted, exact_and_real, _OUTCOME_PART)
    if any(map(_is_unknown, outcomes)):
        return ()
    return tuple(
        Facts.of_rows(experiment, *(rows[rows[:, 0] == part, 1:] for rows in (decisions, *outcomes)))
        for part in range(N_PARTS)
    )


def _is_unknown(rows: NDArray[Any]) -> bool:
    """Whether the part of some row, in its first column, is not known."""
    return bool((rows[:, 0] == NO_PART).any())


def _read_outcomes(
    connection: Connection,
    is_wanted: ColumnElement[bool],
    exact_and_real: tuple[Collection[int], Collection[int]],
    keys: Sequence[ColumnElement[Any]],
) -> list[NDArray[Any]]:
    """The tallies of wanted rows, summed by keys of which the last is the metric.

    Metrics whose sums may need more than 64 bits, of which some are real, have an array of their own.
    """
    exact, real_metrics = exact_and_real
    small = select(*keys, *_SUMS).where(is_wanted, outcome_facts.c.metric.not_in(exact)).group_by(*keys)
    rows = [_fetch(connection, small)]
    if exact:
        wanted = and_(is_wanted, outcome_facts.c.metric.in_(exact))
        rows.append(_fetch_exactly(connection, wanted, real_metrics, keys))
    return rows


def _fetch(connection: Connection, query: Select[Any]) -> NDArray[Any]:
    """Rows of whole numbers as an array: there may be millions, and as objects of Python never at once."""
    result = connection.execute(query, execution_options={"yield_per": _PORTION})
    n_columns = len(result.keys())
    portions = [whole_numbers(rows, n_columns) for rows in result.partitions()]
    return np.concatenate([np.zeros((0, n_columns), dtype=np.int64), *portions])


def _fetch_exactly(
    connection: Connection,
    is_wanted: ColumnElement[bool],
    real_metrics: Collection[int],
    keys: Sequence[ColumnElement[Any]],
) -> NDArray[Any]:
    """The outcome facts of some metrics as rows of Python's numbers, which a sum over slots may need."""
    query = select(*keys, *_COLUMNS).where(is_wanted)
    rows = _fetch(connection, query.order_by(*keys, outcome_facts.c.slot))
    found, tallies = rows[:, : len(keys)], tallies_in_steps(rows[:, len(keys) :])
    is_first = (
        np.append(True, (found[1:] != found[:-1]).any(axis=1)) if len(rows) else np.zeros(0, dtype=bool)
    )
    firsts = np.flatnonzero(is_first)
    if len(firsts) < len(rows):
        found, tallies = found[firsts], np.add.reduceat(tallies, firsts, axis=0)
    tallies_in_quanta(tallies, ~np.isin(found[:, -1], list(real_metrics)))
    return np.concatenate([found.astype(object), tallies], axis=1)


def sum_all(connection: Connection) -> dict[OutcomeKey, StoredTally]:
    """The outcome facts of every experiment, summed over slots."""
    found: dict[OutcomeKey, StoredTally] = {}
    query = select(*_OUTCOME_KEY, *_COLUMNS)
    for row in connection.execute(query, execution_options={"yield_per": _PORTION}):
        key, tally = key_of(row), StoredTally.of_columns(row[_N_KEYS + 1 :])
        found[key] = found[key].plus(tally) if key in found else tally
    return found


def fold_log(connection: Connection, experiment: int) -> dict[OutcomePart, StoredTally]:
    """The outcome facts as they follow from the log of one experiment, by part where there are parts."""
    folded: dict[OutcomePart, StoredTally] = {}
    for row in connection.execute(_FOLD, {"experiment": experiment}):
        part = NO_PART if row.place is None else part_of(bytes(_PLACE) + row.place)
        key, is_late = OutcomePart(key_of(row), part), row.is_late
        n, total, high, low, rest, rest_high, rest_low = (int(value or 0) for value in row[_N_KEYS + 3 :])
        sums, rests = (n, total, (high << 31) + low), (rest, (rest_high << 31) + rest_low)
        tally = (
            StoredTally(0, 0, 0, *sums, 0, 0, *rests)
            if is_late
            else StoredTally(*sums, 0, 0, 0, *rests, 0, 0)
        )
        folded[key] = folded[key].plus(tally) if key in folded else tally
    return folded


def over_parts(by_part: Mapping[OutcomePart, StoredTally]) -> dict[OutcomeKey, StoredTally]:
    """The same tallies, each over all parts."""
    totals: defaultdict[OutcomeKey, StoredTally] = defaultdict(StoredTally)
    for (key, _), tally in by_part.items():
        totals[key] = totals[key].plus(tally)
    return dict(totals)


def logged_experiments(connection: Connection) -> list[int]:
    """Numbers of the experiments that the log knows, in order."""
    query = select(rewards.c.experiment).distinct().order_by(rewards.c.experiment)
    return list(connection.execute(query).scalars())


def count_apart(connection: Connection) -> int:
    """How many rows of the log are kept apart."""
    return connection.execute(select(func.count()).where(rewards.c.is_apart)).scalar_one()


def clear_outcomes(connection: Connection) -> None:
    """Delete every outcome fact, before a rebuild."""
    connection.execute(delete(outcome_facts))


def key_of(row: Sequence[Any]) -> OutcomeKey:
    """The key that a row begins with."""
    experiment, epoch, segment, arm, basis, metric = row[: _N_KEYS + 1]
    return OutcomeKey(experiment, epoch, segment, arm, Basis(basis), metric)

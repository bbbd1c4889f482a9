"""Facts in SQL: rows that only grow, one for each writer's slot, summed over slots when they are read."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Select, and_, delete, func, not_, select, text

from bandit.decision_id import Basis
from bandit.facts import DecisionKey, Facts, OutcomeKey, Tally
from bandit.facts.columns import whole_numbers
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
from server.store.records import Flush
from server.store.tables.schema import decision_facts, outcome_facts, rewards

_DECISION_KEY: Final = [decision_facts.c[name] for name in DecisionKey._fields]
_OUTCOME_KEY: Final = [outcome_facts.c[name] for name in OutcomeKey._fields]
_SUMS: Final = [func.sum(outcome_facts.c[name]).label(name) for name in Tally._fields]
_COLUMNS: Final = [outcome_facts.c[name] for name in SUM_COLUMNS]
_N_KEYS: Final = len(OutcomeKey._fields) - 1

_PORTION: Final = 20_000
"""Rows that are fetched at once."""

_MOST_OF_A_SLOT: Final = 1 << 46
"""What 2^15 slots may have of a sum each, so that all together stay below 2^61."""

_HALF_MASK: Final = (1 << 31) - 1

_ADD_DECISIONS: Final = text(
    """
    INSERT INTO decision_facts (experiment, epoch, segment, arm, basis, slot, decisions)
    VALUES (:experiment, :epoch, :segment, :arm, :basis, :slot, :decisions)
    ON CONFLICT (experiment, epoch, segment, arm, basis, slot) DO UPDATE SET
        decisions = decision_facts.decisions + excluded.decisions
    """
)
_ADD_OUTCOMES: Final = text(addition_of_tallies("outcome_facts", [*OutcomeKey._fields, "slot"]))
_IS_SMALL: Final = and_(
    *(outcome_facts.c[name] == 0 for name in REST_COLUMNS),
    *(outcome_facts.c[name].between(-_MOST_OF_A_SLOT, _MOST_OF_A_SLOT) for name in SUM_BITS),
)
"""Whether the sums of a row are in its first columns, and can be added up over all slots in 64 bits."""

_FOLD: Final = text(
    f"""
    SELECT experiment, epoch, segment, arm, basis, metric, is_late, count(*), sum(quanta),
        sum(squares >> 31), sum(squares & {_HALF_MASK}),
        sum(rest), sum(square_rest >> 31), sum(square_rest & {_HALF_MASK})
    FROM (
        SELECT experiment, epoch, segment, arm, basis, metric, is_late, quanta, quanta * quanta AS squares,
            rest, rest * ((logged << {STEP_BITS + 1}) + rest) AS square_rest
        FROM (
            SELECT *, steps - (logged << {STEP_BITS}) AS rest
            FROM (
                SELECT *, {QUANTA_OF_STEPS} AS logged FROM rewards
                WHERE experiment = :experiment AND NOT is_apart
            ) AS known
        ) AS halved
    ) AS outcomes
    GROUP BY experiment, epoch, segment, arm, basis, metric, is_late
    """  # noqa: S608 - as above
)
"""The sums of the log by key. Squares are added up in halves: their sums need more than 64 bits."""


def add_decisions(connection: Connection, flush: Flush) -> None:
    """Add the counts of a flush. Its slot may be another writer's by now: increments of two add up."""
    if flush.counts:
        connection.execute(
            _ADD_DECISIONS,
            [
                {**key._asdict(), "basis": int(key.basis), "slot": flush.slot, "decisions": count}
                for key, count in sorted(flush.counts.items())
            ],
        )


def add_outcomes(connection: Connection, increments: Mapping[OutcomeKey, StoredTally], slot: int) -> None:
    """Add tallies, in key order, so that two writers never deadlock."""
    if increments:
        connection.execute(
            _ADD_OUTCOMES,
            [
                {**key._asdict(), "basis": int(key.basis), "slot": slot, **tally.to_columns()}
                for key, tally in sorted(increments.items())
            ],
        )


def read(connection: Connection, experiment: int, real_metrics: Collection[int]) -> Facts:
    """The facts of one experiment, summed over slots, in the quanta of its metrics.

    Args:
        connection: Inside a transaction.
        experiment: Number of the experiment.
        real_metrics: Numbers of its metrics of real values.
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
    small = (
        select(*_OUTCOME_KEY[1:], *_SUMS)
        .where(is_own, outcome_facts.c.metric.not_in(exact))
        .group_by(*_OUTCOME_KEY)
    )
    rows = [_fetch(connection, small)]
    if exact:
        rows.append(_fetch_exactly(connection, and_(is_own, outcome_facts.c.metric.in_(exact)), real_metrics))
    return Facts.of_rows(experiment, _fetch(connection, decisions), *rows)


def _fetch(connection: Connection, query: Select[Any]) -> NDArray[Any]:
    """Rows of whole numbers as an array: there may be millions, and as objects of Python never at once."""
    result = connection.execute(query, execution_options={"yield_per": _PORTION})
    n_columns = len(result.keys())
    portions = [whole_numbers(rows, n_columns) for rows in result.partitions()]
    return np.concatenate([np.zeros((0, n_columns), dtype=np.int64), *portions])


def _fetch_exactly(
    connection: Connection, is_wanted: ColumnElement[bool], real_metrics: Collection[int]
) -> NDArray[Any]:
    """The outcome facts of some metrics as rows of Python's numbers, which a sum over slots may need."""
    query = select(*_OUTCOME_KEY[1:], *_COLUMNS).where(is_wanted)
    rows = _fetch(connection, query.order_by(*_OUTCOME_KEY[1:], outcome_facts.c.slot))
    keys = rows[:, :_N_KEYS]
    tallies = tallies_in_steps(rows[:, _N_KEYS:])
    is_first = np.append(True, (keys[1:] != keys[:-1]).any(axis=1)) if len(rows) else np.zeros(0, dtype=bool)
    firsts = np.flatnonzero(is_first)
    if len(firsts) < len(rows):
        keys, tallies = keys[firsts], np.add.reduceat(tallies, firsts, axis=0)
    tallies_in_quanta(tallies, ~np.isin(keys[:, -1], list(real_metrics)))
    return np.concatenate([keys.astype(object), tallies], axis=1)


def sum_all(connection: Connection) -> dict[OutcomeKey, StoredTally]:
    """The outcome facts of every experiment, summed over slots."""
    found: dict[OutcomeKey, StoredTally] = {}
    query = select(*_OUTCOME_KEY, *_COLUMNS)
    for row in connection.execute(query, execution_options={"yield_per": _PORTION}):
        key, tally = key_of(row), StoredTally.of_columns(row[_N_KEYS + 1 :])
        found[key] = found[key].plus(tally) if key in found else tally
    return found


def fold_log(connection: Connection, experiment: int) -> dict[OutcomeKey, StoredTally]:
    """The outcome facts as they follow from the log of one experiment."""
    folded: dict[OutcomeKey, StoredTally] = {}
    for row in connection.execute(_FOLD, {"experiment": experiment}):
        key, is_late = key_of(row), row.is_late
        n, total, high, low, rest, rest_high, rest_low = (int(value or 0) for value in row[_N_KEYS + 2 :])
        sums, rests = (n, total, (high << 31) + low), (rest, (rest_high << 31) + rest_low)
        tally = (
            StoredTally(0, 0, 0, *sums, 0, 0, *rests)
            if is_late
            else StoredTally(*sums, 0, 0, 0, *rests, 0, 0)
        )
        folded[key] = folded[key].plus(tally) if key in folded else tally
    return folded


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

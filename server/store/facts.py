"""Facts in SQL: rows that only grow, one for each writer's slot, summed over slots by whoever reads."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Select, delete, func, select, text

from bandit.columns import whole_numbers
from bandit.decision import Basis
from bandit.facts import DecisionKey, Facts, OutcomeKey, Tally
from server.store.records import Flush
from server.store.schema import decision_facts, outcome_facts, rewards

_DECISION_KEY: Final = [decision_facts.c[name] for name in DecisionKey._fields]
_OUTCOME_KEY: Final = [outcome_facts.c[name] for name in OutcomeKey._fields]
_SUMS: Final = [func.sum(outcome_facts.c[name]).label(name) for name in Tally._fields]

_PORTION: Final = 20_000
"""Rows that are fetched at once."""

_ADD_DECISIONS: Final = text(
    """
    INSERT INTO decision_facts (experiment, epoch, segment, arm, basis, slot, decisions)
    VALUES (:experiment, :epoch, :segment, :arm, :basis, :slot, :decisions)
    ON CONFLICT (experiment, epoch, segment, arm, basis, slot) DO UPDATE SET
        decisions = decision_facts.decisions + excluded.decisions
    """
)
_ADD_OUTCOMES: Final = text(
    """
    INSERT INTO outcome_facts (experiment, epoch, segment, arm, basis, metric, slot,
                               n, total, squares, late_n, late_total, late_squares)
    VALUES (:experiment, :epoch, :segment, :arm, :basis, :metric, :slot,
            :n, :total, :squares, :late_n, :late_total, :late_squares)
    ON CONFLICT (experiment, epoch, segment, arm, basis, metric, slot) DO UPDATE SET
        n = outcome_facts.n + excluded.n,
        total = outcome_facts.total + excluded.total,
        squares = outcome_facts.squares + excluded.squares,
        late_n = outcome_facts.late_n + excluded.late_n,
        late_total = outcome_facts.late_total + excluded.late_total,
        late_squares = outcome_facts.late_squares + excluded.late_squares
    """
)


def add_decisions(connection: Connection, flush: Flush) -> None:
    """Adds the counts of a flush. Its slot may be another writer's by now: increments of two add up."""
    if flush.counts:
        connection.execute(
            _ADD_DECISIONS,
            [
                {**key._asdict(), "basis": int(key.basis), "slot": flush.slot, "decisions": count}
                for key, count in sorted(flush.counts.items())
            ],
        )


def add_outcomes(connection: Connection, increments: Mapping[OutcomeKey, Tally], slot: int) -> None:
    """Adds tallies, in key order, so that two writers never wait for each other in a circle."""
    if increments:
        connection.execute(
            _ADD_OUTCOMES,
            [
                {**key._asdict(), "basis": int(key.basis), "slot": slot, **tally._asdict()}
                for key, tally in sorted(increments.items())
            ],
        )


def read(connection: Connection, experiment: int) -> Facts:
    """The facts of one experiment, summed over slots."""
    decisions = (
        select(*_DECISION_KEY[1:], func.sum(decision_facts.c.decisions))
        .where(decision_facts.c.experiment == experiment)
        .group_by(*_DECISION_KEY)
    )
    outcomes = (
        select(*_OUTCOME_KEY[1:], *_SUMS)
        .where(outcome_facts.c.experiment == experiment)
        .group_by(*_OUTCOME_KEY)
    )
    return Facts.of_rows(experiment, _fetch(connection, decisions), _fetch(connection, outcomes))


def _fetch(connection: Connection, query: Select[Any]) -> NDArray[Any]:
    """Rows of whole numbers as an array: there may be millions, and as objects of Python never at once."""
    result = connection.execute(query, execution_options={"yield_per": _PORTION})
    n_columns = len(result.keys())
    portions = [whole_numbers(rows, n_columns) for rows in result.partitions()]
    return np.concatenate([np.zeros((0, n_columns), dtype=np.int64), *portions])


def sum_all(connection: Connection) -> dict[OutcomeKey, Tally]:
    """The outcome facts of every experiment, summed over slots."""
    return dict(_to_tallies(connection.execute(select(*_OUTCOME_KEY, *_SUMS).group_by(*_OUTCOME_KEY)).all()))


def fold_log(connection: Connection, experiment: int) -> dict[OutcomeKey, Tally]:
    """The outcome facts as they follow from the log of one experiment."""
    key = [rewards.c[name] for name in OutcomeKey._fields]
    query = (
        select(*key, *_log_sums(~rewards.c.is_late), *_log_sums(rewards.c.is_late))
        .where(rewards.c.experiment == experiment, ~rewards.c.is_apart)
        .group_by(*key)
    )
    return dict(_to_tallies(connection.execute(query).all()))


def logged_experiments(connection: Connection) -> list[int]:
    """Numbers of the experiments that the log knows, in order."""
    query = select(rewards.c.experiment).distinct().order_by(rewards.c.experiment)
    return list(connection.execute(query).scalars())


def count_apart(connection: Connection) -> int:
    """How many rows of the log are kept apart."""
    return connection.execute(select(func.count()).where(rewards.c.is_apart)).scalar_one()


def clear_outcomes(connection: Connection) -> None:
    """Deletes every outcome fact, to be written anew from the log."""
    connection.execute(delete(outcome_facts))


def _log_sums(is_counted: ColumnElement[bool]) -> list[ColumnElement[int]]:
    quanta = rewards.c.quanta
    return [
        func.count(quanta).filter(is_counted),
        func.coalesce(func.sum(quanta).filter(is_counted), 0),
        func.coalesce(func.sum(quanta * quanta).filter(is_counted), 0),
    ]


def _to_tallies(rows: Iterable[Sequence[Any]]) -> Iterator[tuple[OutcomeKey, Tally]]:
    for row in rows:
        experiment, epoch, segment, arm, basis, metric, *sums = row
        yield OutcomeKey(experiment, epoch, segment, arm, Basis(basis), metric), Tally(*map(int, sums))

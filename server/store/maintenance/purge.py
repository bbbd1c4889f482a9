"""Purging: rows of sealed epochs leave the log, and their sums are kept, in one transaction.

At every instant the outcome facts are the sealed sums plus the fold of the log, also after a crash between
any two steps. Several servers may purge at once: each passes over rows that another one has locked.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, bindparam, delete, func, select, update

from bandit.decision_id import Basis
from bandit.facts import OutcomeKey
from server.store.columns.exact_sums import StoredTally
from server.store.columns.times import from_micros
from server.store.records import PurgeStep, SealSummary
from server.store.tables import sealed_facts as sealed_sums
from server.store.tables import shadows, units
from server.store.tables.experiments import find_by_number
from server.store.tables.schema import configurations, epochs, experiments, rewards, sealed_facts, seals
from server.store.tables.seals import IS_PURGEABLE, note_purged
from server.store.tables.units import LeavingOutcome

_COLUMNS: Final = [
    rewards.c[name]
    for name in (*OutcomeKey._fields, "quanta", "steps", "is_late", "is_apart", "unit", "received_ms")
]


class _Sums(NamedTuple):
    """What rows add up to: outcomes by key, and how many of an experiment and segment are kept apart."""

    tallies: Mapping[OutcomeKey, StoredTally]
    n_apart: Mapping[tuple[int, int], int]


def purge_step(connection: Connection, start: bytes, end: bytes, n_looked_at: int) -> PurgeStep:
    """Purge what is sealed and settled among the next rows of the log, in the order of ids.

    Never cuts between a decision and its shadows.

    Args:
        connection: Inside a transaction.
        start: The first id to look at.
        end: The first id beyond those to look at.
        n_looked_at: About how many rows to look at; more than a decision has outcomes.
    """
    of_range = select(rewards.c.decision).where(rewards.c.decision >= start, rewards.c.decision < end)
    boundary = connection.execute(
        of_range.order_by(rewards.c.decision).offset(n_looked_at).limit(1)
    ).scalar_one_or_none()
    if boundary is not None:
        boundary = shadows.next_cut(connection, boundary)
    beyond = end if boundary is None else min(boundary, end)
    rows = connection.execute(
        select(rewards.c.decision, *_COLUMNS)
        .join(seals, IS_PURGEABLE)
        .where(rewards.c.decision >= start, rewards.c.decision < beyond)
        .order_by(rewards.c.decision, rewards.c.metric)
        .with_for_update(skip_locked=True, of=rewards)
    ).all()
    rows = note_purged(connection, shadows.whole_families(connection, rows, start, beyond))
    if rows:
        _move(connection, rows)
    return PurgeStep(len(rows), boundary)


def _move(connection: Connection, rows: Sequence[Row[Any]]) -> None:
    sums = _sum(rows)
    _keep_units(connection, rows)
    shadows.seal(connection, rows, find_by_number)
    connection.execute(
        delete(rewards).where(
            rewards.c.decision == bindparam("of_decision"), rewards.c.metric == bindparam("of_metric")
        ),
        [{"of_decision": row.decision, "of_metric": row.metric} for row in rows],
    )
    sealed_sums.add(connection, sums.tallies)
    for (experiment, segment), count in sorted(sums.n_apart.items()):
        connection.execute(
            update(seals)
            .where(seals.c.experiment == experiment, seals.c.segment == segment)
            .values(n_apart=seals.c.n_apart + count)
        )


def _keep_units(connection: Connection, rows: Sequence[Row[Any]]) -> None:
    """Keep what is counted by unit: outcomes in the windows that metrics have now, and those that steer."""
    outcomes = [
        LeavingOutcome(*(getattr(row, name) for name in LeavingOutcome._fields))
        for row in rows
        if row.unit is not None and not row.is_apart
    ]
    windows_ms = {}
    for experiment in {outcome.experiment for outcome in outcomes}:
        record = find_by_number(connection, experiment)
        for metric in () if record is None else record.experiment.metrics:
            if record is not None and metric.window is not None:
                window_ms = int(metric.window.total_seconds() * 1000)
                windows_ms[experiment, record.metric_numbers[metric.name]] = window_ms
    units.seal(connection, outcomes, windows_ms)


def _sum(rows: Sequence[Row[Any]]) -> _Sums:
    tallies: defaultdict[OutcomeKey, StoredTally] = defaultdict(StoredTally)
    n_apart: defaultdict[tuple[int, int], int] = defaultdict(int)
    for row in rows:
        experiment, epoch, segment, arm, basis, metric, quanta, steps, is_late, is_apart = tuple(row)[1:11]
        if is_apart:
            n_apart[experiment, segment] += 1
            continue
        key = OutcomeKey(experiment, epoch, segment, arm, Basis(basis), metric)
        tallies[key] = tallies[key].plus(StoredTally.of(quanta, steps, is_late=is_late))
    return _Sums(tallies, n_apart)


def summarise(connection: Connection) -> SealSummary:
    """What is sealed in the whole store."""
    named = select(experiments.c.name, seals.c.epoch, seals.c.sealed_at, seals.c.n_apart)
    joined = named.join(seals, seals.c.experiment == experiments.c.number)
    rows = connection.execute(joined.order_by(experiments.c.name)).all()
    n_outcomes = select(func.coalesce(func.sum(sealed_facts.c.n + sealed_facts.c.late_n), 0))
    return SealSummary(
        epochs={row.name: row.epoch for row in rows if row.epoch > 0},
        sealed_at=from_micros(max((row.sealed_at for row in rows), default=None)),
        n_outcomes=int(connection.execute(n_outcomes).scalar_one()),
        n_apart=sum(row.n_apart for row in rows),
    )


def count_apart_purged(connection: Connection) -> int:
    """How many rows kept apart were purged."""
    return int(connection.execute(select(func.coalesce(func.sum(seals.c.n_apart), 0))).scalar_one())


def purge_configurations(connection: Connection, before: int) -> int:
    """Delete revisions that were stored before an instant, explain no epoch and are not in force."""
    of_epoch = select(epochs.c.number).where(
        epochs.c.experiment == configurations.c.experiment, epochs.c.revision == configurations.c.revision
    )
    newest = (
        select(experiments.c.revision)
        .where(experiments.c.number == configurations.c.experiment)
        .scalar_subquery()
    )
    result = connection.execute(
        delete(configurations).where(
            configurations.c.created_at < before,
            configurations.c.revision < newest,
            ~of_epoch.exists(),
        )
    )
    return result.rowcount

"""Ended runs in SQL: outcomes of decisions that were never counted, which would bias the evidence.

How many decisions each arm made is counted in memory and flushed about once a second. A server that is killed
loses its last counts, and the outcomes of those decisions come in all the same: with a value for silence they
would be successes without the silences. So both are dropped. A decision's id says which run of a
server made it and which flush carries its count. Once a run is dead for good,

1. it is *ended*, in one transaction: none of its flushes is added from then on, and its row in `ended_runs`
   says which was the last. Every recording of a reward reads that table first. The transaction locks it
   against all readers, so it waits until the rewards are committed that looked too early, and those after it
   see it: they record outcomes of later flushes as `Basis.UNCOUNTED`.
2. what is in the log already is moved to that basis, in portions: each changes rows of the log and the facts
   in one transaction, so that the facts are the fold of the log at every instant.

A row of the log keeps its basis for good otherwise: a revision of its value counts under the basis that the
row has, and not under the one that the reward would get now. Sealed epochs stay as they are.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from bandit.decision_id import FLUSH_BITS, LOSABLE, Basis, IdBits, new_id, run_of
from bandit.facts import OutcomeKey
from server.store.columns.exact_sums import StoredTally
from server.store.columns.slots import counted_part
from server.store.dialect import Dialect
from server.store.records import EndedRun, MoveStep, RewardEntry, WriterState
from server.store.tables import facts, gate, units
from server.store.tables import writers as writer_slots
from server.store.tables.facts import OutcomePart
from server.store.tables.gate import Feature
from server.store.tables.schema import ended_runs, rewards, writers

FEATURE: Final = Feature("uncounted decisions", "0.3.0", "0009")

UnitKey: TypeAlias = tuple[int, int, int]
"""Experiment, segment and unit."""

_HALF_TURN: Final = 1 << FLUSH_BITS - 1
_COLUMNS: Final = [
    rewards.c[name] for name in (*OutcomeKey._fields, "decision", "quanta", "steps", "is_late", "unit")
]


def is_uncounted(decision_id: bytes, run: EndedRun) -> bool:
    """Whether a decision of an ended run belongs to a flush that was never added.

    Flushes are numbered modulo 2^14, which is hours of them; among those that are so far apart that the
    number could mislead, the time decides.
    """
    if int.from_bytes(decision_id[:6]) < run.flushed_ms:
        return False
    return 0 < (IdBits.of(decision_id).flush - run.sequence) % (1 << FLUSH_BITS) < _HALF_TURN


def relabelled(
    connection: Connection, entries: Sequence[RewardEntry], ended: Mapping[int, EndedRun]
) -> Sequence[RewardEntry]:
    """The entries to record, with `Basis.UNCOUNTED` where the decision was never counted."""
    if not ended:
        return entries
    uncounted = {n for n, entry in enumerate(entries) if _is_lost(entry, ended)}
    if not uncounted:
        return entries
    units_of = ((entries[n].experiment, entries[n].segment, entries[n].unit) for n in uncounted)
    first_ms = units.read_first(connection, {(e, s, unit) for e, s, unit in units_of if unit is not None})
    return [
        entry._replace(
            basis=Basis.UNCOUNTED,
            unit=_kept_unit(entry.experiment, entry.segment, entry.unit, entry.decision, first_ms),
        )
        if n in uncounted
        else entry
        for n, entry in enumerate(entries)
    ]


def runs_in(entries: Iterable[RewardEntry]) -> list[int]:
    """The bits of ids that stand for runs, of all decisions whose basis could be lost."""
    # Of the many that are rewarded at once few differ in these bytes: the run, and little of the flush.
    places = {entry.decision[6:10] for entry in entries if entry.basis in LOSABLE}
    return sorted({IdBits.of(bytes(6) + place + bytes(6)).run for place in places})


def _is_lost(entry: RewardEntry, ended: Mapping[int, EndedRun]) -> bool:
    if entry.basis not in LOSABLE or entry.is_apart:
        return False
    run = ended.get(IdBits.of(entry.decision).run)
    return run is not None and is_uncounted(entry.decision, run)


def _kept_unit(
    experiment: int, segment: int, unit: int | None, decision: bytes, first_ms: Mapping[UnitKey, int]
) -> int | None:
    """A unit counts once, with all its outcomes since its first decision that is counted."""
    if unit is None:
        return None
    first = first_ms.get((experiment, segment, unit))
    return unit if first is not None and first <= int.from_bytes(decision[:6]) else None


def end_runs(
    connection: Connection, dialect: Dialect, silent: Sequence[WriterState], now: datetime
) -> list[bytes]:
    """End runs that are still as they were when they were found silent; return their incarnations.

    OlderServersError if a live server is of a release that can't read what follows.
    """
    dialect.lock_tables(connection, writers)
    existing = {each.incarnation: each for each in writer_slots.read_all(connection)}
    ending = [each for each in silent if existing.get(each.incarnation) == each and each.ended_at is None]
    if not ending:
        return []
    gate.require_feature(connection, dialect, FEATURE, now)
    dialect.lock_against_readers(connection, ended_runs)
    at = dialect.read_clock(connection, now)
    last_id = connection.execute(select(func.max(rewards.c.decision))).scalar() or bytes(16)
    for each in ending:
        flushed_ms = _flushed_ms(connection, each.incarnation)
        connection.execute(
            insert(ended_runs).values(
                run=run_of(each.incarnation),
                incarnation=each.incarnation,
                sequence=each.sequence,
                flushed_ms=flushed_ms,
                ended_at=at,
                next_id=new_id(flushed_ms, 0),
                last_id=last_id,
            )
        )
        mine = writers.c.incarnation == each.incarnation
        connection.execute(update(writers).where(mine).values(slot=None, ended_at=at))
    return [each.incarnation for each in ending]


def _flushed_ms(connection: Connection, incarnation: bytes) -> int:
    query = select(writers.c.flushed_ms).where(writers.c.incarnation == incarnation)
    return connection.execute(query).scalar() or 0


def is_waiting(connection: Connection) -> bool:
    """Whether outcomes of some ended run may have to be moved."""
    query = select(ended_runs.c.run).where(ended_runs.c.next_id.is_not(None)).limit(1)
    return connection.execute(query).first() is not None


def move_step(connection: Connection, dialect: Dialect, slot: int, n_looked_at: int) -> MoveStep | None:
    """Move outcomes of one ended run among the next rows of the log; None if no run has any left.

    Args:
        connection: Inside a transaction.
        dialect: The database.
        slot: The slot of the writer that moves them.
        n_looked_at: About how many rows of the log to look at.
    """
    waiting = select(ended_runs).where(ended_runs.c.next_id.is_not(None)).order_by(ended_runs.c.run).limit(1)
    ended = connection.execute(waiting.with_for_update(skip_locked=True)).one_or_none()
    if ended is None:
        return None
    of_range = select(rewards.c.decision).where(
        rewards.c.decision >= ended.next_id, rewards.c.decision <= ended.last_id
    )
    boundary = connection.execute(
        of_range.order_by(rewards.c.decision).offset(n_looked_at).limit(1)
    ).scalar_one_or_none()
    rows = _read_lost(connection, ended, boundary)
    if rows:
        _move(connection, dialect, rows, slot)
    connection.execute(update(ended_runs).where(ended_runs.c.run == ended.run).values(next_id=boundary))
    return MoveStep(len(rows), frozenset(row.experiment for row in rows), boundary is None)


def _read_lost(connection: Connection, ended: Row[Any], boundary: bytes | None) -> list[Row[Any]]:
    run = EndedRun(ended.sequence, ended.flushed_ms)
    first_bits = new_id(0, IdBits(ended.run, 0, 0, 0).pack())[6:9]
    end = rewards.c.decision <= ended.last_id if boundary is None else rewards.c.decision < boundary
    query = (
        select(*_COLUMNS)
        .where(
            rewards.c.decision >= ended.next_id,
            end,
            func.substr(rewards.c.decision, 7, 3) == first_bits,  # the rest of the bits is looked at below
            rewards.c.basis.in_([int(basis) for basis in sorted(LOSABLE)]),
            ~rewards.c.is_apart,
        )
        .order_by(rewards.c.decision, rewards.c.metric)
        .with_for_update()
    )
    return [
        row
        for row in connection.execute(query)
        if IdBits.of(row.decision).run == ended.run and is_uncounted(row.decision, run)
    ]


def _move(connection: Connection, dialect: Dialect, rows: Sequence[Row[Any]], slot: int) -> None:
    increments: defaultdict[OutcomePart, StoredTally] = defaultdict(StoredTally)
    keys = {(row.experiment, row.segment, row.unit) for row in rows if row.unit is not None}
    first_ms = units.read_first(connection, keys)
    for row in rows:
        tally = StoredTally.of(row.quanta, row.steps, is_late=row.is_late)
        key = OutcomeKey(row.experiment, row.epoch, row.segment, row.arm, Basis(row.basis), row.metric)
        before = OutcomePart(key, counted_part(row.decision, row.epoch, row.basis))
        after = OutcomePart(key._replace(basis=Basis.UNCOUNTED))
        increments[before] = increments[before].minus(tally)
        increments[after] = increments[after].plus(tally)
    connection.execute(
        update(rewards)
        .where(rewards.c.decision == bindparam("of_decision"), rewards.c.metric == bindparam("of_metric"))
        .values(basis=int(Basis.UNCOUNTED), unit=bindparam("kept_unit")),
        [
            {
                "of_decision": row.decision,
                "of_metric": row.metric,
                "kept_unit": _kept_unit(row.experiment, row.segment, row.unit, row.decision, first_ms),
            }
            for row in rows
        ],
    )
    facts.add_outcomes(connection, dialect, increments, slot)


def end_cleanly(connection: Connection, incarnation: bytes, now: int) -> None:
    """Note that a run ends with all its decisions counted: there is nothing to look for."""
    mine = writers.c.incarnation == incarnation
    connection.execute(update(writers).where(mine, writers.c.ended_at.is_(None)).values(ended_at=now))

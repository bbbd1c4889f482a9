"""Seals in SQL: decisions whose outcomes the log no longer takes, whatever any clock says.

A seal is raised first, and rows are purged later; in between, every transaction has to end that may have
looked before the seal was there, or it could write again a row that was purged. So a seal goes through
three states, told by its `fence`:

- None: raised. From that commit on, every transaction sees it.
- a version: taken in a transaction that began to write after that commit. One that looked too early is a
  transaction of an earlier version, since a recording transaction has its version before it looks.
- 0: no transaction of an earlier version is under way. What is sealed can be purged.

A seal is raised again only from 0.
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, func, or_, select, text, tuple_, update

from bandit.decision_id import Basis, new_id
from bandit.experiment import SEGMENT_ALL
from server.store.columns.times import from_micros, to_micros
from server.store.dialect import Dialect
from server.store.records import (
    Bounds,
    Revoked,
    RewardEntry,
    RewardVerdict,
    Seal,
    Sealed,
    SealedEpochs,
    State,
)
from server.store.tables.schema import epochs, experiments, rewards, sealed_facts, seals

_DAY: Final = timedelta(days=1)
_DORMANT: Final = frozenset({State.PAUSED, State.CONCLUDED})

_RAISE: Final = text(
    """
    INSERT INTO seals (experiment, segment, epoch, before, fence, sealed_at, n_apart)
    VALUES (:experiment, :segment, :epoch, :before, NULL, :sealed_at, 0)
    ON CONFLICT (experiment, segment) DO UPDATE SET
        epoch = CASE WHEN excluded.epoch > seals.epoch THEN excluded.epoch ELSE seals.epoch END,
        before = CASE WHEN excluded.before > seals.before THEN excluded.before ELSE seals.before END,
        sealed_at = excluded.sealed_at,
        fence = NULL
    WHERE seals.fence = 0
    """
)


def _instant_of(decision: bytes) -> datetime:
    return from_micros(int.from_bytes(decision[:6]) * 1000)


def first_id(instant: datetime) -> bytes:
    """The smallest id that a decision of this instant, to the millisecond, can have; none is before 1970."""
    return new_id(max(to_micros(instant) // 1000, 0), 0)


def is_sealed(entry: RewardEntry, seal: Seal) -> bool:
    """Whether an outcome of this decision is refused, since it could be one that was purged.

    An answer that belongs to no epoch's shares goes by its own age: an experiment that is paused or concluded
    goes on giving such answers in its last epoch.
    """
    if entry.is_apart or entry.basis is Basis.FALLBACK:
        return entry.decision < seal.before
    return entry.epoch <= seal.epoch


def find_refusals(entries: Sequence[RewardEntry], bounds: Bounds) -> list[RewardVerdict | None]:
    """Why the log no longer takes an entry; None for each that it takes."""
    return [_refusal_of(entry, bounds) for entry in entries]


def _refusal_of(entry: RewardEntry, bounds: Bounds) -> RewardVerdict | None:
    is_known = entry.key is None or entry.key in bounds.keys
    if not is_known and bounds.keys:  # a revocation leaves the ring at least the key that signs
        return Revoked()
    seal = bounds.seals.get((entry.experiment, entry.segment))
    return Sealed() if seal is not None and is_sealed(entry, seal) else None


IS_PURGEABLE: Final = and_(
    seals.c.experiment == rewards.c.experiment,
    seals.c.segment == rewards.c.segment,
    seals.c.fence == 0,
    or_(
        and_(~rewards.c.is_apart, rewards.c.basis != int(Basis.FALLBACK), rewards.c.epoch <= seals.c.epoch),
        and_(
            or_(rewards.c.is_apart, rewards.c.basis == int(Basis.FALLBACK)),
            rewards.c.decision < seals.c.before,
        ),
    ),
)
"""`is_sealed` in SQL, for a row of the log and its seal, once the seal has settled."""


def find_sealable(
    connection: Connection, after: int, limit: int, now: datetime, retention: timedelta
) -> tuple[list[SealedEpochs], int | None]:
    """What may be sealed of the next `limit` experiments, and where to go on; None at the end.

    An epoch may be sealed when it ended longer ago than the experiment's `max_decision_age` and the
    retention together; the last one has ended if the experiment is paused, concluded or deleted.
    """
    query = select(experiments, seals.c.epoch, seals.c.before, seals.c.fence)
    joined = query.outerjoin(seals, seals.c.experiment == experiments.c.number)
    rows = connection.execute(
        joined.where(experiments.c.number > after).order_by(experiments.c.number).limit(limit)
    ).all()
    found = [_sealable(connection, row, now, retention) for row in rows]
    return [each for each in found if each is not None], rows[-1].number if len(rows) == limit else None


def _sealable(
    connection: Connection, row: Row[tuple[object, ...]], now: datetime, retention: timedelta
) -> SealedEpochs | None:
    if row.fence not in {None, 0} or (row.fence is None and row.before is not None):
        return None  # not settled since it was raised
    longest = timedelta(seconds=json.loads(row.document)["max_decision_age"])
    cutoff = now - longest - retention
    sealed = row.epoch or 0
    newest, beyond, began_at = _unsealed(connection, row.number, sealed, cutoff)
    last = max(sealed, newest if beyond is None and _is_dormant(row, cutoff) else (beyond or newest + 1) - 2)
    before = first_id(cutoff)
    since = from_micros(began_at) if row.before is None else _instant_of(row.before)
    if since is None or (last == sealed and cutoff - since < _DAY):
        return None
    return SealedEpochs(
        experiment=row.number,
        first=sealed + 1,
        last=last,
        began_at=since if began_at is None else min(since, from_micros(began_at)),
        before=before,
    )


def _unsealed(
    connection: Connection, experiment: int, sealed: int, cutoff: datetime
) -> tuple[int, int | None, int | None]:
    """Of the epochs beyond the sealed ones: the last, the first that began after an instant, the first start.

    An epoch after one that began too late counts as too late, however early a clock that was put back says
    that it began. Those before a cap that began early enough ended with it, whatever they say.
    """
    of_experiment = epochs.c.experiment == experiment, epochs.c.segment == SEGMENT_ALL
    last_cap = (
        select(func.coalesce(func.max(epochs.c.number), 0))
        .where(*of_experiment, epochs.c.is_cap, epochs.c.started_at <= to_micros(cutoff))
        .scalar_subquery()
    )
    is_late = and_(epochs.c.started_at > to_micros(cutoff), epochs.c.number > last_cap)
    query = select(
        func.max(epochs.c.number), func.min(epochs.c.number).filter(is_late), func.min(epochs.c.started_at)
    )
    row = connection.execute(query.where(*of_experiment, epochs.c.number > sealed)).one()
    return row[0] or sealed, row[1], row[2]


def _is_dormant(row: Row[tuple[object, ...]], cutoff: datetime) -> bool:
    ended_at = row.deleted_at or (row.updated_at if State(row.state) in _DORMANT else None)
    return ended_at is not None and ended_at <= to_micros(cutoff)


def raise_seals(connection: Connection, wanted: Sequence[SealedEpochs], now: datetime) -> None:
    """Raise seals, in order of experiments; those that have not settled stay as they are."""
    rows = [
        {
            "experiment": each.experiment,
            "segment": SEGMENT_ALL,
            "epoch": each.last,
            "before": each.before,
            "sealed_at": to_micros(now),
        }
        for each in sorted(wanted)
    ]
    if rows:
        connection.execute(_RAISE, rows)


def fence(connection: Connection, dialect: Dialect) -> None:
    """Give raised seals their version, in a transaction that must do nothing else before it."""
    connection.execute(update(seals).where(seals.c.fence.is_(None)).values(fence=dialect.version))


def settle(connection: Connection, dialect: Dialect) -> bool:
    """Note which seals every transaction under way knows of; return whether those are all.

    A fence of the future is of another database, of which this one is a restored copy: it is fenced again.
    """
    marks = set(connection.execute(select(seals.c.fence).where(seals.c.fence.is_distinct_from(0))).scalars())
    horizon = dialect.read_horizon(connection)
    watermark = dialect.read_watermark(connection)
    is_settled = True
    for mark in marks - {None}:
        if mark <= watermark:
            connection.execute(update(seals).where(seals.c.fence == mark).values(fence=0))
        else:
            is_settled = False
            if mark >= horizon:
                connection.execute(update(seals).where(seals.c.fence == mark).values(fence=None))
    return is_settled and None not in marks


def note_purged(connection: Connection, rows: Sequence[Row[Any]]) -> list[Row[Any]]:
    """Those of the rows, about to be purged, that are sealed still; and notes how far the log is purged.

    A seal may have been lowered since the rows were read. From here on it can't be, until the end.
    """
    if not rows:
        return []
    keys = sorted({(row.experiment, row.segment) for row in rows})
    place = seals.c.experiment, seals.c.segment
    locked = select(seals).where(tuple_(*place).in_(keys)).order_by(*place).with_for_update()
    found = {(row.experiment, row.segment): row for row in connection.execute(locked)}
    sealed = [row for row in rows if _is_still_sealed(row, found.get((row.experiment, row.segment)))]
    for key in keys:
        ids = [row.decision for row in sealed if (row.experiment, row.segment) == key and _goes_by_age(row)]
        if ids:
            value = _purged_before(connection, found[key], _next_id(max(ids)))
            connection.execute(update(seals).where(_is_of(found[key])).values(purged_before=value))
    return sealed


def _goes_by_age(row: Row[Any]) -> bool:
    return bool(row.is_apart) or row.basis == Basis.FALLBACK


def _is_still_sealed(row: Row[Any], seal: Row[Any] | None) -> bool:
    if seal is None or seal.fence != 0:
        return False
    return bool(row.decision < seal.before) if _goes_by_age(row) else bool(row.epoch <= seal.epoch)


def _next_id(decision: bytes) -> bytes:
    return (int.from_bytes(decision) + 1).to_bytes(16)


def _purged_before(connection: Connection, seal: Row[Any], beyond: bytes) -> bytes:
    """Beyond the last row that was purged by its age; as far as it may be where that was not noted."""
    if seal.purged_before is not None:
        return max(bytes(seal.purged_before), beyond)
    return bytes(seal.before) if _was_purged_by_age(connection, seal) else beyond


def _was_purged_by_age(connection: Connection, seal: Row[Any]) -> bool:
    """Whether some fallback or row kept apart was purged, also by a version that did not note how far."""
    fallbacks = select(func.count()).where(_of_seal(seal), sealed_facts.c.basis == int(Basis.FALLBACK))
    return seal.n_apart > 0 or connection.execute(fallbacks).scalar_one() > 0


def _is_of(seal: Row[Any]) -> ColumnElement[bool]:
    return and_(seals.c.experiment == seal.experiment, seals.c.segment == seal.segment)


def _of_seal(seal: Row[Any]) -> ColumnElement[bool]:
    return and_(sealed_facts.c.experiment == seal.experiment, sealed_facts.c.segment == seal.segment)


def lower_seals(connection: Connection) -> int:
    """Lower every seal to how far the log is purged; return how many were higher.

    What was not purged is in the log, so it is known from what is new. Seals that are due are raised again.
    """
    n_lowered = 0
    for seal in connection.execute(select(seals).order_by(*seals.primary_key).with_for_update()).all():
        of_epochs = select(func.coalesce(func.max(sealed_facts.c.epoch), 0))
        epoch = connection.execute(
            of_epochs.where(_of_seal(seal), sealed_facts.c.basis != int(Basis.FALLBACK))
        ).scalar_one()
        before = seal.purged_before or b""
        if seal.purged_before is None and _was_purged_by_age(connection, seal):
            before = seal.before
        epoch, before = min(epoch, seal.epoch), min(before, seal.before)
        if (epoch, before) != (seal.epoch, seal.before):
            values = {"epoch": epoch, "before": before, "fence": None}
            connection.execute(update(seals).where(_is_of(seal)).values(values))
            n_lowered += 1
    return n_lowered

"""Seals: which decisions the log takes no outcome of any more, whatever any clock says.

A seal is raised first, and rows are purged later; in between, every transaction has to end that may have
looked before the seal was there, or it could write a row anew that is purged already. So a seal goes through
three states, told by its `fence`:

- None: raised. From the commit of that on, whoever looks sees it.
- a version: taken in a transaction that began to write after that commit. Whoever looked too early is a
  transaction of an earlier version, since a recording transaction has its version before it looks.
- 0: no transaction of an earlier version is under way. What is sealed can be purged.

A seal is raised again only from 0.
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, Row, and_, func, or_, select, text, update

from bandit.decision import Basis, new_id
from bandit.experiment import SEGMENT_ALL
from server.store.dialect import Dialect
from server.store.records import (
    Admission,
    Revoked,
    RewardEntry,
    Seal,
    Sealed,
    SealedEpochs,
    State,
    Verdict,
)
from server.store.schema import epochs, experiments, rewards, seals
from server.store.times import from_micros, to_micros

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
    """The smallest id that a decision of this instant, to the millisecond, can have."""
    return new_id(to_micros(instant) // 1000, 0)


def is_sealed(entry: RewardEntry, seal: Seal) -> bool:
    """Whether an outcome of this decision can't be told from one that was purged, and is refused.

    An answer that belongs to no epoch's shares goes by its own age: an experiment that is paused or concluded
    goes on giving such answers in its last epoch.
    """
    if entry.is_apart or entry.basis is Basis.FALLBACK:
        return entry.decision < seal.before
    return entry.epoch <= seal.epoch


def tell_barred(entries: Sequence[RewardEntry], admission: Admission) -> list[Verdict | None]:
    """Why the log takes an entry no more; None for those that it may take."""
    return [_bar(entry, admission) for entry in entries]


def _bar(entry: RewardEntry, admission: Admission) -> Verdict | None:
    is_known = entry.key is None or entry.key in admission.keys
    if not is_known and admission.keys:  # a revocation leaves the ring at least the key that signs
        return Revoked()
    seal = admission.seals.get((entry.experiment, entry.segment))
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
    that it began.
    """
    is_late = epochs.c.started_at > to_micros(cutoff)
    query = select(
        func.max(epochs.c.number), func.min(epochs.c.number).filter(is_late), func.min(epochs.c.started_at)
    )
    row = connection.execute(
        query.where(
            epochs.c.experiment == experiment, epochs.c.segment == SEGMENT_ALL, epochs.c.number > sealed
        )
    ).one()
    return row[0] or sealed, row[1], row[2]


def _is_dormant(row: Row[tuple[object, ...]], cutoff: datetime) -> bool:
    ended_at = row.deleted_at or (row.updated_at if State(row.state) in _DORMANT else None)
    return ended_at is not None and ended_at <= to_micros(cutoff)


def raise_seals(connection: Connection, wanted: Sequence[SealedEpochs], now: datetime) -> None:
    """Raises seals, in order of experiments; those that have not settled stay as they are."""
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
    """Gives raised seals their version, in a transaction that must do nothing else before it."""
    connection.execute(update(seals).where(seals.c.fence.is_(None)).values(fence=dialect.version))


def settle(connection: Connection, dialect: Dialect) -> bool:
    """Notes which seals every transaction under way knows of; returns whether those are all.

    A fence of the future is of another database, of which this one is a restored copy: it is taken anew.
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

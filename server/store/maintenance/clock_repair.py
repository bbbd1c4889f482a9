"""Repair of what a clock that was ahead left in the database: all that is dated in the future."""

import secrets
from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Connection, Table, func, select, update

from bandit.facts import MOST_AHEAD, Epoch, ends_of
from server.store.columns.times import to_micros
from server.store.tables import epochs as epochs_table
from server.store.tables.schema import epochs, experiments, signing_keys, writers

_INSTANTS: Final[tuple[tuple[Table, tuple[str, ...]], ...]] = (
    (experiments, ("created_at", "updated_at", "started_at", "concluded_at", "deleted_at")),
    (signing_keys, ("signs_at",)),
    (writers, ("seen_at",)),
)


def cap_epochs(connection: Connection, now: datetime, version: ColumnElement[int]) -> int:
    """End what started in the future by an epoch of the same shares that starts now; return how many.

    Each capped experiment gets the newest version, so that every server hears of it.
    """
    ahead = select(epochs.c.experiment).where(epochs.c.started_at > to_micros(now + MOST_AHEAD))
    numbers = connection.execute(ahead.distinct().order_by(epochs.c.experiment)).scalars().all()
    n_caps = 0
    for number in numbers:
        mine = experiments.c.number == number
        connection.execute(
            update(experiments).where(mine).values(version=version)
        )  # others wait from here on
        history = epochs_table.read_all(connection, number)
        if _ends_ahead(history, now):
            newest = history[-1]
            cap = replace(
                newest, number=newest.number + 1, nonce=secrets.randbits(32), started_at=now, is_cap=True
            )
            epochs_table.find_or_add(connection, cap)
            n_caps += 1
    return n_caps


def _ends_ahead(history: tuple[Epoch, ...], now: datetime) -> bool:
    return history[-1].is_ahead(now) or any(end - now > MOST_AHEAD for end in ends_of(history))


def reset_instants(connection: Connection, now: datetime) -> int:
    """Set instants that lie further ahead than clocks disagree to now; return how many there were."""
    n_instants = 0
    for table, columns in _INSTANTS:
        for name in columns:
            column = table.c[name]
            is_ahead = column > to_micros(now + MOST_AHEAD)
            n_instants += connection.execute(select(func.count()).where(is_ahead)).scalar_one()
            connection.execute(update(table).where(is_ahead).values({name: to_micros(now)}))
    return n_instants

"""Sealed facts in SQL: the sums of what was purged from the reward log.

With the fold of the log they are the outcome facts.
"""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, and_, select, text, update

from bandit.facts import OutcomeKey
from server.store.columns.exact_sums import SUM_COLUMNS, StoredTally, addition_of_tallies
from server.store.tables.facts import key_of
from server.store.tables.schema import sealed_facts

_KEY: Final = [sealed_facts.c[name] for name in OutcomeKey._fields]
_SUMS: Final = [sealed_facts.c[name] for name in SUM_COLUMNS]
_ADD: Final = text(addition_of_tallies("sealed_facts", OutcomeKey._fields))


def add(connection: Connection, tallies: Mapping[OutcomeKey, StoredTally]) -> None:
    """Add tallies, in key order."""
    if tallies:
        connection.execute(
            _ADD,
            [
                {**key._asdict(), "basis": int(key.basis), **tally.to_columns()}
                for key, tally in sorted(tallies.items())
            ],
        )


def read(connection: Connection) -> dict[OutcomeKey, StoredTally]:
    """The sums of every experiment."""
    rows = connection.execute(select(*_KEY, *_SUMS))
    return {key_of(row): StoredTally.of_columns(row[len(_KEY) :]) for row in rows}


def replace(connection: Connection, key: OutcomeKey, tally: StoredTally) -> None:
    """Write a sum in place of the one that stands."""
    is_key = and_(*(column == value for column, value in zip(_KEY, key, strict=True)))
    connection.execute(update(sealed_facts).where(is_key).values(tally.to_columns()))

"""Epochs in SQL: inserted once, never changed."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Row, func, insert, select, tuple_

from bandit.facts import Epoch
from server.store.columns.times import from_micros, to_micros
from server.store.records import EpochKey, EpochTerms
from server.store.tables import gate
from server.store.tables.schema import epochs

_Value = TypeVar("_Value")

_KEYS_AT_ONCE: Final = 256
"""Three parameters each; an older SQLite takes 999."""

_TERMS_BYTES: Final = 400
"""Memory that the terms of an epoch take, without the text of their shares."""


def epochs_in_force(connection: Connection, experiments: Sequence[int]) -> dict[int, Epoch]:
    """Number of the experiment to its newest epoch, for those that have one."""
    newest = (
        select(epochs.c.experiment, epochs.c.segment, func.max(epochs.c.number).label("number"))
        .where(epochs.c.experiment.in_(experiments))
        .group_by(epochs.c.experiment, epochs.c.segment)
        .subquery()
    )
    query = select(epochs).join(
        newest,
        (epochs.c.experiment == newest.c.experiment)
        & (epochs.c.segment == newest.c.segment)
        & (epochs.c.number == newest.c.number),
    )
    return {row.experiment: _to_epoch(row) for row in connection.execute(query)}


def read_all(connection: Connection, experiment: int) -> tuple[Epoch, ...]:
    """The epochs of an experiment, in order."""
    query = (
        select(epochs).where(epochs.c.experiment == experiment).order_by(epochs.c.segment, epochs.c.number)
    )
    return tuple(_to_epoch(row) for row in connection.execute(query))


def find_terms(connection: Connection, wanted: Collection[EpochKey]) -> dict[EpochKey, EpochTerms]:
    """The terms of those of the epochs that there are."""
    key = (epochs.c.experiment, epochs.c.segment, epochs.c.number)
    query = select(*key, epochs.c.nonce, epochs.c.shares)
    keys = sorted(wanted)
    found: dict[EpochKey, EpochTerms] = {}
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        chunk = keys[start : start + _KEYS_AT_ONCE]
        for *numbers, nonce, shares in connection.execute(query.where(tuple_(*key).in_(chunk))):
            terms = EpochTerms(nonce, _LazyMapping(shares, float), _TERMS_BYTES + len(shares))
            found[EpochKey(*numbers)] = terms
    return found


def find(connection: Connection, experiment: int, segment: int, number: int) -> Epoch | None:
    """The epoch of this number, if there is one."""
    query = select(epochs).where(
        epochs.c.experiment == experiment, epochs.c.segment == segment, epochs.c.number == number
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else _to_epoch(row)


def find_or_add(connection: Connection, epoch: Epoch) -> Epoch:
    """The epoch of that number: the one that is stored, or this one, stored now."""
    existing = find(connection, epoch.experiment, epoch.segment, epoch.number)
    if existing is None:
        _add(connection, epoch)
    return existing or epoch


def _add(connection: Connection, epoch: Epoch) -> None:
    gate.require_current(connection)
    connection.execute(
        insert(epochs).values(
            experiment=epoch.experiment,
            segment=epoch.segment,
            number=epoch.number,
            nonce=epoch.nonce,
            revision=epoch.revision,
            started_at=to_micros(epoch.started_at),
            champion=epoch.champion,
            shares=json.dumps(dict(epoch.shares)),
            warming_up=json.dumps(sorted(epoch.warming_up)),
            means=json.dumps({metric: dict(means) for metric, means in epoch.means.items()}),
            format=gate.FORMAT,
            is_cap=epoch.is_cap,
            shadows=json.dumps(dict(epoch.shadows)) if epoch.shadows else None,
        )
    )


class _LazyMapping(Mapping[int, _Value]):
    """A mapping by number that is decoded at its first use: most epochs of a history never are used.

    Args:
        text: A JSON object whose keys are numbers.
        decode: From the object's values to the mapping's.
    """

    __slots__ = ("_decode", "_text", "_values")

    def __init__(self, text: str, decode: Callable[[Any], _Value]) -> None:
        self._text = text
        self._decode = decode
        self._values: dict[int, _Value] | None = None

    def _decoded(self) -> dict[int, _Value]:
        if self._values is None:
            self._values = {int(number): self._decode(v) for number, v in json.loads(self._text).items()}
        return self._values

    def __getitem__(self, number: int) -> _Value:
        return self._decoded()[number]

    def __iter__(self) -> Iterator[int]:
        return iter(self._decoded())

    def __len__(self) -> int:
        return len(self._decoded())

    def __repr__(self) -> str:
        return repr(self._decoded())


def _to_epoch(row: Row[Any]) -> Epoch:
    return Epoch(
        experiment=row.experiment,
        segment=row.segment,
        number=row.number,
        nonce=row.nonce,
        revision=row.revision,
        started_at=from_micros(row.started_at),
        champion=row.champion,
        shares=_LazyMapping(row.shares, float),
        warming_up=frozenset() if row.warming_up == "[]" else frozenset(json.loads(row.warming_up)),
        means=_LazyMapping(row.means, _by_number),
        is_cap=row.is_cap,
        shadows={} if row.shadows is None else _LazyMapping(row.shadows, float),
    )


def _by_number(values: dict[str, float]) -> Mapping[int, float]:
    """JSON turns the numbers that are keys into text."""
    return {int(number): value for number, value in values.items()}

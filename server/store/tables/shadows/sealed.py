"""What stays of arms in shadow when rows leave the log: sums over pairs, and how many were mirrored.

A decision and its shadows leave together, or not at all, since half a pair is none. Where units are counted,
pairs leave without a trace: which of them was the first of its unit could not be told any more.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, select, text

from bandit.decision_id import SAMPLE_BITS, Basis
from bandit.experiment import AnalysisUnit
from bandit.facts.shadow_pairs import PairSums
from server.store.records import ExperimentRecord
from server.store.tables.schema import epochs, rewards
from server.store.tables.shadows.pairs import silence_of

_N_SHARED: Final = 14
"""Bytes of an id that a decision and its shadows have in common."""


class _MirrorKey(NamedTuple):
    experiment: int
    epoch: int
    segment: int
    arm: int


class _PairKey(NamedTuple):
    experiment: int
    epoch: int
    segment: int
    arm: int
    metric: int


def _addition(table: str, key: Sequence[str], values: Sequence[str]) -> str:
    names = (*key, *values)
    added = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in values)
    return f"""
        INSERT INTO {table} ({", ".join(names)}) VALUES ({", ".join(f":{name}" for name in names)})
        ON CONFLICT ({", ".join(key)}) DO UPDATE SET {added}
    """  # noqa: S608 - made of names that stand in the code


_ADD_PAIRS: Final = text(_addition("sealed_pairs", _PairKey._fields, PairSums._fields))
_ADD_MIRRORED: Final = text(_addition("sealed_mirrors", _MirrorKey._fields, ("n",)))


def next_cut(connection: Connection, boundary: bytes) -> bytes:
    """The first id from `boundary` on that does not lie between a decision and its shadows."""
    first = boundary[:_N_SHARED] + bytes(16 - _N_SHARED)
    beyond = (int.from_bytes(first) + (1 << SAMPLE_BITS)).to_bytes(16)
    is_of_shadow = rewards.c.basis == int(Basis.SHADOW)
    family = select(rewards.c.decision).where(rewards.c.decision >= first, rewards.c.decision < beyond)
    return boundary if connection.execute(family.where(is_of_shadow).limit(1)).first() is None else beyond


def whole_families(
    connection: Connection, rows: Sequence[Row[Any]], start: bytes, end: bytes
) -> Sequence[Row[Any]]:
    """The rows without decisions that have a shadow, and shadows, of which some row is not among them.

    Another server may have locked the others to purge them itself: then neither does, and the next pass does.

    Args:
        connection: Inside the transaction that locked the rows.
        rows: Rows of the log.
        start: The first id that they may have.
        end: The first id beyond.
    """
    if not _have_shadows(connection, {row.experiment for row in rows}):
        return rows
    ids = select(rewards.c.decision).where(rewards.c.decision >= start, rewards.c.decision < end)
    of_shadows = connection.execute(ids.where(rewards.c.basis == int(Basis.SHADOW))).scalars()
    wanted = {bytes(decision[:_N_SHARED]) for decision in of_shadows}
    stored = Counter(_families(connection.execute(ids).scalars()))
    locked = Counter(_families(row.decision for row in rows))
    torn = {family for family in wanted if stored[family] != locked[family]}
    return [row for row in rows if bytes(row.decision[:_N_SHARED]) not in torn]


def seal(
    connection: Connection,
    rows: Sequence[Row[Any]],
    find_experiment: Callable[[Connection, int], ExperimentRecord | None],
) -> None:
    """Add the pairs among rows to the sums; in this transaction they must leave the log."""
    shadows = [row for row in rows if row.basis == Basis.SHADOW and not row.is_apart]
    if not shadows:
        return
    champions = {
        (bytes(row.decision[:_N_SHARED]), row.metric): row.quanta
        for row in rows
        if row.basis == Basis.POLICY and not row.is_late and not row.is_apart
    }
    mirrored = {
        (_MirrorKey(row.experiment, row.epoch, row.segment, row.arm), row.decision) for row in shadows
    }
    silences = _silences(connection, {row.experiment for row in shadows}, find_experiment)
    pairs: defaultdict[_PairKey, PairSums] = defaultdict(PairSums)
    for row in shadows:
        silence = silences.get((row.experiment, row.metric), _UNKNOWN)
        other = champions.get((bytes(row.decision[:_N_SHARED]), row.metric), silence.quanta)
        if silence.is_compared and not row.is_late and other is not None:
            key = _PairKey(row.experiment, row.epoch, row.segment, row.arm, row.metric)
            pairs[key] = pairs[key].plus(PairSums.of(row.quanta, other))
    counts = Counter(key for key, _ in mirrored)
    connection.execute(_ADD_MIRRORED, [key._asdict() | {"n": n} for key, n in sorted(counts.items())])
    if pairs:
        values = [key._asdict() | sums._asdict() for key, sums in sorted(pairs.items())]
        connection.execute(_ADD_PAIRS, values)


class _Silence(NamedTuple):
    """What the champion's silence is in a metric, and whether its pairs are kept."""

    quanta: int | None
    is_compared: bool


_UNKNOWN: Final = _Silence(None, is_compared=False)


def _silences(
    connection: Connection,
    numbers: Iterable[int],
    find_experiment: Callable[[Connection, int], ExperimentRecord | None],
) -> Mapping[tuple[int, int], _Silence]:
    found: dict[tuple[int, int], _Silence] = {}
    for number in sorted(numbers):
        record = find_experiment(connection, number)
        if record is None or record.experiment.analysis_unit is AnalysisUnit.UNIT:
            continue
        for metric in record.experiment.metrics:
            silence = _Silence(silence_of(record, metric), is_compared=metric.is_shadow)
            found[number, record.metric_numbers[metric.name]] = silence
    return found


def _have_shadows(connection: Connection, numbers: Iterable[int]) -> bool:
    of_these = epochs.c.experiment.in_(sorted(numbers))
    query = select(epochs.c.number).where(of_these, epochs.c.shadows.is_not(None)).limit(1)
    return connection.execute(query).first() is not None


def _families(decisions: Iterable[bytes]) -> Iterable[bytes]:
    return (bytes(decision[:_N_SHARED]) for decision in decisions)

"""Pairs of an arm in shadow and the champion, and how many shadow decisions have an outcome."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Select, Table, TextClause, select, text

from bandit.decision_id import Basis, new_id
from bandit.experiment import SEGMENT_ALL, AnalysisUnit
from bandit.facts.shadow_pairs import PairSums, ShadowFacts, ShadowKey
from bandit.metric import Metric
from server.store.columns.exact_sums import quanta_of
from server.store.columns.times import to_micros
from server.store.records import ExperimentRecord
from server.store.tables.shadows.schema import sealed_mirrors, sealed_pairs

_NO_BOUND: Final = b"\xff" * 17
"""Above the id of every decision."""

_HALF_BITS: Final = 20
_HALF_MASK: Final = (1 << _HALF_BITS) - 1


def _of_champion(column: str, family: str) -> str:
    """A column of the champion's row beside that of a shadow, by what their ids have in common."""
    first, last = family.format(end="0000"), family.format(end="ffff")
    return f"""(
        SELECT champion.{column} FROM rewards AS champion
        WHERE champion.decision >= {first} AND champion.decision <= {last}
            AND champion.metric = :metric AND champion.basis = {int(Basis.POLICY)}
            AND champion.experiment = shadow.experiment AND champion.epoch = shadow.epoch
            AND NOT champion.is_late AND NOT champion.is_apart
        LIMIT 1
    )"""  # noqa: S608 - made of texts that stand in the code


def _sum(product: str) -> str:
    """The sum of a product in two halves, since it may need more than 64 bits."""
    return f"sum(({product}) >> {_HALF_BITS}), sum(({product}) & {_HALF_MASK})"


def _fold_statement(family: str, *, by_unit: bool) -> TextClause:
    unit = f", {_of_champion('unit', family)} AS unit" if by_unit else ""
    pairs = f"""
        SELECT epoch, arm, decision, quanta AS own,
            coalesce({_of_champion("quanta", family)}, :silence) AS other{unit}
        FROM rewards AS shadow
        WHERE experiment = :experiment AND metric = :metric AND basis = {int(Basis.SHADOW)}
            AND decision < :bound AND NOT is_late AND NOT is_apart
    """  # noqa: S608 - as above
    if by_unit:
        pairs = f"""
            SELECT epoch, arm, own, CASE WHEN place = 1 THEN other END AS other
            FROM (
                SELECT *, row_number() OVER (PARTITION BY arm, unit ORDER BY decision) AS place
                FROM ({pairs}) AS of_units WHERE other IS NOT NULL
            ) AS placed
        """  # noqa: S608 - as above
    return text(
        f"""
        WITH pairs AS MATERIALIZED ({pairs})  -- or each sum would look the champion's row up anew
        SELECT epoch, arm, count(*), sum(own), sum(other),
            {_sum("own * own")}, {_sum("other * other")}, {_sum("own * other")}
        FROM pairs WHERE other IS NOT NULL
        GROUP BY epoch, arm
        """  # noqa: S608 - as above
    )


_FAMILIES: Final = {
    "sqlite": "CAST(substr(shadow.decision, 1, 14) || x'{end}' AS BLOB)",
    "postgresql": "(substring(shadow.decision FROM 1 FOR 14) || decode('{end}', 'hex'))",
}
"""The first and the last id that a decision and its shadows may have, by database."""

_FOLD: Final = {
    (database, by_unit): _fold_statement(family, by_unit=by_unit)
    for database, family in _FAMILIES.items()
    for by_unit in (False, True)
}
_MIRRORED: Final = text(
    f"""
    SELECT epoch, arm, count(DISTINCT decision) FROM rewards
    WHERE experiment = :experiment AND basis = {int(Basis.SHADOW)} AND NOT is_apart
    GROUP BY epoch, arm
    """  # noqa: S608 - as above
)


def read(connection: Connection, record: ExperimentRecord, lag: timedelta, now: datetime) -> ShadowFacts:
    """What came of an experiment's shadow decisions, purged ones included.

    Args:
        connection: Inside a transaction.
        record: The experiment.
        lag: How long an outcome may take from a server to the log.
        now: A decision's window has closed if it and `lag` have passed by then.
    """
    compared = {record.metric_numbers[m.name]: m for m in record.experiment.metrics if m.is_shadow}
    pairs = {number: _fold(connection, record, metric, now - lag) for number, metric in compared.items()}
    for row in connection.execute(_sealed(sealed_pairs, record)):
        if row.metric in pairs:
            sums = PairSums(*(int(getattr(row, name)) for name in PairSums._fields))
            key = ShadowKey(row.epoch, row.arm)
            pairs[row.metric][key] = pairs[row.metric].get(key, PairSums()).plus(sums)
    mirrored = Counter[ShadowKey]()
    for epoch, arm, n in connection.execute(_MIRRORED, {"experiment": record.number}):
        mirrored[ShadowKey(epoch, arm)] += n
    for row in connection.execute(_sealed(sealed_mirrors, record)):
        mirrored[ShadowKey(row.epoch, row.arm)] += row.n
    return ShadowFacts(pairs=pairs, n_mirrored=mirrored)


def silence_of(record: ExperimentRecord, metric: Metric) -> int | None:
    """The value of the champion's silence, in quanta of the log; None where it has none."""
    if record.experiment.analysis_unit is AnalysisUnit.UNIT or metric.default_value is None:
        return None
    quanta = metric.quantise(metric.default_value)
    return quanta_of(quanta) if metric.is_real else quanta


def _fold(
    connection: Connection, record: ExperimentRecord, metric: Metric, closed_at: datetime
) -> dict[ShadowKey, PairSums]:
    bound = _NO_BOUND
    if metric.window is not None:
        bound = new_id(max((to_micros(closed_at - metric.window) or 0) // 1000, 0), 0)
    statement = _FOLD[connection.dialect.name, record.experiment.analysis_unit is AnalysisUnit.UNIT]
    values = {
        "experiment": record.number,
        "metric": record.metric_numbers[metric.name],
        "bound": bound,
        "silence": silence_of(record, metric),
    }
    found: dict[ShadowKey, PairSums] = {}
    for epoch, arm, *sums in connection.execute(statement, values):
        n, own, other, *halves = map(int, sums)
        squares = [(high << _HALF_BITS) + low for high, low in zip(halves[::2], halves[1::2], strict=True)]
        found[ShadowKey(epoch, arm)] = PairSums(n, own, squares[0], other, squares[1], squares[2])
    return found


def _sealed(table: Table, record: ExperimentRecord) -> Select[Any]:
    return select(table).where(table.c.experiment == record.number, table.c.segment == SEGMENT_ALL)

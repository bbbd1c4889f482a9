"""Units as evidence counts them: each once, with the outcomes within the window of its first decision."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

from sqlalchemy import Connection, func, select, text

from bandit.decision_id import Basis
from bandit.experiment import SEGMENT_ALL
from bandit.facts import DecisionKey, Facts, OutcomeKey, Tally
from bandit.facts.units import N_PARTS, HeavyUnit, UnitFacts, heavy_groups, largest_quanta, least_heavy
from bandit.metric import Metric
from server.store.columns.exact_sums import STEP_BITS
from server.store.records import ExperimentRecord
from server.store.tables.schema import decision_facts, unit_groups, units
from server.store.tables.units.portions import IS_IN_PORTION, MOMENTS, STEPS, portions, tally_of

_FIRST_EPOCH: Final = 1
_NIBBLE: Final = 1 << 44
"""The lowest of the top four bits of a unit's mark, which has 48."""

_PART: Final = f"""CASE WHEN epoch <> {_FIRST_EPOCH} OR unit < {_NIBBLE} THEN 0
    WHEN unit < {2 * _NIBBLE} THEN 1
    WHEN unit < {4 * _NIBBLE} THEN 2 WHEN unit < {8 * _NIBBLE} THEN 3 ELSE 4 END"""
"""The part of the first epoch that a unit falls into: the bit length of the top four bits of its mark."""

_EXPOSED: Final = text(
    f"""
    SELECT epoch, arm, part, count(*), sum(decisions)
    FROM (SELECT epoch, arm, {_PART} AS part, decisions FROM units WHERE {IS_IN_PORTION}) AS parted
    GROUP BY epoch, arm, part
    """  # noqa: S608 - made of numbers that stand in the code
)
_MOST: Final = 1 << 2 * STEP_BITS
"""Steps of the largest outcome of a unit, whatever its metric."""

_LOGGED: Final = f"""
    SELECT units.epoch, units.arm, units.unit, {{steps}} AS total
    FROM units JOIN rewards ON rewards.experiment = units.experiment
        AND rewards.segment = units.segment AND rewards.unit = units.unit
    WHERE {IS_IN_PORTION}
        AND rewards.metric = :metric AND rewards.received_ms <= units.first_ms + :window_ms
"""  # noqa: S608 - as above
_SEALED: Final = f"""
    SELECT units.epoch, units.arm, units.unit,
        CASE WHEN total_high > 0 OR total > {_MOST} THEN {_MOST}
            ELSE (total << {STEP_BITS}) + total_low + (total_high << 62) END
    FROM units JOIN unit_sums ON unit_sums.experiment = units.experiment
        AND unit_sums.segment = units.segment AND unit_sums.unit = units.unit
    WHERE {IS_IN_PORTION} AND unit_sums.metric = :metric
"""  # noqa: S608 - as above
_FOLDED: Final = f"""
    SELECT epoch, arm, part, {MOMENTS}
    FROM (
        SELECT epoch, arm, {_PART} AS part, CASE
            WHEN high >= CAST(:most AS bigint) >> 20 OR (high << 20) + low > :most THEN CAST(:most AS bigint)
            ELSE (high << 20) + low END AS outcome
        FROM (
            SELECT epoch, arm, unit, CAST(sum(total >> 20) AS bigint) AS high,
                CAST(sum(total & 1048575) AS bigint) AS low
            FROM ({{logged}} UNION ALL {_SEALED}) AS outcomes
            GROUP BY epoch, arm, unit
        ) AS sums
    ) AS capped
    GROUP BY epoch, arm, part
    """  # noqa: S608 - as above
"""The sum of a unit's outcomes may need more than 64 bits, so it is taken in halves of 20 bits."""

_OUTCOMES: Final = {
    is_real: text(_FOLDED.format(logged=_LOGGED.format(steps=steps))) for is_real, steps in STEPS.items()
}


class _Sums:
    """Counts and tallies that grow by a portion at a time."""

    def __init__(self) -> None:
        self.decisions = Counter[DecisionKey]()
        self.outcomes = defaultdict[OutcomeKey, Tally](Tally)

    def to_facts(self, parts: tuple[Facts, ...] = ()) -> Facts:
        return Facts(decisions=dict(self.decisions), outcomes=dict(self.outcomes), parts=parts)


def read(connection: Connection, record: ExperimentRecord) -> UnitFacts:
    """The units of an experiment, folded in the database a portion at a time.

    A unit is in one portion with all its outcomes, so the sums of portions add up to those of all, exactly.
    """
    whole, parts, n_decisions = _Sums(), [_Sums() for _ in range(N_PARTS)], 0
    for portion in portions(connection, record.number):
        for epoch, arm, part, n_units, n_made in connection.execute(_EXPOSED, portion):
            key = DecisionKey(record.number, epoch, SEGMENT_ALL, arm, Basis.POLICY)
            n_decisions += int(n_made)
            for sums in (whole, parts[part]) if epoch == _FIRST_EPOCH else (whole,):
                sums.decisions[key] += int(n_units)
        for metric in record.experiment.metrics:
            for outcome_key, part, tally in _read_outcomes(connection, record, metric, portion):
                for sums in (whole, parts[part]) if outcome_key.epoch == _FIRST_EPOCH else (whole,):
                    sums.outcomes[outcome_key] = sums.outcomes[outcome_key].plus(tally)
    n_units = sum(whole.decisions.values())
    is_parted = any(part.decisions for part in parts)
    groups = _read_groups(connection, record.number)
    return UnitFacts(
        facts=whole.to_facts(tuple(part.to_facts() for part in parts) if is_parted else ()),
        n_decisions=n_decisions,
        groups=groups,
        n_units=n_units,
        heavy=_read_heavy(connection, record.number, n_decisions, n_units)
        or heavy_groups(groups, _count_policy(connection, record.number) if groups else 0),
    )


def _read_groups(connection: Connection, experiment: int) -> dict[int, int]:
    groups = connection.execute(
        select(unit_groups.c.unit_group, func.sum(unit_groups.c.decisions))
        .where(unit_groups.c.experiment == experiment)
        .group_by(unit_groups.c.unit_group)
    )
    return {group: int(count) for group, count in groups}


def _count_policy(connection: Connection, experiment: int) -> int:
    """The number of policy decisions, with a unit and without."""
    query = select(func.coalesce(func.sum(decision_facts.c.decisions), 0)).where(
        decision_facts.c.experiment == experiment, decision_facts.c.basis == int(Basis.POLICY)
    )
    return int(connection.execute(query).scalar_one())


def _read_heavy(
    connection: Connection, experiment: int, n_decisions: int, n_units: int
) -> tuple[HeavyUnit, ...]:
    """The units with too many of the decisions, the largest first."""
    if n_units == 0:
        return ()
    query = (
        select(units.c.unit, units.c.decisions, units.c.arm)
        .where(
            units.c.experiment == experiment,
            units.c.segment == SEGMENT_ALL,
            units.c.decisions >= least_heavy(n_decisions, n_units),
        )
        .order_by(units.c.decisions.desc(), units.c.unit)
    )
    return tuple(
        HeavyUnit.of_mark(int(unit).to_bytes(6), int(count), n_decisions, arm)
        for unit, count, arm in connection.execute(query)
    )


def _read_outcomes(
    connection: Connection, record: ExperimentRecord, metric: Metric, portion: Mapping[str, int]
) -> Iterator[tuple[OutcomeKey, int, Tally]]:
    """Key, part and tally of the outcomes of a portion's units; none without a window."""
    if metric.window is None:
        return
    number, is_real = record.metric_numbers[metric.name], metric.is_real
    most = largest_quanta(metric)
    arguments = {
        **portion,
        "metric": number,
        "window_ms": int(metric.window.total_seconds() * 1000),
        "most": most if is_real else most << STEP_BITS,
    }
    for epoch, arm, part, *moments in connection.execute(_OUTCOMES[is_real], arguments):
        key = OutcomeKey(record.number, epoch, SEGMENT_ALL, arm, Basis.POLICY, number)
        yield key, part, tally_of(moments, is_real=is_real)

"""Sums in columns of 64 bits, compared with Python's integers, on both databases."""

from collections.abc import Sequence
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from bandit.decision_id import Basis
from bandit.facts import OutcomeKey
from bandit.metric import Metric, MetricKind
from server.store.columns.exact_sums import SUM_BITS, SUM_COLUMNS, StoredTally, in_quanta, quanta_of, rests_of
from server.store.sql_store import SqlStore
from server.store.tables import facts
from server.store.tables.schema import outcome_facts
from tests.bandit.builders import START, declare
from tests.store.builders import run

LIMIT = 2**59
"""Largest quanta (or squares) of each of thirty increments, so that no sum passes 2^125 steps."""

near_limits = st.sampled_from(
    [2**62 - 1, 2**62, 2**63 - 1, 2**63, 2**64, -(2**62), -(2**63), 2**61, 2**61 - 1]
)
whole = st.integers(-LIMIT, LIMIT) | st.integers(-3, 3) | near_limits
rests = st.integers(-(2**115), 2**115) | st.integers(-3, 3) | near_limits
tallies = st.builds(
    StoredTally, st.integers(0, 5), whole, whole, st.integers(0, 5), whole, whole, rests, rests, rests, rests
)


def add_as_version_0_2(store: SqlStore, key: OutcomeKey, increment: int) -> None:
    """Do to a row what a server of version 0.2 does."""
    with store._dialect.writing() as connection:
        connection.execute(
            text(
                "UPDATE outcome_facts SET n = n + 1, total = total + :by, squares = squares + :by "
                "WHERE experiment = :experiment AND epoch = :epoch"
            ),
            {"by": increment, "experiment": key.experiment, "epoch": key.epoch},
        )


def columns_of(store: SqlStore, key: OutcomeKey) -> Sequence[int]:
    """Return the columns of the only row of a key."""
    columns = [outcome_facts.c[name] for name in SUM_COLUMNS]
    of_key = (outcome_facts.c.experiment == key.experiment, outcome_facts.c.epoch == key.epoch)
    with store._dialect.reading() as connection:
        return tuple(connection.execute(select(*columns).where(*of_key)).one())


def test_any_increments_add_up(store: SqlStore) -> None:
    """In any order, negative or not, with an older server's in between, they add up to Python's exact sum.

    Every column stays a whole number of 64 bits, with room for what an older server may add.
    """
    epochs = count(1)

    @settings(max_examples=150, deadline=None)
    @given(increments=st.lists(tallies | st.integers(0, 2**50), min_size=1, max_size=30))
    def check(increments: list[StoredTally | int]) -> None:
        key = OutcomeKey(1, next(epochs), 0, 0, Basis.POLICY, 0)
        expected = StoredTally()
        for increment in [StoredTally(), *increments]:
            if isinstance(increment, int):
                add_as_version_0_2(store, key, increment)
                expected = expected.plus(StoredTally(1, increment, increment))
            else:
                with store._dialect.writing() as connection:
                    facts.add_outcomes(connection, store._dialect, {facts.OutcomePart(key): increment}, 0)
                expected = expected.plus(increment)
        columns = columns_of(store, key)
        assert StoredTally.of_columns(columns).in_steps() == expected.in_steps()
        assert all(type(value) is int for value in columns)
        for name, low in zip(SUM_BITS, columns[6::2], strict=True):
            assert abs(columns[SUM_COLUMNS.index(name)]) < 2**62 + 2**55
            assert 0 <= low < 2**62

    check()


@given(steps=st.lists(st.integers(0, 2**40), max_size=20))
def test_remainders_add_up(steps: list[int]) -> None:
    """Quanta and remainders of values and of their squares add up to the values' own sums."""
    total = StoredTally()
    for each in steps:
        total = total.plus(StoredTally.of(quanta_of(each), each, is_late=False))
    assert total.in_steps()[:3] == (len(steps), sum(steps), sum(each * each for each in steps))


@given(steps=st.integers(0, 2**40))
def test_the_remainder_of_a_square_fits_in_64_bits(steps: int) -> None:
    """The log is folded in SQL: its sums must fit."""
    rest, square_rest = rests_of(steps)
    assert abs(rest) <= 2**19
    assert abs(square_rest) < 2**62


PLAYS = Metric(name="plays", kind=MetricKind.COUNT, maximum=2.0**20)
CLICKS = Metric(name="clicks")
SPEND = Metric(name="spend", kind=MetricKind.REAL, maximum=8.0)


@pytest.mark.parametrize("n_slots", [1, 3])
def test_facts_beyond_64_bits_are_read_exactly(store: SqlStore, n_slots: int) -> None:
    """Facts are exact over several slots, for counts and real values; other metrics stay 64-bit arrays."""
    record = store.create_experiment(declare(metrics=(CLICKS, PLAYS, SPEND)), START)
    n = 2**24
    tallies = {
        0: StoredTally(n=n, total=n, squares=n),
        1: StoredTally(n, n << 20, n << 40, 1, 2**20, 2**40),
        2: StoredTally(n, n << 20, n << 40, 0, 0, 0, 5, 7, 0, 0),
    }
    keys = {metric: OutcomeKey(record.number, 1, 0, 0, Basis.POLICY, metric) for metric in tallies}
    with store._dialect.writing() as connection:
        for slot in range(n_slots):
            increments = {facts.OutcomePart(keys[metric]): tally for metric, tally in tallies.items()}
            facts.add_outcomes(connection, store._dialect, increments, slot)
    found = store.read_facts(record.number)
    assert found is not None
    for metric, tally in tallies.items():
        of_a_slot = in_quanta(tally.in_steps(), is_real=metric == 2)
        assert found.facts.outcomes[keys[metric]] == tuple(n_slots * number for number in of_a_slot)
    columns = found.facts.outcome_columns
    assert columns[0].tallies.dtype == np.int64
    assert {columns[metric].cells.epoch.dtype for metric in columns} == {np.dtype(np.int64)}
    assert len(found.facts.outcomes) == 3


def test_an_experiment_without_outcomes_has_no_facts(store: SqlStore) -> None:
    """An experiment without outcomes has no facts, even where a metric is real."""
    found = store.read_facts(run(store).number)
    assert found is not None
    assert dict(found.facts.outcomes) == {}

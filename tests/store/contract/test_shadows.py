"""The contract of a store: pairs of arms in shadow and the champion, and that purging changes none."""

from datetime import timedelta

import pytest

from bandit.experiment import AnalysisUnit
from bandit.facts.shadow_pairs import PairSums, ShadowKey
from server.store.contract import Store
from server.store.sql_store import SqlStore
from tests.bandit.builders import START
from tests.store.builders import facts_of, reward
from tests.store.mirrored import END, HOUR, LATER, MAXIMUM, champion, decision_at, ranker, read, seal, shadow


def test_outcomes_of_a_request_are_a_pair(store: Store) -> None:
    """By metric, epoch and arm, whichever came first; a decision of another request is none."""
    record = ranker(store)
    first, second, third = (decision_at() for _ in range(3))
    store.record_rewards([shadow(first, 1, {1: 1}), shadow(first, 2, {1: 0})], 0)
    store.record_rewards([champion(first, {1: 1}), champion(second, {1: 1}), champion(third, {1: 0})], 1)
    store.record_rewards([shadow(second, 1, {1: 0}), shadow(third, 1, {1: 1}, epoch=2)], 2)
    later = decision_at(START + HOUR)
    store.record_rewards([champion(later, {1: 0}, epoch=2), shadow(later, 1, {1: 1}, epoch=2)], 0)
    found = read(store, record)
    assert found.pairs[1] == {
        ShadowKey(1, 1): PairSums.of(1, 1).plus(PairSums.of(0, 1)),
        ShadowKey(1, 2): PairSums.of(0, 1),
        ShadowKey(2, 1): PairSums.of(1, 0),
    }
    assert found.n_mirrored == {ShadowKey(1, 1): 2, ShadowKey(1, 2): 1, ShadowKey(2, 1): 2}


def test_only_metrics_that_are_compared_have_pairs(store: Store) -> None:
    """An outcome of another metric says that the request was mirrored, and no more."""
    record = ranker(store)
    decision = decision_at()
    store.record_rewards([champion(decision, {0: 1}), shadow(decision, 1, {0: 1})], 0)
    found = read(store, record)
    assert found.pairs == {1: {}, 2: {}, 3: {}}
    assert found.n_mirrored == {ShadowKey(1, 1): 1}


def test_a_shadows_silence_is_no_value(store: Store) -> None:
    """Without its outcome there is no pair, whatever the metric's default value is."""
    record = ranker(store)
    decision = decision_at()
    store.record_rewards([champion(decision, {2: 0}), shadow(decision, 1, {1: 0})], 0)
    assert read(store, record).pairs == {1: {}, 2: {}, 3: {}}


def test_the_champions_silence_is_the_default_value(store: Store) -> None:
    """Once the window has closed; where there is no default it is no pair, and a late outcome is silence."""
    record = ranker(store)
    silent, late = decision_at(), decision_at()
    store.record_rewards([shadow(silent, 1, {1: 1, 2: 0}), shadow(late, 1, {2: 0})], 0)
    store.record_rewards([reward(late, values={2: 0}, is_late=True)], 0)
    assert read(store, record).pairs[1] == {}
    assert read(store, record).pairs[2] == {ShadowKey(1, 1): PairSums.of(0, 1).plus(PairSums.of(0, 1))}
    assert read(store, record, START + HOUR).pairs[2] == {}


def test_late_outcomes_of_a_shadow_are_no_pairs(store: Store) -> None:
    """Nor are those that are kept apart; the first counts as mirrored, the other belongs to no epoch."""
    record = ranker(store)
    late, apart = decision_at(), decision_at()
    rows = [champion(late, {1: 1}), champion(apart, {1: 1})]
    rows.append(shadow(late, 1, {1: 1}))
    rows[-1] = rows[-1]._replace(outcomes=tuple(o._replace(is_late=True) for o in rows[-1].outcomes))
    rows.append(shadow(apart, 1, {1: 1})._replace(is_apart=True))
    store.record_rewards(rows, 0)
    found = read(store, record)
    assert (found.pairs[1], found.n_mirrored) == ({}, {ShadowKey(1, 1): 1})


def test_a_revision_changes_the_pair(store: Store) -> None:
    """Of either half: pairs are folded from what the log has now."""
    record = ranker(store)
    decision = decision_at()
    store.record_rewards([champion(decision, {1: 0}), shadow(decision, 1, {1: 0})], 0)
    store.record_rewards([shadow(decision, 1, {1: 1})._replace(revision=1)], 0)
    store.record_rewards([champion(decision, {1: 1})._replace(revision=1)], 0)
    assert read(store, record).pairs[1] == {ShadowKey(1, 1): PairSums.of(1, 1)}


def test_sums_of_large_values_are_exact(store: Store) -> None:
    """Squares and products of amounts."""
    record = ranker(store)
    expected = PairSums()
    for number in range(50):
        decision, own, other = decision_at(), MAXIMUM - number, MAXIMUM - 3 * number
        store.record_rewards([champion(decision, {3: other}), shadow(decision, 1, {3: own})], 0)
        expected = expected.plus(PairSums.of(own, other))
    assert read(store, record).pairs[3] == {ShadowKey(1, 1): expected}


def test_a_unit_counts_once(store: Store) -> None:
    """Where units are counted: in its first pair for each arm, if the champion's outcome is known."""
    record = ranker(store, AnalysisUnit.UNIT)
    decisions = [decision_at() for _ in range(5)]
    units = (7, 7, 8, 7, 9)
    for decision, unit in zip(decisions[:4], units[:4], strict=True):
        store.record_rewards([champion(decision, {2: 0}, unit=unit), shadow(decision, 1, {2: 1})], 0)
    store.record_rewards([shadow(decisions[1], 2, {2: 1}), shadow(decisions[4], 1, {2: 1})], 0)
    assert read(store, record).pairs[2] == {
        ShadowKey(1, 1): PairSums.of(1, 0).plus(PairSums.of(1, 0)),
        ShadowKey(1, 2): PairSums.of(1, 0),
    }


def test_an_unknown_experiment_has_none(store: Store) -> None:
    """As for facts; one without shadows has no pairs."""
    assert store.read_shadows(99, timedelta(), LATER) is None


@pytest.mark.parametrize("n_looked_at", [1, 2, 3, 100])
def test_purging_changes_no_pair(store: SqlStore, n_looked_at: int) -> None:
    """However small its steps are, a decision and its shadows leave together, and their sums stay."""
    record = ranker(store)
    for number in range(6):
        decision = decision_at()
        rows = [shadow(decision, 1, {1: number % 2, 2: 0, 3: MAXIMUM}), shadow(decision, 2, {1: 1})]
        if number != 3:
            rows.append(champion(decision, {1: int(number % 3 == 0), 3: number}))
        store.record_rewards(rows, 0)
    later = decision_at(START + HOUR)
    store.record_rewards([champion(later, {1: 0}, epoch=2), shadow(later, 1, {1: 1}, epoch=2)], 0)
    before = read(store, record)
    outcomes = facts_of(store)
    seal(store, record)
    start: bytes | None = bytes(16)
    n_purged = 0
    while start is not None:
        step = store.purge(start, END, n_looked_at)
        n_purged, start = n_purged + step.n_rows, step.next_id
        assert read(store, record) == before
    assert n_purged == 6 * 4 + 5 * 2
    assert read(store, record) == before
    assert facts_of(store) == outcomes
    assert before.pairs[2] == {ShadowKey(1, 1): PairSums(6, 0, 0, 6, 6, 0)}, "the control: silence counts"


def test_pairs_of_units_leave_with_the_log(store: SqlStore) -> None:
    """Which of them was a unit's first could not be told any more; that they were mirrored stays."""
    record = ranker(store, AnalysisUnit.UNIT)
    decision = decision_at()
    store.record_rewards([champion(decision, {1: 1}, unit=7), shadow(decision, 1, {1: 1})], 0)
    seal(store, record)
    store.purge(bytes(16), END, 100)
    found = read(store, record)
    assert (found.pairs[1], found.n_mirrored) == ({}, {ShadowKey(1, 1): 1})

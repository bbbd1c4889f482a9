"""The contract of a store: outcomes of one decision in one batch get the results of posting one by one."""

from itertools import permutations

import pytest

from bandit.facts import Tally
from server.store.contract import Store
from server.store.records import (
    Conflicting,
    Expired,
    OutcomeResult,
    Recorded,
    RewardEntry,
    RewardVerdict,
)
from tests.store.builders import (
    DUPLICATE,
    RECORDED,
    REVISED,
    SUPERSEDED,
    facts_of,
    key_of,
    post,
    reward,
    some_id,
)


def test_several_conflicts_in_a_batch(store: Store) -> None:
    """Every conflicting call of a batch is refused with its own metrics, and the rest is recorded."""
    known = [reward(values={0: 1, 1: 1}) for _ in range(3)]
    post(store, *known)
    broken = [
        reward(known[0].decision, values={0: 2, 2: 2}),
        reward(known[1].decision, values={0: 2, 1: 2, 2: 2}),
        reward(known[2].decision, values={0: 1, 1: 2}),
    ]
    new = reward(values={2: 7})
    assert post(store, broken[0], new, *broken[1:]) == [
        Conflicting((0,)),
        RECORDED,
        Conflicting((0, 1)),
        Conflicting((1,)),
    ]
    assert {key.metric: tally.total for key, tally in facts_of(store).items()} == {0: 3, 1: 3, 2: 7}


def test_the_same_decision_twice_in_a_batch(store: Store) -> None:
    """The same reward twice in one batch is recorded once and a duplicate once."""
    entry = reward(quanta=3)
    assert post(store, entry, entry, entry) == [RECORDED, DUPLICATE, DUPLICATE]
    assert facts_of(store) == {key_of(entry): Tally(n=1, total=3, squares=9)}


def test_a_conflict_within_a_batch(store: Store) -> None:
    """Of two values for one decision in a batch the first is recorded, and the second is a conflict."""
    first = reward(quanta=3)
    second = reward(first.decision, 4)
    assert post(store, first, second, second, first) == [
        RECORDED,
        Conflicting((0,)),
        Conflicting((0,)),
        DUPLICATE,
    ]


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_revisions_of_one_decision_in_any_order_within_a_batch(store: Store, order: tuple[int, ...]) -> None:
    """Revisions in one batch take effect in revision order: the highest stands, whatever the order was."""
    decision = some_id()
    verdicts = post(store, *(reward(decision, 10 + revision, revision) for revision in order))
    expected: list[RewardVerdict] = []
    for index, revision in enumerate(order):
        is_highest = revision > max(order[:index], default=-1)
        expected.append(SUPERSEDED if not is_highest else REVISED if index else RECORDED)
    assert verdicts == expected
    assert list(facts_of(store).values()) == [Tally(n=1, total=13, squares=169)]


def test_an_expired_entry_sees_what_its_batch_recorded(store: Store) -> None:
    """An expired call that repeats a call of the same batch finds its outcomes known."""
    entry = reward(quanta=3)
    assert post(store, entry, entry._replace(is_expired=True)) == [RECORDED, DUPLICATE]
    other = reward(quanta=3)
    assert post(store, other._replace(is_expired=True), other) == [Expired((0,)), RECORDED]
    refused = reward(is_expired=True)
    assert post(store, refused, refused) == [Expired((0,))] * 2


def test_overlapping_calls_in_a_batch(store: Store) -> None:
    """Calls of one decision that share some metrics take effect one after the other."""
    decision = some_id()
    verdicts = post(
        store,
        reward(decision, values={0: 1, 1: 1}),
        reward(decision, values={1: 1, 2: 1}),
        reward(decision, values={0: 2, 2: 2}, revision=1),
        reward(decision, values={0: 1, 1: 1}),
    )
    result = OutcomeResult
    assert verdicts == [
        Recorded((result.RECORDED, result.RECORDED)),
        Recorded((result.DUPLICATE, result.RECORDED)),
        Recorded((result.REVISED, result.REVISED)),
        Recorded((result.SUPERSEDED, result.DUPLICATE)),
    ]
    assert {key.metric: tally.total for key, tally in facts_of(store).items()} == {0: 2, 1: 1, 2: 2}


def test_a_repetition_sees_what_came_between(store: Store) -> None:
    """A call repeated in its batch is not a copy if another call revised any of its metrics in between."""
    first = reward(values={0: 1, 1: 1, 2: 1})
    revised = [reward(first.decision, values={metric: 9}, revision=1) for metric in (1, 2)]
    result = OutcomeResult
    assert post(store, first, first, revised[0], first, revised[1], first) == [
        Recorded((result.RECORDED,) * 3),
        Recorded((result.DUPLICATE,) * 3),
        REVISED,
        Recorded((result.DUPLICATE, result.SUPERSEDED, result.DUPLICATE)),
        REVISED,
        Recorded((result.DUPLICATE, result.SUPERSEDED, result.SUPERSEDED)),
    ]


@pytest.mark.parametrize("n_entries", [1, 2, 511, 513, 5000])
def test_batches_of_any_size(store: Store, n_entries: int) -> None:
    """A batch of any size is recorded whole; repeated, it is all duplicates."""
    entries = [reward(quanta=number, arm=number % 3) for number in range(n_entries)]
    assert post(store, *entries) == [RECORDED] * n_entries
    assert post(store, *reversed(entries)) == [DUPLICATE] * n_entries
    assert sum(tally.total for tally in facts_of(store).values()) == n_entries * (n_entries - 1) // 2


def test_a_large_batch_with_everything_in_it(store: Store) -> None:
    """New, known, revised and conflicting calls in one batch of several statements are told apart."""
    known = [reward(values={0: 1, 1: 1}) for _ in range(600)]
    post(store, *known)
    batch: list[RewardEntry] = []
    expected: list[RewardVerdict] = []
    for number, entry in enumerate(known):
        match number % 4:
            case 0:
                batch.append(entry)
                expected.append(Recorded((OutcomeResult.DUPLICATE,) * 2))
            case 1:
                batch.append(reward(entry.decision, values={0: 2, 1: 1}, revision=1))
                expected.append(Recorded((OutcomeResult.REVISED,) * 2))
            case 2:
                batch.append(reward(entry.decision, values={1: 2, 2: 1}))
                expected.append(Conflicting((1,)))
            case _:
                batch.append(reward(values={0: 1}))
                expected.append(RECORDED)
    assert post(store, *batch) == expected
    assert {key.metric: tally.total for key, tally in facts_of(store).items()} == {0: 900, 1: 600}


def test_no_entries_get_no_verdicts(store: Store) -> None:
    """An empty batch, and an entry without outcomes, store nothing."""
    assert post(store) == []
    assert post(store, reward(values={})) == [Recorded(())]
    assert facts_of(store) == {}

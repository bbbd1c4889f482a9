"""The contract of a store: the result of an outcome, row by row of the ledger's table, and its sums."""

from datetime import UTC, datetime

import pytest

from bandit.decision_id import Basis
from bandit.facts import Tally
from server.services.reward.commit_queue import MAX_COMMIT_ROWS
from server.store.contract import Store
from server.store.errors import RowRefusedError
from server.store.records import (
    Conflicting,
    Expired,
    KeyRing,
    OutcomeEntry,
    OutcomeResult,
    Recorded,
    Revoked,
    RewardVerdict,
)
from tests.store.builders import (
    DUPLICATE,
    LATE,
    RECORDED,
    REVISED,
    SUPERSEDED,
    facts_of,
    key_of,
    one,
    post,
    reward,
    some_id,
)

INSTANT = datetime(2026, 3, 1, tzinfo=UTC)


def test_a_new_outcome_is_recorded(store: Store) -> None:
    """A new outcome is recorded, and counted under its decision's epoch, arm, basis and metric."""
    entry = reward(quanta=3, epoch=4, arm=2, basis=Basis.RESTRICTED, experiment=9)
    assert one(store, entry) == RECORDED
    assert facts_of(store) == {key_of(entry): Tally(n=1, total=3, squares=9)}


def test_a_decision_signed_by_a_revoked_key_is_not_recorded(store: Store) -> None:
    """The transaction checks the ring: what was verified before a revocation is too late, also a repeat."""
    store.adopt_keys(KeyRing({1: b"1" * 32, 2: b"2" * 32}, 2, {2: INSTANT}))
    known, late, good = reward(quanta=3), reward()._replace(key=1), reward()._replace(key=2)
    known = known._replace(key=1)
    assert one(store, known) == RECORDED
    store.revoke_key(1, INSTANT)
    assert post(store, known, good, late) == [Revoked(), RECORDED, Revoked()]
    assert facts_of(store) == {key_of(known): Tally(n=2, total=4, squares=10)}


def test_a_late_outcome_is_recorded_separately(store: Store) -> None:
    """An outcome whose window has closed is recorded as late, and counted separately from those in time."""
    entry = reward(quanta=3, is_late=True)
    assert one(store, entry) == LATE
    assert facts_of(store) == {key_of(entry): Tally(late_n=1, late_total=3, late_squares=9)}


def test_a_repeated_outcome_is_a_duplicate(store: Store) -> None:
    """The same value and revision again is a duplicate, the same answer however often, and counts once."""
    entry = reward(quanta=3)
    assert one(store, entry) == RECORDED
    assert [one(store, entry) for _ in range(3)] == [DUPLICATE] * 3
    assert post(store, entry, entry) == [DUPLICATE, DUPLICATE]
    assert facts_of(store) == {key_of(entry): Tally(n=1, total=3, squares=9)}


def test_a_duplicate_of_a_late_outcome_is_a_duplicate(store: Store) -> None:
    """A repeated outcome is a duplicate even if the first one was late."""
    entry = reward(is_late=True)
    one(store, entry)
    assert one(store, entry) == DUPLICATE


def test_a_retry_that_is_late_meanwhile_is_a_duplicate(store: Store) -> None:
    """An outcome recorded in time stays in time, whenever it is repeated."""
    entry = reward(quanta=2)
    one(store, entry)
    again = reward(entry.decision, 2, is_late=True)
    assert one(store, again) == DUPLICATE
    assert facts_of(store) == {key_of(entry): Tally(n=1, total=2, squares=4)}


def test_another_value_conflicts(store: Store) -> None:
    """Another value at the same revision is a conflict, and the stored value stays."""
    entry = reward(quanta=3)
    one(store, entry)
    assert one(store, reward(entry.decision, 4)) == Conflicting((0,))
    assert one(store, entry) == DUPLICATE
    assert facts_of(store) == {key_of(entry): Tally(n=1, total=3, squares=9)}


@pytest.mark.parametrize("quanta", [0, 3, 10])
def test_a_higher_revision_replaces_the_value(store: Store, quanta: int) -> None:
    """A higher revision replaces the value, whether larger, smaller or equal: the difference is added."""
    entry = reward(quanta=3)
    one(store, entry)
    assert one(store, reward(entry.decision, quanta, revision=1)) == REVISED
    assert facts_of(store) == {key_of(entry): Tally(n=1, total=quanta, squares=quanta**2)}


def test_a_revision_of_a_late_outcome_stays_late(store: Store) -> None:
    """A revision stays on its first value's side of the window, whichever side it came on itself."""
    late, timely = reward(quanta=3, is_late=True), reward(quanta=5)
    post(store, late, timely)
    assert one(store, reward(late.decision, 4, revision=1)) == REVISED
    assert one(store, reward(timely.decision, 6, revision=1, is_late=True)) == REVISED
    assert facts_of(store) == {key_of(late): Tally(1, 6, 36, 1, 4, 16)}


def test_a_lower_revision_is_superseded(store: Store) -> None:
    """A revision lower than the stored one changes nothing, whatever its value; nor does its repetition."""
    entry = reward(quanta=3, revision=5)
    one(store, entry)
    for quanta in (3, 4):
        assert one(store, reward(entry.decision, quanta, revision=4)) == SUPERSEDED
    assert one(store, entry) == DUPLICATE
    assert facts_of(store) == {key_of(entry): Tally(n=1, total=3, squares=9)}


def test_a_revision_can_conflict_too(store: Store) -> None:
    """After a revision, another value at that revision is a conflict, and the first value is superseded."""
    entry = reward(quanta=3)
    one(store, entry)
    one(store, reward(entry.decision, 4, revision=1))
    assert one(store, reward(entry.decision, 5, revision=1)) == Conflicting((0,))
    assert one(store, entry) == SUPERSEDED


def test_an_expired_first_outcome_is_refused(store: Store) -> None:
    """A first outcome past its decision's age is not stored."""
    assert one(store, reward(is_expired=True)) == Expired((0,))
    assert facts_of(store) == {}


def test_an_expired_outcome_that_is_known_gets_its_answer(store: Store) -> None:
    """Past the age, a known outcome is still a duplicate, a conflict, a revision or superseded."""
    entry = reward(quanta=3, revision=1)
    one(store, entry)

    def later(quanta: int, revision: int) -> RewardVerdict:
        return one(store, reward(entry.decision, quanta, revision, is_expired=True))

    assert later(3, 1) == DUPLICATE
    assert later(4, 1) == Conflicting((0,))
    assert later(4, 0) == SUPERSEDED
    assert later(4, 2) == REVISED
    assert facts_of(store) == {key_of(entry): Tally(n=1, total=4, squares=16)}


def test_an_expired_call_is_all_or_nothing(store: Store) -> None:
    """If one metric of an expired call has no value yet, none is changed, and that one is named."""
    entry = reward(values={0: 1, 2: 1})
    one(store, entry)
    late = reward(entry.decision, values={0: 9, 1: 1, 2: 9, 3: 1}, revision=1, is_expired=True)
    assert one(store, late) == Expired((1, 3))
    assert one(store, entry) == Recorded((OutcomeResult.DUPLICATE,) * 2)


def test_kept_apart_outcomes_are_never_folded(store: Store) -> None:
    """Kept-apart outcomes are in the log, get the usual results, and are in no fact."""
    entry = reward(quanta=3, is_apart=True)
    assert one(store, entry) == RECORDED
    assert one(store, entry) == DUPLICATE
    assert one(store, reward(entry.decision, 4, revision=1, is_apart=True)) == REVISED
    assert facts_of(store) == {}
    assert store.count_apart() == 1


def test_a_revision_stays_kept_apart(store: Store) -> None:
    """A revision stays kept apart, or folded, as the first value was."""
    apart, folded = reward(quanta=3, is_apart=True), reward(quanta=3)
    post(store, apart, folded)
    post(store, reward(apart.decision, 5, 1), reward(folded.decision, 5, 1, is_apart=True))
    assert facts_of(store) == {key_of(folded): Tally(n=1, total=5, squares=25)}


def test_a_call_is_judged_by_metric(store: Store) -> None:
    """A call's metrics get a result each: new, known, revised and superseded ones in one call."""
    first = reward(values={0: 1, 1: 1}, revision=1)
    decision = first.decision
    post(
        store, first, reward(decision, values={2: 1}, revision=3), reward(decision, values={3: 5}, revision=2)
    )
    mixed = reward(decision, values={0: 7, 2: 9, 3: 5, 4: 2}, revision=2)
    assert one(store, mixed) == Recorded(
        (
            OutcomeResult.REVISED,
            OutcomeResult.SUPERSEDED,
            OutcomeResult.DUPLICATE,
            OutcomeResult.RECORDED,
        )
    )
    totals = {key.metric: tally.total for key, tally in facts_of(store).items()}
    assert totals == {0: 7, 1: 1, 2: 1, 3: 5, 4: 2}


@pytest.mark.parametrize("conflicting", [0, 1, 2])
def test_a_conflict_stores_nothing_of_its_call(store: Store, conflicting: int) -> None:
    """If one metric of a call conflicts, none of its others is stored; that metric is named."""
    decision = some_id()
    one(store, reward(decision, values={conflicting: 1}))
    assert one(store, reward(decision, values={0: 5, 1: 5, 2: 5})) == Conflicting((conflicting,))
    assert [key.metric for key in facts_of(store)] == [conflicting]


def test_a_conflict_undoes_no_other_call(store: Store) -> None:
    """The calls next to a conflicting one in a batch are recorded, before it and after it."""
    entry = reward(values={0: 1})
    one(store, entry)
    before, after = reward(values={0: 2, 1: 2}), reward(values={0: 3, 1: 3})
    broken = reward(entry.decision, values={0: 9, 1: 9})
    both = Recorded((OutcomeResult.RECORDED,) * 2)
    assert post(store, before, broken, after) == [both, Conflicting((0,)), both]
    totals = {key.metric: (tally.n, tally.total) for key, tally in facts_of(store).items()}
    assert totals == {0: (3, 6), 1: (2, 5)}


def test_a_conflict_does_not_revise_its_calls_other_metrics(store: Store) -> None:
    """A call that would revise one metric and conflicts on another revises nothing."""
    decision = some_id()
    post(store, reward(decision, values={0: 1}, revision=1), reward(decision, values={1: 1}, revision=2))
    assert one(store, reward(decision, values={0: 8, 1: 9}, revision=2)) == Conflicting((1,))
    assert one(store, reward(decision, values={0: 1}, revision=1)) == DUPLICATE
    assert sorted((key.metric, tally.total) for key, tally in facts_of(store).items()) == [(0, 1), (1, 1)]


def test_metrics_of_a_decision_do_not_meet(store: Store) -> None:
    """Different metrics of one decision are different outcomes, in one batch and across batches."""
    decision = some_id()
    assert post(store, *(reward(decision, values={metric: metric}) for metric in range(5))) == [RECORDED] * 5
    assert one(store, reward(decision, values={5: 5})) == RECORDED
    assert {key.metric: tally.n for key, tally in facts_of(store).items()} == dict.fromkeys(range(6), 1)


def test_ids_are_compared_byte_by_byte(store: Store) -> None:
    """Ids that differ only in case, in a NUL or in their last byte are different decisions."""
    ids = [b"a" * 16, b"A" + b"a" * 15, b"a" * 15 + b"\0", b"\0" * 16, b"\xff" * 16, b"a" * 15 + b"b"]
    assert post(store, *(reward(decision) for decision in ids)) == [RECORDED] * 6


def test_the_slots_of_writers_add_up(store: Store) -> None:
    """Increments written in different slots are one fact, even a revision in another slot than its value."""
    entry = reward(quanta=3)
    store.record_rewards([entry, reward(quanta=4)], slot=0)
    store.record_rewards([reward(entry.decision, 1, revision=1)], slot=1)
    store.record_rewards([reward(quanta=5)], slot=2)
    assert facts_of(store) == {key_of(entry): Tally(n=3, total=10, squares=42)}


def test_the_largest_values_are_summed_exactly(store: Store) -> None:
    """The largest commit of the largest values is taken, and summed exactly to the last unit."""
    entries = [reward(quanta=2**20) for _ in range(MAX_COMMIT_ROWS - 1)]
    post(store, *entries, reward(quanta=2**20 - 1))
    squares = (MAX_COMMIT_ROWS - 1) * 2**40 + (2**20 - 1) ** 2
    total = MAX_COMMIT_ROWS * 2**20 - 1
    assert facts_of(store) == {key_of(entries[0]): Tally(n=MAX_COMMIT_ROWS, total=total, squares=squares)}


def test_the_highest_revision_of_the_wire_fits(store: Store) -> None:
    """Revisions up to 2^32 - 1 are distinguished from one another."""
    decision = some_id()
    assert one(store, reward(decision, 1, revision=2**32 - 2)) == RECORDED
    assert one(store, reward(decision, 2, revision=2**32 - 1)) == REVISED


def test_a_refused_value_stores_nothing_of_its_batch(store: Store) -> None:
    """A value that the database can't hold raises RowRefusedError, and no call of its batch is stored."""
    good = reward(quanta=3)
    with pytest.raises(RowRefusedError, match="the database refused a value"):
        post(store, good, reward(revision=2**63))
    assert one(store, good) == RECORDED
    assert len(facts_of(store)) == 1


def test_a_refused_revision_leaves_the_value(store: Store) -> None:
    """After a refused batch the stored value is what it was before."""
    entry = reward(quanta=3)
    one(store, entry)
    huge = entry._replace(outcomes=(OutcomeEntry(0, 2**70, is_late=False),), revision=1)
    with pytest.raises(RowRefusedError):
        post(store, reward(entry.decision, 9, revision=1), reward(), huge)
    assert one(store, entry) == DUPLICATE
    assert facts_of(store) == {key_of(entry): Tally(n=1, total=3, squares=9)}

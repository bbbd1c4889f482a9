"""The contract of a store: decision counts are added once, whichever server repeats them."""

import pytest

from bandit.decision_id import Basis
from bandit.facts import DecisionKey
from server.store.contract import Store
from server.store.errors import WriterUnknownError
from tests.bandit.builders import START
from tests.store.builders import INCARNATION, flush, run

OTHER = b"another run-----"


def decisions_of(store: Store, number: int) -> dict[DecisionKey, int]:
    """Return the decision counts of an experiment."""
    found = store.read_facts(number)
    assert found is not None
    return dict(found.facts.decisions)


def test_a_repeated_flush_is_added_once(store: Store) -> None:
    """A flush whose COMMIT was in doubt can be sent again with the same counts, and counts once."""
    number = run(store).number
    key = DecisionKey(number, 1, 0, 0, Basis.POLICY)
    store.claim_slot(INCARNATION, START)
    for _ in range(3):
        store.add_decisions(flush(1, {key: 5}))
    assert decisions_of(store, number) == {key: 5}
    store.add_decisions(flush(2, {key: 2}))
    store.add_decisions(flush(1, {key: 5}))
    store.add_decisions(flush(2, {key: 2}))
    assert decisions_of(store, number) == {key: 7}


def test_an_empty_flush_takes_its_number(store: Store) -> None:
    """A flush without counts adds nothing, and those after it are added."""
    number = run(store).number
    key = DecisionKey(number, 1, 0, 0, Basis.POLICY)
    store.claim_slot(INCARNATION, START)
    store.add_decisions(flush(1, {}))
    store.add_decisions(flush(2, {key: 1}))
    assert decisions_of(store, number) == {key: 1}


def test_counts_are_kept_by_epoch_arm_and_basis(store: Store) -> None:
    """Decisions are counted under every part of their key."""
    number = run(store).number
    counts = {
        DecisionKey(number, epoch, 0, arm, basis): 100 * epoch + 10 * arm + basis
        for epoch in (1, 2)
        for arm in (0, 1)
        for basis in Basis
    }
    store.claim_slot(INCARNATION, START)
    store.add_decisions(flush(1, counts))
    assert decisions_of(store, number) == counts


def test_a_new_run_counts_from_the_start(store: Store) -> None:
    """A new incarnation starts at sequence 1 again, and adds to what its predecessor counted."""
    number = run(store).number
    key = DecisionKey(number, 1, 0, 0, Basis.POLICY)
    store.claim_slot(INCARNATION, START)
    store.add_decisions(flush(1, {key: 5}))
    store.add_decisions(flush(2, {key: 5}))
    store.claim_slot(OTHER, START)
    store.add_decisions(flush(1, {key: 1}, OTHER))
    assert decisions_of(store, number) == {key: 11}


def test_a_run_that_lost_its_slot_counts_on(store: Store) -> None:
    """A run that lost its slot to another loses and doubles no count: its flushes are known by their run."""
    number = run(store).number
    key = DecisionKey(number, 1, 0, 0, Basis.POLICY)
    store.claim_slot(INCARNATION, START)
    store.add_decisions(flush(1, {key: 5}))
    store.claim_slot(OTHER, START)
    store.add_decisions(flush(1, {key: 5}))
    store.add_decisions(flush(2, {key: 2}))
    store.add_decisions(flush(1, {key: 1}, OTHER))
    assert decisions_of(store, number) == {key: 8}


def test_a_writer_keeps_its_slot(store: Store) -> None:
    """Claiming again returns the same slot, and counts go on where they were."""
    number = run(store).number
    key = DecisionKey(number, 1, 0, 0, Basis.POLICY)
    slot = store.claim_slot(INCARNATION, START)
    store.add_decisions(flush(1, {key: 5}))
    assert store.claim_slot(INCARNATION, START) == slot
    store.add_decisions(flush(1, {key: 5}))
    assert decisions_of(store, number) == {key: 5}


def test_a_flush_without_a_claim_is_refused(store: Store) -> None:
    """Counts of a writer that the store does not know are not added, and it gets an error."""
    number = run(store).number
    with pytest.raises(WriterUnknownError):
        store.add_decisions(flush(1, {DecisionKey(number, 1, 0, 0, Basis.POLICY): 5}))
    assert decisions_of(store, number) == {}


def test_counts_beyond_32_bits_are_kept(store: Store) -> None:
    """Counts are added in 63 bits."""
    number = run(store).number
    key = DecisionKey(number, 1, 0, 0, Basis.POLICY)
    store.claim_slot(INCARNATION, START)
    store.add_decisions(flush(1, {key: 2**40}))
    store.add_decisions(flush(2, {key: 2**40}))
    assert decisions_of(store, number) == {key: 2**41}

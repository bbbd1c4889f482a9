"""The contract of a store: the first epoch is read by part, where all of it was counted by part."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count

import pytest

from bandit.decision_id import Basis, IdBits, new_id, run_of
from bandit.facts import DecisionKey, Facts, OutcomeKey, Tally
from bandit.facts.parts import N_PARTS
from server.services.verification import rebuild
from server.store.columns.exact_sums import STEP_BITS, StoredTally
from server.store.columns.slots import slot_of
from server.store.contract import Store
from server.store.records import OutcomeResult, Recorded, RewardEntry, SealedEpochs
from server.store.sql_store import SqlStore
from server.store.tables import facts as fact_tables
from server.store.tables.schema import outcome_facts
from tests.bandit.builders import START
from tests.store.builders import INCARNATION, facts_of, flush, post, reward, run, silently

DEAD = b"dead" + bytes(12)
NIBBLES = (0, 1, 2, 7, 8, 15)
"""Of parts 0, 1, 2, 3, 4 and 4."""

_samples = count(1)


@pytest.fixture
def number(store: SqlStore) -> int:
    """A running experiment; its writers have claimed their slots."""
    record = run(store)
    for incarnation in (INCARNATION, DEAD):
        store.claim_slot(incarnation, START)
    return record.number


def decided(nibble: int, *, sequence: int = 1, incarnation: bytes = DEAD) -> bytes:
    """Return the id of a decision with these bits, which a flush of a run carries."""
    bits = IdBits(run_of(incarnation), sequence, nibble << 16, next(_samples))
    return new_id(int(START.timestamp() * 1000) + sequence, bits.pack())


def facts_by_part(store: Store, number: int) -> Facts:
    """Return the facts; fail unless the parts, if there are any, sum to the first epoch's policy rows."""
    found = store.read_facts(number)
    assert found is not None
    facts = found.facts
    if facts.parts:
        decisions, outcomes = Counter[DecisionKey](), dict[OutcomeKey, Tally]()
        for part in facts.parts:
            decisions.update(part.decisions)
            for key, tally in part.outcomes.items():
                outcomes[key] = outcomes.get(key, Tally()).plus(tally)
        assert decisions == {k: n for k, n in facts.decisions.items() if is_of_first(k)}
        assert outcomes == {k: tally for k, tally in facts.outcomes.items() if is_of_first(k)}
        assert len(facts.parts) == N_PARTS
    return facts


def is_of_first(key: DecisionKey | OutcomeKey) -> bool:
    """True for the policy rows of a first epoch."""
    return key.epoch == 1 and key.basis is Basis.POLICY


def totals_of(facts: Facts, metric: int = 0) -> list[tuple[int, int]]:
    """Return number and sum of the outcomes of each part, over arms, late ones included."""
    tallies = [[t for k, t in part.outcomes.items() if k.metric == metric] for part in facts.parts]
    return [(sum(t.n + t.late_n for t in of), sum(t.total + t.late_total for t in of)) for of in tallies]


def add_counts(store: Store, number: int, parts: Sequence[int], *, sequence: int = 1, slot: int = 0) -> None:
    """Add a flush that knows its parts, of the first epoch, and others of the second."""
    first, second = (DecisionKey(number, epoch, 0, 1, Basis.POLICY) for epoch in (1, 2))
    sent = flush(sequence, {first: sum(parts), second: 9})
    store.add_decisions(replace(sent, slot=slot, parts={first: tuple(parts)}))


def entries_of(number: int, values: Mapping[int, int] | None = None) -> list[RewardEntry]:
    """Return an outcome for a decision of each nibble."""
    return [reward(decided(nibble), values=values, experiment=number, arm=1) for nibble in NIBBLES]


def add_without_part(store: SqlStore, key: OutcomeKey, tally: StoredTally) -> None:
    """Add to the outcome facts as a server before 0.3.0 does."""
    with store._dialect.writing() as connection:
        fact_tables.add_outcomes(connection, store._dialect, {fact_tables.OutcomePart(key): tally}, 1)


def test_decisions_and_outcomes_are_read_by_part(store: Store, number: int) -> None:
    """Counts from several slots and outcomes of every kind, some revised elsewhere, are in their parts."""
    add_counts(store, number, [1, 2, 0, 4, 8])
    add_counts(store, number, [1, 0, 3, 0, 0], sequence=2, slot=4095)
    late = reward(decided(3), experiment=number, is_late=True)
    others = [
        reward(decided(3), experiment=number, epoch=2),
        reward(decided(3), experiment=number, basis=Basis.RESTRICTED),
    ]
    entries = [late, *others, *entries_of(number, {0: 1, 1: 7})]
    post(store, *entries, slot=4095)
    revised = reward(entries[-1].decision, values={0: 0, 1: 2}, revision=1, experiment=number, arm=1)
    assert post(store, revised, slot=3)[0] == Recorded((OutcomeResult.REVISED,) * 2)
    facts = facts_by_part(store, number)
    assert [sum(part.decisions.values()) for part in facts.parts] == [2, 2, 3, 4, 8]
    assert totals_of(facts) == [(1, 1), (1, 1), (2, 2), (1, 1), (2, 1)]
    assert totals_of(facts, 1) == [*[(1, 7 << STEP_BITS)] * 4, (2, 9 << STEP_BITS)]


def test_parts_are_exact_beyond_64_bits(store: SqlStore, number: int) -> None:
    """Sums that need more than 64 bits are read by part as exactly as in all."""
    add_counts(store, number, [1, 1, 1, 1, 1])
    key = OutcomeKey(number, 1, 0, 1, Basis.POLICY, 0)
    n = 2**24
    with store._dialect.writing() as connection:
        for slot in (0, 1):
            tallies = {
                fact_tables.OutcomePart(key, part): StoredTally(n, n << 20, n + part << 40)
                for part in range(N_PARTS)
            }
            fact_tables.add_outcomes(connection, store._dialect, tallies, slot)
    facts = facts_by_part(store, number)
    assert [part.outcomes[key].squares for part in facts.parts] == [n + part << 41 for part in range(N_PARTS)]


def test_a_first_epoch_without_decisions_has_no_parts(store: Store, number: int) -> None:
    """An experiment that has decided nothing in its first epoch has nothing to split."""
    assert facts_by_part(store, number).parts == ()


def test_a_count_without_a_part_leaves_no_parts(store: Store, number: int) -> None:
    """A flush of the first epoch that does not know parts, as of an older server, makes them unknown."""
    add_counts(store, number, [1, 2, 0, 4, 8])
    assert len(facts_by_part(store, number).parts) == N_PARTS
    store.add_decisions(flush(2, {DecisionKey(number, 1, 0, 0, Basis.RESTRICTED): 3}))
    assert len(facts_by_part(store, number).parts) == N_PARTS
    key = DecisionKey(number, 1, 0, 1, Basis.POLICY)
    store.add_decisions(flush(3, {key: 5}))
    facts = facts_by_part(store, number)
    assert (facts.parts, facts.decisions[key]) == ((), 20)


def test_a_slot_beyond_the_range_of_parts_leaves_no_parts(store: Store, number: int) -> None:
    """A writer in slot 4096 or above counts without parts, and in its own slot."""
    add_counts(store, number, [1, 2, 0, 4, 8], slot=4096)
    facts = facts_by_part(store, number)
    assert (facts.parts, facts.decisions[DecisionKey(number, 1, 0, 1, Basis.POLICY)]) == ((), 15)


@pytest.mark.parametrize("tally", [StoredTally(1, 1, 1), StoredTally()])
def test_an_outcome_without_a_part_leaves_no_parts(store: SqlStore, number: int, tally: StoredTally) -> None:
    """So does an older server's outcome, even if all that it added has cancelled out."""
    add_counts(store, number, [1, 2, 0, 4, 8])
    post(store, *entries_of(number))
    add_without_part(store, OutcomeKey(number, 2, 0, 1, Basis.POLICY, 0), tally)
    assert len(facts_by_part(store, number).parts) == N_PARTS
    key = OutcomeKey(number, 1, 0, 1, Basis.POLICY, 0)
    add_without_part(store, key, tally)
    facts = facts_by_part(store, number)
    assert (facts.parts, facts.outcomes[key].n) == ((), len(NIBBLES) + tally.n)


def test_an_outcome_that_moves_leaves_its_part(store: SqlStore, number: int) -> None:
    """Outcomes of lost decisions leave the parts that counted them, and revisions of them stay out."""
    add_counts(store, number, [1, 2, 0, 4, 8])
    lost = [reward(decided(nibble, sequence=9), experiment=number, arm=1) for nibble in (2, 7, 15)]
    post(store, *entries_of(number), *lost)
    assert totals_of(facts_by_part(store, number)) == [(1, 1), (1, 1), (2, 2), (2, 2), (3, 3)]
    store.add_decisions(replace(flush(1, {}, DEAD), decided_ms=int(START.timestamp() * 1000) + 2))
    (dead,) = [each for each in store.read_writers() if each.incarnation == DEAD]
    assert store.end_runs([dead], START) == [DEAD]
    while store.move_uncounted(3, 100) is not None:
        pass
    post(store, reward(lost[0].decision, 0, revision=1, experiment=number, arm=1))
    facts = facts_by_part(store, number)
    assert totals_of(facts) == [(1, 1), (1, 1), (1, 1), (1, 1), (2, 2)]
    assert facts.outcomes[OutcomeKey(number, 1, 0, 1, Basis.UNCOUNTED, 0)] == Tally(3, 2, 2)


def test_a_rebuild_keeps_the_parts(store: SqlStore, number: int) -> None:
    """The log knows the parts of its outcomes: a rebuild restores them, as other slots."""
    add_counts(store, number, [1, 2, 0, 4, 8])
    post(store, *entries_of(number, {0: 1, 1: 7}), reward(decided(5), experiment=number, is_late=True))
    before, sums = facts_by_part(store, number), facts_of(store)
    with store._dialect.writing() as connection:
        connection.execute(outcome_facts.delete().where(outcome_facts.c.slot == slot_of(0, 4)))
    assert facts_by_part(store, number) != before
    assert rebuild(store, silently).n_rows == len(sums)
    assert facts_by_part(store, number) == before
    assert facts_of(store) == sums


def test_a_rebuild_of_sealed_outcomes_does_not_know_parts(store: SqlStore, number: int) -> None:
    """Outcomes that were purged stay in their parts, until a rebuild takes them from sums without parts."""
    add_counts(store, number, [1, 2, 0, 4, 8])
    post(store, *entries_of(number))
    store.seal([SealedEpochs(number, 1, 1, START, new_id(0, 0))], START)
    assert store.settle_seals()
    assert store.purge(bytes(16), b"\xff" * 16, 100).n_rows == len(NIBBLES)
    assert totals_of(facts_by_part(store, number)) == [(1, 1), (1, 1), (1, 1), (1, 1), (2, 2)]
    sums = facts_of(store)
    rebuild(store, silently)
    assert facts_by_part(store, number).parts == ()
    assert facts_of(store) == sums

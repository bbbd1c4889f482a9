"""The contract of a store: outcomes of decisions that no flush has counted are kept apart, for good."""

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta

import pytest

from bandit.decision_id import Basis, IdBits, new_id, run_of
from bandit.facts import DecisionKey
from server.store.contract import Store
from server.store.errors import OutdatedError, RunEndedError, RunTakenError
from server.store.records import (
    Flush,
    RewardEntry,
    SealedEpochs,
    WriterState,
)
from server.store.sql_store import SqlStore
from server.store.tables.ended_runs import FEATURE
from server.version import VERSION
from tests.bandit.builders import START
from tests.store.builders import (
    DUPLICATE,
    RECORDED,
    REVISED,
    SUPERSEDED,
    create,
    facts_of,
    one,
    post,
    reward,
    run,
    silently,
)

DEAD = b"dead" + bytes(12)
LIVE = b"live" + bytes(12)
START_MS = int(START.timestamp() * 1000)


@pytest.fixture
def number(store: SqlStore) -> int:
    """A running experiment, with a dead and a live run of a server."""
    record = run(store)
    for incarnation in (DEAD, LIVE):
        store.claim_slot(incarnation, START)
    return record.number


def decided(flush: int, lot: int = 0, *, incarnation: bytes = DEAD, after_ms: int = 0) -> bytes:
    """Return the id of a decision that a flush of a run carries; 10 ms of decisions a flush."""
    bits = IdBits(run_of(incarnation), flush % 2**14, lot, 0)
    return new_id(START_MS + 10 * flush + after_ms, bits.pack())


def count(store: Store, sequence: int, n_decisions: int = 1, *, incarnation: bytes = DEAD) -> None:
    """Add a flush, whose last decision was made 9 ms after its first."""
    key = DecisionKey(1, 1, 0, 0, Basis.POLICY)
    store.add_decisions(
        Flush(
            slot=0,
            incarnation=incarnation,
            sequence=sequence,
            counts={key: n_decisions},
            decided_ms=START_MS + 10 * sequence + 9,
        )
    )


def state_of(store: Store, incarnation: bytes = DEAD) -> WriterState:
    """Return what the store knows of a run."""
    (found,) = [each for each in store.read_writers() if each.incarnation == incarnation]
    return found


def end(store: Store, incarnation: bytes = DEAD) -> None:
    """End a run in its present state."""
    assert store.end_runs([state_of(store, incarnation)], START) == [incarnation]


def move(store: Store, n_looked_at: int = 100) -> int:
    """Move all there is, checking that the facts are the fold of the log; return how many rows moved."""
    n_rows = 0
    while (step := store.move_uncounted(1, n_looked_at)) is not None:
        facts_of(store)
        n_rows += step.n_rows
    return n_rows


def outcomes(store: Store) -> Mapping[Basis, tuple[int, int]]:
    """Return basis mapped to number and sum of the outcomes in the facts, which are the fold of the log."""
    n_outcomes, totals = Counter[Basis](), Counter[Basis]()
    for key, tally in facts_of(store).items():
        n_outcomes[key.basis] += tally.n + tally.late_n
        totals[key.basis] += tally.total + tally.late_total
    return {basis: (n_outcomes[basis], totals[basis]) for basis in n_outcomes}


def test_outcomes_go_with_their_decisions(store: SqlStore, number: int) -> None:
    """When a run died between two flushes, outcomes of the counted decisions stay, and the others move."""
    count(store, 1)
    entries = [reward(decided(flush, lot), experiment=number) for flush in (1, 2) for lot in range(3)]
    post(store, *entries)
    assert outcomes(store) == {Basis.POLICY: (6, 6)}
    end(store)
    assert outcomes(store) == {Basis.POLICY: (6, 6)}
    assert move(store) == 3
    assert outcomes(store) == {Basis.POLICY: (3, 3), Basis.UNCOUNTED: (3, 3)}
    assert move(store) == 0
    store.rebuild_outcomes(silently)
    assert outcomes(store) == {Basis.POLICY: (3, 3), Basis.UNCOUNTED: (3, 3)}


def test_later_rewards_are_taken_and_set_apart(store: SqlStore, number: int) -> None:
    """After a run has ended, rewards get their usual answers, and steer nothing."""
    count(store, 1)
    end(store)
    lost = decided(2)
    assert one(store, reward(lost, 3, experiment=number)) == RECORDED
    assert one(store, reward(lost, 3, experiment=number)) == DUPLICATE
    assert one(store, reward(lost, 5, 2, experiment=number)) == REVISED
    assert one(store, reward(lost, 7, 1, experiment=number)) == SUPERSEDED
    assert one(store, reward(decided(1), 4, experiment=number)) == RECORDED
    assert outcomes(store) == {Basis.UNCOUNTED: (1, 5), Basis.POLICY: (1, 4)}
    assert move(store) == 0


def test_a_revision_counts_where_its_row_counts(store: SqlStore, number: int) -> None:
    """A revision before its row has moved changes the old sums, and after that the new ones."""
    lost = decided(1)
    one(store, reward(lost, 3, experiment=number))
    end(store)
    assert one(store, reward(lost, 5, 1, experiment=number)) == REVISED
    assert outcomes(store) == {Basis.POLICY: (1, 5)}
    move(store)
    assert one(store, reward(lost, 9, 2, experiment=number)) == REVISED
    assert outcomes(store) == {Basis.UNCOUNTED: (1, 9)}


def test_only_what_is_compared_moves(store: SqlStore, number: int) -> None:
    """Fallbacks, unconfirmed decisions and kept-apart rows are never evidence, and stay what they are."""
    bases = {basis: reward(decided(1, basis), experiment=number, basis=basis) for basis in Basis}
    post(store, *bases.values(), reward(decided(1, 99), experiment=number, is_apart=True))
    end(store)
    moved = {Basis.POLICY, Basis.RESTRICTED, Basis.SHADOW}
    assert move(store) == len(moved)
    assert outcomes(store) == {
        Basis.FALLBACK: (1, 1),
        Basis.UNCONFIRMED: (1, 1),
        Basis.UNCOUNTED: (1 + len(moved), 1 + len(moved)),
    }
    assert store.count_apart() == 1
    late = {basis: reward(decided(1, 50 + basis), experiment=number, basis=basis) for basis in Basis}
    post(store, *late.values(), reward(decided(1, 98), experiment=number, is_apart=True))
    assert outcomes(store)[Basis.UNCOUNTED] == (2 + 2 * len(moved), 2 + 2 * len(moved))
    assert store.count_apart() == 2


def test_other_runs_are_not_touched(store: SqlStore, number: int) -> None:
    """Decisions of the live run, and those of servers whose ids name no run, keep their outcomes."""
    theirs = [decided(1, lot, incarnation=LIVE) for lot in range(3)]
    random_bits = [new_id(START_MS + 10, 2**73 + lot) for lot in range(3)]
    post(store, *(reward(each, experiment=number) for each in (*theirs, *random_bits, decided(1))))
    end(store)
    assert move(store) == 1
    assert outcomes(store) == {Basis.POLICY: (6, 6), Basis.UNCOUNTED: (1, 1)}


def test_a_flush_after_the_end_is_refused(store: SqlStore, number: int) -> None:
    """A server that was taken for dead can't add to what is settled; repeats of older flushes succeed."""
    count(store, 1)
    end(store)
    with pytest.raises(RunEndedError):
        count(store, 2)
    count(store, 1)
    found = store.read_facts(number)
    assert found is not None
    assert sum(found.facts.decisions.values()) == 1


def test_a_run_that_reported_meanwhile_is_not_ended(store: SqlStore, number: int) -> None:
    """A run that flushed or sent a beat after it was looked at goes on."""
    seen = state_of(store)
    count(store, 1)
    assert store.end_runs([seen], START) == []
    seen = state_of(store)
    store.claim_slot(DEAD, START + timedelta(seconds=1))
    assert store.end_runs([seen], START) == []
    count(store, 2)
    assert move(store) == 0
    assert one(store, reward(decided(3), experiment=number)) == RECORDED
    assert outcomes(store) == {Basis.POLICY: (1, 1)}


def test_ending_again_changes_nothing(store: SqlStore, number: int) -> None:
    """A run is ended once, whichever server finds it silent again."""
    seen = state_of(store)
    assert store.end_runs([seen], START) == [DEAD]
    assert store.end_runs([seen], START) == []
    assert store.end_runs([state_of(store)], START) == []
    assert number == 1


def test_flushes_are_distinguished_by_time_when_their_number_wraps(store: SqlStore, number: int) -> None:
    """With a last flush beyond 2^14, decisions of the previous turn keep their outcomes."""
    last = 2**14 + 5
    count(store, last)
    turns_before = [decided(flush, flush) for flush in (6, 7, 2**14 - 1, last - 1, last)]
    entries = [reward(each, experiment=number) for each in (*turns_before, decided(last + 1))]
    post(store, *entries)
    end(store)
    assert move(store) == 1
    assert outcomes(store) == {Basis.POLICY: (5, 5), Basis.UNCOUNTED: (1, 1)}
    assert one(store, reward(decided(6, 1), experiment=number)) == RECORDED
    assert one(store, reward(decided(last + 2), experiment=number)) == RECORDED
    assert outcomes(store) == {Basis.POLICY: (6, 6), Basis.UNCOUNTED: (2, 2)}


def test_a_flush_and_the_next_share_a_millisecond(store: SqlStore, number: int) -> None:
    """Decisions of the millisecond of the last flush are assigned to the flush that they name."""
    count(store, 1)
    same_ms = [decided(1, lot, after_ms=9) for lot in range(2)]
    following = new_id(START_MS + 19, IdBits(run_of(DEAD), 2, 7, 0).pack())
    post(store, *(reward(each, experiment=number) for each in (*same_ms, following)))
    end(store)
    assert move(store) == 1
    assert outcomes(store) == {Basis.POLICY: (2, 2), Basis.UNCOUNTED: (1, 1)}


def test_the_facts_are_the_fold_of_the_log_in_between(store: SqlStore, number: int) -> None:
    """Moving a few rows at a time, with several metrics and values, loses and doubles nothing on the way."""
    values = {0: 3, 1: 1}
    lost = [reward(decided(2, lot), values=values, experiment=number) for lot in range(20)]
    kept = [reward(decided(1, lot), values=values, experiment=number) for lot in range(20)]
    count(store, 1)
    post(store, *kept, *lost)
    end(store)
    steps = []
    while (step := store.move_uncounted(1, 3)) is not None:
        steps.append(step.n_rows)
        by_basis = outcomes(store)
        assert sum(n_outcomes for n_outcomes, _ in by_basis.values()) == 80
        assert by_basis[Basis.UNCOUNTED][0] == sum(steps)
    assert sum(steps) == 40
    assert len(steps) > 5
    assert outcomes(store) == {Basis.POLICY: (40, 80), Basis.UNCOUNTED: (40, 80)}


def unit_reward(decision: bytes, unit: int, experiment: int) -> RewardEntry:
    """Return the outcome of a decision for a unit."""
    return reward(decision, experiment=experiment)._replace(unit=unit)


def test_a_unit_keeps_outcomes_since_it_is_counted(store: SqlStore, number: int) -> None:
    """An outcome of a lost decision stays its unit's only if the unit was counted before that decision."""
    key = DecisionKey(number, 1, 0, 0, Basis.POLICY)
    known, stranger = (mark.to_bytes(6) for mark in (1, 2))
    sightings = [(key, {known: ((decided(1),), 1)})]
    store.add_decisions(
        Flush(
            slot=0,
            incarnation=DEAD,
            sequence=1,
            counts={key: 1},
            units=sightings,
            decided_ms=START_MS + 19,
        )
    )
    recorded = [unit_reward(decided(2, unit), unit, number) for unit in (1, 2)]
    post(store, *recorded)
    end(store)
    assert move(store) == 2
    post(store, *(unit_reward(decided(2, 10 + unit), unit, number) for unit in (1, 2)))
    with store._dialect.reading() as connection:
        rows = connection.exec_driver_sql("SELECT basis, unit FROM rewards ORDER BY decision").all()
    assert [tuple(row) for row in rows] == [(Basis.UNCOUNTED, unit) for unit in (1, None, 1, None)]
    assert int.from_bytes(stranger) == 2


def test_a_seal_wins(store: SqlStore, number: int) -> None:
    """Outcomes purged before the run ended stay in the sealed sums, and a sealed epoch takes no reward."""
    post(store, reward(decided(1), experiment=number), reward(decided(1, 1), experiment=number, epoch=2))
    sealed = SealedEpochs(number, 1, 1, START, new_id(0, 0))
    store.seal([sealed], START)
    assert store.settle_seals()
    assert store.purge(bytes(16), b"\xff" * 16, 100).n_rows == 1
    end(store)
    assert move(store) == 1
    assert outcomes(store) == {Basis.POLICY: (1, 1), Basis.UNCOUNTED: (1, 1)}
    store.seal([SealedEpochs(number, 2, 2, START, new_id(0, 0))], START)
    assert store.settle_seals()
    assert store.purge(bytes(16), b"\xff" * 16, 100).n_rows == 1
    assert outcomes(store) == {Basis.POLICY: (1, 1), Basis.UNCOUNTED: (1, 1)}


def test_a_clean_end_leaves_nothing_to_look_for(store: SqlStore, number: int) -> None:
    """A run that reports that all is counted is not ended by others, and its rewards stay what they are."""
    count(store, 1)
    store.end_cleanly(DEAD, START)
    assert state_of(store).ended_at is not None
    assert store.end_runs([state_of(store)], START) == []
    assert one(store, reward(decided(2), experiment=number)) == RECORDED
    assert outcomes(store) == {Basis.POLICY: (1, 1)}


def test_runs_differ_in_the_bits_that_ids_have_of_them(store: SqlStore, number: int) -> None:
    """A run with the bits of a live or ended one is refused until it draws others."""
    twin = DEAD[:3] + b"\x01" * 13
    with pytest.raises(RunTakenError):
        store.claim_slot(twin, START)
    end(store)
    for incarnation in (twin, DEAD):
        with pytest.raises(RunTakenError):
            store.claim_slot(incarnation, START)
    assert store.claim_slot(b"other" + bytes(11), START) is not None
    assert number == 1


def test_servers_register_their_version(store: SqlStore, number: int) -> None:
    """The first use of a feature keeps code of an older schema out, and this code goes on."""
    assert {each.code for each in store.read_writers()} == {VERSION}
    end(store)
    with store._dialect.reading() as connection:
        oldest = connection.exec_driver_sql("SELECT oldest_code FROM compatibility").scalar()
    assert oldest == FEATURE.schema
    assert create(store, "another").number > number


def test_a_server_that_is_too_old_changes_nothing(store: SqlStore, number: int) -> None:
    """Once code of a later schema is needed, this code takes rewards and counts, and stores no revision."""
    with store._dialect.writing() as connection:
        connection.exec_driver_sql("UPDATE compatibility SET oldest_code = '9999'")
    with pytest.raises(OutdatedError, match="needs code of schema 9999 or later"):
        create(store, "another")
    assert store.find_experiment("another") is None
    assert one(store, reward(decided(1), experiment=number)) == RECORDED
    count(store, 1)
    with store._dialect.writing() as connection:
        connection.exec_driver_sql("UPDATE compatibility SET oldest_code = '0005'")

"""The contract of a store: threads and restarts share it without losing anything."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from threading import Barrier

import pytest

from bandit.decision_id import Basis
from bandit.facts import DecisionKey, Tally
from server.store.contract import Store
from server.store.errors import NameTakenError, StaleRevisionError, StoreUnavailableError
from server.store.opening import open_store
from server.store.records import ExperimentRecord, KeyRing
from tests.bandit.builders import START, declare
from tests.store.builders import (
    DUPLICATE,
    INCARNATION,
    RECORDED,
    create,
    epoch_of,
    facts_of,
    flush,
    key_of,
    reward,
    run,
    silently,
)

N_ROUNDS = 25


def test_two_threads_lose_nothing(store: Store) -> None:
    """Two threads that write at the same time lose no increment, and every shared reward counts once."""
    number = run(store).number
    shared = [reward(quanta=1, experiment=number) for _ in range(N_ROUNDS)]
    key = DecisionKey(number, 1, 0, 0, Basis.POLICY)
    store.claim_slot(INCARNATION, START)
    start = Barrier(2)

    def write(slot: int) -> list[object]:
        start.wait()
        verdicts: list[object] = []
        for step in range(N_ROUNDS):
            verdicts += store.record_rewards([shared[step], reward(quanta=2, experiment=number)], slot)
            if slot == 0:
                store.add_decisions(flush(step + 1, {key: 3}))
            assert store.read_facts(number) is not None
        return verdicts

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(write, (0, 1))
    assert [*first, *second].count(RECORDED) == 3 * N_ROUNDS
    assert [*first, *second].count(DUPLICATE) == N_ROUNDS
    found = store.read_facts(number)
    assert found is not None
    assert found.facts.decisions == {key: 3 * N_ROUNDS}
    total = Tally(n=3 * N_ROUNDS, total=5 * N_ROUNDS, squares=9 * N_ROUNDS)
    assert facts_of(store) == {key_of(shared[0]): total}


def test_of_threads_that_race_one_wins(store: Store) -> None:
    """Of threads that create one name, and of those that change one revision, exactly one succeeds."""
    start = Barrier(4)

    def race(_: int) -> tuple[bool, ExperimentRecord | None]:
        start.wait()
        try:
            return True, store.create_experiment(declare("contested"), START)
        except NameTakenError:
            return False, None

    def change(record: ExperimentRecord) -> bool:
        start.wait()
        try:
            store.change_experiment(record, record)
        except StaleRevisionError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(race, range(4)))
        (record,) = [record for has_won, record in results if has_won]
        assert record is not None
        changes = list(pool.map(change, [record] * 4))
    assert changes.count(True) == 1
    found = store.find_experiment("contested")
    assert found is not None
    assert found.revision == 2


def test_of_racing_epochs_all_writers_get_the_same(store: Store) -> None:
    """Threads that compute the same number of epoch all get the one that is stored."""
    record = run(store)
    start = Barrier(4)

    def add(nonce: int) -> object:
        start.wait()
        return store.add_epoch(epoch_of(record, 2, nonce=nonce))

    with ThreadPoolExecutor(4) as pool:
        adopted = list(pool.map(add, range(4)))
    found = store.read_facts(record.number)
    assert found is not None
    assert adopted == [found.epochs[-1]] * 4


def contents(store: Store, experiment: int) -> tuple[object, ...]:
    """Return what a store holds, except the watermark: every transaction moves it, even internal ones."""
    changes = replace(store.load_changes(None), watermark=0)
    return store.read_facts(experiment), changes, store.compare_ledger(silently)


def test_a_reopened_store_has_everything(url: str) -> None:
    """After a restart, keys, experiments, epochs, decisions, rewards and duplicates are unchanged."""
    ring = KeyRing({1: b"k" * 32}, 1)
    entry = reward(quanta=3)
    with closing(open_store(url)) as store:
        store.adopt_keys(ring)
        record, draft = run(store), create(store, "draft")
        store.claim_slot(INCARNATION, START)
        counts = {DecisionKey(record.number, 1, 0, 0, Basis.POLICY): 5}
        store.add_decisions(flush(1, counts))
        store.record_rewards([entry], 0)
        before = contents(store, record.number)
    with closing(open_store(url)) as store:
        assert contents(store, record.number) == before
        assert store.adopt_keys(KeyRing({2: b"x" * 32}, 2)) == ring
        assert store.find_experiment("draft") == draft
        assert store.record_rewards([entry], 0) == [DUPLICATE]
        assert create(store, "next").number > draft.number


def test_a_store_can_be_closed_twice(url: str) -> None:
    """Closing again is harmless; after it every call is an error, and none reaches the database."""
    store = open_store(url)
    store.close()
    store.close()
    with pytest.raises(StoreUnavailableError, match="the store is closed"):
        store.record_rewards([reward()], 0)
    with pytest.raises(StoreUnavailableError, match="the store is closed"):
        store.load_changes(None)
    with closing(open_store(url)) as again:
        assert facts_of(again) == {}

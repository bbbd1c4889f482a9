"""The contract of a store: keys, epochs, loads of what changed, and snapshots of facts."""

from dataclasses import replace
from datetime import timedelta

import pytest

from bandit.decision_id import Basis
from bandit.facts import DecisionKey
from server.store.contract import Store
from server.store.records import Changes, EpochKey, KeyRing, LiveExperiment, State
from server.store.tables import experiments
from tests.bandit.builders import START, declare, make_epoch
from tests.store.builders import (
    INCARNATION,
    create,
    epoch_of,
    facts_of,
    flush,
    key_of,
    nonces_of,
    reward,
    run,
)

RING = KeyRing({1: b"a" * 32}, 1)


def test_the_first_ring_is_adopted(store: Store) -> None:
    """The first writer's keys become the store's; every later writer gets those, however often it asks."""
    assert store.adopt_keys(RING) == RING
    assert store.adopt_keys(KeyRing({1: b"b" * 32}, 1)) == RING
    assert store.adopt_keys(RING) == RING


def test_a_ring_keeps_all_its_keys(store: Store) -> None:
    """A ring of several keys comes back whole, with the key that signs."""
    ring = KeyRing({7: bytes(range(32)), 0: b"\0" * 16, 255: b"\xff" * 64}, 0)
    store.adopt_keys(ring)
    assert store.adopt_keys(RING) == ring


def test_secrets_are_not_printed() -> None:
    """A ring's text names its keys and none of their secrets."""
    assert repr(RING) == "KeyRing(keys=[1], signing_key=1)"


def test_an_epoch_comes_back_as_it_was_added(store: Store) -> None:
    """Shares, means and instants of an epoch come back to the last digit."""
    record = run(store)
    epoch = make_epoch(
        2,
        START + timedelta(microseconds=123_457),
        {0: 0.1 + 0.2, 1: 1 - (0.1 + 0.2), 17: 5e-324},
        experiment=record.number,
        revision=record.revision,
        nonce=2**32 - 1,
        warming_up=frozenset({1, 17}),
        means={0: {0: 1 / 3, 17: 1e300}, 5: {}},
    )
    assert store.add_epoch(epoch) == epoch
    found = store.read_facts(record.number)
    assert found is not None
    assert found.epochs[-1] == epoch


def test_an_epoch_keeps_what_its_shadows_see(store: Store) -> None:
    """To the last bit; an epoch without arms in shadow has none."""
    record = run(store)
    epoch = replace(epoch_of(record, 2), shadows={1: 0.1, 17: 1 / 3})
    assert store.add_epoch(epoch) == epoch
    found = store.read_facts(record.number)
    assert found is not None
    assert [dict(each.shadows) for each in found.epochs] == [{}, {1: 0.1, 17: 1 / 3}]


def test_the_first_epoch_of_a_number_stands(store: Store) -> None:
    """A second epoch of a number is not stored: its writer gets the first one, each time."""
    record = run(store)
    first = epoch_of(record, 2, nonce=1)
    assert store.add_epoch(first) == first
    assert store.add_epoch(epoch_of(record, 2, nonce=2)) == first
    assert store.add_epoch(first) == first
    assert nonces_of(store, record.number) == {1: 7, 2: 1}


def test_an_epoch_of_an_older_revision_is_refused(store: Store) -> None:
    """An epoch computed from a configuration that has changed since is not stored."""
    record = run(store)
    store.change_experiment(record, replace(record, experiment=declare()), epoch_of(record, 2))
    assert store.add_epoch(epoch_of(record, 3)) is None
    assert set(nonces_of(store, record.number)) == {1, 2}


@pytest.mark.parametrize("state", [State.DRAFT, State.PAUSED, State.CONCLUDED])
def test_an_experiment_that_does_not_run_gets_no_epoch(store: Store, state: State) -> None:
    """Only a running experiment begins epochs."""
    record = run(store)
    stopped = store.change_experiment(record, replace(record, state=state))
    assert store.add_epoch(epoch_of(stopped, 2)) is None
    assert set(nonces_of(store, record.number)) == {1}


def test_a_deleted_or_unknown_experiment_gets_no_epoch(store: Store) -> None:
    """Neither a deleted experiment nor an unknown one begins epochs."""
    record = run(store)
    store.delete_experiment(record, START)
    for revision in (record.revision, record.revision + 1):
        assert store.add_epoch(epoch_of(replace(record, revision=revision), 2)) is None
    assert store.add_epoch(epoch_of(replace(record, number=99), 1)) is None
    assert nonces_of(store, 99) == {}


def test_nonces_are_of_one_experiment(store: Store) -> None:
    """Epochs of other experiments are not among an experiment's nonces."""
    first, second = run(store, "a"), run(store, "b")
    store.add_epoch(epoch_of(second, 2, nonce=42))
    assert nonces_of(store, first.number) == {1: 7}
    assert nonces_of(store, second.number) == {1: 7, 2: 42}


def names_of(changes: Changes) -> list[str]:
    """Return the names of what changed, in order."""
    return sorted(live.record.name for live in changes.live)


def test_a_first_load_is_of_everything(store: Store) -> None:
    """Without a watermark a load has every experiment with its epoch in force; a draft has none."""
    draft, running = create(store, "draft"), run(store, "running")
    store.add_epoch(epoch_of(running, 2))
    changes = store.load_changes(None)
    assert sorted(changes.live, key=lambda live: live.record.name) == [
        LiveExperiment(draft, None),
        LiveExperiment(running, epoch_of(running, 2)),
    ]


def test_an_empty_store_loads_nothing(store: Store) -> None:
    """Before the first experiment a load is empty, and its watermark misses no later change."""
    empty = store.load_changes(None)
    assert (empty.live, empty.deleted) == ((), frozenset())
    create(store)
    assert names_of(store.load_changes(empty.watermark)) == ["ranker"]


def test_a_later_load_is_of_what_changed_since(store: Store) -> None:
    """With a watermark a load has only what was created, changed, deleted or got an epoch since."""
    quiet, changed, gone, epochal = (run(store, name) for name in ("quiet", "changed", "gone", "epochal"))
    watermark = store.load_changes(None).watermark
    assert store.load_changes(watermark) == Changes((), frozenset(), watermark)
    changed = store.change_experiment(changed, replace(changed, state=State.PAUSED))
    store.delete_experiment(gone, START)
    store.add_epoch(epoch_of(epochal, 2))
    created = create(store, "created")
    changes = store.load_changes(watermark)
    assert {live.record.name: live for live in changes.live} == {
        "changed": LiveExperiment(changed, replace(epoch_of(quiet, 1), experiment=changed.number)),
        "epochal": LiveExperiment(epochal, epoch_of(epochal, 2)),
        "created": LiveExperiment(created, None),
    }
    assert changes.deleted == {gone.number}
    assert store.load_changes(changes.watermark).live == ()


def test_what_is_stored_already_is_not_a_change(store: Store) -> None:
    """An adopted epoch and a refused change are not loaded again."""
    record = run(store)
    watermark = store.load_changes(None).watermark
    store.add_epoch(epoch_of(record, 1, nonce=99))
    store.add_epoch(epoch_of(replace(record, revision=1), 2))
    assert store.load_changes(watermark).live == ()


def test_loads_of_many_experiments_are_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """More experiments than fit into one statement are all loaded, each with its own epoch."""
    monkeypatch.setattr(experiments, "_BATCH", 3)
    for number in range(8):
        run(store, f"e-{number}")
    live = store.load_changes(None).live
    assert len(live) == 8
    assert all(one.epoch is not None and one.epoch.experiment == one.record.number for one in live)


def test_facts_are_read_with_their_experiment_and_epochs(store: Store) -> None:
    """One snapshot holds the record, the epochs in order, the decisions and the outcomes."""
    record, other = run(store), run(store, "other")
    for number in (2, 3, 4, 10, 11):
        store.add_epoch(epoch_of(record, number))
    counts = {
        DecisionKey(record.number, 1, 0, 0, Basis.POLICY): 5,
        DecisionKey(record.number, 2, 0, 1, Basis.FALLBACK): 7,
        DecisionKey(other.number, 1, 0, 0, Basis.POLICY): 9,
    }
    slot = store.claim_slot(INCARNATION, START)
    store.add_decisions(flush(1, counts))
    mine = reward(quanta=3, experiment=record.number, basis=Basis.RESTRICTED)
    store.record_rewards([mine, reward(experiment=other.number)], slot)
    found = store.read_facts(record.number)
    assert found is not None
    assert found.record == record
    assert [epoch.number for epoch in found.epochs] == [1, 2, 3, 4, 10, 11]
    assert found.facts.decisions == {key: n for key, n in counts.items() if key.experiment == record.number}
    assert found.facts.outcomes == {key_of(mine): facts_of(store)[key_of(mine)]}
    assert all(isinstance(key.basis, Basis) for key in found.facts.decisions)
    assert all(isinstance(key.basis, Basis) for key in found.facts.outcomes)


def test_facts_of_nothing(store: Store) -> None:
    """An unknown or deleted experiment has no facts; those of a draft are empty."""
    draft, gone = create(store), create(store, "gone")
    store.delete_experiment(gone, START)
    assert store.read_facts(99) is None
    assert store.read_facts(gone.number) is None
    found = store.read_facts(draft.number)
    assert found is not None
    assert (found.epochs, found.facts.decisions, found.facts.outcomes) == ((), {}, {})


def test_epochs_are_found_by_key(store: Store) -> None:
    """Nonce and shares are found for epochs of several experiments, and for more than fit in a statement."""
    first, second = run(store, "first"), run(store, "second")
    for number in range(2, 400):
        store.add_epoch(epoch_of(first, number, nonce=number))
    keys = [EpochKey(first.number, 0, number) for number in range(100, 500)]
    keys += [EpochKey(second.number, 0, 1), EpochKey(second.number, 1, 1), EpochKey(99, 0, 1)]
    found = store.find_epochs(keys)
    assert set(found) == {*keys[:300], EpochKey(second.number, 0, 1)}
    assert all(found[key].nonce == key.number for key in keys[:300])
    assert dict(found[keys[0]].shares) == dict(epoch_of(first, 100).shares)
    assert store.find_epochs([]) == {}

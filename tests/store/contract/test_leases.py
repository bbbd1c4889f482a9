"""The contract of a store: a lease has one holder, and only its holder can change anything under it."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from threading import Barrier
from typing import Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, Transaction

from server.store.contract import Store
from server.store.errors import LeaseLostError, StaleRevisionError
from server.store.opening import open_store
from server.store.records import ExperimentRecord, Lease
from server.store.sql_store import SqlStore
from server.store.tables.launch import leases
from tests.store.builders import create, epoch_of, run, statements_of

NAME: Final = "controller"


def taken(store: Store, holder: str = "a") -> Lease:
    """Take the lease, whoever has it."""
    lease = store.take_over_lease(store.read_lease(NAME), holder)
    assert lease is not None
    return lease


def test_a_lease_that_nobody_held_is_free(store: Store) -> None:
    """It has token 0 and no holder; leases of other names are others."""
    assert store.read_lease(NAME) == Lease(name=NAME, token=0, holder=None, beat=0)
    lease = taken(store)
    assert (lease.token, lease.holder) == (1, "a")
    assert store.read_lease(NAME) == lease
    assert store.read_lease("another").token == 0


def test_of_those_who_saw_the_same_lease_one_takes_it(store: Store) -> None:
    """Never held before or not, the first takes it with the next token, and no other does."""
    free = store.read_lease(NAME)
    first = store.take_over_lease(free, "a")
    assert first is not None
    assert store.take_over_lease(free, "b") is None
    second = store.take_over_lease(first, "b")
    assert second is not None
    assert (second.token, second.holder) == (2, "b")
    assert store.take_over_lease(first, "c") is None
    assert store.read_lease(NAME) == second


def test_a_lease_is_not_taken_once_it_beats(store: Store) -> None:
    """Each renewal raises the beat, and whoever saw the one before can't take the lease any more."""
    seen = taken(store)
    renewed = store.renew_lease(seen)
    assert renewed == replace(seen, beat=seen.beat + 1)
    assert store.take_over_lease(seen, "b") is None
    assert store.read_lease(NAME) == renewed


def test_a_former_holder_neither_renews_nor_releases(store: Store) -> None:
    """After a takeover, the calls of the holder before change nothing."""
    former = taken(store)
    lease = taken(store, "b")
    assert store.renew_lease(former) is None
    store.release_lease(former)
    assert store.read_lease(NAME) == lease


def test_a_loser_of_the_race_can_not_release_for_the_winner(store: Store) -> None:
    """Who does not know whether it won may release what it would hold; the winner keeps the lease."""
    free = store.read_lease(NAME)
    lease = store.take_over_lease(free, "a")
    store.release_lease(free.taken_by("b"))
    assert store.read_lease(NAME) == lease


def test_a_released_lease_is_free_at_once(store: Store) -> None:
    """Its token has grown, so that a change that was begun before is refused; the next takes it at once."""
    before, lease = run(store), taken(store)
    store.release_lease(lease)
    found = store.read_lease(NAME)
    assert (found.token, found.holder) == (lease.token + 1, None)
    with pytest.raises(LeaseLostError):
        store.change_experiment(before, before, fence=lease)
    assert taken(store, "b").token == lease.token + 2


def test_repeated_calls_are_exact(store: Store) -> None:
    """A call whose answer was lost gets the same answer again, and is done once."""
    free = store.read_lease(NAME)
    lease = store.take_over_lease(free, "a")
    assert lease is not None
    assert store.take_over_lease(free, "a") == lease
    renewed = store.renew_lease(lease)
    assert store.renew_lease(lease) == renewed
    assert store.read_lease(NAME) == renewed
    for _ in range(2):
        store.release_lease(lease)
    assert store.read_lease(NAME).token == lease.token + 1


def test_a_renewal_that_arrives_late_moves_nothing_back(store: Store) -> None:
    """A beat never falls: of renewals that overtake each other, the later one counts."""
    lease = taken(store)
    later = store.renew_lease(lease.renewed())
    assert later is not None
    assert store.renew_lease(lease) is None
    assert store.read_lease(NAME) == later


def test_a_change_under_a_lost_lease_stores_nothing(store: Store) -> None:
    """Neither the revision nor its epoch is stored; under the lease of the new holder they are."""
    before, former = run(store), taken(store)
    lease = taken(store, "b")
    stood = store.read_facts(before.number)
    with pytest.raises(LeaseLostError) as caught:
        store.change_experiment(before, before, epoch_of(before, 2), fence=former)
    assert (caught.value.name, caught.value.token) == (NAME, former.token)
    assert store.read_facts(before.number) == stood
    after = store.change_experiment(before, before, epoch_of(before, 2), fence=lease)
    assert after.revision == before.revision + 1


def test_the_lease_is_looked_at_before_anything_is_read(store: SqlStore) -> None:
    """The fence is the first statement of the change, so that nothing that follows rests on a lost lease."""
    before, lease = run(store), taken(store)
    with statements_of(store) as sent:
        store.change_experiment(before, before, fence=lease)
    assert "FROM leases" in sent[0]
    assert ("FOR SHARE" in sent[0]) == store.is_shared


def test_of_threads_that_race_one_takes_the_lease(store: Store) -> None:
    """Of threads that saw the same lease, exactly one gets it, whether it was never held or is held."""
    start = Barrier(4)

    def race(seen: Lease, holder: str) -> Lease | None:
        start.wait()
        return store.take_over_lease(seen, holder)

    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            seen = store.read_lease(NAME)
            found = list(pool.map(race, [seen] * 4, "abcd"))
            (lease,) = [each for each in found if each is not None]
            assert store.read_lease(NAME) == lease


class _Action:
    """A change under a lease that has passed the fence, and is not committed yet."""

    def __init__(self, store: SqlStore, fence: Lease) -> None:
        self._connection: Connection = store._dialect.writer.connect()
        self._transaction: Transaction = self._connection.begin()
        try:
            leases.require(self._connection, fence)
        except LeaseLostError:
            self.end()
            raise

    def end(self) -> None:
        """Commit, or end what was refused."""
        self._transaction.commit()
        self._connection.close()


class Holders(RuleBasedStateMachine):
    """Servers that see, take, renew, release and act, each as late as it likes, against a plain model.

    Args:
        stores: One for each server; the same one where a database has only one.
        record: The experiment that they change.
        name: The lease's name, of which each example has one of its own.
    """

    def __init__(self, stores: Sequence[SqlStore], record: ExperimentRecord, name: str) -> None:
        super().__init__()
        self.stores = stores
        self.record = record
        self.model = Lease(name=name, token=0, holder=None, beat=0)
        self.seen = [self.model] * len(stores)
        self.own: list[Lease | None] = [None] * len(stores)
        self.actions: dict[int, _Action] = {}

    servers = st.integers(0, 2)

    def is_free(self, server: int) -> bool:
        """Return whether the server's one connection is free."""
        return server not in self.actions

    @rule(server=servers)
    def see(self, server: int) -> None:
        """A server looks at the lease."""
        self.seen[server] = self.stores[server].read_lease(self.model.name)
        assert self.seen[server] == self.model

    @rule(server=servers)
    def take_over(self, server: int) -> None:
        """A server takes what it saw, however long ago: only if that is still so, and nobody acts."""
        if not self.is_free(server):
            return
        seen, holder = self.seen[server], f"server-{server}"
        lease = self.stores[server].take_over_lease(seen, holder)
        again = seen.taken_by(holder)
        if seen == self.model and not self.actions:
            self.model = again
            assert lease == again
        elif (self.model.token, self.model.holder) == (again.token, holder):
            assert lease == self.model  # its own takeover, repeated
        else:
            assert lease is None
        self.own[server] = lease or self.own[server]

    @rule(server=servers)
    def renew(self, server: int) -> None:
        """A server renews what it holds, or held once: nothing comes of it after a takeover."""
        lease = self.own[server]
        if lease is None or not self.is_free(server) or self.actions:
            return
        renewed = self.stores[server].renew_lease(lease)
        if lease.token == self.model.token and lease.beat + 1 >= self.model.beat:
            self.model = lease.renewed()
            self.own[server] = renewed
            assert renewed == self.model
        else:
            assert renewed is None

    @rule(server=servers)
    def release(self, server: int) -> None:
        """A server releases what it holds, or held once."""
        lease = self.own[server]
        if lease is None or not self.is_free(server) or self.actions:
            return
        self.stores[server].release_lease(lease)
        if (lease.token, lease.holder) == (self.model.token, self.model.holder):
            self.model = replace(self.model, token=lease.token + 1, holder=None)

    @rule(server=servers)
    def act(self, server: int) -> None:
        """A server changes the experiment under a lease, however old: exactly the holder can."""
        lease = self.own[server]
        if lease is None or not self.is_free(server):
            return
        try:
            self.record = self.stores[server].change_experiment(self.record, self.record, fence=lease)
        except LeaseLostError:
            assert lease.token != self.model.token
        else:
            assert lease.token == self.model.token

    @precondition(lambda self: self.stores[0].is_shared and not self.actions)
    @rule(server=servers)
    def begin(self, server: int) -> None:
        """A server passes the fence, and is frozen before it commits: the lease stays where it is."""
        lease = self.own[server]
        if lease is None:
            return
        if lease.token == self.model.token:
            self.actions[server] = _Action(self.stores[server], lease)
        else:
            with pytest.raises(LeaseLostError):
                _Action(self.stores[server], lease)

    @precondition(lambda self: self.actions)
    @rule()
    def end(self) -> None:
        """It wakes up and commits: the lease is still its own."""
        ((server, action),) = self.actions.items()
        lease = self.own[server]
        assert lease is not None
        assert lease.token == self.model.token
        action.end()
        self.actions.clear()

    @invariant()
    def the_store_has_the_model(self) -> None:
        """What the store has is what the model says."""
        assert self.stores[0].read_lease(self.model.name) == self.model

    def teardown(self) -> None:
        """Leave no transaction open."""
        for action in self.actions.values():
            action.end()


@pytest.fixture
def three(url: str, store: SqlStore) -> Iterator[list[SqlStore]]:
    """The stores of three servers; a file has one server, whose store stands for three runs of it."""
    if not store.is_shared:
        yield [store] * 3
        return
    with closing(open_store(url)) as second, closing(open_store(url)) as third:
        yield [store, second, third]


def test_any_history_is_the_models(three: list[SqlStore]) -> None:
    """In any order of looks, takeovers, renewals, releases and changes, a lease has one holder.

    Nothing is changed under a lease that has changed hands, and none changes hands during a change.
    """
    n_examples = 0

    class Example(Holders):
        def __init__(self) -> None:
            nonlocal n_examples
            n_examples += 1
            super().__init__(three, create(three[0], f"e-{n_examples}"), f"lease-{n_examples}")

    run_state_machine_as_test(Example, settings=settings(max_examples=60, stateful_step_count=40))
    assert n_examples >= 40


def test_a_stale_revision_is_refused_under_a_lease_too(store: Store) -> None:
    """The lease says who may act, and the revision on what: one does not replace the other."""
    before, lease = run(store), taken(store)
    store.change_experiment(before, before, fence=lease)
    with pytest.raises(StaleRevisionError):
        store.change_experiment(before, before, fence=lease)

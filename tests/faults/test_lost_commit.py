"""A COMMIT with an unknown outcome: the store repeats the transaction, and the ledger is exact."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest

from bandit.decision_id import Basis
from bandit.facts import DecisionKey
from server.store.errors import StaleRevisionError, StoreUnavailableError
from server.store.opening import open_store
from server.store.postgresql.dialect import PostgresqlDialect
from server.store.records import Action, KeyRing, State
from server.store.sql_store import SqlStore
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
)
from tests.support.faults.proxy import Loss, Proxy
from tests.support.postgresql import PostgresqlProcess
from tests.support.process import eventually


@pytest.fixture
def proxy(postgresql: PostgresqlProcess) -> Iterator[Proxy]:
    """A proxy between the store and its database."""
    with Proxy(postgresql.port) as opened:
        yield opened


@pytest.fixture
def store(postgresql: PostgresqlProcess, proxy: Proxy) -> Iterator[SqlStore]:
    """A store whose connections go through the proxy."""
    url = postgresql.create_database().replace(str(postgresql.port), str(proxy.port))
    with closing(open_store(url)) as opened:
        yield opened


@pytest.fixture(params=Loss)
def lose(request: pytest.FixtureRequest, proxy: Proxy) -> Iterator[Callable[[], Loss]]:
    """Lose the next COMMIT, or the reply to it; the test must really have lost one each time it asked."""
    n_asked = 0

    def lose_next() -> Loss:
        nonlocal n_asked
        n_asked += 1
        proxy.lose = request.param
        assert isinstance(request.param, Loss)
        return request.param

    yield lose_next
    assert proxy.n_lost == n_asked > 0
    assert proxy.lose is None


def test_a_reward_is_counted_once(store: SqlStore, lose: Callable[[], Loss]) -> None:
    """A reward whose COMMIT was lost is recorded; one whose reply was lost comes back as a duplicate."""
    number = run(store).number
    entries = [reward(experiment=number) for _ in range(5)]
    for n_before, entry in enumerate(entries):
        expected = {Loss.REPLY: [DUPLICATE], Loss.REQUEST: [RECORDED]}[lose()]
        assert store.record_rewards([entry], 0) == expected
        assert facts_of(store)[key_of(entry)].n == n_before + 1
    assert store.record_rewards(entries, 0) == [DUPLICATE] * len(entries)


def test_decisions_are_counted_once(store: SqlStore, lose: Callable[[], Loss]) -> None:
    """A flush is added once, though the store sends it twice."""
    number = run(store).number
    key = DecisionKey(number, 1, 0, 0, Basis.POLICY)
    store.claim_slot(INCARNATION, START)
    for sequence in (1, 2, 3):
        lose()
        store.add_decisions(flush(sequence, {key: 5}))
    found = store.read_facts(number)
    assert found is not None
    assert found.facts.decisions == {key: 15}


def test_each_step_of_an_experiment_succeeds_once(store: SqlStore, lose: Callable[[], Loss]) -> None:
    """Create, start, epoch and delete succeed, and each was done once and is one event."""
    lose()
    draft = store.create_experiment(declare("ranker"), START)
    lose()
    running = store.change_experiment(draft, replace(draft, state=State.RUNNING), epoch_of(draft, 1))
    assert running.revision == 2
    lose()
    second = epoch_of(running, 2, nonce=9)
    assert store.add_epoch(second) == second
    found = store.read_facts(draft.number)
    assert found is not None
    assert found.record == running
    assert [epoch.nonce for epoch in found.epochs] == [7, 9]
    lose()
    store.delete_experiment(running, START)
    assert store.find_experiment("ranker") is None
    told = store.list_events("ranker", 0, 10)
    assert told is not None
    assert [(event.sequence, event.kind) for event in told] == [
        (1, "created"),
        (2, "started"),
        (3, "deleted"),
    ]


def test_keys_are_rotated_and_revoked_once(store: SqlStore, lose: Callable[[], Loss]) -> None:
    """Each step of a key's life is in the ring and in the audit log once."""
    store.adopt_keys(KeyRing({1: b"1" * 32}, 1))
    lose()
    rotated = store.rotate_keys(b"2" * 32, START, delay=timedelta(), ended_before=None)
    assert rotated.signing_key == 2
    lose()
    revoked = store.revoke_key(1, START + timedelta(days=1))
    assert revoked.secrets == {2: b"2" * 32}
    assert store.read_keys() == revoked
    actions = [entry.action for entry in store.list_audit_entries(None, 10)]
    assert sorted(actions) == [Action.REVOKE_KEY, Action.ROTATE_KEY]


def test_a_change_by_another_server_is_not_taken_for_ours(
    store: SqlStore, proxy: Proxy, postgresql: PostgresqlProcess
) -> None:
    """If another server changed the experiment after our COMMIT was lost, the repeated change is stale."""
    draft = create(store)
    url = str(store._dialect.writer.url) if isinstance(store._dialect, PostgresqlDialect) else ""
    with closing(open_store(url.replace(str(proxy.port), str(postgresql.port)))) as other:

        def interfere() -> None:
            other.change_experiment(draft, draft.declaring(declare("ranker", arms=("champion", "theirs"))))

        proxy.lose, proxy.after_loss = Loss.REQUEST, interfere
        with pytest.raises(StaleRevisionError):
            store.change_experiment(draft, draft.declaring(declare("ranker", arms=("champion", "ours"))))
    found = store.find_experiment("ranker")
    assert found is not None
    assert [arm.id for arm in found.experiment.arms] == ["champion", "theirs"]


def test_a_cut_network_ends_calls_in_seconds(store: SqlStore, proxy: Proxy) -> None:
    """A call into a network that forwards nothing fails in seconds; once it is back, the call is exact."""
    number = run(store).number
    entry = reward(experiment=number)
    proxy.cut()
    try:
        with pytest.raises(StoreUnavailableError):
            store.record_rewards([entry], 0)
    finally:
        proxy.mend()
    verdicts = eventually(lambda: store.record_rewards([entry], 0))
    assert verdicts in ([RECORDED], [DUPLICATE])
    assert facts_of(store)[key_of(entry)].n == 1

"""Writers on one PostgreSQL that purge at once, during rewards: nothing is lost, doubled or delayed."""

from collections.abc import Sequence
from datetime import timedelta

from server.store.records import ExperimentRecord, RewardEntry, Sealed
from server.store.sql_store import SqlStore
from tests.bandit.builders import START, make_epoch
from tests.replicas.conftest import N_REPLICAS
from tests.replicas.test_stores import at_once, n_deadlocks
from tests.store.builders import RECORDED, facts_of, reward, run
from tests.support.postgresql import query

DAY = timedelta(days=1)
RETENTION = timedelta(days=10)
NOW = START + 50 * DAY
END = b"\xff" * 16


def with_old_rewards(store: SqlStore, n_rewards: int) -> tuple[ExperimentRecord, list[RewardEntry]]:
    """A running experiment in its second epoch, and the rewards of its first, which may be sealed."""
    record = run(store)
    epoch = make_epoch(2, START + DAY, experiment=record.number, revision=record.revision)
    assert store.add_epoch(epoch) == epoch
    entries = [reward(values={0: 1, 1: n}, experiment=record.number, arm=n % 2) for n in range(n_rewards)]
    assert set(store.record_rewards(entries, 0)) == {type(RECORDED)(RECORDED.results * 2)}
    return record, entries


def seal(store: SqlStore) -> None:
    """Seal what may be sealed."""
    found, _ = store.find_sealable(0, 10, NOW, RETENTION)
    assert found
    store.seal(found, NOW)


def purge(store: SqlStore) -> int:
    """Purge to the end; return how many rows were purged here."""
    start: bytes | None = bytes(16)
    n_rows = 0
    while start is not None:
        step = store.purge(start, END, 100)
        n_rows, start = n_rows + step.n_rows, step.next_id
    return n_rows


def n_logged(url: str) -> int:
    """Return the number of rows in the log."""
    return int(query(url, "SELECT count(*) FROM rewards")[0][0])


def test_replicas_purge_and_record_at_once(stores: Sequence[SqlStore], url: str) -> None:
    """Three purge the same rows while one records and replays: every row goes once, every sum stays."""
    record, entries = with_old_rewards(stores[0], 1_500)
    before = facts_of(stores[0])
    seal(stores[0])
    assert stores[0].settle_seals()
    young = [reward(experiment=record.number, epoch=2, arm=1) for _ in range(400)]

    def work(replica: int, store: SqlStore) -> int:
        if replica < N_REPLICAS - 1:
            return purge(store)
        for start in range(0, len(young), 40):
            batch = [*young[start : start + 40], *entries[start : start + 40]]
            assert store.record_rewards(batch, replica) == [RECORDED] * 40 + [Sealed()] * 40
        return 0

    purged = at_once(stores, work)
    assert sum(purged) + purge(stores[0]) == 2 * len(entries)
    assert n_logged(url) == len(young)
    after = facts_of(stores[0])
    assert {key: after[key] for key in before} == before
    assert n_deadlocks(url) == 0


def test_nothing_is_purged_under_a_writer_that_may_not_know(stores: Sequence[SqlStore]) -> None:
    """A transaction that looked before the seal keeps the rows in the log until it has ended."""
    record, entries = with_old_rewards(stores[0], 20)
    late = reward(experiment=record.number)
    with stores[1]._dialect.writing() as connection:
        seen = stores[1]._dialect.read_bounds(connection, [record.number], []).seals
        seal(stores[0])
        assert seen == {}
        for _ in range(3):
            assert not stores[0].settle_seals()
            assert purge(stores[0]) == 0
    assert stores[2].record_rewards([late], 0) == [Sealed()]
    assert stores[0].settle_seals()
    assert purge(stores[0]) == 2 * len(entries)


def test_a_transaction_that_looks_after_the_seal_does_not_delay_it(stores: Sequence[SqlStore]) -> None:
    """A transaction that began to write after the seal had its version knows of it: nothing waits for it."""
    record, entries = with_old_rewards(stores[0], 20)
    seal(stores[0])
    stores[0].settle_seals()
    with stores[1]._dialect.writing() as connection:
        found = stores[1]._dialect.read_bounds(connection, [record.number], []).seals
        assert found[record.number, 0].epoch == 1
        assert stores[0].settle_seals()
        assert purge(stores[0]) == 2 * len(entries)


def test_a_seal_of_another_database_settles(stores: Sequence[SqlStore], url: str) -> None:
    """In a restored copy a seal's fence may lie in the new server's future: the fence is set again."""
    _, entries = with_old_rewards(stores[0], 20)
    seal(stores[0])
    stores[0].settle_seals()
    query(url, "UPDATE seals SET fence = 1000000000000")
    assert not stores[0].settle_seals()
    assert purge(stores[0]) == 0
    assert stores[0].settle_seals()
    assert purge(stores[0]) == 2 * len(entries)

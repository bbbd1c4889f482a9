"""Writers that share a PostgreSQL: nothing counts twice, nothing is lost, and there is no deadlock."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import TypeVar

from bandit.decision_id import Basis
from bandit.facts import DecisionKey
from server.store.records import ExperimentRecord, Flush, RewardEntry, State
from server.store.sql_store import SqlStore
from server.store.tables import writers
from tests.bandit.builders import START
from tests.replicas.conftest import N_REPLICAS
from tests.store.builders import (
    DUPLICATE,
    RECORDED,
    create,
    epoch_of,
    facts_of,
    key_of,
    reward,
    run,
)
from tests.support.postgresql import query

_Result = TypeVar("_Result")


def at_once(stores: Sequence[SqlStore], work: Callable[[int, SqlStore], _Result]) -> list[_Result]:
    """Return the result of each store's work; all begin at the same moment."""
    start = Barrier(len(stores))

    def begin(number: int) -> _Result:
        start.wait()
        return work(number, stores[number])

    with ThreadPoolExecutor(len(stores)) as pool:
        return list(pool.map(begin, range(len(stores))))


def n_deadlocks(url: str) -> int:
    """Return how many deadlocks this database had."""
    ((count,),) = query(url, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    return int(count)


def test_a_reward_that_reaches_all_replicas_counts_once(stores: list[SqlStore], url: str) -> None:
    """Four writers post the same 400 rewards in different orders: one records each, three get duplicates."""
    number = run(stores[0]).number
    entries = [reward(values={0: 1, 1: 7}, experiment=number) for _ in range(400)]

    def post(replica: int, store: SqlStore) -> list[tuple[bytes, object]]:
        order = random.Random(replica).sample(entries, len(entries))
        slot = store.claim_slot(bytes([replica]) * 16, START)
        answers: list[tuple[bytes, object]] = []
        for start in range(0, len(order), 40):
            batch = order[start : start + 40]
            verdicts = store.record_rewards(batch, slot)
            answers += zip((entry.decision for entry in batch), verdicts, strict=True)
        return answers

    answers = Counter(answer for given in at_once(stores, post) for answer in given)
    recorded, repeated = (type(verdict)(verdict.results * 2) for verdict in (RECORDED, DUPLICATE))
    assert answers == Counter(
        {(entry.decision, recorded): 1 for entry in entries}
        | {(entry.decision, repeated): N_REPLICAS - 1 for entry in entries}
    )
    facts = facts_of(stores[0])
    assert facts[key_of(entries[0], 0)].n == facts[key_of(entries[0], 1)].n == len(entries)
    assert facts[key_of(entries[0], 1)].squares == 49 * len(entries)
    assert n_deadlocks(url) == 0


def test_revisions_that_race_end_with_the_highest(stores: list[SqlStore], url: str) -> None:
    """Writers that correct the same outcomes end with the highest revision, and with its sums."""
    number = run(stores[0]).number
    ids = [reward(experiment=number).decision for _ in range(60)]

    def post(replica: int, store: SqlStore) -> None:
        generator = random.Random(replica)
        for revision in range(4):
            entries: list[RewardEntry] = [
                reward(decision, 10 * revision + 1, revision, experiment=number)
                for decision in generator.sample(ids, len(ids))
            ]
            store.record_rewards(entries, replica)

    at_once(stores, post)
    (tally,) = facts_of(stores[0]).values()
    assert (tally.n, tally.total) == (len(ids), 31 * len(ids))
    assert n_deadlocks(url) == 0


def test_a_change_that_commits_late_is_not_missed(stores: list[SqlStore]) -> None:
    """A change whose transaction began first and ends last is loaded after one that was made meanwhile."""
    late, other = create(stores[0], "late"), create(stores[0], "other")
    watermark = stores[3].load_changes(None).watermark
    with stores[0]._dialect.writing() as connection:
        connection.exec_driver_sql(
            "UPDATE experiments SET revision = 9, version = pg_current_xact_id()::text::bigint"
            " WHERE name = 'late'"
        )
        stores[1].change_experiment(other, replace(other, state=State.CONCLUDED))
        seen = stores[3].load_changes(watermark)
        assert [live.record.name for live in seen.live if live.record.revision > 1] == ["other"]
    again = stores[3].load_changes(seen.watermark)
    assert (late.number, 9) in {(live.record.number, live.record.revision) for live in again.live}
    quiet = stores[3].load_changes(again.watermark)
    assert stores[3].load_changes(quiet.watermark).live == ()


def test_replicas_converge(stores: list[SqlStore]) -> None:
    """While three writers change experiments and one transaction stays open, polling misses no change."""
    names = [f"e-{number}" for number in range(6)]
    for name in names:
        create(stores[0], name)
    has_ended = [False] * N_REPLICAS
    known: dict[str, ExperimentRecord] = {}

    def work(replica: int, store: SqlStore) -> None:
        watermark = None
        generator = random.Random(replica)
        if replica == N_REPLICAS - 1:
            while not all(has_ended[:-1]):
                changes = store.load_changes(watermark)
                known.update({live.record.name: live.record for live in changes.live})
                watermark = changes.watermark
            final = store.load_changes(watermark)
            known.update({live.record.name: live.record for live in final.live})
            return
        for name in generator.choices(names, k=40):
            with store._dialect.writing() as connection:
                connection.exec_driver_sql(
                    "UPDATE experiments SET revision = revision + 1,"
                    " version = pg_current_xact_id()::text::bigint WHERE name = %s",
                    (name,),
                )
                connection.exec_driver_sql("SELECT pg_sleep(%s)", (generator.random() / 100,))
        has_ended[replica] = True

    at_once(stores, work)
    assert known == {live.record.name: live.record for live in stores[0].load_changes(None).live}
    assert sum(record.revision - 1 for record in known.values()) == 40 * (N_REPLICAS - 1)


def test_epochs_that_race_are_one(stores: list[SqlStore]) -> None:
    """Replicas that begin the same epoch all serve the stored one, number after number."""
    record = run(stores[0])

    def begin(replica: int, store: SqlStore) -> list[object]:
        return [store.add_epoch(epoch_of(record, number, nonce=replica)) for number in range(2, 22)]

    first, *others = at_once(stores, begin)
    found = stores[0].read_facts(record.number)
    assert found is not None
    assert first == list(found.epochs[1:])
    assert all(other == first for other in others)


def test_no_epoch_is_of_a_stale_revision(stores: list[SqlStore]) -> None:
    """While one replica changes an experiment, the others begin epochs of the revision in force only."""
    record = run(stores[0])

    def work(replica: int, store: SqlStore) -> int:
        n_begun = 0
        for step in range(40):
            found = store.read_facts(record.number)
            assert found is not None
            number = found.epochs[-1].number + 1
            nonce = 1000 * replica + step
            if replica == 0:
                paused = store.change_experiment(found.record, replace(found.record, state=State.PAUSED))
                stopped = store.read_facts(record.number)
                assert stopped is not None
                number = stopped.epochs[-1].number + 1
                running = replace(paused, state=State.RUNNING)
                store.change_experiment(paused, running, epoch_of(paused, number, nonce))
            else:
                stored = store.add_epoch(epoch_of(found.record, number, nonce))
                n_begun += stored is not None and stored.nonce == nonce
        return n_begun

    begun = at_once(stores, work)
    found = stores[0].read_facts(record.number)
    assert found is not None
    revisions = [epoch.revision for epoch in found.epochs]
    assert revisions == sorted(revisions)
    assert sum(begun) > 0
    assert all(epoch.revision % 2 == 0 for epoch in found.epochs)  # odd revisions are paused


def test_every_writer_has_a_slot_of_its_own(stores: list[SqlStore]) -> None:
    """Writers that claim at the same moment get the lowest slots, one each, and keep them."""
    marks = [bytes([number]) * 16 for number in range(N_REPLICAS)]
    claimed = at_once(stores, lambda number, store: store.claim_slot(marks[number], START))
    assert sorted(claimed) == list(range(N_REPLICAS))
    again = at_once(stores, lambda number, store: store.claim_slot(marks[number], START))
    assert again == claimed


def test_the_slot_of_a_dead_writer_is_given_away(stores: list[SqlStore], url: str) -> None:
    """A writer that was silent for long loses its slot and no count: it notices, and takes another slot."""
    number = run(stores[0]).number
    key = DecisionKey(number, 1, 0, 0, Basis.POLICY)
    old, new = b"o" * 16, b"n" * 16
    slot = stores[0].claim_slot(old, START)
    flush = Flush(slot=slot, incarnation=old, sequence=1, counts={key: 5})
    stores[0].add_decisions(flush)
    silence = writers.EXPIRY.total_seconds() * 1_000_000
    query(url, "UPDATE writers SET seen_at = seen_at - %s", [int(silence) - 10_000_000])
    assert stores[1].claim_slot(b"x" * 16, START) == 1
    query(url, "UPDATE writers SET seen_at = seen_at - 11000000 WHERE incarnation = %s", [old])
    assert stores[1].claim_slot(new, START) == slot
    stores[0].add_decisions(flush)
    stores[0].add_decisions(replace(flush, sequence=2))
    stores[1].add_decisions(replace(flush, incarnation=new))
    assert stores[0].claim_slot(old, START) == 2
    found = stores[0].read_facts(number)
    assert found is not None
    assert found.facts.decisions == {key: 15}

"""The contract of a store: the database refuses sealed outcomes, and purges them without changing a sum."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count

import pytest

from bandit.decision_id import Basis, new_id
from server.services.verification import rebuild, verify
from server.store.contract import Store
from server.store.records import (
    ExperimentRecord,
    Expired,
    PurgeStep,
    RewardEntry,
    Sealed,
    SealedEpochs,
    State,
)
from server.store.sql_store import SqlStore
from tests.bandit.builders import START, make_epoch
from tests.store.builders import DUPLICATE, RECORDED, REVISED, create, facts_of, key_of, reward, run, silently

DAY = timedelta(days=1)
AGE = timedelta(days=30)
"""`max_decision_age` of the experiments here, the default."""

RETENTION = timedelta(days=10)
END = b"\xff" * 16
_bits = count(1)


def id_at(instant: datetime) -> bytes:
    """Return the id of a decision of that instant."""
    return new_id(int(instant.timestamp() * 1000), next(_bits))


def epoch_began(store: Store, record: ExperimentRecord, number: int, started_at: datetime) -> None:
    """Let an epoch begin."""
    epoch = make_epoch(number, started_at, experiment=record.number, revision=record.revision)
    assert store.add_epoch(epoch) == epoch


def ranker(store: Store, n_epochs: int = 3) -> ExperimentRecord:
    """A running experiment whose epochs begin a day after each other; the first began a minute late."""
    record = run(store)
    for number in range(2, n_epochs + 1):
        epoch_began(store, record, number, START + DAY * (number - 1))
    return record


def in_epoch(
    record: ExperimentRecord, epoch: int, *, arm: int = 0, quanta: int = 1, second: int | None = None
) -> RewardEntry:
    """Return an outcome, or one of each metric, of a decision in the middle of an epoch."""
    decided_at = START + DAY * (epoch - 1) + DAY / 2
    values = {0: quanta} if second is None else {0: quanta, 1: second}
    return reward(id_at(decided_at), values=values, experiment=record.number, epoch=epoch, arm=arm)


def seal(store: Store, now: datetime) -> list[SealedEpochs]:
    """Seal what may be sealed at an instant, page by page of one experiment, and let it settle."""
    sealed: list[SealedEpochs] = []
    after: int | None = 0
    while after is not None:
        found, after = store.find_sealable(after, 1, now, RETENTION)
        store.seal(found, now)
        sealed += found
    assert settles(store)
    return sealed


def settles(store: Store) -> bool:
    """True if seals settle when no writer is around."""
    return store.settle_seals() or store.settle_seals()


def purge(store: Store, n_looked_at: int = 7) -> int:
    """Purge to the end in small steps; return how many rows there were."""
    start: bytes | None = bytes(16)
    n_rows = 0
    while start is not None:
        step = store.purge(start, END, n_looked_at)
        assert step.n_rows <= n_looked_at
        n_rows, start = n_rows + step.n_rows, step.next_id
    return n_rows


def sealed_ranges(sealed: list[SealedEpochs]) -> list[tuple[int, int, int]]:
    """Return experiment, first and last epoch of each."""
    return [(each.experiment, each.first, each.last) for each in sealed]


@pytest.mark.parametrize(
    ("days", "expected"),
    [(40.9, []), (41.0, [(1, 1, 1)]), (41.9, [(1, 1, 1)]), (42.0, [(1, 1, 2)]), (400.0, [(1, 1, 2)])],
)
def test_an_epoch_is_sealed_in_time(store: Store, days: float, expected: list[tuple[int, int, int]]) -> None:
    """An epoch is sealed decision age and retention after the next began; the last never while it runs."""
    ranker(store)
    assert sealed_ranges(seal(store, START + DAY * days)) == expected


@pytest.mark.parametrize("state", [State.PAUSED, State.CONCLUDED])
def test_the_last_epoch_is_sealed_once_it_is_over(store: Store, state: State) -> None:
    """A pause and a conclusion end the last epoch, too; one that has started again is not sealed."""
    record = ranker(store)
    ended_at = START + 5 * DAY
    winner = "challenger" if state is State.CONCLUDED else None
    store.change_experiment(record, replace(record, state=state, updated_at=ended_at, winner=winner))
    assert sealed_ranges(seal(store, ended_at + AGE + RETENTION - DAY / 2)) == [(record.number, 1, 2)]
    assert sealed_ranges(seal(store, ended_at + AGE + RETENTION)) == [(record.number, 3, 3)]
    assert seal(store, ended_at + AGE + RETENTION) == []


def test_a_deleted_experiment_is_sealed(store: Store) -> None:
    """Its rows are purged like those of others."""
    record = ranker(store)
    paused = store.change_experiment(record, replace(record, state=State.PAUSED))
    store.delete_experiment(paused, START + 3 * DAY)
    assert sealed_ranges(seal(store, START + 3 * DAY + AGE + RETENTION)) == [(record.number, 1, 3)]


def test_a_draft_is_not_sealed(store: Store) -> None:
    """A draft has no epoch to seal."""
    create(store)
    assert seal(store, START + 400 * DAY) == []


def test_an_epoch_of_a_fast_clock_is_sealed_later(store: Store) -> None:
    """An epoch that began in the future keeps those after it open, however early they claim to begin."""
    record = ranker(store, 2)
    epoch_began(store, record, 3, START + 20 * DAY)
    epoch_began(store, record, 4, START + 2 * DAY)
    assert sealed_ranges(seal(store, START + 50 * DAY)) == [(record.number, 1, 1)]
    assert sealed_ranges(seal(store, START + 60 * DAY)) == [(record.number, 2, 3)]


def test_a_purge_keeps_every_sum(store: Store) -> None:
    """Facts and reports stay, the sealed rows leave the log, and unsealed rows stay in it."""
    record = ranker(store)
    old = [in_epoch(record, epoch, arm=arm, quanta=3) for epoch in (1, 2) for arm in (0, 1, 0)]
    young = [in_epoch(record, 3, quanta=5) for _ in range(4)]
    late = in_epoch(record, 1)._replace(outcomes=(in_epoch(record, 1).outcomes[0]._replace(is_late=True),))
    store.record_rewards([*old, *young, late], 0)
    store.record_rewards([reward(old[0].decision, 9, revision=1, experiment=record.number)], 1)
    before, facts = facts_of(store), store.read_facts(record.number)
    seal(store, START + 42 * DAY)
    assert purge(store) == len(old) + 1
    assert purge(store) == 0
    assert facts_of(store) == before
    assert store.read_facts(record.number) == facts
    report = verify(store, silently)
    assert (report.is_clean, report.n_outcomes) == (True, len(old) + len(young) + 1)
    counted = "7 outcomes are in sealed sums and no longer in the log"
    assert list(report.notes) == [
        f"2 epochs of 1 experiments are sealed, the last at 2026-04-12 12:00 UTC: {counted}",
        "sealed epochs: ranker 1 to 2",
    ]


def test_facts_hold_after_every_step(store: Store) -> None:
    """Sealed sums and log add up to the facts between any two transactions of a purge."""
    record = ranker(store)
    store.record_rewards([in_epoch(record, 1 + n % 3, second=n) for n in range(30)], 0)
    before = facts_of(store)
    store.seal(store.find_sealable(0, 10, START + 42 * DAY, RETENTION)[0], START)
    assert facts_of(store) == before
    assert settles(store)
    start: bytes | None = bytes(16)
    n_steps = 0
    while start is not None:
        start = store.purge(start, END, 5).next_id
        assert facts_of(store) == before
        n_steps += 1
    assert n_steps > 5


def test_what_is_sealed_is_refused_before_and_after_the_purge(store: Store) -> None:
    """New, repeated, revised or expired, it is refused by the database, and no clock is asked."""
    record = ranker(store)
    known, new = in_epoch(record, 1), in_epoch(record, 1)
    store.record_rewards([known], 0)
    seal(store, START + 42 * DAY)
    before = facts_of(store)
    posts = [
        known,
        new,
        known._replace(revision=5, outcomes=(known.outcomes[0]._replace(quanta=8),)),
        known._replace(is_expired=True),
        known._replace(basis=Basis.UNCONFIRMED),
    ]
    for _ in range(2):
        young = in_epoch(record, 3)
        assert store.record_rewards([posts[0], young, *posts[1:], young], 0) == [
            Sealed(),
            RECORDED,
            *[Sealed()] * (len(posts) - 1),
            DUPLICATE,
        ]
        purge(store)
    assert facts_of(store)[key_of(known)] == before[key_of(known)]


def test_what_is_not_sealed_is_recorded_as_ever(store: Store) -> None:
    """Rewards of epochs in force, of other experiments, and of expired unsealed decisions are recorded."""
    record, other = ranker(store), run(store, "other")
    seal(store, START + 42 * DAY)
    entry = in_epoch(record, 3)
    assert store.record_rewards([entry, in_epoch(other, 1)], 0) == [RECORDED, RECORDED]
    revised = entry._replace(revision=1, outcomes=(entry.outcomes[0]._replace(quanta=0),))
    assert store.record_rewards([revised], 0) == [REVISED]
    assert store.record_rewards([in_epoch(record, 3)._replace(is_expired=True)], 0) == [Expired((0,))]


def test_seals_never_go_back(store: Store) -> None:
    """A server whose clock is behind does not unseal anything."""
    record = ranker(store)
    seal(store, START + 42 * DAY)
    store.seal([SealedEpochs(record.number, 1, 1, START, bytes(16))], START)
    assert settles(store)
    assert store.record_rewards([in_epoch(record, 2)], 0) == [Sealed()]


def test_fallbacks_and_rows_kept_apart_go_by_age(store: Store) -> None:
    """In an epoch that goes on for ever, old ones are sealed and purged, and counted."""
    record = ranker(store, 1)
    paused = store.change_experiment(record, replace(record, state=State.PAUSED))
    now = START + 100 * DAY
    cutoff = now - AGE - RETENTION
    kinds = {"basis": Basis.FALLBACK}, {"is_apart": True}
    old, young = (
        [reward(id_at(cutoff + DAY * days), experiment=record.number, **kind) for kind in kinds]
        for days in (-2, 2)
    )
    store.record_rewards([*old, *young], 0)
    before = facts_of(store)
    assert sealed_ranges(seal(store, now)) == [(paused.number, 1, 1)]
    assert store.record_rewards([*old, *young], 0) == [Sealed(), Sealed(), DUPLICATE, DUPLICATE]
    assert purge(store) == 2
    assert facts_of(store) == before
    assert (store.count_apart(), store.summarise_seals().n_apart) == (2, 1)
    assert verify(store, silently).notes[-1] == (
        "2 outcomes are kept apart, 1 of them purged: their epochs are not those stored"
    )
    assert seal(store, now + DAY / 2) == []
    assert sealed_ranges(seal(store, now + 4 * DAY)) == [(record.number, 2, 1)]
    assert purge(store) == 2


def test_a_rebuild_counts_what_was_purged(store: SqlStore) -> None:
    """Rebuilt facts are the sum of the sealed sums and the log."""
    record = ranker(store)
    store.record_rewards([in_epoch(record, 1 + n % 3, quanta=n) for n in range(12)], 0)
    before = facts_of(store)
    seal(store, START + 42 * DAY)
    assert purge(store) == 8
    with store._dialect.writing() as connection:
        connection.exec_driver_sql("UPDATE outcome_facts SET total = total + 1")
    assert not verify(store, silently).is_clean
    assert rebuild(store, silently).n_outcomes == 12
    assert facts_of(store) == before


def test_a_purge_is_a_range_of_ids(store: Store) -> None:
    """Rows outside the range stay, and each step returns where the next goes on."""
    record = ranker(store)
    entries = sorted(in_epoch(record, 1) for _ in range(10))
    store.record_rewards(entries, 0)
    seal(store, START + 42 * DAY)
    assert store.purge(entries[2].decision, entries[8].decision, 4) == PurgeStep(4, entries[6].decision)
    assert store.purge(entries[6].decision, entries[8].decision, 4) == PurgeStep(2, None)
    assert purge(store) == 4


def test_revisions_that_explain_nothing_are_purged(store: SqlStore) -> None:
    """A revision stays while it is recent, in force, or what an epoch was made from."""
    record = run(store)
    for day in range(1, 4):
        record = store.change_experiment(record, replace(record, updated_at=START + day * DAY))
    assert store.purge_configurations(START + 3 * DAY) == 3  # of revisions 1, 3 and 4; the epoch is of 2
    with store._dialect.reading() as connection:
        rows = connection.exec_driver_sql("SELECT revision FROM configurations ORDER BY revision").scalars()
        assert list(rows) == [2, 5]
    assert store.purge_configurations(START + 99 * DAY) == 0

"""The contract of a store: what it records of the clock, and what a repair restores.

The mark never goes back by itself, running time is counted once, and outcomes still in the log are known
again.
"""

import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, select, update

from bandit.decision_id import Basis, new_id
from bandit.facts import ends_of
from server.services.verification import verify
from server.store.columns.times import to_micros
from server.store.contract import Store
from server.store.maintenance import purge as purging
from server.store.opening import open_beside, open_store
from server.store.records import (
    ClockBeat,
    ClockRecord,
    ExperimentRecord,
    Expired,
    RewardEntry,
    Sealed,
    SealedEpochs,
    State,
)
from server.store.sql_store import SqlStore
from server.store.tables import seals as seals_table
from server.store.tables.schema import epochs, experiments, seals, signing_keys, writers
from tests.bandit.builders import HOUR, MINUTE, SECOND, START, make_epoch
from tests.store.builders import DUPLICATE, INCARNATION, RECORDED, facts_of, one, post, reward, run, silently

DAY = timedelta(days=1)
NOTHING = timedelta()
TRUST = 24 * HOUR
END = b"\xff" * 16


def record_of(store: Store, trust_after: timedelta = TRUST) -> ClockRecord:
    """Return what the database records of the clock."""
    return store.read_clock(START, trust_after).record


def beat(
    store: Store,
    now: datetime,
    running: timedelta = MINUTE,
    *,
    mark: datetime | None = None,
    doubt: timedelta | None = None,
    generation: int = 1,
    trust_after: timedelta = TRUST,
) -> None:
    """Record one beat of a server."""
    said = ClockBeat(generation=generation, now=now, running=running, mark=mark, doubt=doubt)
    store.beat_clock(said, trust_after)


def test_the_clock_is_the_one_that_servers_share(store: Store) -> None:
    """The clock is the database's where servers share one, whatever the host's reads, else the host's."""
    reading = store.read_clock(START, TRUST)
    if store.is_shared:
        assert abs(reading.at - datetime.now(UTC)) < HOUR
    else:
        assert reading.at == START
    assert reading.last_seen is None
    assert reading.record == ClockRecord(
        generation=1, mark=None, trusted=None, running=NOTHING, beat_at=None, doubt=None, doubted_at=None
    )


def test_a_database_without_a_mark_knows_when_it_was_last_used(store: Store) -> None:
    """The newest change or beat of a server dates it; once there is a mark, the mark counts."""
    run(store)
    assert store.read_clock(START, TRUST).last_seen == START
    beat(store, START, mark=START)
    assert store.read_clock(START, TRUST).last_seen is None


def test_the_mark_never_goes_back(store: Store) -> None:
    """A server that is behind, or repeats a beat, leaves the mark."""
    beat(store, START + HOUR, mark=START + HOUR)
    beat(store, START + MINUTE, mark=START + MINUTE)
    assert record_of(store).mark == START + HOUR
    beat(store, START + 2 * HOUR)
    assert record_of(store).mark == START + HOUR


def test_running_is_counted_once(store: Store) -> None:
    """Running time counts once, however many servers beat, and however often one beat is repeated."""
    for number in range(11):
        for _ in range(3):
            beat(store, START + number * MINUTE)
    assert record_of(store).running == 11 * MINUTE
    beat(store, START + 90 * DAY, MINUTE)
    assert record_of(store).running == 12 * MINUTE


def test_doubt_counts_nothing_and_is_shown(store: Store) -> None:
    """Doubt counts no running time, and is shown until a server runs free of doubt again."""
    beat(store, START, mark=START)
    beat(store, START + MINUTE, doubt=90 * DAY, mark=START + MINUTE)
    found = record_of(store)
    assert (found.doubt, found.doubted_at) == (90 * DAY, START + MINUTE)
    assert (found.running, found.mark) == (MINUTE, START)
    beat(store, START + 2 * MINUTE)
    assert record_of(store).doubt is None


def test_an_instant_is_trusted_after_a_day_of_running(store: Store) -> None:
    """Running is counted from when the instant was marked; a jump of the mark waits for as long."""
    for number in range(24):
        beat(store, START + number * HOUR, HOUR, mark=START + number * HOUR)
        assert record_of(store).trusted is None
    beat(store, START + 24 * HOUR, HOUR, mark=START + 24 * HOUR)
    assert record_of(store).trusted == START
    for number in range(24):
        beat(store, START + 90 * DAY + number * HOUR, HOUR, mark=START + 90 * DAY + number * HOUR)
        trusted = record_of(store).trusted
        assert trusted is not None
        assert trusted <= START + (number + 1) * HOUR
    for number in range(24, 28):
        beat(store, START + 90 * DAY + number * HOUR, HOUR, mark=START + 90 * DAY + number * HOUR)
    trusted = record_of(store).trusted
    assert trusted is not None
    assert START + 90 * DAY <= trusted <= START + 90 * DAY + 4 * HOUR


def test_accepting_goes_back(store: Store) -> None:
    """Marks beyond the accepted clock are forgotten, and earlier beats no longer count."""
    ahead = datetime.now(UTC) + 90 * DAY if store.is_shared else START + 90 * DAY
    for number in range(30):
        beat(store, ahead + number * HOUR, HOUR, mark=ahead + number * HOUR)
    assert record_of(store).trusted is not None
    at = store.accept_clock(START, reason="the battery is new", caller="ops")
    found = record_of(store)
    assert (found.generation, found.mark, found.beat_at, found.trusted) == (2, at, at, None)
    beat(store, ahead + 31 * HOUR, mark=ahead + 31 * HOUR)
    assert record_of(store).mark == at
    beat(store, at + MINUTE, mark=at + MINUTE, generation=2)
    assert record_of(store).mark == at + MINUTE
    (entry,) = store.list_audit_entries(None, 10)
    assert (entry.caller, entry.action, entry.at) == ("ops", "accept_clock", at)
    assert entry.after is not None
    assert "the battery is new" in entry.after


def test_writers_are_forgotten_only_on_request(store: Store) -> None:
    """Those that ended and have been silent since are forgotten on request; a claim forgets none."""
    other = b"o" * 16
    store.claim_slot(INCARNATION, START)
    assert isinstance(store, SqlStore)
    with store._dialect.writing() as connection:
        connection.execute(update(writers).values(slot=None, seen_at=to_micros(START)))
    store.claim_slot(other, START + 400 * DAY)
    assert marks(store) == {INCARNATION, other}
    store.forget_writers(START - SECOND)
    assert marks(store) == {INCARNATION, other}
    store.forget_writers(START + 400 * DAY)
    assert marks(store) == {INCARNATION, other}, "what it counted may still be asked"
    store.end_cleanly(INCARNATION, START)
    store.forget_writers(START + 400 * DAY)
    assert marks(store) == {other}


def marks(store: SqlStore) -> set[bytes]:
    """Return the runs that are known."""
    with store._dialect.reading() as connection:
        return set(connection.execute(select(writers.c.incarnation)).scalars())


def now_of(store: Store) -> datetime:
    """Return the time of the store's clock, by which tests of repairs date its data."""
    return store.read_clock(START, TRUST).at


def entries_at(at: datetime, epoch: int, n: int, *, basis: Basis = Basis.POLICY) -> list[RewardEntry]:
    """Return rewards of decisions of an instant."""
    first = int(at.timestamp() * 1000)
    return [reward(new_id(first, number), epoch=epoch, basis=basis) for number in range(n)]


def seal_all(store: Store, record: ExperimentRecord, last: int, before: datetime) -> None:
    """Seal what a clock that is far ahead would seal."""
    sealed = SealedEpochs(record.number, 1, last, START, new_id(int(before.timestamp() * 1000), 0))
    store.seal([sealed], before)
    while not store.settle_seals():
        pass


def purge(store: Store, end: bytes = END) -> int:
    """Purge below an id; return how many rows."""
    n_rows = 0
    start: bytes | None = bytes(16)
    while start is not None:
        step = store.purge(start, end, 100)
        n_rows, start = n_rows + step.n_rows, step.next_id
    return n_rows


def two_epochs(store: Store) -> tuple[ExperimentRecord, Sequence[RewardEntry], Sequence[RewardEntry]]:
    """Make an experiment with recorded rewards, old ones and recent ones; some of fallbacks."""
    record = run(store)
    now = now_of(store)
    epoch = make_epoch(2, now - DAY, experiment=record.number, revision=record.revision)
    assert store.add_epoch(epoch) is not None
    old = entries_at(now - 9 * DAY, 1, 3) + entries_at(now - 8 * DAY, 2, 2, basis=Basis.FALLBACK)
    young = entries_at(now - HOUR, 2, 3) + entries_at(now - MINUTE, 2, 2, basis=Basis.FALLBACK)
    assert post(store, *old, *young) == [RECORDED] * 10
    return record, old, young


def test_a_repair_lowers_seals_to_what_is_purged(store: SqlStore) -> None:
    """Purged outcomes stay sealed; others are known again, and open epochs can be credited."""
    record, old, young = two_epochs(store)
    now = now_of(store)
    seal_all(store, record, 2, now + 90 * DAY)
    assert purge(store, new_id(int((now - 2 * DAY).timestamp() * 1000), 0)) == len(old)
    assert post(store, *old, *young) == [Sealed()] * 10
    before = facts_of(store)
    repair = store.repair_clock(now, reason="the clock was ahead", caller="ops")
    assert repair.n_seals == 1
    assert post(store, *old) == [Sealed()] * 5
    assert post(store, *young) == [DUPLICATE] * 5
    assert facts_of(store) == before
    assert one(store, reward(new_id(int(now.timestamp() * 1000), 99), epoch=2)) == RECORDED
    assert store.repair_clock(now, reason="", caller="ops").n_seals == 0
    assert purge(store) == 0
    assert verify(store, silently).is_clean


def test_a_repair_takes_back_a_seal_under_which_nothing_was_purged(store: SqlStore) -> None:
    """A wrong clock leaves such a seal if it was put right before its purge came that far."""
    record, old, young = two_epochs(store)
    seal_all(store, record, 2, now_of(store) + 90 * DAY)
    assert store.repair_clock(now_of(store), reason="", caller="ops").n_seals == 1
    assert post(store, *old, *young) == [DUPLICATE] * 10
    assert store.summarise_seals().epochs == {}


def test_a_repair_knows_what_an_older_version_purged(store: SqlStore) -> None:
    """Its sums name their epochs; fallbacks go by age, so that all sealed ones may be gone."""
    record, old, young = two_epochs(store)
    now = now_of(store)
    seal_all(store, record, 2, now + 90 * DAY)
    purge(store, new_id(int((now - 2 * DAY).timestamp() * 1000), 0))
    with store._dialect.writing() as connection:
        connection.execute(update(seals).values(purged_before=None))
    store.repair_clock(now, reason="", caller="ops")
    assert post(store, *old) == [Sealed()] * 5
    assert post(store, *young) == [DUPLICATE] * 3 + [Sealed()] * 2


def test_a_repair_and_a_purge_at_once_lose_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows found by a purge are purged only if they are still sealed when it moves them."""
    with closing(open_store(url)) as store:
        record, old, young = two_epochs(store)
        seal_all(store, record, 2, now_of(store) + 90 * DAY)
        found, repaired = threading.Event(), threading.Event()
        note = seals_table.note_purged

        def wait_for_repair(*arguments: object) -> object:
            found.set()
            if store.is_shared:  # on SQLite the repair waits for the purge instead
                assert repaired.wait(30)
            return note(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(purging, "note_purged", wait_for_repair)
        thread = threading.Thread(target=store.purge, args=(bytes(16), END, 100))
        thread.start()
        assert found.wait(30)
        with closing(open_beside(url)) as other:
            other.repair_clock(START, reason="", caller="ops")
        repaired.set()
        thread.join()
        expected = [DUPLICATE] * 10 if store.is_shared else [Sealed()] * 10
        assert post(store, *old, *young) == expected
        assert verify(store, silently).is_clean


@pytest.mark.parametrize("state", [State.RUNNING, State.CONCLUDED])
def test_a_repair_caps_epochs_of_the_future(store: SqlStore, state: State) -> None:
    """Even an epoch that no server would cap is capped; servers load it; a second repair finds nothing."""
    record = run(store)
    now = now_of(store)
    watermark = store.load_changes(None).watermark
    future = make_epoch(2, now + 365 * DAY, experiment=record.number, revision=record.revision)
    assert store.add_epoch(future) is not None
    if state is State.CONCLUDED:
        record = store.change_experiment(record, replace(record, state=state, winner="champion"))
    assert store.repair_clock(now, reason="", caller="ops").n_caps == 1
    found = store.read_facts(record.number)
    assert found is not None
    cap = found.epochs[-1]
    assert (cap.number, cap.is_cap, cap.shares) == (3, True, future.shares)
    assert max(ends_of(found.epochs)) == cap.started_at <= now_of(store)
    (live,) = store.load_changes(watermark).live
    assert live.epoch == cap
    assert store.repair_clock(now, reason="", caller="ops").n_caps == 0


def test_a_repair_brings_instants_back_from_the_future(store: SqlStore) -> None:
    """Instants of experiments, keys and servers are brought back; those not in the future stay."""
    record = run(store)
    store.claim_slot(INCARNATION, START)
    now = now_of(store)
    future = to_micros(now + 365 * DAY)
    with store._dialect.writing() as connection:
        connection.execute(update(experiments).values(updated_at=future))
        connection.execute(update(writers).values(seen_at=future))
        connection.execute(
            insert(signing_keys).values(id=1, secret=b"k" * 16, is_signing=True, signs_at=future)
        )
    repair = store.repair_clock(now, reason="why", caller="ops")
    assert repair.n_instants == 3
    found = store.find_experiment(record.name)
    assert found is not None
    assert found.updated_at <= now_of(store)
    assert found.started_at == record.started_at
    ring = store.read_keys()
    assert ring is not None
    assert ring.signs_at[1] <= now_of(store)
    assert store.list_audit_entries(None, 1)[0].action == "repair_clock"


def test_what_came_before_a_cap_is_sealed_when_it_is_old(store: SqlStore) -> None:
    """An epoch of the future does not keep what was capped in the log until its time has come."""
    record = run(store)
    for number, started_at, is_cap in [
        (2, START + 365 * DAY, False),
        (3, START + HOUR, True),
        (4, START + DAY, False),
    ]:
        epoch = make_epoch(number, started_at, experiment=record.number, revision=record.revision)
        assert store.add_epoch(replace(epoch, is_cap=is_cap)) is not None
    ((sealed,), _) = store.find_sealable(0, 10, START + 42 * DAY, 10 * DAY)
    assert (sealed.first, sealed.last) == (1, 3)


def test_a_writer_of_the_version_before_begins_no_cap(store: SqlStore) -> None:
    """A row of that version, which lacks the column, is not a cap."""
    record = run(store)
    names = [column.name for column in epochs.columns if column.name != "is_cap"]
    with store._dialect.writing() as connection:
        row = connection.execute(select(*(epochs.c[name] for name in names))).one()
        connection.execute(insert(epochs).values(**row._asdict() | {"number": 2}))
    found = store.read_facts(record.number)
    assert found is not None
    assert [epoch.is_cap for epoch in found.epochs] == [False, False]


def test_no_instant_is_too_early_to_look_for_seals(store: SqlStore) -> None:
    """A search for seals with a clock at 1970 finds nothing."""
    run(store)
    assert store.find_sealable(0, 10, datetime(1970, 1, 2, tzinfo=UTC), 30 * DAY) == ([], None)


def test_the_entry_says_whether_it_is_expired(store: Store) -> None:
    """Whether an outcome is expired comes from the entry: the store asks no clock."""
    run(store)
    assert one(store, reward(is_expired=True)) == Expired((0,))

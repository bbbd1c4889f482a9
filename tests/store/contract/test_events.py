"""The contract of a store: what happens to experiments is numbered without gaps, and no reader misses any."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import insert

from bandit.experiment import JsonValue
from bandit.facts import Epoch
from server.store.contract import Store
from server.store.errors import NameTakenError, StaleRevisionError
from server.store.opening import open_store
from server.store.records import Event, EventCursor, EventKind, ExperimentRecord, NewEvent, State
from server.store.sql_store import SqlStore
from server.store.tables.schema import events as table
from tests.bandit.builders import START, declare
from tests.store.builders import create, epoch_of, run

N_THREADS = 4
N_CHANGES = 12
LOOK = NewEvent(kind="look", arm="challenger", actor="launch", reason="a cycle ended", figures={"e": 3.5})


def numbers_of(store: Store, name: str = "ranker", after: int = 0) -> list[int]:
    """Return the numbers of an experiment's events."""
    found = store.list_events(name, after, 1000)
    assert found is not None
    return [event.sequence for event in found]


def last_event(store: Store, name: str = "ranker") -> Event:
    """Return the newest event of an experiment."""
    found = store.list_events(name, 0, 1000)
    assert found
    return found[-1]


def describe(store: Store, record: ExperimentRecord, text: str, *events: NewEvent) -> ExperimentRecord:
    """Change the description of an experiment."""
    after = record.declaring(replace(record.experiment, description=text))
    return store.change_experiment(record, after, caller="ann", events=events)


def read_all(store: Store, cursor: EventCursor | None = None, limit: int = 1000) -> Iterator[Event]:
    """Yield all events beyond a cursor, in pages of this size."""
    while True:
        page = store.read_events_since(cursor, limit)
        yield from page.events
        cursor = page.cursor
        if not page.has_more:
            return


def test_a_life_is_told_in_events(store: Store) -> None:
    """Each change of state is an event, with number, time, actor, revision, epoch and winner."""
    draft = store.create_experiment(declare(), START, "ann")
    running = replace(draft, state=State.RUNNING, started_at=START, updated_at=START + timedelta(hours=1))
    running = store.change_experiment(draft, running, epoch_of(draft, 1), caller="bob")
    updated = describe(store, running, "another")
    paused = store.change_experiment(updated, replace(updated, state=State.PAUSED), caller="bob")
    over = replace(paused, state=State.CONCLUDED, winner="challenger", concluded_at=START)
    over = store.change_experiment(paused, over, caller="bob")
    store.delete_experiment(over, START + timedelta(days=1), "ann")
    told = store.list_events("ranker", 0, 100)
    assert told is not None
    assert [(event.sequence, event.kind, event.actor, event.revision) for event in told] == [
        (1, "created", "ann", 1),
        (2, "started", "bob", 2),
        (3, "updated", "ann", 3),
        (4, "paused", "bob", 4),
        (5, "concluded", "bob", 5),
        (6, "deleted", "ann", 6),
    ]
    assert [event.epoch for event in told] == [None, 1, None, None, None, None]
    assert [event.arm for event in told] == [None, None, None, None, "challenger", None]
    assert [told[place].at - START for place in (0, 1, 5)] == [
        timedelta(),
        timedelta(hours=1),
        timedelta(days=1),
    ]
    assert {(event.experiment, event.name) for event in told} == {(draft.number, "ranker")}


def test_what_a_writer_says_is_stored_as_it_was_said(store: Store) -> None:
    """Given events stand in place of `updated`, with their arm, reason, request and figures."""
    figures: dict[str, JsonValue] = {"e": 21.5, "level": 0.05, "texts": ["\0", "\u2028"], "none": None}
    said = NewEvent(
        kind="guardrail", arm="challenger", actor="ann", request_id="r-1", reason="slow", figures=figures
    )
    describe(store, create(store), "another", said, LOOK)
    found = store.list_events("ranker", 1, 100)
    assert found is not None
    assert [(event.sequence, event.kind, event.revision) for event in found] == [
        (2, "guardrail", 2),
        (3, "look", 2),
    ]
    first = found[0]
    assert (first.arm, first.request_id, first.reason, first.figures) == (
        "challenger",
        "r-1",
        "slow",
        figures,
    )


def test_a_change_of_state_is_an_event_beside_those_given(store: Store) -> None:
    """A writer that starts an experiment and says more leaves both."""
    draft = create(store)
    running = replace(draft, state=State.RUNNING, started_at=START)
    store.change_experiment(draft, running, epoch_of(draft, 1), events=[LOOK])
    found = store.list_events("ranker", 1, 100)
    assert found is not None
    assert [event.kind for event in found] == [EventKind.STARTED, "look"]


def test_pages_go_on_beyond_a_number(store: Store) -> None:
    """A page begins after the given number, and holds no more than asked for."""
    record = create(store)
    for text in ("b", "c", "d"):
        record = describe(store, record, text)
    found = store.list_events("ranker", 1, 2)
    assert found is not None
    assert [event.sequence for event in found] == [2, 3]
    assert numbers_of(store, after=3) == [4]
    assert numbers_of(store, after=4) == []


def test_an_unknown_name_has_no_events(store: Store) -> None:
    """A name that never was is told apart from an experiment without events."""
    assert store.list_events("ranker", 0, 10) is None


def test_a_refused_change_leaves_no_event_and_no_gap(store: Store) -> None:
    """Neither a stale change, nor one whose epoch is taken, nor a taken name takes a number."""
    running = run(store)
    taken: Epoch = epoch_of(running, 1, nonce=99)
    with pytest.raises(StaleRevisionError):
        store.change_experiment(running, running, taken, events=[LOOK])
    with pytest.raises(StaleRevisionError):
        describe(store, replace(running, revision=1), "stale")
    with pytest.raises(NameTakenError):
        create(store)
    describe(store, running, "another")
    assert numbers_of(store) == [1, 2, 3]


def test_threads_leave_no_gap(url: str) -> None:
    """Writers that race, through stores of their own where several may, leave numbers without a gap."""
    with closing(open_store(url)) as first:
        create(first)
        stores = [first, *(open_store(url) for _ in range(N_THREADS - 1) if first.is_shared)]

        def change(store: Store) -> None:
            n_done = 0
            while n_done < N_CHANGES:
                record = store.find_experiment("ranker")
                assert record is not None
                try:
                    describe(store, record, f"{id(store)} {n_done}", LOOK, LOOK)
                except StaleRevisionError:
                    continue
                n_done += 1

        with ThreadPoolExecutor(len(stores)) as pool:
            list(pool.map(change, stores))
        assert numbers_of(first) == list(range(1, 2 + 2 * N_CHANGES * len(stores)))
        for store in stores[1:]:
            store.close()


def test_a_number_is_never_used_again(store: Store) -> None:
    """Purged events leave a gap at the beginning, and the next one has the next number."""
    record = describe(store, create(store), "another")
    assert store.purge_events(START, 10) == 0
    assert store.purge_events(START + timedelta(days=1), 1) == 1
    assert store.purge_events(START + timedelta(days=1), 10) == 1
    assert numbers_of(store) == []
    describe(store, record, "more")
    assert numbers_of(store) == [3]


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_many_experiments_are_read_in_order_and_once(store: Store, limit: int) -> None:
    """Pages of any size give each event once, those of an experiment in order, and then the news alone."""
    records = [create(store, name) for name in ("a", "b", "c")]
    records = [describe(store, record, "new", LOOK, LOOK) for record in records]
    cursor: EventCursor | None = None
    told: list[tuple[str, int]] = []
    while True:
        page = store.read_events_since(cursor, limit)
        told += [(event.name, event.sequence) for event in page.events]
        assert len(page.events) <= limit
        cursor = page.cursor
        if not page.has_more:
            break
    assert sorted(told) == [(name, sequence) for name in "abc" for sequence in (1, 2, 3)]
    assert sorted(told, key=lambda each: each[1]) == sorted(told, key=lambda each: (each[1], each[0]))
    assert store.read_events_since(cursor, limit).events == ()
    describe(store, records[1], "newer")
    assert [(event.name, event.sequence) for event in read_all(store, cursor, limit)] == [("b", 4)]


def test_a_cursor_of_a_later_database_begins_anew(store: Store) -> None:
    """After a restore a reader gets events again, rather than miss those that follow."""
    create(store)
    cursor = EventCursor(store.read_event_cursor().watermark + 1000)
    assert [event.sequence for event in read_all(store, cursor)] == [1]


def test_a_reader_may_begin_now(store: Store) -> None:
    """A reader that wants what happens from now on gets nothing that has happened."""
    record = create(store)
    cursor = store.read_event_cursor()
    assert store.read_events_since(cursor, 10).events == ()
    describe(store, record, "another")
    assert [event.sequence for event in read_all(store, cursor)] == [2]


def test_only_the_namespaces_that_may_be_seen(store: Store) -> None:
    """A reader that is limited to namespaces gets the events of these, and goes on from there."""
    for name in ("team-a/ranker", "team-b/ranker", "ranker"):
        create(store, name)
    page = store.read_events_since(None, 10, ["team-a"])
    assert [event.name for event in page.events] == ["team-a/ranker"]
    create(store, "team-b/next")
    create(store, "team-a/next")
    page = store.read_events_since(page.cursor, 10, ["team-a"])
    assert [event.name for event in page.events] == ["team-a/next"]


def test_an_event_of_a_newer_release_is_read(store: SqlStore) -> None:
    """A kind that this code does not know is handed on as text."""
    record = create(store)
    with store._dialect.writing() as connection:
        row = {"experiment": record.number, "sequence": 2, "version": 1, "at": 0, "kind": "teleported"}
        rest = {"actor": "x", "revision": 1, "reason": "", "figures": "{}"}
        connection.execute(insert(table).values(**row, **rest))
    assert last_event(store).kind == "teleported"


def test_experiments_from_before_have_no_events(store: SqlStore) -> None:
    """An experiment that an older server stored has none, and its first one is number 1."""
    record = create(store)
    with store._dialect.writing() as connection:
        connection.exec_driver_sql("DELETE FROM events")
        connection.exec_driver_sql("UPDATE experiments SET event_sequence = 0")
    assert numbers_of(store) == []
    describe(store, record, "another")
    assert numbers_of(store) == [1]

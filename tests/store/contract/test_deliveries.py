"""The contract of a store: events for a webhook wait in order, are claimed once, and end taken or dead."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from server.store.contract import Store
from server.store.records import Delivery, DeliveryState, EventCursor, ExperimentRecord
from server.store.sql_store import SqlStore
from tests.bandit.builders import START
from tests.store.builders import create

LEASE = timedelta(minutes=1)
PAUSE = timedelta(seconds=1)
DAY = timedelta(days=1)
SOON = timedelta(days=3650)
"""Beyond the clock of every database: what is due by then."""


def describe(store: Store, record: ExperimentRecord, text: str) -> ExperimentRecord:
    """Change the description of an experiment."""
    return store.change_experiment(record, record.declaring(replace(record.experiment, description=text)))


def queue(store: Store, endpoint: str = "chat", queued_to: EventCursor | None = None) -> EventCursor:
    """Queue all news for an endpoint."""
    before = store.begin_endpoint(endpoint) if queued_to is None else queued_to
    return store.queue_deliveries(endpoint, before, store.read_events_since(before, 100), START)


def due(store: Store, now: datetime = START, endpoint: str = "chat") -> list[tuple[str, int]]:
    """Return name and number of what may be tried."""
    return [(each.event.name, each.event.sequence) for each in store.find_due(endpoint, 10, now)]


def first_due(store: Store, now: datetime = START) -> Delivery:
    """Return the first that may be tried."""
    return store.find_due("chat", 1, now)[0]


def claim(store: Store, now: datetime = START) -> Delivery:
    """Claim the first that may be tried."""
    claimed = store.claim_delivery(first_due(store, now), LEASE, now)
    assert claimed is not None
    return claimed


def fail(store: Store, tried: Delivery, patience: timedelta = DAY) -> DeliveryState | None:
    """Note that an attempt failed; it may be repeated at once."""
    return store.note_failure(tried, "status 500", pause=-PAUSE, patience=patience, now=START)


def test_a_new_endpoint_gets_what_happens_from_now_on(store: Store) -> None:
    """What was before an endpoint is not sent; what comes is, in order, one of an experiment at a time."""
    old = create(store, "a")
    cursor = store.begin_endpoint("chat")
    assert store.begin_endpoint("chat") == cursor
    describe(store, old, "new")
    create(store, "b")
    queue(store, queued_to=cursor)
    describe(store, describe(store, create(store, "c"), "x"), "y")
    queue(store)
    assert sorted(due(store)) == [("a", 2), ("b", 1), ("c", 1)]


def test_endpoints_are_apart(store: Store) -> None:
    """Each endpoint has a queue of its own."""
    cursors = {name: store.begin_endpoint(name) for name in ("chat", "pager")}
    create(store, "a")
    queue(store, "chat", cursors["chat"])
    assert (due(store), due(store, endpoint="pager")) == ([("a", 1)], [])
    queue(store, "pager", cursors["pager"])
    assert due(store, endpoint="pager") == [("a", 1)]


def test_two_servers_queue_an_event_once(store: Store) -> None:
    """The slower one queues nothing, and goes on where the other one is."""
    cursor = store.begin_endpoint("chat")
    create(store, "a")
    page = store.read_events_since(cursor, 100)
    first = store.queue_deliveries("chat", cursor, page, START)
    assert first == page.cursor
    create(store, "b")
    later = store.read_events_since(cursor, 100)
    assert store.queue_deliveries("chat", cursor, later, START) == first
    assert due(store) == [("a", 1)]
    queue(store, queued_to=first)
    assert sorted(due(store)) == [("a", 1), ("b", 1)]


def test_the_next_event_waits_for_the_one_before(store: Store) -> None:
    """An experiment's second event is due once the first one was taken."""
    cursor = store.begin_endpoint("chat")
    describe(store, create(store, "a"), "x")
    queue(store, queued_to=cursor)
    claimed = claim(store)
    assert due(store) == []
    store.remove_delivery(claimed)
    assert due(store) == [("a", 2)]
    store.remove_delivery(claim(store))
    assert store.list_deliveries(10) == []


def test_an_attempt_is_claimed_once(store: Store) -> None:
    """Of two servers that saw the same, one makes the attempt; after the lease another may."""
    cursor = store.begin_endpoint("chat")
    create(store, "a")
    queue(store, queued_to=cursor)
    seen = first_due(store)
    claimed = store.claim_delivery(seen, -PAUSE, START)
    assert claimed is not None
    assert claimed.attempts == 1
    assert store.claim_delivery(seen, LEASE, START) is None
    again = claim(store)
    assert again.attempts == 2
    assert fail(store, claimed) is None
    assert fail(store, again) is DeliveryState.WAITING


def test_a_failure_is_tried_again_and_then_dead(store: Store) -> None:
    """What fails waits; once its patience is over it is dead, with the error, and the next one is due."""
    cursor = store.begin_endpoint("chat")
    describe(store, create(store, "a"), "x")
    queue(store, queued_to=cursor)
    assert fail(store, claim(store)) is DeliveryState.WAITING
    assert due(store) == [("a", 1)]
    assert fail(store, claim(store), patience=-DAY) is DeliveryState.DEAD
    assert due(store) == [("a", 2)]
    (dead,) = store.list_deliveries(10, DeliveryState.DEAD)
    assert (dead.event.sequence, dead.attempts, dead.last_error) == (1, 2, "status 500")
    assert len(store.list_deliveries(10)) == 2


@pytest.mark.parametrize(
    ("wanted", "n_revived"),
    [({}, 2), ({"experiment": "a"}, 1), ({"experiment": "a", "sequence": 2}, 0), ({"experiment": "x"}, 0)],
)
def test_the_dead_can_be_sent_again(store: Store, wanted: dict[str, object], n_revived: int) -> None:
    """All of an endpoint's, those of one experiment, or one; they begin with no attempts."""
    cursor = store.begin_endpoint("chat")
    for name in ("a", "b"):
        create(store, name)
    queue(store, queued_to=cursor)
    for _ in range(2):
        fail(store, claim(store), patience=-DAY)
    assert store.revive_deliveries("pager", START) == 0
    assert store.revive_deliveries("chat", START, **wanted) == n_revived  # type: ignore[arg-type]
    assert len(due(store)) == n_revived
    assert {each.attempts for each in store.list_deliveries(10, DeliveryState.WAITING)} <= {0}


def test_deliveries_go_with_their_events(store: Store) -> None:
    """A purged event is not delivered any more."""
    cursor = store.begin_endpoint("chat")
    create(store, "a")
    queue(store, queued_to=cursor)
    store.purge_events(START + DAY, 10)
    assert store.list_deliveries(10) == []


def test_a_restored_database_queues_nothing_twice(store: SqlStore) -> None:
    """An endpoint that begins anew keeps what waits, and queues the rest."""
    cursor = store.begin_endpoint("chat")
    create(store, "a")
    queue(store, queued_to=cursor)
    with store._dialect.writing() as connection:
        connection.exec_driver_sql("UPDATE webhook_endpoints SET cursor = '[0,[]]'")
    create(store, "b")
    queue(store)
    assert sorted(due(store)) == [("a", 1), ("b", 1)]

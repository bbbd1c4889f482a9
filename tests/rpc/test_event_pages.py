"""The size of what is sent of events: responses stay small, and are made one at a time."""

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from pathlib import Path

import pytest

from bandit.v1 import event_pb2
from server.rpc.guard.admission import Admission
from server.rpc.handlers.events import EventHandlers
from server.services.access.callers import ANYONE
from server.services.experiments.event_feed import EventFeed
from server.services.runtime.async_store import AsyncStore
from server.store.opening import open_store
from server.store.records import NewEvent
from server.store.sql_store import SqlStore
from tests.store.builders import create, statements_of

N_EVENTS = 40
LONG = "x" * 10_000
ADMITTED = Admission(ANYONE, None)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    """A store with two experiments that have many long events."""
    with closing(open_store(f"sqlite:///{tmp_path / 'bandit.db'}")) as opened:
        for name in ("a", "b"):
            record = create(opened, name)
            looks = [NewEvent(kind="look", actor="launch", reason=LONG)] * N_EVENTS
            opened.change_experiment(record, record, events=looks)
        yield opened


@pytest.fixture
def handlers(store: SqlStore) -> Iterator[EventHandlers]:
    """The handlers of that store."""
    async_store = AsyncStore(store)
    yield EventHandlers(EventFeed(async_store))
    async_store.close()


async def responses(
    handlers: EventHandlers, request: event_pb2.WatchEventsRequest, n_events: int
) -> AsyncIterator[tuple[int, event_pb2.WatchEventsResponse]]:
    """Yield bytes and message of each response until there were that many events."""
    async with aclosing(handlers.watch_events(request.SerializeToString(), ADMITTED)) as watch:
        while n_events > 0:
            data = await anext(watch)
            response = event_pb2.WatchEventsResponse.FromString(data)
            n_events -= len(response.events)
            yield len(data), response


@pytest.mark.parametrize(("name", "n_events"), [("a", N_EVENTS + 1), ("", 2 * N_EVENTS + 2)])
async def test_a_watcher_gets_small_responses(handlers: EventHandlers, name: str, n_events: int) -> None:
    """However long events are, no response is longer than 64 KiB, and none is left out or repeated."""
    request = event_pb2.WatchEventsRequest(experiment=name)
    got = [each async for each in responses(handlers, request, n_events)]
    assert max(n_bytes for n_bytes, _ in got) < 65 * 1024
    told = [(event.experiment, event.sequence) for _, response in got for event in response.events]
    names = [name] if name else ["a", "b"]
    assert told == [(each, number) for each in names for number in range(1, N_EVENTS + 2)]


async def test_each_response_has_the_cursor_after_its_events(handlers: EventHandlers) -> None:
    """A watcher that is lost after any response goes on after it."""
    request = event_pb2.WatchEventsRequest()
    got = [response async for _, response in responses(handlers, request, 2 * N_EVENTS + 2)]
    for before, after in itertools.pairwise(got):
        again = event_pb2.WatchEventsRequest(cursor=before.cursor)
        (first,) = [response async for _, response in responses(handlers, again, 1)]
        assert first == after


async def test_nothing_is_read_ahead_of_a_slow_reader(handlers: EventHandlers, store: SqlStore) -> None:
    """The next response is read from the store when it is asked for."""
    request = event_pb2.WatchEventsRequest(experiment="a").SerializeToString()
    async with aclosing(handlers.watch_events(request, ADMITTED)) as watch:
        await anext(watch)
        with statements_of(store) as sent:
            assert sent == []
            await anext(watch)
            assert sent


async def test_one_event_beyond_the_limit_is_sent_alone(handlers: EventHandlers, store: SqlStore) -> None:
    """An event that is longer than a response should be is a response of its own."""
    record = create(store, "long")
    huge = NewEvent(kind="look", actor="launch", reason="x" * 100_000)
    store.change_experiment(record, record, events=[huge, huge])
    request = event_pb2.WatchEventsRequest(experiment="long")
    got = [response async for _, response in responses(handlers, request, 3)]
    assert [[event.sequence for event in response.events] for response in got] == [[1], [2], [3]]

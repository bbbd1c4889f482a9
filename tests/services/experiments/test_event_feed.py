"""News of events: a look tells those watchers for whom there is something to read, and misses nothing."""

from dataclasses import replace

import pytest

from server.services.errors import ExperimentNotFoundError
from server.services.experiments.event_feed import EventFeed, EventQuery
from server.services.runtime.async_store import AsyncStore
from server.store.records import ExperimentRecord
from server.store.sql_store import SqlStore
from tests.store.builders import create, statements_of


@pytest.fixture
def feed(async_store: AsyncStore) -> EventFeed:
    """A feed of an empty store."""
    return EventFeed(async_store)


def describe(store: SqlStore, record: ExperimentRecord, text: str) -> ExperimentRecord:
    """Change the description of an experiment."""
    return store.change_experiment(record, record.declaring(replace(record.experiment, description=text)))


async def test_a_look_tells_those_who_want_it(feed: EventFeed, store: SqlStore) -> None:
    """Watchers of the experiment, of its namespace and of all get news; no others."""
    record = create(store, "team-a/ranker")
    queries = {
        "this": EventQuery(experiment="team-a/ranker"),
        "another": EventQuery(experiment="team-a/other"),
        "namespace": EventQuery(namespaces=["team-a"]),
        "another namespace": EventQuery(namespaces=["team-b"]),
        "all": EventQuery(),
    }
    watching = {who: feed.watching(query) for who, query in queries.items()}
    news = {who: each.__enter__() for who, each in watching.items()}
    await feed.look()
    assert all(each.is_set() for each in news.values())
    for each in news.values():
        each.clear()
    await feed.look()
    assert not any(each.is_set() for each in news.values())
    describe(store, record, "new")
    await feed.look()
    assert {who for who, each in news.items() if each.is_set()} == {"this", "namespace", "all"}


async def test_nothing_is_asked_while_nobody_watches(feed: EventFeed, store: SqlStore) -> None:
    """Without watchers a look costs the store nothing, and after one has come back it misses nothing."""
    with statements_of(store) as sent:
        await feed.look()
        assert sent == []
    with feed.watching(EventQuery()):
        await feed.look()
    await feed.look()
    create(store)
    with feed.watching(EventQuery()) as news:
        await feed.look()
        assert news.is_set()


async def test_a_page_of_one_experiment_says_whether_there_is_more(feed: EventFeed, store: SqlStore) -> None:
    """The position after a page is the number of its last event, or where it began."""
    describe(store, create(store), "new")
    query = EventQuery(experiment="ranker")
    first = await feed.read(query, None, 1)
    assert ([event.sequence for event in first.events], first.position, first.has_more) == ([1], 1, True)
    second = await feed.read(query, first.position, 1)
    assert ([event.sequence for event in second.events], second.position, second.has_more) == ([2], 2, False)
    assert (await feed.read(query, 2, 1)).position == 2


async def test_an_unknown_experiment_is_an_error(feed: EventFeed) -> None:
    """A name that never was is refused."""
    with pytest.raises(ExperimentNotFoundError):
        await feed.read(EventQuery(experiment="ranker"), None, 1)

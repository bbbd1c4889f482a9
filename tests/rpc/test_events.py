"""Events over the wire: listed in pages, watched from any cursor, and seen by those who may."""

import signal
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from bandit.v1 import event_pb2, experiment_pb2
from tests.conftest import Connect, StartServer
from tests.support.refusals import refusal_of, refused
from tests.support.wire import Wire, experiment


@pytest.fixture
def name(wire: Wire) -> str:
    """An experiment with a whole life: five events."""
    running = wire.running()
    wire.update(experiment_pb2.Experiment(name=running, description="another"), "description")
    wire.pause(running)
    wire.conclude(running, "b")
    return running


def told(events: Any) -> list[tuple[int, str]]:
    """Return number and kind of events."""
    return [(event.sequence, event.kind) for event in events]


def pages(wire: Wire, **request: Any) -> Iterator[event_pb2.ListEventsResponse]:
    """Yield pages to the end."""
    page = wire.list_events(**request)
    yield page
    while page.next_page_token:
        page = wire.list_events(**request | {"page_token": page.next_page_token})
        yield page


LIFE = [(1, "created"), (2, "started"), (3, "updated"), (4, "paused"), (5, "concluded")]


def test_a_life_is_listed_in_order(wire: Wire, name: str) -> None:
    """Every change is an event with time, actor, revision, epoch and, at the end, the winner."""
    stored = wire.get(name)
    events = wire.list_events(experiment=name).events
    assert told(events) == LIFE
    assert [event.revision for event in events] == [1, 2, 3, 4, 5]
    assert [event.epoch for event in events] == [0, 1, 2, 0, 0]
    assert [event.arm for event in events] == ["", "", "", "", "b"]
    assert {(event.experiment, event.actor) for event in events} == {(name, "anyone")}
    assert (events[0].time, events[-1].time) == (stored.create_time, stored.update_time)


def test_a_call_that_changes_nothing_is_no_event(wire: Wire, name: str) -> None:
    """Concluding again leaves no event."""
    wire.conclude(name, "b")
    assert told(wire.list_events(experiment=name).events) == LIFE


def test_events_outlive_their_experiment(wire: Wire, name: str) -> None:
    """After its deletion the story can be read, with its end."""
    wire.delete(name)
    assert told(wire.list_events(experiment=name).events) == [*LIFE, (6, "deleted")]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_pages_hold_each_event_once(wire: Wire, name: str, size: int) -> None:
    """Tokens lead from page to page, none larger than asked for; the last page has a cursor and no token."""
    found = list(pages(wire, experiment=name, page_size=size))
    assert told(event for page in found for event in page.events) == LIFE
    assert {len(page.events) <= size for page in found} == {True}
    assert (found[-1].next_page_token, found[-1].cursor) == ("", "5")


def test_a_list_may_begin_after_a_number(wire: Wire, name: str) -> None:
    """Only later events are listed."""
    assert told(wire.list_events(experiment=name, after_sequence=3).events) == LIFE[3:]
    assert wire.list_events(experiment=name, after_sequence=5).events == []


def test_all_experiments_are_listed(wire: Wire, name: str) -> None:
    """Without a name every experiment's events are listed, in pages, those of each in order."""
    other = wire.running()
    events = [event for page in pages(wire, page_size=3) for event in page.events]
    assert told(event for event in events if event.experiment == name) == LIFE
    assert told(event for event in events if event.experiment == other) == LIFE[:2]
    assert len({(event.experiment, event.sequence) for event in events}) == len(events)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"experiment": "no name"}, "experiment"),
        ({"after_sequence": 3}, "after_sequence"),
        ({"experiment": "x", "after_sequence": -1}, "after_sequence"),
        ({"experiment": "x", "page_size": -1}, "page_size"),
        ({"experiment": "x", "page_token": "7,1:2:3"}, "page_token"),
        ({"experiment": "x", "page_token": "9999999999999999999"}, "page_token"),
        ({"page_token": "x"}, "page_token"),
        ({"page_token": "7,1:2"}, "page_token"),
        ({"page_token": "7,1:2:9999999999999999999"}, "page_token"),
    ],
)
def test_bad_requests_are_refused(wire: Wire, request_: dict[str, Any], field: str) -> None:
    """Each bad field is named."""
    refusal = refused(lambda: wire.list_events(**request_))
    assert (refusal.code, list(refusal.violations)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        [field],
    )


def test_a_bad_cursor_is_refused(wire: Wire) -> None:
    """A watcher with a cursor of something else gets an error, and no events."""
    refusal = refused(lambda: next(wire.watch_events(cursor="x")))
    assert (refusal.code, list(refusal.violations)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        ["cursor"],
    )


def test_an_unknown_experiment_is_not_found(wire: Wire) -> None:
    """Neither list nor watch takes a typing error for an experiment without events."""
    name = experiment().name
    assert refused(lambda: wire.list_events(experiment=name)).code is grpc.StatusCode.NOT_FOUND
    assert refused(lambda: next(wire.watch_events(experiment=name))).code is grpc.StatusCode.NOT_FOUND


def test_a_watcher_gets_what_was_and_what_comes(wire: Wire) -> None:
    """The first response has all that happened; the next ones come when something happens."""
    name = wire.running()
    watch = wire.watch_events(experiment=name)
    assert told(next(watch).events) == LIFE[:2]
    wire.pause(name)
    assert told(next(watch).events) == [(3, "paused")]
    wire.conclude(name, "a")
    assert told(next(watch).events) == [(4, "concluded")]
    watch.cancel()


def test_a_watcher_goes_on_after_its_cursor(wire: Wire) -> None:
    """A second stream with the last cursor repeats nothing and leaves nothing out, and begins at once."""
    name = wire.running()
    watch = wire.watch_events(experiment=name)
    cursor = next(watch).cursor
    watch.cancel()
    wire.pause(name)
    again = wire.watch_events(experiment=name, cursor=cursor)
    first = next(again)
    assert told(first.events) == [(3, "paused")]
    again.cancel()
    idle = wire.watch_events(experiment=name, cursor=first.cursor)
    assert told(next(idle).events) == []
    idle.cancel()


def test_all_experiments_are_watched(wire: Wire) -> None:
    """A watcher of all hears of new experiments, too, and a list's cursor is one of a watch."""
    *_, last = pages(wire)
    watch = wire.watch_events(cursor=last.cursor)
    assert told(next(watch).events) == []
    name = wire.running()
    found: list[event_pb2.Event] = []
    while len(found) < 2:
        found += [event for event in next(watch).events if event.experiment == name]
    assert told(found) == LIFE[:2]
    watch.cancel()


def test_a_server_that_stops_ends_streams_with_ok(start_server: StartServer, connect: Connect) -> None:
    """At SIGTERM a watcher's stream ends with OK at once, so that it goes on elsewhere."""
    server = start_server("--drain-seconds", "60")
    wire = connect(server)
    watch = wire.watch_events(experiment=wire.running())
    next(watch)
    server.signal(signal.SIGTERM)
    assert list(watch) == []
    assert watch.code() is grpc.StatusCode.OK
    assert server.wait() == 0


def test_a_stream_ends_before_its_connection_is_old(start_server: StartServer, connect: Connect) -> None:
    """Watchers are sent away in time, so that they spread over servers."""
    wire = connect(start_server("--connection-seconds", "1"))
    watch = wire.watch_events(experiment=wire.running())
    next(watch)
    assert list(watch) == []
    assert watch.code() is grpc.StatusCode.OK


def test_watchers_are_measured(start_server: StartServer, connect: Connect) -> None:
    """Streams and their responses are counted apart."""
    server = start_server("--metrics-listen", "127.0.0.1:0")
    wire = connect(server)
    watch = wire.watch_events(experiment=wire.running())
    next(watch)
    labels = {
        "grpc_type": "server_stream",
        "grpc_service": "bandit.v1.ExperimentService",
        "grpc_method": "WatchEvents",
    }
    assert server.sample("grpc_server_in_flight", **labels) == 1
    assert server.sample("grpc_server_msg_sent_total", **labels) == 1
    watch.cancel()


def test_too_many_watchers_are_refused(start_server: StartServer, connect: Connect) -> None:
    """A watcher beyond the limit of calls is told to come back later."""
    wire = connect(start_server("--max-concurrent-calls", "1"))
    name = wire.running()
    watch = wire.watch_events(experiment=name)
    next(watch)
    with pytest.raises(grpc.RpcError) as caught:
        next(wire.watch_events(experiment=name))
    assert refusal_of(caught.value).code is grpc.StatusCode.RESOURCE_EXHAUSTED
    watch.cancel()

"""The calls for events: pages are followed, and a watch goes on when a server stops or is lost."""

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest

from bandit.client import AccessError, InvalidArgumentError, NotFoundError, UnavailableError
from bandit.client.errors import call_error
from bandit.client.retry import Returns
from bandit.v1 import event_pb2 as pb
from tests.bandit.client.peer import (
    AnyClient,
    ClientFactory,
    Peer,
    Script,
    StreamBehaviour,
    answer,
    collect,
    settle,
)

SECOND_PAGE = "t1"


def event(sequence: int) -> pb.Event:
    """Return an event of an experiment."""
    return pb.Event(experiment="ranker", sequence=sequence, kind="updated")


def send(*sequences: int, code: grpc.StatusCode | None = None) -> StreamBehaviour:
    """Answer a watch with one response for each number, then end it with OK or a code."""

    def behave(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        next(requests)
        for sequence in sequences:
            response = pb.WatchEventsResponse(events=[event(sequence)], cursor=str(sequence))
            yield response.SerializeToString()
        if code is not None:
            context.abort(code, "scripted")

    return behave


async def take(
    items: Iterator[pb.WatchEventsResponse] | AsyncIterator[pb.WatchEventsResponse], n_items: int
) -> list[int]:
    """Return the numbers of the events in the first responses that either client yields."""
    found: list[pb.WatchEventsResponse] = []
    if isinstance(items, AsyncIterator):
        async for item in items:
            found.append(item)
            if len(found) == n_items:
                break
    else:
        found += itertools.islice(items, n_items)
    return [each.sequence for item in found for each in item.events]


def watches(script: Script) -> list[pb.WatchEventsRequest]:
    """Return the requests to watch that came."""
    return [pb.WatchEventsRequest.FromString(each) for each in script.requests("WatchEvents")]


async def test_all_pages_are_read(client: AnyClient, script: Script) -> None:
    """Listing follows the page tokens to the end, with the same arguments."""
    pages = [
        pb.ListEventsResponse(events=[event(1), event(2)], next_page_token=SECOND_PAGE, cursor="2"),
        pb.ListEventsResponse(events=[event(3)], cursor="3"),
    ]
    script.on("ListEvents", *map(answer, pages))
    listed = await collect(client.experiments.list_events("ranker", after_sequence=7, page_size=2))
    assert [each.sequence for each in listed] == [1, 2, 3]
    sent = [pb.ListEventsRequest.FromString(each) for each in script.requests("ListEvents")]
    assert sent == [
        pb.ListEventsRequest(experiment="ranker", after_sequence=7, page_size=2, page_token=token)
        for token in ("", SECOND_PAGE)
    ]


@pytest.mark.parametrize("code", [None, grpc.StatusCode.UNAVAILABLE])
async def test_a_watch_goes_on_after_its_last_event(
    client: AnyClient, script: Script, code: grpc.StatusCode | None
) -> None:
    """When a stream ends, or its server is lost, the next one begins with the last cursor."""
    script.on_stream(send(1, 2, code=code), send(3))
    assert await take(client.experiments.watch_events("ranker", after_sequence=0), 3) == [1, 2, 3]
    assert watches(script) == [
        pb.WatchEventsRequest(experiment="ranker", cursor=cursor) for cursor in ("", "2")
    ]


async def test_a_watch_begins_with_a_cursor(client: AnyClient, script: Script) -> None:
    """A cursor that the caller kept is sent."""
    script.on_stream(send(8))
    assert await take(client.experiments.watch_events(cursor="7"), 1) == [8]
    assert watches(script) == [pb.WatchEventsRequest(cursor="7")]


async def test_an_error_ends_a_watch(client: AnyClient, script: Script) -> None:
    """What another try can't mend is raised at once."""
    script.on_stream(send(code=grpc.StatusCode.NOT_FOUND))
    with pytest.raises(NotFoundError):
        await take(client.experiments.watch_events("ranker"), 1)
    assert len(watches(script)) == 1


async def test_patience_ends(client: AnyClient, script: Script) -> None:
    """A caller without patience hears of the first loss."""
    script.on_stream(send(1, code=grpc.StatusCode.UNAVAILABLE))
    with pytest.raises(UnavailableError):
        await take(client.experiments.watch_events("ranker", patience=0.0), 2)
    assert len(watches(script)) == 1


async def test_patience_is_a_number(client: AnyClient, script: Script) -> None:
    """Neither infinity nor text is a time to wait."""
    with pytest.raises(InvalidArgumentError):
        await take(client.experiments.watch_events(patience=float("inf")), 1)
    assert watches(script) == []


async def test_a_closed_client_watches_no_more(client: AnyClient, script: Script) -> None:
    """A watch on a closed client raises at once."""
    script.on_stream(send(1))
    await settle(client.close())
    with pytest.raises(UnavailableError, match="closed"):
        await take(client.experiments.watch_events(), 1)


async def test_a_renewed_token_is_sent(
    new_client: ClientFactory, peer: Peer, script: Script, tmp_path: Path
) -> None:
    """If the service refuses the token and its file has another one by then, the watch goes on with that."""
    file = tmp_path / "token"
    file.write_text("old")
    client = new_client(peer.target, token=file)
    file.write_text("new")
    script.on_stream(send(code=grpc.StatusCode.UNAUTHENTICATED), send(1))
    assert await take(client.experiments.watch_events(), 1) == [1]
    assert [each.metadata["authorization"] for each in script.received] == ["Bearer old", "Bearer new"]
    script.on_stream(send(code=grpc.StatusCode.UNAUTHENTICATED))
    with pytest.raises(AccessError):
        await take(client.experiments.watch_events(), 1)


def test_patience_counts_from_the_loss() -> None:
    """A stream that lived for hours is worth as many tries as a young one, and an answer renews them."""
    now = 0.0
    returns = Returns(60.0, clock=lambda: now, uniform=lambda _low, high: high)
    lost = call_error(grpc.StatusCode.UNAVAILABLE, "lost")
    now = 36_000.0
    assert [returns.find_delay(lost) for _ in range(3)] == [0.2, 0.4, 0.8]
    now += 59.0
    assert returns.find_delay(lost) is None
    returns.note_answer()
    assert returns.find_delay(lost) == 0.2

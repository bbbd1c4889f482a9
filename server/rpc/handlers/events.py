"""The handlers of ExperimentService for events: listed in pages, and watched."""

from collections.abc import AsyncGenerator
from typing import Final

from bandit.v1 import event_pb2
from server.rpc.guard.admission import Admission
from server.rpc.guard.calls import parse
from server.rpc.messages.event import EventsRequest, to_message, to_position, to_query, to_token
from server.rpc.messages.paging import PAGE_BYTES, page_size, within_bytes
from server.services.experiments.event_feed import EventFeed, EventQuery, EventsRead, Position

_WATCHED: Final = 100
_WATCHED_BYTES: Final = 64 * 1024
"""Events in one response to a watcher: all that the server holds for one that reads slowly."""


class EventHandlers:
    """Handlers from request bytes to response bytes.

    Args:
        feed: Has the events.
    """

    def __init__(self, feed: EventFeed) -> None:
        self._feed = feed

    async def list_events(self, data: bytes, admission: Admission) -> bytes:
        """ListEvents."""
        request = parse(event_pb2.ListEventsRequest, data)
        query = _query(request, admission)
        size = page_size(request.page_size)
        position = to_position("page_token", request.page_token, query, request.after_sequence)
        events, read = await self._read(query, position, size, PAGE_BYTES)
        cursor = to_token(read.position)
        return event_pb2.ListEventsResponse(
            events=events, next_page_token=cursor if read.has_more else "", cursor=cursor
        ).SerializeToString()

    def watch_events(self, data: bytes, admission: Admission) -> AsyncGenerator[bytes]:
        """WatchEvents. The first response comes at once, the others when something has happened."""
        request = parse(event_pb2.WatchEventsRequest, data)
        query = _query(request, admission)
        return self._watch(query, to_position("cursor", request.cursor, query, request.after_sequence))

    async def _watch(self, query: EventQuery, position: Position) -> AsyncGenerator[bytes]:
        is_first = True
        with self._feed.watching(query) as news:
            while True:
                news.clear()
                events, read = await self._read(query, position, _WATCHED, _WATCHED_BYTES)
                position = read.position
                if events or is_first:
                    is_first = False
                    yield event_pb2.WatchEventsResponse(
                        events=events, cursor=to_token(position)
                    ).SerializeToString()
                if not read.has_more:
                    await news.wait()

    async def _read(
        self, query: EventQuery, position: Position, size: int, n_bytes: int
    ) -> tuple[list[event_pb2.Event], EventsRead]:
        """Return a page of at most `size` events that are not larger than this together, or of one event."""
        while True:
            read = await self._feed.read(query, position, size)
            messages = list(map(to_message, read.events))
            fitting = within_bytes(messages, n_bytes)
            if len(fitting) == len(messages):
                return messages, read
            size = len(fitting)  # read again, for the position after those that fit


def _query(request: EventsRequest, admission: Admission) -> EventQuery:
    if request.experiment:
        admission.caller.require_experiment(request.experiment)
    return to_query(request, admission.caller.namespaces)

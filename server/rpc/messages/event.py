"""Events, and cursors of those who read them, on the wire."""

import re
from typing import Final, TypeAlias

from google.protobuf import json_format

from bandit.v1 import event_pb2
from bandit.validation import is_experiment_name, shown
from server.rpc.messages.times import to_timestamp
from server.services.errors import InvalidInputError
from server.services.experiments.event_feed import EventQuery, Position
from server.store.records import Event, EventCursor, SeenEvent

_LARGEST: Final = 2**63 - 1
_NUMBER: Final = re.compile(r"\d{1,19}", re.ASCII)
_CURSOR: Final = re.compile(r"\d{1,19}(,\d{1,19}:\d{1,19}:\d{1,19})*", re.ASCII)
"""The watermark, then for each event seen beyond it: experiment, number, version."""

EventsRequest: TypeAlias = event_pb2.ListEventsRequest | event_pb2.WatchEventsRequest
"""What asks for events."""


def to_message(event: Event) -> event_pb2.Event:
    """Convert an event."""
    message = event_pb2.Event(
        experiment=event.name,
        sequence=event.sequence,
        time=to_timestamp(event.at),
        kind=event.kind,
        arm=event.arm or "",
        actor=event.actor,
        request_id=event.request_id or "",
        revision=event.revision,
        epoch=event.epoch or 0,
        reason=event.reason,
    )
    if event.figures:
        json_format.ParseDict(dict(event.figures), message.figures)
    return message


def to_query(request: EventsRequest, namespaces: frozenset[str] | None) -> EventQuery:
    """Return which events a request is for.

    Raises:
        InvalidInputError: Its experiment is no name, or it counts the events of no experiment.
    """
    if request.experiment and not is_experiment_name(request.experiment):
        raise InvalidInputError.of("experiment", f"{shown(request.experiment)} is not an experiment's name")
    if request.after_sequence < 0:
        raise InvalidInputError.of("after_sequence", f"must be at least 0, got {request.after_sequence}")
    if request.after_sequence and not request.experiment:
        raise InvalidInputError.of("after_sequence", "needs an experiment: each one numbers its own events")
    return EventQuery(experiment=request.experiment or None, namespaces=namespaces)


def to_position(field: str, token: str, query: EventQuery, after: int) -> Position:
    """Return where to go on reading; InvalidInputError if a token in this field is not of such a query."""
    if not token:
        return None if query.experiment is None else after
    if query.experiment is not None and _NUMBER.fullmatch(token) and int(token) <= _LARGEST:
        return int(token)
    if query.experiment is None and _CURSOR.fullmatch(token):
        watermark, *seen = token.split(",")
        numbers = [tuple(map(int, each.split(":"))) for each in seen]
        if max(int(watermark), *(max(each) for each in numbers), 0) <= _LARGEST:
            return EventCursor(int(watermark), tuple(SeenEvent(*each) for each in numbers))
    kind = "all experiments" if query.experiment is None else "one experiment"
    raise InvalidInputError.of(field, f"{shown(token)} is not a token of this service for events of {kind}")


def to_token(position: Position) -> str:
    """Return the token with which reading goes on at a position."""
    if isinstance(position, EventCursor):
        seen = (f",{each.experiment}:{each.sequence}:{each.version}" for each in position.seen)
        return f"{position.watermark}{''.join(seen)}"
    return str(position or 0)

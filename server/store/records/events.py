"""Events: what happened to an experiment, why, and on which figures it rests."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from bandit.experiment import JsonValue


class EventKind(enum.StrEnum):
    """The kinds of events that this code writes. Newer releases write others, which are read as text."""

    CREATED = "created"
    UPDATED = "updated"
    STARTED = "started"
    PAUSED = "paused"
    CONCLUDED = "concluded"
    DELETED = "deleted"

    STAGE = "stage"
    """A challenger waits for, or enters, a step of its launch."""
    APPROVED = "approved"
    HELD = "held"
    RESUMED = "resumed"
    PROMOTED = "promoted"
    HOLDBACK = "holdback"
    """A champion became the former one."""
    SUCCEEDED = "succeeded"
    REPLACED = "replaced"
    ROLLED_BACK = "rolled_back"
    RETIRED = "retired"
    INCONCLUSIVE = "inconclusive"
    WITHDRAWN = "withdrawn"
    LOOK = "look"
    """The look at the end of a cycle."""
    BLOCKED = "blocked"
    """What keeps a challenger from moving has changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """Something that happens to an experiment, as its writer says it.

    Attributes:
        kind: What it is: an `EventKind`, or another name of at most 32 characters.
        arm: The id of the arm that it is about, if it is about one. Arms keep their ids for good.
        actor: Who or what did it.
        request_id: That of the request that asked for it, if any; at most 128 characters.
        reason: Why, for people; empty if nobody said.
        figures: What it rests on; every number is finite.
    """

    kind: str
    arm: str | None = None
    actor: str
    request_id: str | None = None
    reason: str = ""
    figures: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(NewEvent):
    """An event as it is stored: see `NewEvent`.

    Attributes:
        experiment: The number of the experiment.
        name: Its name.
        sequence: From 1, one more with each event of the experiment; never used again.
        at: When it happened.
        revision: The experiment's revision since then.
        epoch: The epoch that began with it, if one did.
    """

    experiment: int
    name: str
    sequence: int
    at: datetime
    revision: int
    epoch: int | None


class SeenEvent(NamedTuple):
    """The last event of an experiment that a reader has got, and its version."""

    experiment: int
    sequence: int
    version: int


@dataclass(frozen=True, slots=True)
class EventCursor:
    """How far a reader of many experiments has got.

    Attributes:
        watermark: The reader has all events of lower versions.
        seen: The last event, for each experiment of which the reader has events beyond the watermark.
    """

    watermark: int
    seen: tuple[SeenEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events of many experiments, those of each in order.

    Attributes:
        events: The events.
        cursor: Hand it to the next read.
        has_more: Whether the next read would return more at once.
    """

    events: tuple[Event, ...]
    cursor: EventCursor
    has_more: bool

"""Deliveries: events on their way to webhooks."""

import enum
from dataclasses import dataclass
from datetime import datetime

from server.store.records.events import Event


class DeliveryState(enum.StrEnum):
    """What becomes of a delivery. One that was taken has no row any more."""

    WAITING = "waiting"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An event that an endpoint has not taken.

    Attributes:
        endpoint: The endpoint's name.
        event: What is delivered.
        state: Whether it is tried again.
        attempts: How many times it was tried.
        queued_at: Since when it waits; later events of the experiment wait behind it.
        next_at: When it is tried next, at the earliest. While it is being tried: when another server may.
        last_error: Why the last attempt failed; None before that.
    """

    endpoint: str
    event: Event
    state: DeliveryState
    attempts: int
    queued_at: datetime
    next_at: datetime
    last_error: str | None

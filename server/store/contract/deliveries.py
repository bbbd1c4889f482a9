"""The part of a store that keeps what webhooks have not taken.

An endpoint gets the events of each experiment in order: a later one is due once those before it were taken
or are dead. Threads, atomicity, ownership and failure are those of `server.store.contract`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime, timedelta

from server.store.records import Delivery, DeliveryState, EventCursor, EventPage


class DeliveryStore(ABC):
    """The part of a store that keeps what webhooks have not taken."""

    @abstractmethod
    def begin_endpoint(self, endpoint: str) -> EventCursor:
        """Up to where the events for an endpoint are queued; a new one gets what happens from now on."""

    @abstractmethod
    def queue_deliveries(
        self, endpoint: str, before: EventCursor, page: EventPage, now: datetime
    ) -> EventCursor:
        """Queue the events of a page for an endpoint, which were read up from where `before` was stored.

        Returns:
            The cursor that is stored now: that of the page, or another one if another server was faster.
        """

    @abstractmethod
    def find_due(self, endpoint: str, limit: int, now: datetime) -> Sequence[Delivery]:
        """At most `limit` deliveries that may be tried now, of each experiment one at most."""

    @abstractmethod
    def claim_delivery(self, due: Delivery, lease: timedelta, now: datetime) -> Delivery | None:
        """Count an attempt of a delivery, which nobody else makes before the lease is over.

        Returns:
            The delivery with the attempt; None if another one was faster, or this call was repeated.
        """

    @abstractmethod
    def remove_delivery(self, taken: Delivery) -> None:
        """Forget a delivery that was taken."""

    @abstractmethod
    def note_failure(
        self, tried: Delivery, error: str, *, pause: timedelta, patience: timedelta, now: datetime
    ) -> DeliveryState | None:
        """Note that an attempt failed.

        Args:
            tried: The delivery as it was claimed.
            error: Why.
            pause: When to try again, from now.
            patience: After how long in the queue it is dead.
            now: When.

        Returns:
            What becomes of it; None if it was claimed again or removed meanwhile.
        """

    @abstractmethod
    def list_deliveries(self, limit: int, state: DeliveryState | None = None) -> Sequence[Delivery]:
        """At most `limit` deliveries, by endpoint, experiment and number; only those in a state, if given."""

    @abstractmethod
    def revive_deliveries(
        self, endpoint: str, now: datetime, *, experiment: str | None = None, sequence: int | None = None
    ) -> int:
        """Let dead deliveries of an endpoint be tried again; return how many there were.

        Only that of the experiment of this name, and of this number, if given.
        """

"""Delivers events to webhooks: at least once, and those of an experiment one after the other.

A look queues what happened for each endpoint and begins the deliveries that are due, each on a thread of its
own. So an endpoint that hangs delays no other, and no endpoint delays anything else of the server. Several
servers may look at once: who claims a delivery in the database makes the attempt.
"""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, TypeAlias
from urllib.parse import SplitResult

import structlog

from server.services.runtime.async_store import AsyncStore
from server.services.runtime.clock import Clock
from server.services.webhooks.endpoints_file import Endpoint
from server.services.webhooks.post import Post, make_post
from server.services.webhooks.sender import send
from server.store.errors import StoreError
from server.store.records import Delivery, DeliveryState, EventCursor

LOOK_SECONDS: Final = 1.0
PATIENCE: Final = timedelta(days=1)
"""A delivery that fails after it has waited for so long is dead, and the next one comes."""

_LEASE: Final = timedelta(minutes=1)
"""A server that is killed in the middle of an attempt leaves it to others after this."""

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 3_600.0
_AT_ONCE: Final = 4
"""Attempts at one endpoint at the same time, of different experiments."""

_PAGE: Final = 500

Send: TypeAlias = Callable[[SplitResult, Post], str | None]
_Key: TypeAlias = tuple[int, int]

log = structlog.get_logger()


@dataclass(slots=True)
class _Progress:
    """What is known of an endpoint: up to where its events are queued and looked at, and what is tried."""

    queued_to: EventCursor
    looked_to: EventCursor
    tried: set[_Key] = field(default_factory=set)


class WebhookDispatcher:
    """Delivers events. Belongs to the event loop's thread.

    Args:
        store: Has the events.
        clock: The time.
        endpoints: Returns those that are configured now.
        send: Sends a post, and returns why it was not taken; it blocks.

    Attributes:
        n_delivered: Events that were taken, by endpoint.
        n_failed: Attempts that failed, by endpoint.
        n_dead: Deliveries that were given up, by endpoint.
    """

    def __init__(
        self,
        store: AsyncStore,
        clock: Clock,
        endpoints: Callable[[], Sequence[Endpoint]],
        send: Send = send,
    ) -> None:
        self._store = store
        self._clock = clock
        self._endpoints = endpoints
        self._send = send
        self._progress: dict[str, _Progress] = {}
        self._attempts: set[asyncio.Task[None]] = set()
        self.n_delivered: Counter[str] = Counter()
        self.n_failed: Counter[str] = Counter()
        self.n_dead: Counter[str] = Counter()

    async def look(self) -> None:
        """Queue what happened, and begin what is due; StoreError if the store does not answer."""
        for endpoint in self._endpoints():
            progress = self._progress.get(endpoint.name)
            if progress is None:
                begun = await self._store.begin_endpoint(endpoint.name)
                progress = self._progress[endpoint.name] = _Progress(begun, begun)
            await self._queue(endpoint, progress)
            await self._begin_due(endpoint, progress)

    async def end(self) -> None:
        """Wait no longer for the attempts that are being made: they are made again after their lease."""
        for attempt in self._attempts:
            attempt.cancel()
        await asyncio.gather(*self._attempts, return_exceptions=True)

    async def _queue(self, endpoint: Endpoint, progress: _Progress) -> None:
        has_more = True
        while has_more:
            page = await self._store.read_events_since(progress.looked_to, _PAGE, endpoint.namespaces)
            has_more = page.has_more
            if page.events:
                progress.queued_to = progress.looked_to = await self._store.queue_deliveries(
                    endpoint.name, progress.queued_to, page, self._clock.now()
                )
            else:
                progress.looked_to = page.cursor

    async def _begin_due(self, endpoint: Endpoint, progress: _Progress) -> None:
        n_free = _AT_ONCE - len(progress.tried)
        if n_free <= 0:
            return
        for due in await self._store.find_due(endpoint.name, n_free, self._clock.now()):
            if _key_of(due) in progress.tried:
                continue
            claimed = await self._store.claim_delivery(due, _LEASE, self._clock.now())
            if claimed is not None:
                progress.tried.add(_key_of(claimed))
                attempt = asyncio.create_task(self._attempt(endpoint, progress, claimed))
                self._attempts.add(attempt)
                attempt.add_done_callback(self._attempts.discard)

    async def _attempt(self, endpoint: Endpoint, progress: _Progress, claimed: Delivery) -> None:
        post = make_post(claimed.event, endpoint.secrets, self._clock.now())
        try:
            error = await _on_thread(lambda: self._send(endpoint.url, post))
            if error is None:
                await self._store.remove_delivery(claimed)
                self.n_delivered[endpoint.name] += 1
            else:
                await self._note_failure(claimed, error)
        except StoreError as error:  # the lease ends, and the attempt is made again
            log.warning("webhook.unsettled", endpoint=endpoint.name, error=str(error))
        finally:
            progress.tried.discard(_key_of(claimed))

    async def _note_failure(self, claimed: Delivery, error: str) -> None:
        state = await self._store.note_failure(
            claimed,
            error,
            pause=_pause_after(claimed.attempts),
            patience=PATIENCE,
            now=self._clock.now(),
        )
        self.n_failed[claimed.endpoint] += 1
        facts = {
            "endpoint": claimed.endpoint,
            "experiment": claimed.event.name,
            "sequence": claimed.event.sequence,
            "attempts": claimed.attempts,
            "error": error,
        }
        if state is DeliveryState.DEAD:
            self.n_dead[claimed.endpoint] += 1
            log.error("webhook.dead", **facts)
        elif claimed.attempts & (claimed.attempts - 1) == 0:  # at 1, 2, 4, 8 … attempts
            log.warning("webhook.failed", **facts)


def _key_of(delivery: Delivery) -> _Key:
    return delivery.event.experiment, delivery.event.sequence


def _pause_after(attempts: int) -> timedelta:
    """Return the time until the next attempt: 1 s, doubled to an hour, less up to a tenth."""
    seconds = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(attempts - 1, 60))
    return timedelta(seconds=seconds * random.uniform(0.9, 1.0))  # noqa: S311 - it spreads load


async def _on_thread(call: Callable[[], str | None]) -> str | None:
    """Return the result of a call on a thread of its own, for which no exit of the process waits."""
    future: Future[str | None] = Future()
    future.set_running_or_notify_cancel()  # so that it can be set whatever becomes of those who wait

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
            future.set_exception(error)

    threading.Thread(target=run, name="webhook", daemon=True).start()
    return await asyncio.wrap_future(future)

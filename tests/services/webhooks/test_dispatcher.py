"""Delivery of events: at least once, in order for each experiment, and past what hangs or is dead."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from urllib.parse import SplitResult, urlsplit

import pytest
from structlog.typing import EventDict

from server.services.runtime.async_store import AsyncStore
from server.services.webhooks.dispatcher import WebhookDispatcher
from server.services.webhooks.endpoints_file import Endpoint
from server.services.webhooks.post import Post
from server.store.records import DeliveryState, ExperimentRecord
from server.store.sql_store import SqlStore
from tests.services.support import ManualClock
from tests.store.builders import create

CHAT = Endpoint(name="chat", url=urlsplit("https://chat.example/"), secrets=(b"s" * 24,))
PAGER = Endpoint(name="pager", url=urlsplit("https://pager.example/"), secrets=(b"s" * 24,))


class Receivers:
    """What endpoints answer, by host.

    Attributes:
        errors: Host mapped to its answer; None is a taken post.
        got: The ids that came, by host, in order.
        hanging: The host that answers nothing before `released`.
        has_come: Set with each post.
    """

    def __init__(self) -> None:
        self.errors: dict[str, str | None] = {}
        self.got: list[tuple[str, str]] = []
        self.hanging = ""
        self.has_come = threading.Event()
        self.released = threading.Event()

    def send(self, url: SplitResult, post: Post) -> str | None:
        """Answer a post."""
        host = str(url.hostname)
        self.got.append((host, post.headers["webhook-id"]))
        self.has_come.set()
        if host == self.hanging:
            self.released.wait(60)
        return self.errors.get(host)

    def ids(self, host: str) -> list[str]:
        """Return the ids that a host got."""
        return [event_id for each, event_id in self.got if each == host]


@pytest.fixture
def receivers() -> Receivers:
    """Receivers that take everything."""
    return Receivers()


@asynccontextmanager
async def dispatching(
    async_store: AsyncStore, clock: ManualClock, receivers: Receivers, *endpoints: Endpoint
) -> AsyncIterator[WebhookDispatcher]:
    """Return a dispatcher for these endpoints that has begun."""
    dispatcher = WebhookDispatcher(async_store, clock, lambda: endpoints, receivers.send)
    await dispatcher.look()
    yield dispatcher
    receivers.released.set()
    await dispatcher.end()


async def look(dispatcher: WebhookDispatcher, clock: ManualClock, seconds: float = 0.0) -> None:
    """Let time pass, look, and wait for the attempts that end."""
    clock.advance(seconds)
    await dispatcher.look()
    await asyncio.wait(dispatcher._attempts, timeout=10) if dispatcher._attempts else None


def describe(store: SqlStore, record: ExperimentRecord, text: str) -> ExperimentRecord:
    """Change the description of an experiment."""
    return store.change_experiment(record, record.declaring(replace(record.experiment, description=text)))


async def test_events_are_delivered_in_order(
    store: SqlStore, async_store: AsyncStore, clock: ManualClock, receivers: Receivers
) -> None:
    """Each is sent once, those of an experiment one after the other; those before the endpoint are not."""
    create(store, "old")
    async with dispatching(async_store, clock, receivers, CHAT) as dispatcher:
        describe(store, describe(store, create(store, "a"), "x"), "y")
        create(store, "b")
        for _ in range(4):
            await look(dispatcher, clock)
        assert sorted(receivers.ids("chat.example")) == [
            "event_2_1",
            "event_2_2",
            "event_2_3",
            "event_3_1",
        ]
        assert [each for each in receivers.ids("chat.example") if each.startswith("event_2")] == [
            "event_2_1",
            "event_2_2",
            "event_2_3",
        ]
        assert dispatcher.n_delivered == {"chat": 4}
        assert store.list_deliveries(10) == []


async def test_an_endpoint_gets_its_namespaces(
    store: SqlStore, async_store: AsyncStore, clock: ManualClock, receivers: Receivers
) -> None:
    """Events of other namespaces do not leave the server."""
    limited = replace(CHAT, namespaces=frozenset({"team-a"}))
    async with dispatching(async_store, clock, receivers, limited) as dispatcher:
        for name in ("team-a/x", "team-b/x", "x"):
            create(store, name)
        await look(dispatcher, clock)
        await look(dispatcher, clock)
        assert receivers.ids("chat.example") == ["event_1_1"]


async def test_a_failure_is_tried_again_later_and_later(
    store: SqlStore, async_store: AsyncStore, clock: ManualClock, receivers: Receivers, logs: list[EventDict]
) -> None:
    """The pauses double from a second to an hour; once the receiver is back, what waited comes in order."""
    receivers.errors["chat.example"] = "status 500"
    async with dispatching(async_store, clock, receivers, CHAT) as dispatcher:
        describe(store, create(store, "a"), "x")
        await look(dispatcher, clock)
        for n_tries in range(1, 15):
            pause = min(3_600, 2 ** (n_tries - 1))
            assert len(receivers.got) == n_tries
            await look(dispatcher, clock, 0.89 * pause)
            assert len(receivers.got) == n_tries
            await look(dispatcher, clock, 0.12 * pause)
        tries = receivers.ids("chat.example")
        assert set(tries) == {"event_1_1"}
        assert [each["attempts"] for each in logs if each["event"] == "webhook.failed"] == [1, 2, 4, 8]
        receivers.errors.clear()
        await look(dispatcher, clock, 3_600.0)
        await look(dispatcher, clock)
        assert receivers.ids("chat.example")[len(tries) :] == ["event_1_1", "event_1_2"]


async def test_after_a_day_an_event_is_dead_and_the_next_comes(
    store: SqlStore, async_store: AsyncStore, clock: ManualClock, receivers: Receivers, logs: list[EventDict]
) -> None:
    """A dead event is kept and logged; sent again, it is delivered."""
    receivers.errors["chat.example"] = "status 400"
    async with dispatching(async_store, clock, receivers, CHAT) as dispatcher:
        create(store, "a")
        await look(dispatcher, clock)
        await look(dispatcher, clock, timedelta(days=1, seconds=1).total_seconds())
        (dead,) = store.list_deliveries(10)
        assert (dead.state, dead.last_error) == (DeliveryState.DEAD, "status 400")
        assert [each["sequence"] for each in logs if each["event"] == "webhook.dead"] == [1]
        receivers.errors.clear()
        record = store.find_experiment("a")
        assert record is not None
        describe(store, record, "x")
        await look(dispatcher, clock)
        assert receivers.ids("chat.example")[-1] == "event_1_2"
        assert store.revive_deliveries("chat", clock.now()) == 1
        await look(dispatcher, clock)
        assert receivers.ids("chat.example")[-1] == "event_1_1"
        assert store.list_deliveries(10) == []
        assert (dispatcher.n_failed, dispatcher.n_dead) == ({"chat": 2}, {"chat": 1})


async def test_an_endpoint_that_hangs_delays_no_other(
    store: SqlStore, async_store: AsyncStore, clock: ManualClock, receivers: Receivers
) -> None:
    """The other one gets everything meanwhile, and the hanging one has few attempts at a time."""
    receivers.hanging = "chat.example"
    async with dispatching(async_store, clock, receivers, CHAT, PAGER) as dispatcher:
        for number in range(10):
            create(store, f"e-{number}")
        while len(receivers.ids("pager.example")) < 10:
            await dispatcher.look()
            await asyncio.sleep(0)
        assert 1 <= len(receivers.ids("chat.example")) <= 4


async def test_a_server_that_died_leaves_its_attempt_to_another(
    store: SqlStore, async_store: AsyncStore, clock: ManualClock, receivers: Receivers
) -> None:
    """Once its lease is over, another server makes the attempt; the event may come twice."""
    receivers.hanging = "chat.example"
    async with (
        dispatching(async_store, clock, receivers, CHAT) as dying,
        dispatching(async_store, clock, receivers, CHAT) as other,
    ):
        create(store, "a")
        await dying.look()
        assert await asyncio.to_thread(receivers.has_come.wait, 60)
        await dying.end()
        receivers.hanging = ""
        await look(other, clock, 59.0)
        assert other.n_delivered == {}
        await look(other, clock, 2.0)
        assert other.n_delivered == {"chat": 1}
        assert receivers.ids("chat.example") == ["event_1_1", "event_1_1"]

"""The lease of the one server that acts: who takes it, and when, and that no two ever act at once."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from typing import Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from structlog.typing import EventDict

from server.services.launch.lease import BEAT_SECONDS, CONTROLLER, LeaseKeeper
from server.services.runtime.async_store import AsyncStore
from server.store.errors import LeaseLostError, StoreError
from server.store.opening import open_store
from server.store.records import Lease
from server.store.sql_store import SqlStore
from server.store.tables.launch import leases
from server.store.tables.launch.schema import leases as table
from tests.services.support import ManualClock
from tests.store.builders import run, statements_of
from tests.support.postgresql import PostgresqlProcess, n_waiting
from tests.support.process import eventually

BOUND_SECONDS: Final = 25.0
"""Within this time of the last sign of a holder another server acts."""


class Server:
    """A server that wants the lease, as far as the lease is concerned."""

    def __init__(self, url: str, store: SqlStore, name: str, lease: str = CONTROLLER) -> None:
        self.url = url
        self.store = store
        self.clock = ManualClock()
        self.async_store = AsyncStore(store)
        self.keeper = LeaseKeeper(self.async_store, self.clock, holder=name, name=lease)

    def token(self) -> int | None:
        """The token under which it may act now."""
        lease = self.keeper.held()
        return None if lease is None else lease.token

    async def look(self, seconds: float = BEAT_SECONDS) -> None:
        """Let time pass for it, then renew or look."""
        self.clock.advance(seconds)
        await self.keeper.run_once()


@pytest.fixture
def servers(postgresql: PostgresqlProcess) -> Iterator[tuple[Server, Server]]:
    """Two servers on one PostgreSQL, whose monotonic clocks began at different times."""
    url = postgresql.create_database()
    with ExitStack() as stack:
        stores = [stack.enter_context(closing(open_store(url))) for _ in range(2)]
        first, second = (Server(url, each, name) for each, name in zip(stores, "ab", strict=True))
        second.clock.advance(1e6)
        yield first, second
        for server in (first, second):
            server.async_store.close()


async def wait_for(server: Server) -> float:
    """Let a server look until it holds the lease; return how long that took."""
    for looks in range(20):
        if server.token() is not None:
            return looks * BEAT_SECONDS
        await server.look()
    pytest.fail("the lease was never taken")


async def test_the_first_takes_it_and_the_others_wait(servers: tuple[Server, Server]) -> None:
    """As long as the holder renews, it holds the lease under one token, and nobody else ever does."""
    first, second = servers
    for _ in range(30):
        await first.look()
        await second.look()
        assert (first.token(), second.token()) == (1, None)


async def test_a_silent_holder_is_replaced(servers: tuple[Server, Server], logs: list[EventDict]) -> None:
    """Another server takes over after ten seconds without a beat, under the next token, and is counted."""
    first, second = servers
    await first.look()
    await second.look()
    seconds = await wait_for(second)
    assert 10.0 <= seconds <= 10.0 + 2 * BEAT_SECONDS < BOUND_SECONDS
    assert second.token() == 2
    assert (first.keeper.n_takeovers, second.keeper.n_takeovers) == (0, 1)
    assert [(each["event"], each["token"], each["before"]) for each in logs] == [
        ("lease.taken", 1, None),
        ("lease.taken", 2, "a"),
    ]


async def test_no_wall_clock_is_read(servers: tuple[Server, Server]) -> None:
    """Setting the wall clock of either server an hour forward or a day back changes nothing."""
    first, second = servers
    for jump in (timedelta(hours=1), timedelta(days=-1)):
        for server in servers:
            server.clock.jump(jump)
        for _ in range(3):
            await first.look()
            await second.look()
            assert (first.token(), second.token()) == (1, None)


async def test_a_holder_stops_before_another_starts(servers: tuple[Server, Server]) -> None:
    """Six seconds after its last renewal began a holder may not act any more, four before another may."""
    first, second = servers
    await first.look()
    await second.look(0.0)
    first.clock.advance(6.0)
    assert first.token() == 1
    first.clock.advance(0.001)
    assert first.token() is None
    for _ in range(4):
        await second.look()
    await second.look(1.9)
    assert second.token() is None
    await second.look(0.1)
    assert second.token() == 2


async def test_a_slow_renewal_counts_from_its_start(
    servers: tuple[Server, Server], logs: list[EventDict]
) -> None:
    """A renewal that took seven seconds keeps the lease, under which nothing may be done until the next."""
    first, second = servers
    await first.look()
    with second.store._dialect.writing() as connection:
        leases.require(connection, Lease(name=CONTROLLER, token=1, holder="a", beat=1))
        renewal = asyncio.create_task(first.keeper.run_once())
        await asyncio.sleep(0)
        first.clock.advance(7.0)
    await renewal
    assert first.token() is None
    await first.look(0.0)
    assert first.token() == 1
    assert [each["event"] for each in logs] == ["lease.taken", "lease.late", "lease.renewed"]


async def test_a_former_holder_finds_out(servers: tuple[Server, Server], logs: list[EventDict]) -> None:
    """A holder that was frozen stops at its next renewal, waits like the others, and can take over again."""
    first, second = servers
    before = run(first.store)
    await first.look()
    former = first.keeper.held()
    assert former is not None
    await wait_for(second)
    with pytest.raises(LeaseLostError):
        first.store.change_experiment(before, before, fence=former)
    await first.look()
    assert (first.token(), second.token()) == (None, 2)
    assert logs[-1] == {"event": "lease.lost", "lease": CONTROLLER, "token": 1, "log_level": "warning"}
    assert await wait_for(first) >= 10.0
    assert first.token() == 3


async def test_a_released_lease_is_taken_at_the_next_look(
    servers: tuple[Server, Server], logs: list[EventDict]
) -> None:
    """A clean stop hands over at once, is no takeover, and lets nothing be done under the old token."""
    first, second = servers
    before = run(first.store)
    await first.look()
    await second.look()
    former = first.keeper.held()
    await first.keeper.release()
    assert first.token() is None
    with pytest.raises(LeaseLostError):
        first.store.change_experiment(before, before, fence=former)
    await second.look()
    assert second.token() == 3
    assert second.keeper.n_takeovers == 0
    await first.look()
    assert first.token() is None
    assert [each["event"] for each in logs] == ["lease.taken", "lease.released", "lease.taken"]


async def test_a_takeover_without_an_answer_is_noticed(servers: tuple[Server, Server]) -> None:
    """If the takeover was stored and its answer lost, the next look finds it, renews it, and acts."""
    first, second = servers
    first.store.take_over_lease(first.store.read_lease(CONTROLLER), "a")
    await second.look()
    await first.look()
    assert (first.token(), second.token()) == (1, None)
    for _ in range(10):
        await first.look()
        await second.look()
    assert (first.token(), second.token()) == (1, None)


async def test_a_stop_during_a_takeover_frees_the_lease(servers: tuple[Server, Server]) -> None:
    """If the server stops before it knows whether it holds the lease, it still releases it."""
    first, second = servers
    connection = second.store._dialect.writer.connect()
    transaction = connection.begin()
    row = {"name": CONTROLLER, "token": 1, "holder": "b", "beat": 1}
    connection.execute(table.insert().values(**row))  # so that another insert waits
    takeover = asyncio.create_task(first.keeper.run_once())
    await asyncio.to_thread(eventually, lambda: n_waiting(second.url))
    takeover.cancel()
    transaction.rollback()
    connection.close()
    await first.keeper.release()
    assert first.store.read_lease(CONTROLLER).holder is None
    await second.look()
    assert second.token() is not None


async def test_a_server_that_was_frozen_takes_nothing_over(servers: tuple[Server, Server]) -> None:
    """Time in which a server did not look is no silence of the holder, beyond what two looks would add."""
    first, second = servers
    await first.look()
    await second.look()
    await second.look(3600.0)
    assert second.token() is None
    assert await wait_for(second) == 3 * BEAT_SECONDS


async def test_without_the_store_a_holder_stops_by_itself(
    servers: tuple[Server, Server], logs: list[EventDict]
) -> None:
    """Failed renewals are raised to whoever repeats them; the holder acts on for six seconds only."""
    first, _ = servers
    await first.look()
    first.store.close()
    tokens = []
    for _ in range(4):
        with pytest.raises(StoreError):
            await first.look()
        tokens.append(first.token())
    assert tokens == [1, 1, 1, None]
    await first.keeper.release()
    assert [each["event"] for each in logs] == ["lease.taken", "lease.late", "lease.not_released"]


async def test_a_file_has_one_server_which_holds_it(
    store: SqlStore, async_store: AsyncStore, clock: ManualClock, logs: list[EventDict]
) -> None:
    """On SQLite the lease is taken at the start, whoever had it, and held without further writes."""
    before = run(store)
    former = store.take_over_lease(store.read_lease(CONTROLLER), "killed")
    keeper = LeaseKeeper(async_store, clock, holder="a")
    assert keeper.held() is None
    await keeper.run_once()
    with statements_of(store) as sent:
        for _ in range(10):
            clock.advance(3600.0)
            await keeper.run_once()
    assert sent == []
    lease = keeper.held()
    assert lease is not None
    assert store.change_experiment(before, before, fence=lease).revision == before.revision + 1
    with pytest.raises(LeaseLostError):
        store.change_experiment(before, before, fence=former)
    await keeper.release()
    assert [(each["event"], each["token"]) for each in logs] == [("lease.taken", 2), ("lease.released", 2)]


class Servers(RuleBasedStateMachine):
    """Servers that look, freeze, are killed and started, release and act, while one time passes for all.

    Args:
        stores: One for each server.
        loop: Runs their keepers.
        name: The lease's name, of which each example has one of its own.
    """

    def __init__(self, stores: list[SqlStore], loop: asyncio.Runner, name: str) -> None:
        super().__init__()
        self.loop = loop
        self.servers = [Server("", store, f"{name}-{number}", name) for number, store in enumerate(stores)]
        self.name = name
        self.n_started = len(stores)
        self.record = run(stores[0], name)
        self.tokens: list[int] = []

    numbers = st.integers(0, 2)

    @rule(seconds=st.sampled_from((0.1, 1.0, 2.0, 2.0, 2.0, 4.0, 9.0)))
    def wait(self, seconds: float) -> None:
        """Time passes; who does not look in it is frozen, or slow."""
        for server in self.servers:
            server.clock.advance(seconds)

    @rule(number=numbers)
    def look(self, number: int) -> None:
        """A server looks, or renews, and acts if it may."""
        self.loop.run(self.servers[number].keeper.run_once())
        self.act(number)

    @rule(numbers=st.sets(numbers, min_size=1), n_looks=st.integers(1, 8))
    def go_on(self, numbers: set[int], n_looks: int) -> None:
        """Some look every two seconds, as they should, and the others are frozen."""
        for _ in range(n_looks):
            self.wait(BEAT_SECONDS)
            for number in sorted(numbers):
                self.look(number)
            self.at_most_one_may_act()

    @rule(number=numbers, hour=st.integers(-24, 24))
    def jump(self, number: int, hour: int) -> None:
        """The wall clock of a server is set."""
        self.servers[number].clock.jump(timedelta(hours=hour))

    @rule(number=numbers)
    def release(self, number: int) -> None:
        """A server is stopped, and started again."""
        self.loop.run(self.servers[number].keeper.release())
        self.restart(number)

    @rule(number=numbers)
    def restart(self, number: int) -> None:
        """A server is killed, and started again."""
        server, holder = self.servers[number], f"{self.name}-{self.n_started}"
        server.keeper = LeaseKeeper(server.async_store, server.clock, holder=holder, name=self.name)
        self.n_started += 1

    @rule(number=numbers)
    def act(self, number: int) -> None:
        """A server that may act does, and is never refused."""
        lease = self.servers[number].keeper.held()
        if lease is not None:
            self.record = self.servers[number].store.change_experiment(self.record, self.record, fence=lease)
            self.tokens.append(lease.token)

    @invariant()
    def at_most_one_may_act(self) -> None:
        """At most one server may act, and tokens only grow."""
        assert sum(server.token() is not None for server in self.servers) <= 1
        assert self.tokens == sorted(self.tokens)

    def teardown(self) -> None:
        """Whatever has happened, a server that is left alone acts within the bound."""
        survivor = self.servers[2]
        assert self.loop.run(wait_for(survivor)) < BOUND_SECONDS
        for server in self.servers:
            server.async_store.close()


def test_any_history_has_one_actor(postgresql: PostgresqlProcess) -> None:
    """However servers are frozen, killed, stopped and started, two never act at once, and one soon does."""
    url = postgresql.create_database()
    n_examples, n_actions = 0, 0
    with ExitStack() as stack:
        loop = stack.enter_context(asyncio.Runner())
        stores = [stack.enter_context(closing(open_store(url))) for _ in range(3)]

        class Example(Servers):
            def __init__(self) -> None:
                nonlocal n_examples
                n_examples += 1
                super().__init__(stores, loop, f"lease-{n_examples}")

            def teardown(self) -> None:
                nonlocal n_actions
                n_actions += len(self.tokens)
                super().teardown()

        run_state_machine_as_test(Example, settings=settings(max_examples=40, stateful_step_count=40))
    assert n_examples >= 30
    assert n_actions >= n_examples

"""Choices over a stream of the real service, on each of its listeners and by each client."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import grpc
import pytest

from bandit.client import BanditClient, Choice
from bandit.v1 import experiment_pb2
from benchmarks.harness.processes import free_port
from tests.bandit.client.blocks import until
from tests.bandit.client.peer import AnyClient, ClientFactory, settle
from tests.bandit.client.streams.asking import V0, ask, ask_at_once
from tests.support.process import ServerProcess, serving

FAST: tuple[str, ...] = ("--fast-listen", "127.0.0.1:0")
METRICS = ("--metrics-listen", "127.0.0.1:0")
N_EXPERIMENTS = 200
N_CALLERS = 4
STREAM = {
    "grpc_type": "bidi_stream",
    "grpc_service": "bandit.v1.BanditService",
    "grpc_method": "ChooseStream",
}

AddressOf: TypeAlias = Callable[[ServerProcess], str]


def default_listener(server: ServerProcess) -> str:
    """Return the address of grpc.aio's listener."""
    return server.address


def fast_lane(server: ServerProcess) -> str:
    """Return the address of the fast lane."""
    assert server.fast_address is not None
    return server.fast_address


@pytest.fixture(params=[default_listener, fast_lane])
def address_of(request: pytest.FixtureRequest) -> AddressOf:
    """Which listener the clients call."""
    listener: AddressOf = request.param
    return listener


def start_experiments(server: ServerProcess, *names: str) -> None:
    """Create and start experiments whose arms bear their names."""
    with BanditClient(server.address) as client:
        for name in names:
            client.experiments.create(
                experiment_pb2.Experiment(
                    name=name,
                    arms=[experiment_pb2.Arm(id=f"{name}-{number}") for number in range(2)],
                    champion=f"{name}-0",
                    metrics=[experiment_pb2.Metric(name="click", kind=experiment_pb2.METRIC_KIND_BINARY)],
                    reward_metric="click",
                )
            )
            client.experiments.start(name)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A service with many experiments, for the tests that leave it as it is."""
    with serving(tmp_path_factory.mktemp("site") / "bandit.db", *FAST) as server:
        start_experiments(server, "ranker", *(f"e{number}" for number in range(N_EXPERIMENTS)))
        yield server


async def test_each_unit_gets_its_arm(
    new_client: ClientFactory, site: ServerProcess, address_of: AddressOf
) -> None:
    """Of 64 callers at once, each gets the arm of its own unit, time after time, as by a call."""
    units = [f"user-{number}" for number in range(64)]
    by_call = new_client(address_of(site), choose_timeout=20.0)
    streaming = new_client(address_of(site), choose_timeout=20.0, stream=True)
    expected = [each.arm for each in await ask_at_once(by_call, units)]
    assert set(expected) == {"ranker-0", "ranker-1"}
    for _ in range(10):
        choices = await ask_at_once(streaming, units)
        assert [(each.arm, each.fallback_cause) for each in choices] == [(arm, None) for arm in expected]


async def test_many_experiments(
    new_client: ClientFactory, site: ServerProcess, address_of: AddressOf
) -> None:
    """Questions about many experiments in turn are each answered for the experiment that they name."""
    client = new_client(address_of(site), choose_timeout=20.0, stream=True)
    for name in [f"e{number}" for number in range(N_EXPERIMENTS)]:
        choice = await settle(client.choose(name, unit="user-1", fallback=V0))
        assert (choice.arm.rpartition("-")[0], choice.fallback_cause) == (name, None)


@pytest.mark.parametrize(
    ("name", "unit"), [("unknown", "user-1"), ("", "user-1"), ("not a name", None), ("ranker", "u" * 3_000)]
)
async def test_error_of_one_question(
    new_client: ClientFactory, site: ServerProcess, address_of: AddressOf, name: str, unit: str
) -> None:
    """The error of one question is that of a call, in every field, and those beside it are answered."""
    by_call = new_client(address_of(site), choose_timeout=20.0)
    streaming = new_client(address_of(site), choose_timeout=20.0, stream=True)
    before = await ask(streaming)
    causes = [
        (await settle(client.choose(name, unit=unit, fallback=V0))).fallback_cause
        for client in (by_call, streaming)
    ]
    told = [
        (type(each), each.code, each.reason, each.message, each.field_violations, each.retry_delay)
        for each in causes
        if each is not None
    ]
    assert len(told) == 2
    assert told[0] == told[1]
    assert [before.is_fallback, (await ask(streaming)).is_fallback] == [False, False]


@asynccontextmanager
async def asking(client: AnyClient) -> AsyncIterator[list[Choice]]:
    """Choose for a few units, over and over; gives the choices, to which more and more are added."""
    choices: list[Choice] = []
    ends = asyncio.Event()

    async def go_on(unit: str) -> None:
        while not ends.is_set():
            choices.append(await ask(client, unit))

    tasks = [asyncio.ensure_future(go_on(f"user-{number}")) for number in range(N_CALLERS)]
    yield choices
    ends.set()
    await asyncio.gather(*tasks)


async def test_drained_server(
    new_client: ClientFactory,
    start_server: Callable[..., ServerProcess],
    tmp_path: Path,
    address_of: AddressOf,
) -> None:
    """Where another server takes over, a fast lane that drains costs a caller at most one fallback.

    The default listener lets callers know by refusals, for a moment, that it stops.
    """
    old = start_server(*FAST)
    with serving(tmp_path / "next.db", *FAST, *METRICS) as new:
        for server in (old, new):
            start_experiments(server, "ranker")
        client = new_client(f"ipv4:{address_of(old)},{address_of(new)}", choose_timeout=20.0, stream=True)
        async with asking(client) as choices:
            await until(lambda: len(choices) > 100)
            assert await asyncio.to_thread(old.terminate) == 0
            n_before = len(choices) + N_CALLERS  # those that were refused last
            await until(lambda: len(choices) > n_before + 100)
            await until(lambda: new.sample("grpc_server_msg_received_total", **STREAM) > 100)
        causes = [each.fallback_cause for each in choices]
        codes = [each.code for each in causes if each is not None]
        # CANCELLED is how gRPC itself stops, for a call that arrives at that moment.
        assert set(codes) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        assert address_of is default_listener or len(codes) <= N_CALLERS
        assert set(causes[n_before:]) == {None}


async def test_old_connections(
    new_client: ClientFactory, start_server: Callable[..., ServerProcess], address_of: AddressOf
) -> None:
    """A service that ends each connection after a second costs no fallback: streams follow each other."""
    server = start_server(*FAST, *METRICS, "--connection-seconds", "1")
    start_experiments(server, "ranker")
    client = new_client(address_of(server), choose_timeout=20.0, stream=True)
    async with asking(client) as choices:
        await until(lambda: server.sample("grpc_server_started_total", **STREAM) > 4)
    assert [each for each in choices if each.is_fallback] == []


async def test_killed_server(
    new_client: ClientFactory, start_server: Callable[..., ServerProcess], address_of: AddressOf
) -> None:
    """A service that is killed costs fallbacks until it is back; then choices go over a stream again."""
    port, fast = free_port(), ("--fast-listen", f"127.0.0.1:{free_port()}")
    server = start_server(*fast, port=port)
    start_experiments(server, "ranker")
    client = new_client(address_of(server), choose_timeout=20.0, stream=True)
    async with asking(client) as choices:
        await until(lambda: len(choices) > 100)
        assert [each for each in choices if each.is_fallback] == []
        server.kill()
        await until(lambda: choices[-1].is_fallback)
        codes = {each.fallback_cause.code for each in choices if each.fallback_cause is not None}
        assert codes == {grpc.StatusCode.UNAVAILABLE}
        again = start_server(*fast, *METRICS, port=port)
        await until(lambda: again.sample("grpc_server_msg_received_total", **STREAM) > 100)
    assert not choices[-1].is_fallback

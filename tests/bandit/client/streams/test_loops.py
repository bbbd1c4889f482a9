"""Streams of clients that are used in several event loops or in another process."""

import asyncio
import pickle
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent import futures

import grpc
import pytest
import uvloop

from bandit.client import AsyncBanditClient, BanditClient, Choice
from bandit.v1 import bandit_pb2
from tests.bandit.client.peer import AnyClient, Peer, Script, choose_each, chosen, settle
from tests.bandit.client.streams.asking import V0, n_by_call, n_by_stream
from tests.support.process import eventually

Run = Callable[[Coroutine[object, object, list[Choice]]], list[Choice]]


def run_and_just_close(call: Coroutine[object, object, list[Choice]]) -> list[Choice]:
    """Run in a loop whose owner does not shut down asynchronous generators."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(call)
    finally:
        loop.close()


RUNS: list[Run] = [asyncio.run, uvloop.run, run_and_just_close]


@pytest.fixture
def script(script: Script) -> Script:
    """A peer with streams, whose calls choose another arm."""
    script.on("Choose", lambda _request, _context: bandit_pb2.ChooseResponse(arm="v2").SerializeToString())
    script.on_stream(choose_each())
    return script


@pytest.fixture
def client(peer: Peer) -> Iterator[AsyncBanditClient]:
    """A client of the peer with a stream, in no event loop yet."""
    opened = AsyncBanditClient(peer.target, choose_timeout=20.0, stream=True)
    yield opened
    asyncio.run(opened.close())


async def choose_for(client: AsyncBanditClient, units: list[str]) -> list[Choice]:
    """Choose for all units at once."""
    return await asyncio.gather(*(client.choose("ranker", unit=unit, fallback=V0) for unit in units))


def test_loop_after_loop(client: AsyncBanditClient, script: Script) -> None:
    """All event loops of a client, one after another and of any kind, share its one stream."""
    units = [f"user-{number}" for number in range(10)]
    for run in RUNS * 3:
        assert [each.decision_id for each in run(choose_for(client, units))] == units
    assert (script.n_streams, n_by_call(script)) == (1, 0)


def test_loops_at_once(client: AsyncBanditClient, script: Script) -> None:
    """Event loops of several threads, a new one for each choice, all get their own answers on it."""
    n_threads, n_choices = 4, 50
    begin = threading.Barrier(n_threads)

    def work(thread: int, run: Run) -> list[str]:
        begin.wait(30)
        chosen_one_by_one = [run(choose_for(client, [f"{thread}-{n}"])) for n in range(n_choices)]
        return [choice.decision_id for choices in chosen_one_by_one for choice in choices]

    with futures.ThreadPoolExecutor(n_threads) as pool:
        working = [pool.submit(work, thread, RUNS[thread % len(RUNS)]) for thread in range(n_threads)]
        for thread, done in enumerate(working):
            assert done.result(60) == [f"{thread}-{n}" for n in range(n_choices)]
    assert (script.n_streams, n_by_call(script)) == (1, 0)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_loop_closed_with_questions_in_flight(
    client: AsyncBanditClient, script: Script, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Answers that come for a loop which is closed by then are dropped, and others get theirs."""
    gate = threading.Event()

    def behave(requests: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
        for request in requests:
            gate.wait(60)
            yield chosen(request)

    script.on_stream(behave)
    loop = new_loop()
    tasks = [loop.create_task(client.choose("ranker", unit="gone", fallback=V0)) for _ in range(3)]
    loop.run_until_complete(asyncio.sleep(0))
    eventually(lambda: n_by_stream(script) == 1)
    loop.close()
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    del tasks
    gate.set()
    assert [each.decision_id for each in asyncio.run(choose_for(client, ["here"]))] == ["here"]
    assert (script.n_streams, n_by_call(script)) == (1, 0)


def test_close_reaches_other_loops(client: AsyncBanditClient, script: Script) -> None:
    """Closing a client in one loop gives those who wait in others the fallback."""

    def hold(requests: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
        for _ in requests:
            yield from ()

    script.on_stream(hold)
    with futures.ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(run, choose_for(client, ["a", "b"])) for run in RUNS[:2]]
        eventually(lambda: n_by_stream(script) == 4)
        asyncio.run(client.close())
        choices = [choice for each in waiting for choice in each.result(30)]
    assert ["closed" in str(each.fallback_cause) for each in choices] == [True] * 4


@pytest.mark.parametrize("kind", [BanditClient, AsyncBanditClient])
async def test_pickled_client(kind: type[AnyClient], peer: Peer, script: Script) -> None:
    """A client that travels to another process has a stream there, too."""
    client = pickle.loads(pickle.dumps(kind(peer.target, choose_timeout=10.0, stream=True)))  # noqa: S301
    assert (await settle(client.choose("ranker", fallback=V0))).arm == "v1"
    await settle(client.close())
    assert script.n_streams == 1

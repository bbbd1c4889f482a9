"""The asyncio client in any number of event loops: each has its channel, which ends with it."""

import asyncio
import socket
import threading
import warnings
import weakref
from collections.abc import Callable, Coroutine, Iterator
from concurrent import futures
from pathlib import Path
from typing import TypeVar

import grpc
import pytest
import uvloop

from bandit.client import (
    AsyncBanditClient,
    CallError,
    Choice,
    Fallback,
    Question,
    RetryPolicy,
    Reward,
    RewardResult,
    UnavailableError,
)
from bandit.v1 import admin_pb2, bandit_pb2, experiment_pb2
from tests.bandit.client import programs
from tests.bandit.client.peer import Peer, answer
from tests.support.process import eventually

T = TypeVar("T")
Run = Callable[[Coroutine[object, object, T]], T]


def run_and_just_close(call: Coroutine[object, object, T]) -> T:
    """Run in a loop whose owner does not shut down asynchronous generators."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(call)
    finally:
        loop.close()


SHUTDOWN = "can't create new thread at interpreter shutdown"
RUNS = [asyncio.run, uvloop.run, run_and_just_close]


@pytest.fixture
def peer(peer: Peer) -> Peer:
    """A peer that answers calls of each kind."""
    chosen = bandit_pb2.ChooseResponse(arm="v1", decision_id="signed")
    recorded = bandit_pb2.RewardResponse(results={"click": bandit_pb2.OUTCOME_RESULT_RECORDED})
    peer.script.on("Choose", answer(chosen))
    peer.script.on("Reward", answer(recorded))
    choice = bandit_pb2.BatchChooseResult(choice=chosen)
    peer.script.on("BatchChoose", answer(bandit_pb2.BatchChooseResponse(results=[choice])))
    reward = bandit_pb2.BatchRewardResult(reward=recorded)
    peer.script.on("BatchReward", answer(bandit_pb2.BatchRewardResponse(results=[reward])))
    peer.script.on("GetExperiment", answer(experiment_pb2.Experiment(name="ranker")))
    listed = experiment_pb2.ListExperimentsResponse(experiments=[experiment_pb2.Experiment(name="ranker")])
    peer.script.on("ListExperiments", answer(listed))
    keys = admin_pb2.ListDecisionKeysResponse(keys=[admin_pb2.DecisionKey(id=7)])
    peer.script.on("ListDecisionKeys", answer(keys))
    return peer


@pytest.fixture
def client(peer: Peer) -> AsyncBanditClient:
    """A client of it, which nobody closes."""
    return AsyncBanditClient(peer.target, choose_timeout=10.0, batch_choose_timeout=10.0)


@pytest.fixture
def silent() -> Iterator[AsyncBanditClient]:
    """A client whose calls stay in flight."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield AsyncBanditClient(f"127.0.0.1:{listener.getsockname()[1]}", choose_timeout=60.0)


async def call_all(client: AsyncBanditClient) -> None:
    """Make a call of each kind; each must get the service's answer."""
    fallback = Fallback("v0")
    choice = await client.choose("ranker", fallback=fallback)
    assert (choice.arm, choice.fallback_cause) == ("v1", None)
    [batched] = await client.batch_choose([Question(experiment="ranker", fallback=fallback)])
    assert (batched.arm, batched.fallback_cause) == ("v1", None)
    assert (await client.reward(choice, {"click": 1.0})).metric_to_result == {"click": "recorded"}
    [result] = await client.batch_reward([Reward(decision="signed", outcomes={"click": 1.0})])
    assert isinstance(result, RewardResult)
    assert (await client.experiments.get("ranker")).name == "ranker"
    assert [each.name async for each in client.experiments.list()] == ["ranker"]
    assert [key.id for key in await client.admin.list_decision_keys()] == [7]


async def call_many(client: AsyncBanditClient) -> None:
    """Make ten calls of each kind at once."""
    await asyncio.gather(*(call_all(client) for _ in range(10)))


@pytest.mark.parametrize("first", RUNS)
@pytest.mark.parametrize("second", RUNS)
def test_loop_after_loop(client: AsyncBanditClient, first: Run[None], second: Run[None]) -> None:
    """One client makes every call in one event loop after another, of any kind."""
    first(call_all(client))
    second(call_many(client))
    first(call_all(client))
    asyncio.run(client.close())


def test_loops_at_once(client: AsyncBanditClient) -> None:
    """One client serves the event loops of several threads at once, as under Django's async_to_sync."""
    n_threads = 4
    begin = threading.Barrier(n_threads)

    def work(run: Run[None]) -> None:
        begin.wait(30)
        for _ in range(5):
            run(call_many(client))

    with futures.ThreadPoolExecutor(n_threads) as pool:
        for done in [pool.submit(work, run) for run in (asyncio.run, uvloop.run) * 2]:
            done.result(60)
    asyncio.run(client.close())


def test_loops_that_take_turns(client: AsyncBanditClient) -> None:
    """Event loops that pause while others run, as in a notebook, keep their channels."""
    loops = [asyncio.new_event_loop(), uvloop.new_event_loop()]
    for _ in range(3):
        for loop in loops:
            loop.run_until_complete(call_all(client))
    loops[0].run_until_complete(client.close())
    for loop in loops:
        assert loop.run_until_complete(client.choose("ranker", fallback=Fallback("v0"))).is_fallback
        loop.close()


async def test_one_channel_for_each_loop(client: AsyncBanditClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tasks of a loop share its channel."""
    opened = []
    insecure_channel = grpc.aio.insecure_channel

    def count(target: str, options: list[tuple[str, str | int]]) -> grpc.aio.Channel:
        opened.append(target)
        return insecure_channel(target, options)

    monkeypatch.setattr(grpc.aio, "insecure_channel", count)
    await call_many(client)
    assert len(opened) == 1
    await asyncio.to_thread(asyncio.run, call_many(client))
    await call_many(client)
    assert len(opened) == 2
    await client.close()


@pytest.mark.parametrize("runner", ["asyncio.run", "uvloop.run", "run_and_just_close"])
def test_nothing_is_left_of_a_loop(run_program: programs.Run, runner: str) -> None:
    """Two hundred event loops leave no file descriptor, no thread and no loop behind."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("this system does not list its file descriptors")
    run_program(
        f"""
import uvloop

def run_and_just_close(call):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(call)
    loop.close()

def left():
    gc.collect()
    loops = sum(isinstance(each, asyncio.AbstractEventLoop) for each in gc.get_objects())
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), loops

def work(n_loops):
    for _ in range(n_loops):
        {runner}(waiting(client.choose("ranker", fallback=FALLBACK)))

client = make("asyncio")
work(5)
before = left()
work(200)
end = time.monotonic() + 30
while any(now > then for now, then in zip(left(), before)):
    if time.monotonic() > end:
        raise SystemExit(f"{{before}} became {{left()}}")
    time.sleep(0.05)
"""
    )


def test_loop_that_goes_on_after_its_generators(client: AsyncBanditClient) -> None:
    """A loop that has shut down its asynchronous generators, and the channel with them, may call again."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(call_all(client))
    loop.run_until_complete(loop.shutdown_asyncgens())
    with warnings.catch_warnings():  # asyncio's, of generators that it will not shut down
        warnings.simplefilter("ignore", ResourceWarning)
        loop.run_until_complete(call_all(client))
    loop.run_until_complete(client.close())
    loop.close()


def test_loop_closed_with_calls_in_flight(silent: AsyncBanditClient, client: AsyncBanditClient) -> None:
    """Calls that a closed loop left in flight disturb no other loop, nor the client's end."""
    for each in (silent, client):
        loop = asyncio.new_event_loop()
        task = loop.create_task(each.choose("ranker", fallback=Fallback("v0")))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        del task
    asyncio.run(call_all(client))
    asyncio.run(silent.close())
    asyncio.run(client.close())


def test_close_reaches_other_loops(silent: AsyncBanditClient) -> None:
    """Closing in one loop ends the calls in flight in the loops of other threads, with the fallback."""

    async def choose() -> Choice:
        return await silent.choose("ranker", fallback=Fallback("v0"))

    with futures.ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(run, choose()) for run in (asyncio.run, uvloop.run)]
        eventually(lambda: len(silent._connection._loop_to_opened) == 2)
        asyncio.run(silent.close())
        for choice in [each.result(30) for each in waiting]:
            assert "closed" in str(choice.fallback_cause)
    asyncio.run(silent.close())


async def test_after_close(client: AsyncBanditClient) -> None:
    """A closed client serves the fallback and refuses rewards, in its loops and in others."""
    await call_all(client)
    await client.close()
    await client.close()

    async def check() -> None:
        choice = await client.choose("ranker", fallback=Fallback("v0"))
        assert "closed" in str(choice.fallback_cause)
        with pytest.raises(UnavailableError, match="closed"):
            await client.reward("signed", {"click": 1.0})

    await check()
    await asyncio.to_thread(asyncio.run, check())


async def test_client_that_nobody_closed(client: AsyncBanditClient, peer: Peer) -> None:
    """A client that is let go closes its channel at once, without a word."""
    other = AsyncBanditClient(peer.target, choose_timeout=10.0)
    await call_all(other)
    channel = weakref.ref(other._connection.stubs.channel)
    del other
    assert channel() is None
    await call_all(client)
    await client.close()


def test_client_let_go_beside_its_loop(peer: Peer) -> None:
    """So does one that is let go while its loop does not run, or after its end."""
    loop = asyncio.new_event_loop()
    for closes in (False, True):
        client = AsyncBanditClient(peer.target, choose_timeout=10.0)
        loop.run_until_complete(call_all(client))
        if closes:
            loop.close()
        channel = next(iter(client._connection._loop_to_opened.values())).stubs.channel
        del client
        assert channel._channel.closed()  # type: ignore[attr-defined]


async def test_cancelled_call(silent: AsyncBanditClient) -> None:
    """Cancelling a task, or a timeout around it, is no failure of the service: it ends the call as usual."""
    fallback = Fallback("v0")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await silent.choose("ranker", fallback=fallback)
    task = asyncio.create_task(silent.choose("ranker", fallback=fallback))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await silent.close()


async def test_cancelled_by_a_scope(silent: AsyncBanditClient) -> None:
    """A scope of anyio, which cancels in every turn of the loop, finds its message in the CancelledError."""
    task = asyncio.create_task(silent.choose("ranker", fallback=Fallback("v0")))
    await asyncio.sleep(0.01)

    def cancel() -> None:
        if not task.done():
            task.cancel("Cancelled via cancel scope")
            asyncio.get_running_loop().call_soon(cancel)

    cancel()
    with pytest.raises(asyncio.CancelledError, match="Cancelled via cancel scope"):
        await task
    await silent.close()


def test_without_asyncio(client: AsyncBanditClient) -> None:
    """Outside asyncio, as under trio, the cause names what to use instead."""

    def drive(call: Coroutine[object, object, T]) -> T:
        try:
            call.send(None)
        except StopIteration as stopped:
            return stopped.value  # type: ignore[no-any-return]
        raise AssertionError("it waits")

    cause = drive(client.choose("ranker", fallback=Fallback("v0"))).fallback_cause
    assert isinstance(cause, CallError)
    assert (cause.reason, "BanditClient" in cause.message) == ("NO_EVENT_LOOP", True)
    with pytest.raises(UnavailableError, match="no asyncio event loop"):
        drive(client.reward("signed", {"click": 1.0}))
    drive(client.close())


@pytest.mark.parametrize(
    "error", [OSError(24, "Too many open files"), RuntimeError("can't start new thread")]
)
async def test_channel_that_cannot_be_opened(
    client: AsyncBanditClient, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A process without a descriptor or thread to spare gets the fallback, and may try again later."""

    def refuse(_target: str, _options: object) -> grpc.aio.Channel:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(grpc.aio, "insecure_channel", refuse)
        choice = await client.choose("ranker", fallback=Fallback("v0"))
        assert str(error) in str(choice.fallback_cause)
    await call_all(client)
    await client.close()


@pytest.mark.parametrize(
    ("text", "code"), [("can't start new thread", "UNAVAILABLE"), (SHUTDOWN, "CANCELLED")]
)
async def test_no_thread_for_a_channel(
    client: AsyncBanditClient, monkeypatch: pytest.MonkeyPatch, text: str, code: str
) -> None:
    """Where no thread can be started, gRPC is not even asked for a channel, since that would crash it."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError(text)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        patched.delattr(grpc.aio, "insecure_channel")
        cause = (await client.choose("ranker", fallback=Fallback("v0"))).fallback_cause
    assert isinstance(cause, CallError)
    assert str(cause) == f"{code}: no channel can be opened: {text}"


def test_retries_across_a_loop_end(peer: Peer) -> None:
    """A reward whose loop ends while it waits for a retry is cancelled with it, and no other loop notices."""
    peer.stop()
    client = AsyncBanditClient(peer.target, choose_timeout=10.0, retry=RetryPolicy(initial_backoff=30.0))

    async def choose() -> Choice:
        return await client.choose("ranker", fallback=Fallback("v0"))

    async def leave() -> None:
        tasks = [asyncio.create_task(client.reward("signed", {"click": 1.0})) for _ in range(3)]
        await asyncio.wait(tasks, timeout=0.2)

    asyncio.run(leave())
    peer.start()
    eventually(lambda: asyncio.run(choose()).arm == "v1")
    asyncio.run(call_all(client))
    asyncio.run(client.close())

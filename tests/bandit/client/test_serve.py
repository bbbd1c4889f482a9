"""`serve` measures a block and posts how it went; the block never waits for that or fails because of it."""

import asyncio
import contextvars
import gc
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import partial

import grpc
import pytest

from bandit.client import AsyncBanditClient, BanditClient, Fallback
from bandit.client.background import CLOSING_SECONDS, MAX_WAITING
from bandit.client.blocking.serving import Serving
from bandit.v1 import bandit_pb2
from tests.bandit.client.blocks import ALL, entered, has_posted, leave, posted, records, until
from tests.bandit.client.peer import (
    AnyClient,
    ClientFactory,
    Peer,
    Script,
    answer,
    fail,
    settle,
)
from tests.support.process import eventually

V0 = Fallback("v0")


@pytest.fixture(autouse=True)
def _answers(script: Script) -> None:
    """The peer chooses v1 and records everything."""
    script.on("Choose", answer(bandit_pb2.ChooseResponse(arm="v1", decision_id="signed")))
    script.on("BatchReward", records())


async def test_block_is_measured(client: AnyClient, script: Script) -> None:
    """The arm of the block is that of choose; its time in ms, no error and an answer are posted for it."""
    began = time.perf_counter()
    async with entered(client.serve("ranker", unit="user-1", fallback=V0)) as choice:
        assert choice.arm == "v1"
        await asyncio.sleep(0.03)
    longest = (time.perf_counter() - began) * 1000
    await settle(client.close())
    [outcomes] = posted(script)
    assert 30 <= outcomes.pop("latency_ms") <= longest
    assert outcomes == {"error": 0.0, "no_answer": 0.0}
    [asked] = script.requests("Choose")
    assert bandit_pb2.ChooseRequest.FromString(asked).unit == "user-1"
    assert client.counts.n_posted == 3


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("x"), StopIteration(), StopAsyncIteration(), TimeoutError()]
)
async def test_a_raise_is_an_error(client: AnyClient, script: Script, error: Exception) -> None:
    """What the block raises goes on, the same object, and is posted as an error with its time."""
    block = client.serve("ranker", fallback=V0)
    await settle(block.__enter__() if isinstance(block, Serving) else block.__aenter__())
    assert not await leave(block, error)
    assert (error.__cause__, error.__context__, error.__traceback__) == (None, None, None)
    await settle(client.close())
    [outcomes] = posted(script)
    assert (outcomes["error"], outcomes["no_answer"]) == (1.0, 0.0)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(), GeneratorExit(), asyncio.CancelledError()]
)
async def test_an_abandoned_block_posts_nothing(
    client: AnyClient, script: Script, error: BaseException
) -> None:
    """A block that is cancelled, or ends with its process, says nothing of the arm: it has no answer."""
    with pytest.raises(type(error)) as raised:
        async with entered(client.serve("ranker", fallback=V0)):
            raise error
    assert raised.value is error
    await settle(client.close())
    assert posted(script) == []


async def test_a_timeout_around_the_block_posts_nothing(peer: Peer, script: Script) -> None:
    """A model that is too slow for `asyncio.timeout` leaves its decision without an answer."""
    async with AsyncBanditClient(peer.target, choose_timeout=10.0) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5), client.serve("ranker", fallback=V0):
                await asyncio.sleep(60)
    assert posted(script) == []


async def test_a_fallback_posts_nothing(client: AnyClient, script: Script) -> None:
    """A fallback has no decision to post for; its block runs as any other."""
    script.on("Choose", fail(grpc.StatusCode.NOT_FOUND))
    async with entered(client.serve("ranker", fallback=V0)) as choice:
        assert choice.is_fallback
    await settle(client.close())
    assert posted(script) == []


async def test_a_long_block_counts_as_the_longest(client: AnyClient, script: Script) -> None:
    """A latency beyond `longest_ms` is posted as that, so that the worst requests are not lost."""
    async with entered(client.serve("ranker", fallback=V0, longest_ms=5)):
        await asyncio.sleep(0.02)
    await settle(client.close())
    assert posted(script)[0]["latency_ms"] == 5.0


@pytest.mark.parametrize("longest_ms", [0, -1.0, float("nan"), float("inf")])
async def test_longest_is_checked(client: AnyClient, longest_ms: float) -> None:
    """The longest latency is more than zero and finite."""
    with pytest.raises(ValueError, match="longest_ms must be more than zero and finite"):
        client.serve("ranker", fallback=V0, longest_ms=longest_ms)


async def test_a_block_is_entered_once(client: AnyClient) -> None:
    """A block can't be entered again: its time would be that of another decision."""
    block = client.serve("ranker", fallback=V0)
    async with entered(block):
        pass
    with pytest.raises(RuntimeError, match="call serve for each block"):
        async with entered(block):
            pass


async def test_undeclared_metrics_are_left_out(client: AnyClient, script: Script) -> None:
    """What the experiment does not declare is learned once; the rest is recorded, and nobody is warned."""
    script.on("BatchReward", records({"click", "error"}))
    for number in range(1, 4):
        async with entered(client.serve("ranker", fallback=V0)):
            pass
        await until(partial(has_posted, client, number))
    await settle(client.close())
    assert [set(each) for each in posted(script)] == [set(ALL), {"error"}, {"error"}, {"error"}]
    counts = client.counts
    assert (counts.n_posted, counts.n_refused, counts.n_failed) == (3, 0, 0)


async def test_an_experiment_without_any(
    client: AnyClient, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    """An experiment that declares none of the metrics costs one call a minute."""
    script.on("BatchReward", records({"click"}))
    for _ in range(3):
        async with entered(client.serve("ranker", fallback=V0)):
            pass
        await until(lambda: client._posts._postings._experiment_to_undeclared)
    await settle(client.close())
    assert len(script.requests("BatchReward")) == 1
    assert caplog.records == []


async def test_a_refused_value_is_no_undeclared_metric(
    client: AnyClient, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    """A latency out of range is counted and warned about; the rest and the next latency are recorded."""
    script.on("BatchReward", records(longest=100.0))
    for seconds, longest_ms, n_posted in ((0.15, 150, 2), (0.0, 50, 5)):
        async with entered(client.serve("ranker", fallback=V0, longest_ms=longest_ms)):
            await asyncio.sleep(seconds)
        await until(partial(has_posted, client, n_posted))
    await settle(client.close())
    assert [set(each) for each in posted(script)] == [set(ALL), {"error", "no_answer"}, set(ALL)]
    assert (client.counts.n_posted, client.counts.n_refused) == (5, 1)
    [record] = caplog.records
    assert "latency_ms of serve was refused: 150.0" in record.getMessage()
    assert "it must be in [0, 100]; declare the metric with a wider range" in record.getMessage()


async def test_posts_are_sent_in_batches(client: AnyClient, script: Script) -> None:
    """Many blocks cost few calls, and each decision is posted; again, if closing breaks its call off."""
    for _ in range(300):
        async with entered(client.serve("ranker", fallback=V0)):
            pass
    await settle(client.close())
    assert len(posted(script)) >= 300
    assert len(script.requests("BatchReward")) < 60
    assert client.counts.n_posted == 900


async def test_a_service_that_hangs(new_client: ClientFactory, peer: Peer, script: Script) -> None:
    """A block never waits for its post, closing waits for a bounded time, and what is lost is counted."""
    script.on("BatchReward", script.hang)
    client = new_client(peer.target, choose_timeout=10.0)
    async with entered(client.serve("ranker", fallback=V0)):
        pass
    await asyncio.to_thread(eventually, lambda: script.requests("BatchReward"))
    began = time.monotonic()
    async with entered(client.serve("ranker", fallback=V0)):
        pass
    assert time.monotonic() - began < 1.0
    began = time.monotonic()
    await settle(client.close())
    assert time.monotonic() - began < CLOSING_SECONDS + 3.0

    def lost() -> int:
        return client.counts.n_dropped + client.counts.n_failed

    await asyncio.to_thread(eventually, lost, until=lambda n: n == 6, seconds=20.0)
    assert client.counts.n_posted == 0


@pytest.mark.parametrize(
    ("code", "n_refused", "n_failed"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, 3, 0),
        (grpc.StatusCode.NOT_FOUND, 3, 0),
        (grpc.StatusCode.INVALID_ARGUMENT, 3, 0),
        (grpc.StatusCode.INTERNAL, 0, 3),
        (grpc.StatusCode.UNAVAILABLE, 0, 3),
    ],
)
async def test_a_service_that_refuses(
    new_client: ClientFactory,
    peer: Peer,
    script: Script,
    caplog: pytest.LogCaptureFixture,
    code: grpc.StatusCode,
    n_refused: int,
    n_failed: int,
) -> None:
    """Whatever the service answers, the block does not notice; it is counted, and one warning says it."""
    script.on("BatchReward", fail(code, "no", metadata=(("grpc-retry-pushback-ms", "-1"),)))
    client = new_client(peer.target, choose_timeout=10.0)
    for _ in range(2):
        async with entered(client.serve("ranker", fallback=V0)):
            pass
    await settle(client.close())
    assert (client.counts.n_refused, client.counts.n_failed) == (2 * n_refused, 2 * n_failed)
    [record] = [each for each in caplog.records if each.name == "bandit.client"]
    assert f"{code.name}: no" in record.getMessage()


async def test_a_repeated_decision_is_no_surprise(
    client: AnyClient, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    """A decision that was handed back has been posted: the conflict is counted, without a warning."""
    status = bandit_pb2.Status(code=grpc.StatusCode.ALREADY_EXISTS.value[0], message="another value")
    result = bandit_pb2.BatchRewardResult(error=status)
    script.on("BatchReward", answer(bandit_pb2.BatchRewardResponse(results=[result])))
    async with entered(client.serve("ranker", fallback=V0, previous="signed")):
        pass
    await settle(client.close())
    assert client.counts.n_refused == 3
    assert caplog.records == []


async def test_a_closed_client_drops(client: AnyClient, script: Script) -> None:
    """A block that ends after its client was closed is counted as dropped and does not fail."""
    async with entered(client.serve("ranker", fallback=V0)):
        await settle(client.close())
    assert client.counts.n_dropped == 3
    assert posted(script) == []


async def test_waiting_posts_are_bounded(new_client: ClientFactory, peer: Peer, script: Script) -> None:
    """While the service hangs, no more than so many posts wait, and the others are counted."""
    script.on("BatchReward", script.hang)
    client = new_client(peer.target, choose_timeout=10.0)
    post = client.serve("ranker", fallback=V0)
    async with entered(post):
        pass
    await asyncio.to_thread(eventually, lambda: script.requests("BatchReward"))
    for _ in range(MAX_WAITING + 50):  # as the ends of so many blocks do
        block = client.serve("ranker", fallback=V0)
        block._decision_id = "signed"
        await leave(block, None)
    assert 3 * 40 <= client.counts.n_dropped <= 3 * 60
    script.released.set()


def test_threads_share_a_client(peer: Peer, script: Script) -> None:
    """Blocks of many threads are all posted, and the posts of a process go through one thread."""
    client = BanditClient(peer.target, choose_timeout=30.0)

    def work() -> None:
        for _ in range(25):
            with client.serve("ranker", fallback=V0):
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert sum(thread.name == "bandit-posts" for thread in threading.enumerate()) <= 1
    for thread in threads:
        thread.join()
    client.close()
    assert client.counts.n_posted == 600
    assert len(posted(script)) == 200


def test_a_loop_a_call(peer: Peer, script: Script) -> None:
    """A loop that ends with its only block sends the post first, without `close`, as jobs leave it."""

    async def serve() -> AsyncBanditClient:
        client = AsyncBanditClient(peer.target, choose_timeout=30.0)
        async with client.serve("ranker", fallback=V0):
            pass
        return client

    client = asyncio.run(serve())
    assert len(posted(script)) == 1
    assert client.counts.n_posted == 3


async def test_context_of_the_caller_is_not_kept(peer: Peer, script: Script) -> None:
    """The task that sends posts has none of the caller's context: a request's trace ends with the request."""
    seen: list[str] = []
    user = contextvars.ContextVar("user", default="nobody")
    user.set("user-1")
    target = peer.target
    async with AsyncBanditClient(
        target, choose_timeout=30.0, on_event=lambda _event: seen.append(user.get())
    ) as client:
        async with client.serve("ranker", fallback=V0):
            pass
        await until(lambda: seen)
    assert len(posted(script)) == 1
    assert set(seen) == {"nobody"}


def test_a_block_adds_no_reference(peer: Peer) -> None:
    """A client that is dropped without `close` is freed at once: nothing of its own refers back to it."""
    client = BanditClient(peer.target)
    reference = weakref.ref(client)
    gc.disable()
    try:
        del client
        assert reference() is None
    finally:
        gc.enable()


def test_both_are_context_managers() -> None:
    """A block can be entered by an exit stack of its kind."""
    make: Callable[[], Serving] = lambda: BanditClient().serve("ranker", fallback=V0)  # noqa: E731
    assert isinstance(make(), AbstractContextManager)
    assert isinstance(AsyncBanditClient().serve("ranker", fallback=V0), AbstractAsyncContextManager)

"""If the service does not answer in time, the caller's fallback serves, and the choice shows it."""

import asyncio
import logging
import pickle
import socket
import threading
import time
from collections.abc import Iterator

import grpc
import pytest

from bandit.client import (
    AsyncBanditClient,
    Fallback,
    InternalError,
    InvalidArgumentError,
    Reason,
    UnavailableError,
)
from bandit.client.counts import Counters
from bandit.client.errors import CODE_TO_ERROR, call_error
from bandit.client.fallbacks import Fallbacks
from bandit.client.logs import WARNING_INTERVAL
from bandit.v1 import bandit_pb2
from tests.bandit.client.peer import (
    AnyClient,
    ClientFactory,
    Peer,
    Script,
    answer,
    answer_bytes,
    fail,
    in_background,
    settle,
)

ANSWER = bandit_pb2.ChooseResponse(arm="v1", decision_id="signed", reason=bandit_pb2.REASON_POLICY)
CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
SOON = 2.0  # seconds: many times the 50 ms deadline, for a busy machine


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A listening socket whose connections are never read."""
    with socket.create_server(("127.0.0.1", 0)) as opened:
        yield opened


@pytest.mark.parametrize("code", CODES)
async def test_every_error_is_served_by_the_fallback(
    client: AnyClient, script: Script, fallback: Fallback, code: grpc.StatusCode
) -> None:
    """Whatever status the service answers, choose returns the fallback and the typed cause."""
    script.on("Choose", fail(code, "no", metadata=(("bandit-reason", "BECAUSE"),)))
    chosen = await settle(client.choose("ranker", fallback=fallback))
    assert (chosen.arm, chosen.payload) == ("v0", {"temperature": 0.2})
    assert (chosen.decision_id, chosen.propensity, chosen.epoch) == ("", 1.0, 0)
    assert chosen.is_fallback
    assert chosen.reason is Reason.FALLBACK
    cause = chosen.fallback_cause
    assert type(cause) is CODE_TO_ERROR.get(code, InternalError)
    assert (cause.code, cause.message, cause.reason) == (code, "no", "BECAUSE")


async def test_slow_service(new_client: ClientFactory, peer: Peer, fallback: Fallback) -> None:
    """A service that does not answer within the deadline costs the caller the deadline and no more."""
    peer.script.on("Choose", peer.script.hang)
    client = new_client(peer.target)
    began = time.monotonic()
    chosen = await settle(client.choose("ranker", fallback=fallback))
    assert 0.04 < time.monotonic() - began < SOON
    assert chosen.fallback_cause is not None
    assert chosen.fallback_cause.code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_service_down(new_client: ClientFactory, fallback: Fallback) -> None:
    """A port without a listener gives the fallback at once, before a long deadline."""
    with socket.create_server(("127.0.0.1", 0)) as closing:
        port = closing.getsockname()[1]
    client = new_client(f"127.0.0.1:{port}", choose_timeout=30.0)
    began = time.monotonic()
    chosen = await settle(client.choose("ranker", fallback=fallback))
    assert time.monotonic() - began < SOON
    assert chosen.fallback_cause is not None
    assert chosen.fallback_cause.code is grpc.StatusCode.UNAVAILABLE


async def test_black_hole(new_client: ClientFactory, listener: socket.socket, fallback: Fallback) -> None:
    """A peer that accepts connections and sends nothing gives the fallback by the deadline."""
    client = new_client(f"127.0.0.1:{listener.getsockname()[1]}")
    began = time.monotonic()
    chosen = await settle(client.choose("ranker", fallback=fallback))
    assert time.monotonic() - began < SOON
    assert isinstance(chosen.fallback_cause, UnavailableError)


async def test_not_grpc(new_client: ClientFactory, listener: socket.socket, fallback: Fallback) -> None:
    """A peer of another protocol gives the fallback."""

    def speak() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    speaker = threading.Thread(target=speak)
    speaker.start()
    client = new_client(f"127.0.0.1:{listener.getsockname()[1]}")
    chosen = await settle(client.choose("ranker", fallback=fallback))
    speaker.join()
    assert isinstance(chosen.fallback_cause, UnavailableError)


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x02\xff\xfe", b""], ids=["garbage", "not UTF-8", "no arm"])
async def test_malformed_answer(client: AnyClient, script: Script, fallback: Fallback, data: bytes) -> None:
    """An answer that can't be read, or names no arm, gives the fallback."""
    script.on("Choose", answer_bytes(data))
    chosen = await settle(client.choose("ranker", fallback=fallback))
    assert chosen.arm == "v0"
    assert isinstance(chosen.fallback_cause, InternalError)


async def test_unit_that_is_not_text(client: AnyClient, script: Script, fallback: Fallback) -> None:
    """A unit that can't be encoded gives the fallback: it may have come from a user."""
    chosen = await settle(client.choose("ranker", unit="\ud800", fallback=fallback))
    assert isinstance(chosen.fallback_cause, InvalidArgumentError)
    assert script.received == []


async def test_no_eligible_arm(client: AnyClient, script: Script, fallback: Fallback) -> None:
    """An empty set of eligible arms is not sent, since on the wire it would allow all of them."""
    chosen = await settle(client.choose("ranker", eligible_arms=set(), fallback=fallback))
    assert isinstance(chosen.fallback_cause, InvalidArgumentError)
    assert script.received == []


async def test_no_time_left(client: AnyClient, script: Script, fallback: Fallback) -> None:
    """A deadline that has passed already gives the fallback."""
    script.on("Choose", answer(ANSWER))
    chosen = await settle(client.choose("ranker", fallback=fallback, timeout=-1.0))
    assert isinstance(chosen.fallback_cause, UnavailableError)


async def test_closed_client(client: AnyClient, script: Script, fallback: Fallback) -> None:
    """A closed client serves fallbacks, so that a backend can shut down in any order."""
    script.on("Choose", answer(ANSWER))
    assert not (await settle(client.choose("ranker", fallback=fallback))).is_fallback
    await settle(client.close())
    await settle(client.close())
    chosen = await settle(client.choose("ranker", fallback=fallback))
    assert chosen.fallback_cause is not None
    assert chosen.fallback_cause.message == "the client is closed"


async def test_closed_during_the_call(client: AnyClient, script: Script, fallback: Fallback) -> None:
    """Closing the client ends a call in flight with the fallback, not with a cancellation."""
    script.on("Choose", script.hang)
    call = asyncio.ensure_future(in_background(lambda: client.choose("ranker", fallback=fallback)))
    await asyncio.to_thread(script.has_come.wait)
    await settle(client.close())
    assert isinstance((await call).fallback_cause, UnavailableError)


async def test_cancelled_task(peer: Peer, script: Script, fallback: Fallback) -> None:
    """Cancelling the task of a choose cancels it: that is the caller's wish, and not a failure."""
    script.on("Choose", script.hang)
    async with AsyncBanditClient(peer.target, choose_timeout=10.0) as client:
        call = asyncio.ensure_future(client.choose("ranker", fallback=fallback))
        await asyncio.to_thread(script.has_come.wait)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_cancelled_task_of_a_closed_client(peer: Peer, script: Script, fallback: Fallback) -> None:
    """A task that is cancelled while its client closes is still cancelled."""
    script.on("Choose", script.hang)
    client = AsyncBanditClient(peer.target, choose_timeout=10.0)
    call = asyncio.ensure_future(client.choose("ranker", fallback=fallback))
    await asyncio.to_thread(script.has_come.wait)
    call.cancel()
    await client.close()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_restart_is_noticed(client: AnyClient, peer: Peer, fallback: Fallback) -> None:
    """A client reconnects by itself, within seconds, to a service that was down."""
    peer.script.on("Choose", answer(ANSWER))
    assert (await settle(client.choose("ranker", fallback=fallback))).arm == "v1"
    peer.stop()
    assert (await settle(client.choose("ranker", fallback=fallback))).is_fallback
    peer.start()
    deadline = time.monotonic() + 5.0
    while (await settle(client.choose("ranker", fallback=fallback))).is_fallback:
        assert time.monotonic() < deadline


async def test_payload_is_a_copy(client: AnyClient, script: Script, fallback: Fallback) -> None:
    """The caller's changes to a served payload do not reach the next one."""
    script.on("Choose", fail(grpc.StatusCode.NOT_FOUND))
    first = await settle(client.choose("ranker", fallback=fallback))
    first.payload.clear()
    second = await settle(client.choose("ranker", fallback=fallback))
    assert second.payload == {"temperature": 0.2}


async def test_cause_keeps_no_frames(client: AnyClient, script: Script, fallback: Fallback) -> None:
    """A fallback that is kept, or sent to another process, keeps none of its call's frames alive."""
    script.on("Choose", fail(grpc.StatusCode.NOT_FOUND, "no such experiment"))
    chosen = await settle(client.choose("ranker", fallback=fallback))
    cause = chosen.fallback_cause
    assert cause is not None
    assert (cause.__traceback__, cause.__cause__, cause.__context__) == (None, None, None)
    copied = pickle.loads(pickle.dumps(chosen))  # noqa: S301 - our own bytes
    assert str(copied.fallback_cause) == str(cause)


async def test_fallbacks_are_logged(
    client: AnyClient, script: Script, fallback: Fallback, caplog: pytest.LogCaptureFixture
) -> None:
    """A flood of fallbacks of one kind logs one warning, with the experiment, the arm and the cause."""
    script.on("Choose", fail(grpc.StatusCode.NOT_FOUND, "no such experiment"))
    with caplog.at_level(logging.WARNING, "bandit.client"):
        for _ in range(20):
            await settle(client.choose("ranker", fallback=fallback))
    [record] = caplog.records
    assert record.name == "bandit.client"
    assert "'ranker'" in record.getMessage()
    assert "'v0'" in record.getMessage()
    assert "NOT_FOUND: no such experiment" in record.getMessage()


def test_warnings_are_separate(caplog: pytest.LogCaptureFixture, fallback: Fallback) -> None:
    """Another experiment or another status has its own warning, and each returns after its interval."""
    now = 0.0
    fallbacks = Fallbacks(Counters(), clock=lambda: now)
    down = call_error(grpc.StatusCode.UNAVAILABLE, "down")
    slow = call_error(grpc.StatusCode.DEADLINE_EXCEEDED, "slow")
    for experiment, cause in [("a", down), ("a", down), ("a", slow), ("b", down)]:
        fallbacks.serve(experiment, fallback, cause)
    assert len(caplog.records) == 3
    now = WARNING_INTERVAL
    fallbacks.serve("a", fallback, down)
    assert len(caplog.records) == 4
    assert "0 fallbacks" in caplog.records[-1].getMessage()


def test_memory_of_warnings_is_bounded(fallback: Fallback) -> None:
    """Names that come from users do not fill the memory with warnings."""
    fallbacks = Fallbacks(Counters())
    cause = call_error(grpc.StatusCode.NOT_FOUND, "no such experiment")
    for number in range(5000):
        fallbacks.serve(f"experiment-{number}", fallback, cause)
    assert len(fallbacks._throttle._key_to_warned_at) <= 1000

"""Choices over a stream: each caller gets its own answer, error or fallback, as it would by a call."""

import asyncio
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import grpc
import pytest

from bandit.client import (
    AccessError,
    AsyncBanditClient,
    BanditClient,
    ClientEvent,
    EventKind,
    FieldViolation,
    InvalidArgumentError,
    Question,
    Reward,
    UnavailableError,
)
from bandit.client.streams import exchange
from bandit.v1 import bandit_pb2
from tests.bandit.client.blocks import until
from tests.bandit.client.peer import AnyClient, ClientFactory, Peer, Script, choose_each, chosen, settle
from tests.bandit.client.streams.asking import V0, ask, ask_at_once, n_by_call, n_by_stream

SOON = 5.0  # seconds: for a busy machine, far less than the timeouts of the clients here


@pytest.fixture
def script(script: Script) -> Script:
    """A peer with streams, whose calls choose another arm."""
    script.on("Choose", lambda _request, _context: bandit_pb2.ChooseResponse(arm="v2").SerializeToString())
    script.on_stream(choose_each())
    return script


def hold(requests: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
    """Read all messages and answer none, until the client ends the stream."""
    for _ in requests:
        yield from ()


def error(**fields: object) -> bytes:
    """Return an error as the answer to one message."""
    status = bandit_pb2.Status(**fields)  # type: ignore[arg-type]
    return bandit_pb2.ChooseStreamResponse(error=status).SerializeToString()


async def test_choices_share_a_stream(streaming: AnyClient, script: Script) -> None:
    """All choices of a client go over one stream, and none is a call."""
    choices = [await ask(streaming, f"user-{number}") for number in range(20)]
    assert [(each.arm, each.decision_id) for each in choices] == [("v1", f"user-{n}") for n in range(20)]
    assert (script.n_streams, n_by_stream(script), n_by_call(script)) == (1, 20, 0)


async def test_calls_are_the_default(client: AnyClient, script: Script) -> None:
    """A client that is not asked to opens no stream."""
    assert (await ask(client)).arm == "v2"
    assert script.n_streams == 0


async def test_every_method_has_a_call(streaming: AnyClient, script: Script) -> None:
    """The client uses each method of the service: streams for choices alone."""
    script.on("BatchChoose", lambda _request, _context: b"")
    script.on("Reward", lambda _request, _context: b"")
    script.on("BatchReward", lambda _request, _context: b"")
    await ask(streaming)
    script.on_stream(choose_each(n_messages=0))
    await settle(streaming.batch_choose([Question(experiment="ranker", fallback=V0)]))
    await settle(streaming.reward("signed", {"click": 1.0}))
    await settle(streaming.batch_reward([Reward("signed", {"click": 1.0})]))
    service = bandit_pb2.DESCRIPTOR.services_by_name["BanditService"]
    used = {each.method for each in script.received} | {"Choose"}  # which the test of every fallback uses
    assert used == {method.name for method in service.methods}


async def test_each_caller_gets_its_own_answer(streaming: AnyClient, script: Script) -> None:
    """Answers reach those who asked, whoever asks at the same time."""
    units = [f"user-{number}" for number in range(64)]
    for _ in range(5):
        assert [each.decision_id for each in await ask_at_once(streaming, units)] == units
    assert (script.n_streams, n_by_call(script)) == (1, 0)


async def test_questions_do_not_wait_for_answers(streaming: AnyClient, script: Script) -> None:
    """A question is sent while others wait: the peer answers none of eight before it has them all."""

    def gather(requests: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from [chosen(request) for request in itertools.islice(requests, 8)]

    script.on_stream(gather)
    units = [f"user-{number}" for number in range(8)]
    assert [each.decision_id for each in await ask_at_once(streaming, units)] == units


async def test_error_of_one_question(streaming: AnyClient, script: Script) -> None:
    """A bad question gets the fallback with the cause in full; the others get their answers."""

    def behave(requests: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
        yield chosen(next(requests))
        next(requests)
        violation = bandit_pb2.FieldViolation(field="unit", description="too long")
        yield error(code=3, message="no", reason="INVALID_INPUT", field_violations=[violation])
        yield from map(chosen, requests)

    script.on_stream(behave)
    choices = [await ask(streaming, str(number)) for number in range(3)]
    assert [each.is_fallback for each in choices] == [False, True, False]
    cause = choices[1].fallback_cause
    assert isinstance(cause, InvalidArgumentError)
    assert (cause.reason, cause.message) == ("INVALID_INPUT", "no")
    assert cause.field_violations == (FieldViolation("unit", "too long"),)
    assert (script.n_streams, n_by_call(script)) == (1, 0)


@pytest.mark.parametrize("kind", [BanditClient, AsyncBanditClient])
async def test_fallbacks_are_counted(kind: type[AnyClient], peer: Peer, script: Script) -> None:
    """A fallback on a stream is counted by its reason, and the hook hears of it."""
    delay = {"seconds": 2}
    refused = error(code=8, message="no", reason="RATE_LIMITED", retry_delay=delay)
    script.on_stream(lambda requests, _context: (refused for _ in requests))
    heard: list[ClientEvent] = []
    client = kind(peer.target, choose_timeout=10.0, stream=True, on_event=heard.append)
    cause = (await ask(client)).fallback_cause
    await settle(client.close())
    assert cause is not None
    assert cause.retry_delay == timedelta(seconds=2)
    assert client.counts.cause_to_n_fallbacks == {"RATE_LIMITED": 1}
    assert heard == [ClientEvent(kind=EventKind.FALLBACK, experiment="ranker", cause="RATE_LIMITED")]


@pytest.mark.parametrize("data", [b"", b"\x0a\x00"], ids=["empty", "no arm"])
async def test_answer_without_content(streaming: AnyClient, script: Script, data: bytes) -> None:
    """An answer that breaks the contract is a fallback, as that of a call would be."""
    script.on_stream(lambda requests, _context: (data for _ in requests))
    cause = (await ask(streaming)).fallback_cause
    assert cause is not None
    assert cause.code is grpc.StatusCode.INTERNAL


async def test_deadline_of_one_question(streaming: AnyClient, script: Script) -> None:
    """A caller that runs out of time gets the fallback; the next gets its own answer, and no other's."""
    gate = threading.Event()

    def behave(requests: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
        for number, request in enumerate(requests):
            if number == 1:
                gate.wait(60)
            yield chosen(request)

    script.on_stream(behave)
    assert (await ask(streaming, "first")).decision_id == "first"
    began = time.monotonic()
    late = await ask(streaming, "late", seconds=0.05)
    assert time.monotonic() - began < SOON
    assert late.fallback_cause is not None
    assert late.fallback_cause.code is grpc.StatusCode.DEADLINE_EXCEEDED
    waiting = asyncio.ensure_future(ask(streaming, "patient"))
    await until(lambda: not waiting.done())
    gate.set()
    assert (await waiting).decision_id == "patient"
    assert (script.n_streams, n_by_call(script)) == (1, 0)


async def test_cancelled_task(peer: Peer, script: Script) -> None:
    """Cancelling a task that waits on a stream cancels it alone; its answer reaches nobody else."""
    gate = threading.Event()

    def behave(requests: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
        for request in requests:
            gate.wait(60)
            yield chosen(request)

    script.on_stream(behave)
    async with AsyncBanditClient(peer.target, choose_timeout=10.0, stream=True) as client:
        tasks = [
            asyncio.ensure_future(client.choose("ranker", unit=unit, fallback=V0)) for unit in ("a", "b")
        ]
        await until(script.has_come.is_set)
        tasks[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        gate.set()
        assert (await tasks[1]).decision_id == "b"
    assert script.n_streams == 1


async def test_too_much_in_flight(
    streaming: AnyClient, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question beside too many that wait is a call."""
    monkeypatch.setattr(exchange, "MAX_IN_FLIGHT", 3)
    script.on_stream(hold)
    waiting = [asyncio.ensure_future(ask(streaming)) for _ in range(3)]
    await until(lambda: n_by_stream(script) == 3)
    assert (await ask(streaming)).arm == "v2"
    await settle(streaming.close())
    assert all(each.is_fallback for each in await asyncio.gather(*waiting))


async def test_large_question(streaming: AnyClient, script: Script) -> None:
    """A request that gRPC may refuse for its size is a call, and so does not end the stream of the others."""
    await ask(streaming)
    arms = [f"{number:0>64}" for number in range(10_000)]
    choice = await settle(streaming.choose("ranker", eligible_arms=arms, fallback=V0))
    assert choice.arm == "v2"
    await ask(streaming)
    assert script.n_streams == 1


async def test_time_that_has_run_out(streaming: AnyClient, script: Script) -> None:
    """A question without time is not sent."""
    assert isinstance((await ask(streaming, seconds=-1.0)).fallback_cause, UnavailableError)
    assert script.n_streams == 0


async def test_closed_while_callers_wait(streaming: AnyClient, script: Script) -> None:
    """Closing the client ends its stream and gives those who wait the fallback, at once."""
    script.on_stream(hold)
    waiting = [asyncio.ensure_future(ask(streaming)) for _ in range(4)]
    await until(lambda: n_by_stream(script) == 4)
    began = time.monotonic()
    await settle(streaming.close())
    assert ["closed" in str(each.fallback_cause) for each in await asyncio.gather(*waiting)] == [True] * 4
    assert time.monotonic() - began < SOON
    assert "closed" in str((await ask(streaming)).fallback_cause)


async def test_closed_beside_a_silent_server(new_client: ClientFactory) -> None:
    """So does closing a client whose server accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = new_client(f"127.0.0.1:{listener.getsockname()[1]}", choose_timeout=60.0, stream=True)
        waiting = asyncio.ensure_future(ask(client))
        connection, _ = await asyncio.to_thread(listener.accept)
        with connection:
            began = time.monotonic()
            await settle(client.close())
            assert (await waiting).is_fallback
            assert time.monotonic() - began < SOON


async def test_black_hole(new_client: ClientFactory) -> None:
    """A server that says nothing costs a caller its timeout and no more."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = new_client(f"127.0.0.1:{listener.getsockname()[1]}", stream=True)
        began = time.monotonic()
        cause = (await ask(client)).fallback_cause
        assert time.monotonic() - began < SOON
        assert isinstance(cause, UnavailableError)


async def test_refused_token(new_client: ClientFactory, peer: Peer, script: Script) -> None:
    """Where the stream is refused, the choice fails as a call does, with the service's reason."""
    script.on_stream(choose_each(n_messages=0, code=grpc.StatusCode.PERMISSION_DENIED))

    def refuse(_request: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata((("bandit-reason", "ROLE_REQUIRED"),))
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "no")

    script.on("Choose", refuse)
    client = new_client(peer.target, choose_timeout=10.0, token="secret", stream=True)  # noqa: S106
    cause = (await ask(client)).fallback_cause
    assert isinstance(cause, AccessError)
    assert cause.reason == "ROLE_REQUIRED"


def test_stream_is_yes_or_no() -> None:
    """Another value than a bool is a TypeError."""
    with pytest.raises(TypeError, match="stream must be a bool"):
        BanditClient(stream="yes")  # type: ignore[arg-type]

"""Streams that end: what was not answered is asked again, and nobody waits for the next stream."""

import asyncio
import gc
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from bandit.client import AsyncBanditClient, BanditClient
from bandit.client.streams import exchange, tries
from bandit.client.streams.exchange import Exchange
from bandit.client.streams.questions import Waiting
from bandit.v1 import bandit_pb2
from tests.bandit.client.blocks import until
from tests.bandit.client.peer import (
    AnyClient,
    ClientFactory,
    Peer,
    Script,
    StreamBehaviour,
    choose_each,
    chosen,
    settle,
)
from tests.bandit.client.streams.asking import V0, ask, ask_at_once, n_by_call, n_by_stream

CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
KINDS = [BanditClient, AsyncBanditClient]
SOON = 5.0  # seconds: for a busy machine


@pytest.fixture
def script(script: Script) -> Script:
    """A peer with streams, whose calls choose another arm."""
    script.on("Choose", lambda _request, _context: bandit_pb2.ChooseResponse(arm="v2").SerializeToString())
    script.on_stream(choose_each())
    return script


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that failed may be opened again at once."""
    monkeypatch.setattr(tries, "LONGEST_BACKOFF", 0.0)


@pytest.fixture
def long_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that failed is not opened again in the test: a draw below a minute has a chance of 6e-8."""
    monkeypatch.setattr(tries, "FIRST_BACKOFF", 1e9)
    monkeypatch.setattr(tries, "LONGEST_BACKOFF", 1e9)


def leave_one(requests: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
    """Answer one message, read the next and end with OK, as a server does that stops."""
    yield chosen(next(requests))
    next(requests)


def choose_by_token(file: Path) -> StreamBehaviour:
    """Answer the messages of a stream that has the token which the file holds by then; refuse others."""

    def behave(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for request in requests:
            if ("authorization", f"Bearer {file.read_text()}") not in context.invocation_metadata():
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "no")
            yield chosen(request)

    return behave


async def test_drained_stream_is_followed_by_another(streaming: AnyClient, script: Script) -> None:
    """When the server ends a stream, the next question opens another; no caller notices."""
    script.on_stream(choose_each(n_messages=3))
    choices = [await ask(streaming, str(number)) for number in range(10)]
    assert [each.decision_id for each in choices] == [str(number) for number in range(10)]
    assert (script.n_streams, n_by_call(script)) == (4, 0)


async def test_unanswered_question_is_asked_again(streaming: AnyClient, script: Script) -> None:
    """A question that was sent to a stream that then ended with OK is answered by the next stream."""
    script.on_stream(leave_one, choose_each())
    await ask(streaming, "first")
    assert (await ask(streaming, "second")).decision_id == "second"
    assert (script.n_streams, n_by_stream(script), n_by_call(script)) == (2, 3, 0)


async def test_many_unanswered_questions(streaming: AnyClient, script: Script) -> None:
    """All questions that a stream leaves are answered, each by its own answer."""

    def leave_many(requests: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
        yield chosen(next(requests))
        list(itertools.islice(requests, 16))

    script.on_stream(leave_many, choose_each())
    await ask(streaming, "first")
    units = [f"user-{number}" for number in range(16)]
    assert [each.decision_id for each in await ask_at_once(streaming, units)] == units
    assert (script.n_streams, n_by_call(script)) == (2, 0)


async def test_question_that_two_streams_leave(streaming: AnyClient, script: Script) -> None:
    """A question that two streams leave without an answer is a call."""
    script.on_stream(leave_one, choose_each(n_messages=0))
    await ask(streaming, "first")
    assert (await ask(streaming, "second")).arm == "v2"
    assert (script.n_streams, n_by_call(script)) == (2, 1)


async def test_server_without_streams(streaming: AnyClient, script: Script) -> None:
    """An older service answers by calls, and is not asked for a stream again."""
    script.on_stream()
    assert [(await ask(streaming)).arm for _ in range(10)] == ["v2"] * 10
    assert (script.n_streams, n_by_call(script)) == (1, 10)


@pytest.mark.usefixtures("long_backoff")
@pytest.mark.parametrize("code", CODES)
async def test_failed_stream(streaming: AnyClient, script: Script, code: grpc.StatusCode) -> None:
    """However a stream fails, its questions are calls at once, and so are others until the back-off ends."""
    script.on_stream(choose_each(n_messages=0, code=code))
    began = time.monotonic()
    assert [(await ask(streaming)).arm for _ in range(5)] == ["v2"] * 5
    assert time.monotonic() - began < SOON
    assert (script.n_streams, n_by_call(script)) == (1, 5)


async def test_stream_that_fails_beside_waiting_callers(streaming: AnyClient, script: Script) -> None:
    """All callers of a stream that fails in their midst are answered by calls."""

    def break_off(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from ()
        list(itertools.islice(requests, 8))
        context.abort(grpc.StatusCode.INTERNAL, "broken")

    script.on_stream(break_off)
    choices = await ask_at_once(streaming, map(str, range(8)))
    assert [each.arm for each in choices] == ["v2"] * 8


@pytest.mark.usefixtures("no_backoff")
@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x05ab"], ids=["garbage", "cut off"])
async def test_answer_that_cannot_be_read(streaming: AnyClient, script: Script, data: bytes) -> None:
    """A question whose answer can't be read is a call."""
    script.on_stream(lambda requests, _context: (data for _ in requests))
    assert (await ask(streaming)).arm == "v2"


async def test_answer_that_nobody_asked_for(streaming: AnyClient, script: Script) -> None:
    """A server that answers too much loses the stream, since no answer on it could be trusted."""
    ended = threading.Event()

    def answer_twice(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        context.add_callback(ended.set)
        for request in requests:
            yield chosen(request)
            yield chosen(request, "of nobody")

    script.on_stream(answer_twice)
    assert (await ask(streaming, "first")).decision_id == "first"
    assert await asyncio.to_thread(ended.wait, SOON)
    assert (await ask(streaming)).arm == "v2"


async def test_killed_server(new_client: ClientFactory, peer: Peer, script: Script) -> None:
    """A server that dies costs fallbacks without delay; once it is back, so is the stream."""
    client = new_client(peer.target, choose_timeout=20.0, stream=True)
    assert (await ask(client)).arm == "v1"
    peer.stop()
    began = time.monotonic()
    assert (await ask(client)).fallback_cause.code is grpc.StatusCode.UNAVAILABLE  # type: ignore[union-attr]
    assert time.monotonic() - began < SOON
    peer.start()
    n_streams = script.n_streams
    for _ in range(3_000):
        if (await ask(client)).arm == "v1":
            break
        await until(lambda: True)
    assert script.n_streams > n_streams


async def test_server_that_stalls(
    new_client: ClientFactory, script: Script, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream whose server has long owed an answer is given up by the next caller, who then calls."""
    monkeypatch.setattr(exchange, "STALLED_SECONDS", 0.0)
    ended = threading.Event()

    def stall(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from ()
        context.add_callback(ended.set)
        list(requests)

    script.on_stream(stall)
    client = new_client(peer.target, choose_timeout=0.5, stream=True)
    assert (await ask(client)).is_fallback
    assert (await ask(client, seconds=SOON)).arm == "v2"
    assert await asyncio.to_thread(ended.wait, SOON)


async def test_renewed_token(new_client: ClientFactory, peer: Peer, script: Script, tmp_path: Path) -> None:
    """Where the service refuses the token of a stream, the next is opened at once with the file's new one."""
    path = tmp_path / "token"
    path.write_text("first")
    script.on_stream(choose_by_token(path))
    client = new_client(peer.target, choose_timeout=10.0, token=path, stream=True)
    for token in ("second", "third", "fourth"):
        path.write_text(token)
        choices = await ask_at_once(client, map(str, range(8)))
        assert [(each.arm, each.decision_id) for each in choices] == [("v1", str(n)) for n in range(8)]
    assert (script.n_streams, n_by_call(script)) == (4, 0)


@pytest.mark.usefixtures("long_backoff")
async def test_refused_token_that_stays(
    new_client: ClientFactory, peer: Peer, script: Script, tmp_path: Path
) -> None:
    """A token that the service refuses is not sent on a second stream before its file holds another."""
    accepted, file = tmp_path / "accepted", tmp_path / "token"
    accepted.write_text("new")
    file.write_text("old")
    script.on_stream(choose_by_token(accepted))
    client = new_client(peer.target, choose_timeout=10.0, token=file, stream=True)
    assert [(await ask(client)).arm for _ in range(3)] == ["v2"] * 3
    assert (script.n_streams, n_by_call(script)) == (1, 3)
    file.write_text("new")
    assert [(await ask(client)).arm for _ in range(3)] == ["v1"] * 3
    assert (script.n_streams, n_by_call(script)) == (2, 3)


@pytest.mark.parametrize("kind", KINDS)
async def test_client_that_nobody_closed(kind: type[AnyClient], peer: Peer, script: Script) -> None:
    """A client that is let go ends its stream, though tasks or threads of its own read from it."""
    ended = threading.Event()

    def behave(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        context.add_callback(ended.set)
        yield from map(chosen, requests)

    script.on_stream(behave)
    client = kind(peer.target, choose_timeout=10.0, stream=True)
    assert (await settle(client.choose("ranker", fallback=V0))).arm == "v1"
    del client
    gc.collect()
    assert await asyncio.to_thread(ended.wait, SOON)


async def test_nothing_is_left_of_many_streams(streaming: AnyClient, script: Script) -> None:
    """A thousand streams that end leave no thread, no task, no stream and no question behind."""

    def left() -> tuple[int, int, int]:
        gc.collect()
        kinds = (Exchange, Waiting)
        n_objects = sum(isinstance(each, kinds) for each in gc.get_objects())
        return threading.active_count(), len(asyncio.all_tasks()), n_objects

    script.on_stream(choose_each(n_messages=1))
    for _ in range(20):
        await settle(streaming.choose("ranker", fallback=V0))
    before = left()
    for _ in range(1_000):
        assert (await settle(streaming.choose("ranker", fallback=V0))).arm == "v1"
    assert script.n_streams > 1_000
    for _ in range(500):
        if all(now <= then + 1 for now, then in zip(left(), before, strict=True)):
            break
        await until(lambda: True)
    assert all(now <= then + 2 for now, then in zip(left(), before, strict=True)), (before, left())

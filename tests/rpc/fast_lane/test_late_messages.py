"""Messages on a ChooseStream that has failed, or whose answers are waited for."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

from grpc import StatusCode

from bandit.client.http2.frames import Setting
from server.http2.exchange import Exchange, Headers
from server.http2.peer import PeerInfo
from server.http2.streams import Stream
from server.rpc.fast_lane.calls.choose_stream import ChooseStreamCall, StreamMethod, message_turns
from server.rpc.fast_lane.framing import framed
from server.rpc.fast_lane.peer import CallPeer
from server.rpc.fast_lane.round_robin import RoundRobin
from server.rpc.guard.calls import Outcome
from server.rpc.guard.peer import Peer
from server.rpc.guard.streams import Conversation, GuardedStream
from server.rpc.messages.status import Failure
from tests.http2.bench import Bench, bytes_of, data_frame, headers, settings
from tests.http2.scripted import Script

FAILURE = Failure(StatusCode.INVALID_ARGUMENT, "no", "NO")


class Once:
    """A method with one stream, which answers its first message and fails at the second."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = [FAILURE, b"answer"]

    def open(self, peer: Peer) -> Conversation:
        """Begin the stream."""
        del peer
        return cast("Conversation", self)

    def answer_each(self, asked: Sequence[tuple[bytes, Conversation]]) -> list[Callable[[], Outcome]]:
        """Have each answered when its turn comes."""
        return [partial(self.answer, message) for message, _ in asked]

    def answer(self, message: bytes) -> Outcome:
        """Answer."""
        del message
        return self.outcomes.pop()

    def end(self, failure: Failure | None) -> None:
        """Expect the failure."""
        assert failure is FAILURE


class Patient:
    """A method with one stream, each of whose answers is a future."""

    def __init__(self) -> None:
        self.futures: list[asyncio.Future[Outcome]] = []

    def open(self, peer: Peer) -> Conversation:
        """Begin the stream."""
        del peer
        return cast("Conversation", self)

    def answer_each(
        self, asked: Sequence[tuple[bytes, Conversation]]
    ) -> list[Callable[[], asyncio.Future[Outcome]]]:
        """Have each answered when its turn comes."""
        return [self._answer for _ in asked]

    def end(self, failure: Failure | None) -> None:
        """Expect no failure."""
        assert failure is None

    def _answer(self) -> asyncio.Future[Outcome]:
        self.futures.append(asyncio.get_running_loop().create_future())
        return self.futures[-1]


class Streams(Script):
    """Answers each stream by a method."""

    call: ChooseStreamCall

    def __init__(self, method: Once | Patient) -> None:
        super().__init__()
        guarded = cast("GuardedStream", method)
        self._method = StreamMethod(
            guarded=guarded, joint=message_turns(guarded), refuse=lambda _: FAILURE, now=lambda: 0.0
        )

    def begin(self, stream: Stream, headers: Headers) -> Exchange:
        """Begin it."""
        peer = CallPeer(PeerInfo(), None)
        self.call = ChooseStreamCall(stream, headers, self._method, peer, set(), RoundRobin())
        return self.call


async def test_messages_after_a_failure_are_not_kept() -> None:
    """A client that does not read why its stream failed may send on: nothing of that piles up."""
    session = Streams(Once())
    bench = Bench(session=session)
    bench.send(settings((Setting.INITIAL_WINDOW_SIZE, 0)), headers(1))
    bench.send(data_frame(1, framed(b"one") + framed(b"two")))
    await asyncio.sleep(0)
    assert session.call.is_over
    for _ in range(200):
        bench.send(data_frame(1, bytes(16_384)))
    assert bench.code() is None
    assert len(session.call._messages._unread) < 100


async def test_a_stream_keeps_its_place_while_any_answer_is_waited_for() -> None:
    """Also while the second is, which is asked for when the first is there."""
    method = Patient()
    session = Streams(method)
    bench = Bench(session=session)
    bench.send(headers(1), data_frame(1, framed(b"one") + framed(b"two")))
    await asyncio.sleep(0)
    for number in range(2):
        assert len(method.futures) == number + 1
        assert session.call.stream.is_working
        method.futures[number].set_result(b"answer")
        await asyncio.sleep(0)
    assert bytes_of(bench.take(), 1) == 2 * framed(b"answer")
    assert not session.call.stream.is_working

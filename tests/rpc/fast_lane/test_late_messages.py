"""Messages on a ChooseStream that has failed, while its end waits for the client to read."""

from typing import cast

from grpc import StatusCode

from bandit.client.http2.frames import Setting
from server.http2.exchange import Exchange, Headers
from server.http2.streams import Stream
from server.rpc.fast_lane.calls.choose_stream import ChooseStreamCall
from server.rpc.fast_lane.framing import framed
from server.rpc.fast_lane.round_robin import RoundRobin
from server.rpc.guard.calls import Outcome
from server.rpc.guard.streams import Conversation
from server.rpc.messages.status import Failure
from tests.http2.bench import Bench, data_frame, headers, settings
from tests.http2.scripted import Script

FAILURE = Failure(StatusCode.INVALID_ARGUMENT, "no", "NO")


class Once:
    """A conversation that answers its first message and fails at the second."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = [FAILURE, b"answer"]

    def answer(self, message: bytes) -> Outcome:
        """Answer."""
        del message
        return self.outcomes.pop()

    def end(self, failure: Failure | None) -> None:
        """Expect the failure."""
        assert failure is FAILURE


class Stubborn(Script):
    """Answers each stream with such a conversation."""

    call: ChooseStreamCall

    def begin(self, stream: Stream, headers: Headers) -> Exchange:
        """Begin it."""
        conversation = cast("Conversation", Once())
        self.call = ChooseStreamCall(
            stream, headers, lambda _: FAILURE, lambda: 0.0, set(), RoundRobin(), lambda: conversation
        )
        return self.call


def test_messages_after_a_failure_are_not_kept() -> None:
    """A client that does not read why its stream failed may send on: nothing of that piles up."""
    session = Stubborn()
    bench = Bench(session=session)
    bench.send(settings((Setting.INITIAL_WINDOW_SIZE, 0)), headers(1))
    bench.send(data_frame(1, framed(b"one") + framed(b"two")))
    for _ in range(200):
        bench.send(data_frame(1, bytes(16_384)))
    assert bench.code() is None
    assert len(session.call._messages._unread) < 100

"""ChooseStream: a message in, a message out, in order."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, TypeAlias

from server.http2.exchange import Headers
from server.http2.limits import KIB
from server.http2.streams import Stream
from server.rpc.fast_lane.calls.joint import MOST_TOGETHER, JointTurns
from server.rpc.fast_lane.calls.long_lived import LongLivedCall, Refuse
from server.rpc.fast_lane.framing import IDENTITY, FramingError, Messages, framed
from server.rpc.fast_lane.round_robin import RoundRobin
from server.rpc.guard.calls import Outcome, PendingAnswer
from server.rpc.guard.peer import Peer
from server.rpc.guard.streams import Conversation, GuardedStream
from server.rpc.messages.status import CANCELED, Failure

_Made: TypeAlias = bytes | Callable[[], Outcome | PendingAnswer]
"""An answer, or what makes it when its turn comes."""

_PORTION: Final = 64
"""Messages of a stream that are answered before the connection's other streams have their turn."""

_MOST_PENDING: Final = 64 * KIB
"""Answers that may wait for the peer's windows before more messages are answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamMethod:
    """A method as all its streams see it.

    Attributes:
        guarded: Begins a stream, and answers messages.
        joint: The turns in which messages of all streams are answered together.
        refuse: What becomes of a request that does not arrive.
        now: The monotonic clock.
    """

    guarded: GuardedStream
    joint: "JointTurns[ChooseStreamCall]"
    refuse: Refuse
    now: Callable[[], float]


class ChooseStreamCall(LongLivedCall):
    """One ChooseStream: see `LongLivedCall`. It is admitted when its first message has arrived, or its end.

    Messages that have arrived are taken by portions. While one is being answered, more of them wait.

    Args:
        method: Answers the messages.
        peer: Who sends them.
        turns: Those of the connection's streams.
    """

    takes_pieces: ClassVar[bool] = True

    __slots__ = (
        "_conversation",
        "_fault",
        "_has_ended",
        "_is_answering",
        "_is_full",
        "_made",
        "_messages",
        "_method",
        "_peer",
        "_turns",
    )

    def __init__(
        self,
        stream: Stream,
        headers: Headers,
        method: StreamMethod,
        peer: Peer,
        living: set[LongLivedCall],
        turns: RoundRobin,
    ) -> None:
        super().__init__(stream, headers, method.refuse, method.now, living)
        self._method = method
        self._peer = peer
        self._turns = turns
        self._conversation: Conversation | Failure | None = None
        self._messages = Messages(headers.get(b"grpc-encoding", IDENTITY))
        self._made: deque[_Made] = deque()
        self._fault: Failure | None = None
        self._has_ended = self._is_answering = self._is_full = False

    @property
    def n_unread(self) -> int:
        """Bytes of messages that are not answered, or not whole."""
        return 0 if self.is_over else self._messages.n_unread

    def receive(self, piece: bytes) -> None:
        """Answer the messages that are whole now."""
        if not self.is_over:  # else nobody would take the messages, and they would pile up
            self._messages.add(piece)
            self._go_on()

    def finish(self, body: bytes) -> None:
        """End after the answer to the last message."""
        del body
        self.close()

    def close(self) -> None:
        """End once what has arrived is answered."""
        self._has_ended = True
        self._go_on()

    def flushed(self) -> None:
        """Go on, since the client has read answers."""
        self._go_on()

    def note_end(self, failure: Failure | None) -> None:
        """Have the stream measured."""
        self._made.clear()
        if not isinstance(self._conversation, Failure | None):
            self._conversation.end(failure)

    def take_portion(self) -> list[tuple[bytes, Conversation]]:
        """Take the messages that are to be answered now, with what answers them."""
        if self.is_over:
            return []
        conversation = self._conversation or self._admit()
        if isinstance(conversation, Failure):
            self.end(conversation)
            return []
        portion: list[tuple[bytes, Conversation]] = []
        try:
            while len(portion) < _PORTION and (message := self._messages.next()) is not None:
                portion.append((message, conversation))
        except FramingError as error:
            self._fault = error.failure
        self._is_full = len(portion) == _PORTION
        return portion

    def take_answers(self, made: Sequence[_Made]) -> None:
        """Send the answers to a portion, in order, and go on."""
        if not self.is_over:
            self._made.extend(made)
            self._send_made()

    def _go_on(self) -> None:
        """Have the next portion answered, unless one still is, or the client reads no answers."""
        if self.is_over:
            return
        if self._is_answering or self.stream.n_pending > _MOST_PENDING:
            self.stream.hold()
        elif self._messages.has_next():
            self._is_answering = True
            self.stream.hold()
            self._method.joint.ask(self)
        elif self._has_ended:
            conversation = self._conversation or self._admit()
            self.end(conversation if isinstance(conversation, Failure) else None)
        else:
            self.stream.release()

    def _admit(self) -> Conversation | Failure:
        self._conversation = conversation = self._method.guarded.open(self._peer)
        return conversation

    def _send_made(self) -> None:
        """Send the answers of a portion up to one that waits for something, in one piece."""
        answers: list[bytes] = []
        outcome: Outcome | PendingAnswer = b""
        while self._made and isinstance(outcome, bytes):
            made = self._made.popleft()
            outcome = made if isinstance(made, bytes) else made()
            if isinstance(outcome, bytes):
                answers.append(framed(outcome))
        if answers:
            self.send(b"".join(answers))
        if isinstance(outcome, bytes):
            self._end_portion()
        elif isinstance(outcome, Failure):
            self.end(outcome)
        else:
            self.stream.begin_work()
            outcome.add_done_callback(self._take_answer)

    def _end_portion(self) -> None:
        if self._fault is not None:
            self.end(self._fault)
        elif self._is_full:
            self._turns.ask(self._take_turn)
        else:
            self._take_turn()

    def _take_answer(self, working: "asyncio.Future[Outcome]") -> None:
        """Send the answer that was waited for, and go on."""
        self.stream.end_work()  # first, since the next answer may be waited for, too
        outcome = CANCELED if working.cancelled() else working.result()
        if isinstance(outcome, Failure):
            self.end(outcome)
        elif not self.is_over:
            self.send(framed(outcome))
            self._send_made()

    def _take_turn(self) -> None:
        self._is_answering = False
        self._go_on()


def message_turns(guarded: GuardedStream) -> JointTurns[ChooseStreamCall]:
    """Return the turns in which messages of a method's streams are answered together."""

    def answer(calls: Sequence[ChooseStreamCall]) -> int:
        asked: list[tuple[bytes, Conversation]] = []
        ends: list[int] = []
        for call in calls:
            if len(asked) >= MOST_TOGETHER:
                break
            asked += call.take_portion()
            ends.append(len(asked))
        made = guarded.answer_each(asked)
        start = 0
        for call, end in zip(calls, ends, strict=False):
            call.take_answers(made[start:end])
            start = end
        return len(ends)

    return JointTurns(answer)

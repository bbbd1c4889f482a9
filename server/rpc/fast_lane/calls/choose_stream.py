"""ChooseStream: a message in, a message out, in order."""

import asyncio
from collections.abc import Callable
from typing import ClassVar, Final

from server.http2.exchange import Headers
from server.http2.limits import KIB
from server.http2.streams import Stream
from server.rpc.fast_lane.calls.long_lived import LongLivedCall, Refuse
from server.rpc.fast_lane.framing import IDENTITY, FramingError, Messages, framed
from server.rpc.fast_lane.round_robin import RoundRobin
from server.rpc.guard.calls import Outcome
from server.rpc.guard.streams import Conversation
from server.rpc.messages.status import CANCELED, Failure

_TURN: Final = 64
"""Messages that are answered in one turn of the event loop."""

_MOST_PENDING: Final = 64 * KIB
"""Answers that may wait for the peer's windows before more messages are answered."""


class ChooseStreamCall(LongLivedCall):
    """One ChooseStream: see `LongLivedCall`. It is admitted when its first message has arrived, or its end.

    Args:
        turns: Those of the connection's streams.
        open_conversation: Returns what answers the messages, or how the stream fails.
    """

    takes_pieces: ClassVar[bool] = True

    __slots__ = ("_conversation", "_has_ended", "_is_waiting", "_messages", "_open", "_turns")

    def __init__(
        self,
        stream: Stream,
        headers: Headers,
        refuse: Refuse,
        now: Callable[[], float],
        living: set[LongLivedCall],
        turns: RoundRobin,
        open_conversation: Callable[[], Conversation | Failure],
    ) -> None:
        super().__init__(stream, headers, refuse, now, living)
        self._turns = turns
        self._open = open_conversation
        self._conversation: Conversation | Failure | None = None
        self._messages = Messages(headers.get(b"grpc-encoding", IDENTITY))
        self._has_ended = False
        self._is_waiting = False

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
        if not isinstance(self._conversation, Failure | None):
            self._conversation.end(failure)

    def _go_on(self) -> None:
        """Answer the messages of a turn, unless one before them still waits for its answer."""
        if self.is_over:
            return
        answers: list[bytes] = []
        failure = self._answer_each(answers)
        if answers:
            self.send(b"".join(answers))
        if failure is not None:
            self.end(failure)
        elif self._is_held_up():
            self.stream.hold()
        elif len(answers) >= _TURN:
            self._is_waiting = True
            self.stream.hold()
            self._turns.ask(self._take_turn)
        elif self._has_ended:
            conversation = self._conversation or self._admit()
            self.end(conversation if isinstance(conversation, Failure) else None)
        else:
            self.stream.release()

    def _admit(self) -> Conversation | Failure:
        self._conversation = conversation = self._open()
        return conversation

    def _is_held_up(self) -> bool:
        """True if no message can be answered yet: an answer is waited for, or the client reads none."""
        return self._is_waiting or self.stream.n_pending > _MOST_PENDING

    def _answer_each(self, answers: list[bytes]) -> Failure | None:
        """Append the answers that are there at once; return how the stream fails, if it does."""
        if self._is_held_up():
            return None
        try:
            while len(answers) < _TURN and (message := self._messages.next()) is not None:
                conversation = self._conversation or self._admit()
                if isinstance(conversation, Failure):
                    return conversation
                outcome = conversation.answer(message)
                if isinstance(outcome, Failure):
                    return outcome
                if not isinstance(outcome, bytes):
                    self._is_waiting = True
                    self.stream.begin_work()
                    outcome.add_done_callback(self._take_answer)
                    return None
                answers.append(framed(outcome))
        except FramingError as error:
            return error.failure
        return None

    def _take_answer(self, working: "asyncio.Future[Outcome]") -> None:
        """Send the answer that was waited for, and go on."""
        outcome = CANCELED if working.cancelled() else working.result()
        self._is_waiting = False
        if isinstance(outcome, Failure):
            self.end(outcome)
        else:
            self.send(framed(outcome))
            self._go_on()
        self.stream.end_work()

    def _take_turn(self) -> None:
        """Go on, now that others had their turn."""
        self._is_waiting = False
        self._go_on()

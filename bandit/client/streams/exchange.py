"""One stream, from its opening to its end: who writes, who reads, and whose an answer is.

Answers come in the order of the questions. So one thread alone takes questions from the queue, notes each as
sent, and sends it; another reads answers and gives each to the oldest that was sent. A caller that gives up
leaves its question there, and the answer is dropped when it comes.

The threads are those of the blocking gRPC, for callers in event loops as well. grpc.aio tells an event loop
of the end of a stream even if it is closed by then, and other loops of the process lose what they wait for:
with four threads that ran a loop for each choice, all four hung within a second.
"""

from __future__ import annotations  # generic types exist in the stubs alone

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Final, TypeAlias

import grpc

from bandit.client.credentials import Metadata
from bandit.client.streams.questions import Answer, Request, Waiting
from bandit.client.streams.tries import Tries

Method: TypeAlias = "grpc.StreamStreamMultiCallable[Request, Answer]"

MAX_IN_FLIGHT: Final = 1_000
"""Questions that may wait for answers on one stream; further ones are calls of their own."""

STALLED_SECONDS: Final = 5.0
"""How long the oldest question of a stream may wait before others are asked elsewhere."""


class Exchange:
    """One stream, with gRPC's thread that writes and a daemon thread that opens it and reads.

    Nothing here is locked: a signal handler may ask in the middle of a question that it interrupts.

    Args:
        method: opens a stream.
        metadata: of the stream.
        tries: hear how it ends.

    Attributes:
        metadata: of the stream.
        code: how it has ended; None until then.

    Raises:
        RuntimeError: no thread can be started.
    """

    def __init__(self, method: Method, metadata: Metadata | None, tries: Tries) -> None:
        self.metadata = metadata
        self.code: grpc.StatusCode | None = None
        self._method = method
        self._tries = tries
        self._waiting: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()  # None ends the stream
        self._sent: deque[Waiting] = deque()
        self._has_answered = False
        self._call: grpc.Call | None = None
        self._is_closed = False
        threading.Thread(target=self._read, name="bandit-answers", daemon=True).start()

    @property
    def is_stalled(self) -> bool:
        """True if the server has left a question without an answer for `STALLED_SECONDS`."""
        try:
            return time.monotonic() - self._sent[0].sent_at > STALLED_SECONDS
        except IndexError:
            return False

    def put(self, question: Waiting) -> bool:
        """Queue a question, and leave it at once if the stream has ended; False if too many are in flight."""
        if self._waiting.qsize() + len(self._sent) >= MAX_IN_FLIGHT:
            return False
        self._waiting.put(question)
        self._release_if_ended()
        return True

    def close(self) -> None:
        """End the stream now; callers that wait get None."""
        self._is_closed = True  # first: the thread that opens the stream looks at it afterwards
        if self._call is not None:
            self._call.cancel()
        self._waiting.put(None)

    def _requests(self) -> Iterator[Request]:
        """Yield the questions, in gRPC's thread, until the stream ends."""
        while (question := self._waiting.get()) is not None:
            if not question.is_abandoned:
                question.sent_at = time.monotonic()
                self._sent.append(question)
                self._release_if_ended()  # now: gRPC does not come back for another
                yield question.request

    def _read(self) -> None:
        code = grpc.StatusCode.CANCELLED
        try:
            call = self._method(self._requests(), metadata=self.metadata)
            self._call = call
            if self._is_closed:
                call.cancel()
            for answer in call:
                self._sent.popleft().settle(answer)
                self._has_answered = True
            code = grpc.StatusCode.OK
        except grpc.RpcError as error:
            code = error.code()
        except IndexError:  # an answer that nobody asked for
            code = grpc.StatusCode.INTERNAL
        except (ValueError, RuntimeError):  # the channel is closed, or gRPC can't start its thread
            code = grpc.StatusCode.UNAVAILABLE
        finally:
            self._tries.note_end(code, has_answered=self._has_answered)
            self.code = code
            self._release()
            self.close()

    def _release_if_ended(self) -> None:
        """Settle what has come since the reader did."""
        if self.code is not None:
            self._release()

    def _release(self) -> None:
        """Settle what waits; any thread may help."""
        with contextlib.suppress(IndexError):
            while True:
                self._sent.popleft().settle(None)
        with contextlib.suppress(queue.Empty):
            while True:
                question = self._waiting.get_nowait()
                if question is not None:
                    question.settle(None)
        self._waiting.put(None)  # one that was taken above may be what gRPC's thread waits for

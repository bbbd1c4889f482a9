"""Choices over one long-lived stream of a client, opened by the first of them and replaced when it ends."""

from __future__ import annotations  # generic types exist in the stubs alone

import weakref
from typing import Final, NamedTuple

import grpc

from bandit.client.endpoint import Endpoint
from bandit.client.errors import UnavailableError
from bandit.client.processes import forks
from bandit.client.streams.exchange import Exchange, Method
from bandit.client.streams.questions import Waiting
from bandit.client.streams.tries import Tries
from bandit.client.transport import Transport, require_threads
from bandit.v1 import bandit_pb2_grpc

MOST_STREAMS: Final = 2
"""Streams on which a choice is asked: that which the server ends, and the next. Then it is a call."""

MOST_BYTES: Final = 512 * 1024
"""A larger request is a call of its own: what gRPC refuses for its size ends the stream of all others."""

NO_RETRIES: Final = ("grpc.enable_retries", 0)
"""gRPC shall not open a stream again by itself.

grpcio 1.85 does so without a pause, on a connection that the server is ending. At 2 of 18 drains it took a
core for that, and noticed only after 12 s that the connection had gone.
"""


class _Opened(NamedTuple):
    channel: grpc.Channel
    method: Method


class ChooseStream(Transport[_Opened]):
    """The stream of one client, for callers in any number of threads and event loops.

    It has a channel of the blocking gRPC, and a connection, of its own.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._bearer = endpoint.bearer
        self._tries = Tries()
        self._exchange: Exchange | None = None
        self._letting_go: weakref.finalize[..., ChooseStream] | None = None
        self._is_opening = False

    def put(self, question: Waiting) -> Exchange | None:
        """Queue a question; return the stream, or None if the request has to be a call of its own."""
        # A signal handler may ask in the middle of `close`, which holds locks that an answer would need.
        if self._is_closed or question.request.ByteSize() > MOST_BYTES:
            return None
        exchange = self._exchange
        if exchange is None or exchange.code is not None:
            exchange = self._open_exchange()
        elif exchange.is_stalled:
            exchange.close()
            return None
        return exchange if exchange is not None and exchange.put(question) else None

    def may_ask_again(self, ended: Exchange) -> bool:
        """True if a question that this stream has left may be asked on another.

        The server has drained it, or refused a token whose file holds another by now.
        """
        return ended.code is grpc.StatusCode.OK or self._is_renewed(ended)

    def close(self) -> None:
        """End the stream, and open no other."""
        super().close()
        if self._exchange is not None:
            self._exchange.close()

    def after_fork(self) -> None:
        """Keep the stream of the parent from ever being used, closed or freed."""
        super().after_fork()
        if self._letting_go is not None:
            self._letting_go.detach()
        forks.keep(self._exchange)
        self._exchange = None
        self._is_opening = False

    def _open_stubs(self) -> _Opened:
        require_threads()
        channel = self._open_channel(NO_RETRIES)
        return _Opened(channel, bandit_pb2_grpc.BanditServiceStub(channel).ChooseStream)

    def _open_exchange(self) -> Exchange | None:
        """Return the stream that is open by now; None if there can't be one yet."""
        with self._lock:
            last = self._exchange
            if last is not None and last.code is None:
                return last
            may_open = self._tries.may_open() or (last is not None and self._is_renewed(last))
            if self._is_opening or not may_open:
                return None
            self._is_opening = True
            try:
                exchange = Exchange(self.stubs.method, self._bearer.metadata, self._tries)
            except (RuntimeError, UnavailableError):  # no thread is to be had, or the client is closed
                self._tries.note_end(grpc.StatusCode.UNAVAILABLE, has_answered=False)
                return None
            finally:
                self._is_opening = False
            if self._letting_go is not None:
                self._letting_go.detach()
            # A stream lives by its threads, so it has to be told that nobody will ask any more.
            self._letting_go = weakref.finalize(self, exchange.close)
            self._letting_go.atexit = False
            self._exchange = exchange
            return exchange

    def _is_renewed(self, ended: Exchange) -> bool:
        """True if the server has refused the token of this stream, and its file holds another by now."""
        return ended.code is grpc.StatusCode.UNAUTHENTICATED and self._bearer.renew(ended.metadata)

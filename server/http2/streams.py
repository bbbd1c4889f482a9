"""Streams: each is one request and its response, and keeps its place until its work has ended."""

from collections import deque
from typing import Final, Protocol

from bandit.client.http2.frames import LARGEST_PAYLOAD
from server.http2.exchange import Exchange

STREAM_WINDOW: Final = 1024 * 1024 + LARGEST_PAYLOAD
"""What a peer may send on a stream before it is renewed: the longest request, with padding to spare."""

NO_LENGTH: Final = -1


class Owner(Protocol):
    """What a stream needs of its connection."""

    def send_response(self, stream: "Stream", head: bytes, body: bytes, trailers: bytes) -> None:
        """Send a whole response."""

    def send_head(self, stream: "Stream", block: bytes) -> None:
        """Send the header block of a response that goes on."""

    def send_data(self, stream: "Stream", data: bytes) -> None:
        """Send data of a response that goes on."""

    def send_end(self, stream: "Stream", block: bytes) -> None:
        """Send the header block that ends a response."""

    def settle(self, stream: "Stream") -> None:
        """Give the place of a stream back, if nothing is left to do."""

    def renew(self, stream: "Stream") -> None:
        """Renew the peer's window on a stream."""


class Stream:
    """One stream of a connection. What is sent once nobody waits for a response is dropped.

    Attributes:
        id: As given.
        arrived_at: When its headers were read, on the monotonic clock.
        exchange: What answers it.
        is_remote_open: Whether the peer may send more.
        is_local_open: Whether the response is not complete.
        is_working: Whether its work goes on, even if nobody waits for the response.
        is_held: Whether the peer's window is not renewed.
        n_expected: The length of the body that the headers announce; -1 if they do not.
        n_received: Bytes of the body so far.
        n_kept: Bytes of the body that are kept.
        n_to_renew: Bytes by which the peer's window is to be renewed.
        receive_window: What the peer may send.
        collected: The body so far, where it is collected; None before its first piece.
        credit: How much more than the initial window may be sent; negative for less.
        pending: Data that waits for the peer's windows; None without any.
        n_pending: Its length in bytes.
        trailers: The block after that data; None if the response goes on.
    """

    __slots__ = (
        "_owner",
        "arrived_at",
        "collected",
        "credit",
        "exchange",
        "id",
        "is_held",
        "is_local_open",
        "is_remote_open",
        "is_working",
        "n_expected",
        "n_kept",
        "n_pending",
        "n_received",
        "n_to_renew",
        "pending",
        "receive_window",
        "trailers",
    )

    exchange: Exchange

    def __init__(self, owner: Owner, stream_id: int, arrived_at: float) -> None:
        self._owner = owner
        self.id = stream_id
        self.arrived_at = arrived_at
        self.is_remote_open = self.is_local_open = True
        self.is_working = self.is_held = False
        self.n_expected = NO_LENGTH
        self.n_received = self.n_kept = self.n_to_renew = self.n_pending = self.credit = 0
        self.receive_window = STREAM_WINDOW
        self.collected: bytearray | None = None
        self.pending: deque[bytes] | None = None
        self.trailers: bytes | None = None

    def respond(self, head: bytes, body: bytes, trailers: bytes) -> None:
        """Send a whole response.

        Args:
            head: The encoded header block.
            body: Not empty.
            trailers: The encoded block that ends the stream.
        """
        if self.is_local_open:
            self._owner.send_response(self, head, body, trailers)

    def begin(self, head: bytes) -> None:
        """Send the header block of a response that goes on."""
        if self.is_local_open:
            self._owner.send_head(self, head)

    def send(self, data: bytes) -> None:
        """Send data of a response that goes on."""
        if self.is_local_open:
            self._owner.send_data(self, data)

    def end(self, block: bytes) -> None:
        """Send the block that ends a response: trailers, or the whole response."""
        if self.is_local_open:
            self._owner.send_end(self, block)

    def hold(self) -> None:
        """Renew the peer's window no more, since what was received can't be dealt with yet."""
        self.is_held = True

    def release(self) -> None:
        """Renew the peer's window again: what was received has been dealt with."""
        self.is_held = False
        self._owner.renew(self)

    def begin_work(self) -> None:
        """Keep the stream's place until `end_work`, also if the peer resets it."""
        self.is_working = True

    def end_work(self) -> None:
        """Give the stream's place back, if nothing else is left to do."""
        self.is_working = False
        self._owner.settle(self)

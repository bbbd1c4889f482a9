"""The streams of a connection: their places, their responses, and their ends."""

from collections.abc import Callable
from typing import Final

from bandit.client.http2.frames import (
    LARGEST_STREAM,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    frame,
)
from server.http2.budgets import Budgets
from server.http2.exchange import OVER
from server.http2.limits import Limits, Totals
from server.http2.sender import Sender
from server.http2.streams import Stream

WINDOW: Final = 1024 * 1024
"""What a peer may send on a connection before its window is renewed."""

RENEW: Final = WINDOW // 2
"""Windows are renewed once this much is used."""

_MOST_ENDED: Final = 1_000


class OpenStreams:
    """The streams of a connection whose work has not ended. It implements `streams.Owner`.

    Args:
        limits: The limits.
        totals: What all connections hold together.
        budgets: What the peer may do.
        sender: Sends the responses.
        now: On the monotonic clock, in seconds.
        wake: Called when there is output that nobody has waited for.

    Attributes:
        by_id: The streams.
        incomplete: Those whose request has not arrived, in the order of their beginning.
        last_id: The highest id of a stream that was begun.
        final_id: The highest id that may be served; a GOAWAY said so.
        now: When the bytes that are being dealt with were read.
        is_attended: Whether whoever called will look for output.
        next_kind: The kind that the next frame must have; None for any.
        has_responded: Whether a response was sent since this was last set to False.
        n_begun: Streams that were begun.
        n_kept: Bytes of bodies that are kept.
    """

    __slots__ = (
        "_budgets",
        "_ended_early",
        "_limits",
        "_sender",
        "_totals",
        "_wake",
        "by_id",
        "final_id",
        "has_responded",
        "incomplete",
        "is_attended",
        "last_id",
        "n_begun",
        "n_kept",
        "next_kind",
        "now",
    )

    def __init__(
        self,
        limits: Limits,
        totals: Totals,
        budgets: Budgets,
        sender: Sender,
        now: float,
        wake: Callable[[], None],
    ) -> None:
        self._limits = limits
        self._totals = totals
        self._budgets = budgets
        self._sender = sender
        self._wake = wake
        self._ended_early: dict[int, None] = {}
        self.by_id: dict[int, Stream] = {}
        self.incomplete: dict[Stream, None] = {}
        self.last_id = self.n_begun = 0
        self.final_id = LARGEST_STREAM
        self.now = now
        self.is_attended = False
        self.next_kind: int | None = SETTINGS
        self.has_responded = False
        self.n_kept = 0

    @property
    def is_full(self) -> bool:
        """True if no stream may begin."""
        n_streams, limits = len(self.by_id), self._limits
        return n_streams >= limits.streams or (
            n_streams >= limits.streams_reserved and self._totals.n_streams >= limits.streams_in_all
        )

    @property
    def keeps_too_much(self) -> bool:
        """True if the peer's windows are not to be renewed, for the bodies that are kept."""
        limits = self._limits
        return self.n_kept > limits.bodies or (
            self.n_kept >= limits.bodies_reserved and self._totals.n_body_bytes > limits.bodies_in_all
        )

    @property
    def has_gaps(self) -> bool:
        """True if the peer has left out the id of a stream, which it may not begin any more."""
        return self.last_id != 2 * self.n_begun - 1

    def refuse(self, stream_id: int) -> None:
        """Refuse a stream that begins; the peer may repeat it.

        Raises:
            ConnectionFault: That happened too often.
        """
        self._note_begun(stream_id)
        self.reset(stream_id, ErrorCode.REFUSED_STREAM)
        self._budgets.refusal(self.now)

    def add(self, stream_id: int) -> Stream:
        """Add a stream that begins."""
        self._note_begun(stream_id)
        stream = self.by_id[stream_id] = Stream(self, stream_id, self.now)
        self._totals.n_streams += 1
        return stream

    def ended_early(self, stream_id: int) -> bool:
        """True if we ended the stream, so that the peer may have sent frames before it knew."""
        return stream_id in self._ended_early

    def keep(self, stream: Stream, piece: bytes) -> None:
        """Count a piece of a body that is kept."""
        n_bytes = len(piece)
        stream.n_kept += n_bytes
        self.n_kept += n_bytes
        self._totals.n_body_bytes += n_bytes

    def count_unread(self, stream: Stream) -> None:
        """Count what an exchange that takes pieces keeps of them, and nothing else."""
        n_more = stream.exchange.n_unread - stream.n_kept
        stream.n_kept += n_more
        self.n_kept += n_more
        self._totals.n_body_bytes += n_more

    def forget_request(self, stream: Stream) -> None:
        """Forget what is kept of a stream's request."""
        self.incomplete.pop(stream, None)
        if stream.n_kept:
            self.n_kept -= stream.n_kept
            self._totals.n_body_bytes -= stream.n_kept
            stream.n_kept = 0
            stream.collected = None

    def note_output(self) -> None:
        """Have the output written, unless somebody waits for it."""
        if not self.is_attended:
            self._wake()

    def send_response(self, stream: Stream, head: bytes, body: bytes, trailers: bytes) -> None:
        """Send a whole response."""
        self._sender.respond(stream, head, body, trailers)
        self._note_response(stream)

    def send_head(self, stream: Stream, block: bytes) -> None:
        """Send the header block of a response that goes on."""
        self._sender.headers(stream, block)
        self.note_output()

    def send_data(self, stream: Stream, data: bytes) -> None:
        """Send data of a response that goes on."""
        self._sender.data(stream, data)
        self.has_responded = True
        self.note_output()

    def send_end(self, stream: Stream, block: bytes) -> None:
        """Send the header block that ends a response."""
        self._sender.end(stream, block)
        self._note_response(stream)

    def note_sent(self, streams: list[Stream]) -> None:
        """Deal with streams whose data no longer waits for the peer's windows."""
        for stream in streams:
            if stream.is_local_open:
                stream.exchange.flushed()
            else:
                self._note_response(stream)

    def settle(self, stream: Stream) -> None:
        """Give the place of a stream back, if nothing is left to do."""
        if stream.is_local_open or stream.is_remote_open or stream.is_working:
            return
        if self.by_id.pop(stream.id, None) is not None:
            stream.exchange = OVER
            self._totals.n_streams -= 1
            if not self.by_id:
                self.note_output()  # the connection may be waiting for the last of them

    def renew(self, stream: Stream) -> None:
        """Renew the peer's window on a stream, once much of it is used."""
        if stream.exchange.takes_pieces:
            self.count_unread(stream)
        if stream.n_to_renew >= RENEW and stream.is_remote_open:
            self._sender.output.append(window_update(stream.id, stream.n_to_renew))
            stream.receive_window += stream.n_to_renew
            stream.n_to_renew = 0
            self.note_output()

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """Reset a stream for a fault of the peer.

        Raises:
            ConnectionFault: That happened too often.
        """
        self._sender.output.append(_reset_frame(stream_id, code))
        self._note_ended_early(stream_id)
        stream = self.by_id.get(stream_id)
        if stream is not None:
            self.abandon(stream)
        if code is not ErrorCode.REFUSED_STREAM:
            self._budgets.reset(self.now)

    def abandon(self, stream: Stream) -> None:
        """End a stream of which nobody wants to hear any more; its work may go on."""
        was_awaited = stream.is_local_open
        stream.is_remote_open = stream.is_local_open = False
        self.forget_request(stream)
        self._sender.drop(stream)
        if was_awaited:
            stream.exchange.cancel()
        self.settle(stream)

    def abandon_all(self) -> None:
        """End every stream: the peer is gone."""
        for stream in list(self.by_id.values()):
            self.abandon(stream)

    def _note_begun(self, stream_id: int) -> None:
        self.last_id = stream_id
        self.n_begun += 1

    def _note_response(self, stream: Stream) -> None:
        """Deal with a response that is complete, or as complete as the peer's windows allow."""
        self.has_responded = True
        if not stream.is_local_open:
            if stream.is_remote_open:
                stream.is_remote_open = False
                self.forget_request(stream)
                self._sender.output.append(_reset_frame(stream.id, ErrorCode.NO_ERROR))
                self._note_ended_early(stream.id)
            self.settle(stream)
        self.note_output()

    def _note_ended_early(self, stream_id: int) -> None:
        self._ended_early[stream_id] = None
        if len(self._ended_early) > _MOST_ENDED:
            del self._ended_early[next(iter(self._ended_early))]


def window_update(stream_id: int, n_bytes: int) -> bytes:
    """Return the frame that widens a window; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream_id, n_bytes.to_bytes(4))


def _reset_frame(stream_id: int, code: ErrorCode) -> bytes:
    return frame(RST_STREAM, 0, stream_id, code.to_bytes(4))

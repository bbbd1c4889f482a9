"""The sending half of a connection: its output, and the windows of the peer (RFC 9113 section 6.9)."""

from collections import deque
from collections.abc import Iterable
from struct import Struct
from typing import Final

from bandit.client.http2.frames import (
    CONTINUATION,
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    LARGEST_PAYLOAD,
    LARGEST_WINDOW,
    ConnectionFault,
    ErrorCode,
)
from server.http2.streams import Stream

_HEAD: Final = Struct(">IBI").pack
"""The head of a frame: its length and kind as one number, flags, stream."""

_LAST: Final = END_HEADERS | END_STREAM

_NO_TABLE: Final = b"\x20"
"""An update of the table's size to 0 (RFC 7541 section 6.3). Nothing that we send is in the table."""


class Sender:
    """Frames to the peer. Data waits for its windows; everything else is sent at once.

    Streams that wait are apart by what they wait for, so that a frame that widens one window costs no more
    than what it lets us send: 1,000 streams may wait.

    Attributes:
        output: What to write, in order; the connection takes it.
        n_frames: Frames of responses so far.
        n_pending: Bytes that wait for the windows.
    """

    __slots__ = (
        "_announces_table",
        "_blocked",
        "_initial",
        "_most_credit",
        "_waiting",
        "_window",
        "n_frames",
        "n_pending",
        "output",
    )

    def __init__(self) -> None:
        self.output: list[bytes] = []
        self.n_frames = 0
        self.n_pending = 0
        self._window = DEFAULT_WINDOW
        self._initial = DEFAULT_WINDOW
        self._most_credit = 0
        self._announces_table = False
        self._blocked: dict[Stream, None] = {}  # by their own windows
        self._waiting: dict[Stream, None] = {}  # for the connection's window

    def respond(self, stream: Stream, head: bytes, body: bytes, trailers: bytes) -> None:
        """Send a whole response; the windows nearly always have room for it."""
        n_bytes = len(body)
        room = min(self._window, self._initial + stream.credit, LARGEST_PAYLOAD)
        if n_bytes <= room and not self._announces_table:
            self._window -= n_bytes
            stream.is_local_open = False
            self.n_frames += 3
            number = stream.id
            self.output += (
                _HEAD(len(head) << 8 | HEADERS, END_HEADERS, number),
                head,
                _HEAD(n_bytes << 8 | DATA, 0, number),
                body,
                _HEAD(len(trailers) << 8 | HEADERS, _LAST, number),
                trailers,
            )
        else:
            self.headers(stream, head)
            self.data(stream, body)
            self.end(stream, trailers)

    def headers(self, stream: Stream, block: bytes) -> None:
        """Send a header block that does not end the stream."""
        self._send_block(stream, 0, block)

    def end(self, stream: Stream, block: bytes) -> None:
        """Send the header block that ends the stream, after the data that waits."""
        if stream.pending:
            stream.trailers = stream.trailers or block
            return
        stream.is_local_open = False
        self._send_block(stream, END_STREAM, block)

    def data(self, stream: Stream, data: bytes) -> None:
        """Send data, as far as the windows have room, and the rest when they have."""
        if stream.trailers is not None:
            return  # the response is complete
        if stream.pending is None:
            stream.pending = deque()
        stream.pending += [
            data[start : start + LARGEST_PAYLOAD] for start in range(0, len(data), LARGEST_PAYLOAD)
        ]
        stream.n_pending += len(data)
        self.n_pending += len(data)
        if self._pump(stream):
            self._queue(stream)

    def drop(self, stream: Stream) -> None:
        """Forget what waits on a stream that was reset."""
        self.n_pending -= stream.n_pending
        stream.n_pending = 0
        stream.pending = None
        self._blocked.pop(stream, None)
        self._waiting.pop(stream, None)

    def widen(self, n_bytes: int) -> list[Stream]:
        """Widen the connection's window; return the streams whose data is all sent now.

        Raises:
            ConnectionFault: It is too wide.
        """
        self._window += n_bytes
        if self._window > LARGEST_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is too wide")
        return self._pump_all()

    def widen_stream(self, stream: Stream, n_bytes: int) -> bool:
        """Widen a stream's window; return False if it is too wide."""
        stream.credit += n_bytes
        self._most_credit = max(self._most_credit, stream.credit)
        return self._initial + stream.credit <= LARGEST_WINDOW

    def set_initial_window(self, n_bytes: int, streams: Iterable[Stream]) -> list[Stream]:
        """Change the window that all streams begin with, also the open `streams`; return as `widen`.

        Raises:
            ConnectionFault: A stream's window is too wide.
        """
        self._initial = n_bytes
        most = LARGEST_WINDOW - n_bytes
        if self._most_credit > most and any(stream.credit > most for stream in streams):
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the initial window is too wide")
        for stream in (*self._blocked, *self._waiting):
            self._queue(stream)
        return self._pump_all()

    def forget_table(self) -> None:
        """Announce in the next header block that its table is empty: the peer wants a smaller one.

        Some peers refuse a block without that (RFC 7541 section 4.2), though no block refers to the table.
        """
        self._announces_table = True

    def pump(self, stream: Stream) -> list[Stream]:
        """Send what waits on a stream whose window is wider now; return it if all is sent."""
        if stream not in self._blocked:
            return []
        if not self._pump(stream):
            del self._blocked[stream]
            return [stream]
        self._queue(stream)
        return []

    def _queue(self, stream: Stream) -> None:
        """Let a stream wait for what it lacks."""
        has_room = self._initial + stream.credit > 0
        wanted, other = (self._waiting, self._blocked) if has_room else (self._blocked, self._waiting)
        other.pop(stream, None)
        wanted[stream] = None

    def _pump_all(self) -> list[Stream]:
        """Send what waits for the connection's window, one frame a stream in turn; return as `widen`."""
        done = []
        waiting = self._waiting
        while waiting and self._window > 0:
            stream = next(iter(waiting))
            del waiting[stream]
            if self._pump(stream, n_frames=1):
                self._queue(stream)
            else:
                done.append(stream)
        return done

    def _pump(self, stream: Stream, n_frames: int = -1) -> bool:
        """Send what waits on a stream, in at most `n_frames`; return whether any is left."""
        pending = stream.pending
        while pending and n_frames:
            n_frames -= 1
            room = min(self._window, self._initial + stream.credit)
            if room <= 0:
                return True
            piece = pending.popleft()
            if len(piece) > room:
                pending.appendleft(piece[room:])
                piece = piece[:room]
            n_bytes = len(piece)
            self._window -= n_bytes
            stream.credit -= n_bytes
            stream.n_pending -= n_bytes
            self.n_pending -= n_bytes
            self.n_frames += 1
            self.output += (_HEAD(n_bytes << 8 | DATA, 0, stream.id), piece)
        if pending:
            return True
        if stream.trailers is not None:
            self.end(stream, stream.trailers)
        return False

    def _send_block(self, stream: Stream, flags: int, block: bytes) -> None:
        """Send a header block, in several frames if it is longer than one may be."""
        if self._announces_table:
            self._announces_table = False
            block = _NO_TABLE + block
        kind = HEADERS
        while len(block) > LARGEST_PAYLOAD:
            self.output += (_HEAD(LARGEST_PAYLOAD << 8 | kind, flags, stream.id), block[:LARGEST_PAYLOAD])
            self.n_frames += 1
            kind, flags, block = CONTINUATION, 0, block[LARGEST_PAYLOAD:]
        self.output += (_HEAD(len(block) << 8 | kind, flags | END_HEADERS, stream.id), block)
        self.n_frames += 1

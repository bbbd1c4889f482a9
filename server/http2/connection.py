"""A connection of the HTTP/2 server, without its I/O: bytes in, calls of a session, bytes out (RFC 9113).

A session gets requests in the order of their arrival. It may answer before `receive` returns, or later; what
it answers in one turn is written at once.
"""

from collections.abc import Callable, Mapping
from struct import Struct
from typing import Final

from bandit.client.http2.frames import (
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEAD_BYTES,
    HEADERS,
    LARGEST_PAYLOAD,
    LARGEST_STREAM,
    PREFACE,
    ConnectionFault,
    ErrorCode,
    Setting,
    frame,
    settings_frame,
)
from server.http2.budgets import Budgets
from server.http2.control import Control
from server.http2.limits import Limits, Totals
from server.http2.open_streams import WINDOW, OpenStreams, window_update
from server.http2.peer import PeerInfo
from server.http2.receiver import Receiver
from server.http2.sender import Sender
from server.http2.session import Session
from server.http2.streams import STREAM_WINDOW

_HEAD: Final = Struct(">HBBBI").unpack_from


class Connection:
    """One connection. Belongs to the event loop's thread. Every `now` is on the monotonic clock, in seconds.

    Args:
        session_of: Makes what answers the requests of this connection.
        limits: The limits.
        totals: What all connections hold together.
        now: When the connection was opened.
        peer: Who is at the other end.
        wake: Called when there is output that no caller of a method here waits for.

    Attributes:
        peer: As above.
        fault: What ended the connection, if the peer broke a rule or a limit.
    """

    def __init__(
        self,
        session_of: "Callable[[Connection], Session]",
        limits: Limits,
        totals: Totals,
        now: float,
        *,
        peer: PeerInfo,
        wake: Callable[[], None],
    ) -> None:
        self.peer = peer
        self.fault: ConnectionFault | None = None
        self._limits = limits
        self._unread = b""
        self._has_preface = False
        budgets = self._budgets = Budgets(limits, now)
        sender = self._sender = Sender()
        streams = self._streams = OpenStreams(limits, totals, budgets, sender, now, wake)
        session = session_of(self)
        self._receiver = Receiver(limits, budgets, streams, sender, session)
        self._control = Control(limits, budgets, streams, sender, session, now)
        self._handlers: Mapping[int, Callable[[int, int, bytes], None]] = {
            **self._receiver.handlers,
            **self._control.handlers,
        }
        greeting = {
            Setting.MAX_CONCURRENT_STREAMS: limits.streams,
            Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            Setting.MAX_HEADER_LIST_SIZE: limits.header_bytes,
        }
        sender.output += (settings_frame(greeting), window_update(0, WINDOW - DEFAULT_WINDOW))

    @property
    def is_over(self) -> bool:
        """True if the connection is to be closed, once its output is written."""
        return self.fault is not None or self._control.is_over

    @property
    def broken_rule(self) -> str:
        """The rule or limit that the peer broke; empty if it broke none."""
        return "" if self.fault is None else self.fault.reason

    @property
    def has_backlog(self) -> bool:
        """True if a whole frame waits for the next turn, which `go_on` takes."""
        return not self.is_over and self._has_preface and len(self._unread) >= self._next_bytes()

    @property
    def n_unsent(self) -> int:
        """Bytes of responses that wait for the peer's windows."""
        return self._sender.n_pending

    def take_output(self) -> bytes:
        """Return what is to be written, and forget it."""
        output, self._sender.output = self._sender.output, []
        return b"".join(output)

    def receive(self, data: bytes, now: float) -> None:
        """Deal with bytes from the peer: at most a turn of them. `has_backlog` tells whether any are left."""
        if not self.is_over:
            self._unread += data
        self._control.heard_at = self._streams.now = now
        self._attend(self._read)

    def go_on(self) -> None:
        """Deal with bytes that an earlier turn left. Their requests are dated by when they were read."""
        self._attend(self._read)

    def tick(self, now: float) -> None:
        """Do what is due: call this some ten times a second."""

        def look() -> None:
            self._control.tick(now)
            self._receiver.end_overdue(now)
            self._receiver.renew_window()

        self._attend(look)

    def begin_drain(self, now: float) -> None:
        """Tell the peer to go elsewhere; `is_over` follows once the streams that it has begun have ended."""
        self._attend(lambda: self._control.begin_drain(now))

    def lost(self) -> None:
        """Note that the peer is gone, and nobody waits for any response."""
        self._control.close()
        self._streams.is_attended = True
        self._streams.abandon_all()
        self._handlers = {}
        self._receiver.close()

    def _attend(self, act: Callable[[], None]) -> None:
        """Act for a caller that looks for output afterwards; end the connection at a fault."""
        if self.is_over:
            return
        streams = self._streams
        streams.is_attended = True
        try:
            act()
        except ConnectionFault as fault:
            self._end(fault)
        finally:
            streams.is_attended = False

    def _end(self, fault: ConnectionFault) -> None:
        self.fault = fault.with_traceback(None)  # whose frames refer to this
        last_id = min(self._streams.last_id, self._streams.final_id)
        payload = last_id.to_bytes(4) + fault.code.to_bytes(4) + fault.reason.encode()
        self._streams.abandon_all()
        self._sender.output.append(frame(GOAWAY, 0, 0, payload))

    def _read(self) -> None:
        """Read the frames of a turn."""
        if not self._has_preface and not self._read_preface():
            return
        buffer, limits, receiver = self._unread, self._limits, self._receiver
        handlers, streams = self._handlers, self._streams
        receiver.n_served = 0
        position, end = 0, len(buffer)
        try:
            for _ in range(limits.turn_frames):
                if end - position < HEAD_BYTES:
                    break
                high, low, kind, flags, stream_id = _HEAD(buffer, position)
                n_bytes = high << 8 | low
                if n_bytes > LARGEST_PAYLOAD:
                    raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame is longer than 16,384 bytes")
                stop = position + HEAD_BYTES + n_bytes
                if stop > end:
                    break
                payload = buffer[position + HEAD_BYTES : stop]
                position = stop
                taken = kind == HEADERS and self._take_whole(flags, stream_id, payload, position)
                if taken:
                    position = taken
                elif kind != streams.next_kind is not None:
                    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "another frame was due")
                else:
                    handler = handlers.get(kind, self._on_unknown)
                    handler(flags, stream_id & LARGEST_STREAM, payload)
                if receiver.n_served >= limits.turn_requests or position >= limits.turn_bytes:
                    break
        finally:
            self._unread = buffer[position:]

    def _take_whole(self, flags: int, stream_id: int, block: bytes, position: int) -> int:
        """Deal with HEADERS and the DATA after it, if they are a request as most; return its end, or 0."""
        buffer, start = self._unread, position + HEAD_BYTES
        if flags != END_HEADERS or len(buffer) < start or self._streams.next_kind is not None:
            return 0
        high, low, kind, flags, other_id = _HEAD(buffer, position)
        stop = start + (high << 8 | low)
        is_whole = kind == DATA and flags == END_STREAM and other_id == stream_id and stop <= len(buffer)
        if not is_whole or stop - start > LARGEST_PAYLOAD:
            return 0
        return stop if self._receiver.take_whole(stream_id, block, buffer[start:stop]) else 0

    def _on_unknown(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        """Ignore a frame of an unknown kind (section 4.1)."""
        self._budgets.idle("unknown frames", self._streams.now)

    def _read_preface(self) -> bool:
        """Return whether the preface has arrived."""
        start = self._unread[: len(PREFACE)]
        if not PREFACE.startswith(start):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "this port speaks HTTP/2 only")
        if len(start) < len(PREFACE):
            return False
        self._unread = self._unread[len(PREFACE) :]
        self._has_preface = True
        return True

    def _next_bytes(self) -> int:
        """Return the length of the next frame, as far as it is known."""
        if len(self._unread) < HEAD_BYTES:
            return HEAD_BYTES
        return HEAD_BYTES + int.from_bytes(self._unread[:3])

"""A client of the `h2` package beside a connection on its bench: the oracle for what the connection sends.

What `h2` writes is altered in ways that it can't write itself: padding, priorities, header blocks in pieces.
"""

import enum
from dataclasses import dataclass, field
from typing import Final

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from bandit.client.http2.frames import (
    CONTINUATION,
    END_HEADERS,
    HAS_PRIORITY,
    HEADERS,
    PADDED,
    PREFACE,
    ErrorCode,
    frame,
)
from server.http2.limits import Limits
from tests.http2.bench import Bench, frames_of

GENEROUS: Final = Limits(
    pings=10**6,
    settings=10**6,
    resets=10**6,
    cancels=10**6,
    idle_frames=10**6,
    window_updates=10**6,
    handshake_seconds=1e9,
)
"""Limits that no peer reaches by its number of frames, nor before its first SETTINGS."""

_PADDING: Final = 7
_MOST_ROUNDS: Final = 20
_ON_NO_STREAM: Final = bytes(4) + b"\x0f"


class Style(enum.IntFlag):
    """How the HEADERS frames of a request are written."""

    PADDED = 1
    PRIORITY = 2
    CONTINUED = 4


PLAIN: Final = Style(0)


@dataclass(slots=True)
class Response:
    """What a client has of a response.

    Attributes:
        fields: Its headers.
        body: Its data.
        trailers: The fields that ended it.
        has_ended: Whether it is complete.
        code: The error code with which its stream was reset.
    """

    fields: dict[bytes, bytes] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    trailers: dict[bytes, bytes] = field(default_factory=dict)
    has_ended: bool = False
    code: ErrorCode | None = None


class Client:
    """One client on a connection.

    Attributes:
        bench: The connection.
        sent: The body of each request.
        ended: Streams whose request is complete.
        dropped: Streams that the client has reset.
        responses: By stream.
        unsent: Bytes on their way to the connection.
        record: All bytes that have reached it.
    """

    def __init__(self, limits: Limits = GENEROUS) -> None:
        self.bench = Bench(limits, hello=b"")
        self.sent: dict[int, bytearray] = {}
        self.ended: set[int] = set()
        self.dropped: set[int] = set()
        self.responses: dict[int, Response] = {}
        self.unsent = bytearray()
        self.record = bytearray()
        config = h2.config.H2Configuration(client_side=True, header_encoding=None)
        self._h2 = h2.connection.H2Connection(config)
        self._h2.initiate_connection()
        self._is_setting = True
        self.unsent += self._h2.data_to_send()

    @property
    def open_streams(self) -> list[int]:
        """Streams on which the client may send, as far as it knows."""
        return [
            stream
            for stream in self.sent
            if stream not in self.ended | self.dropped and self.responses[stream].code is None
        ]

    def open(self, path: bytes, *, ends: bool, style: Style = PLAIN, extra: bytes = b"") -> int:
        """Begin a request, and return its stream."""
        stream = self._h2.get_next_available_stream_id()
        fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"a")]
        self._h2.send_headers(stream, [*fields, (b"extra", extra)], end_stream=ends)
        self.sent[stream] = bytearray()
        self.responses[stream] = Response()
        if ends:
            self.ended.add(stream)
        self._collect(style)
        return stream

    def send(self, stream: int, body: bytes, *, ends: bool, padding: int | None = None) -> None:
        """Send a piece of a body, as far as the windows allow; the end only with the whole piece."""
        overhead = 0 if padding is None else padding + 1
        room = min(self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size) - overhead
        if room < 0:
            return
        ends = ends and room >= len(body)
        self._h2.send_data(stream, body[:room], end_stream=ends, pad_length=padding)
        self.sent[stream] += body[:room]
        if ends:
            self.ended.add(stream)
        self._collect()

    def end(self, stream: int) -> None:
        """End a request with trailers."""
        self._h2.send_headers(stream, [(b"checksum", b"1")], end_stream=True)
        self.ended.add(stream)
        self._collect(Style.CONTINUED)

    def reset(self, stream: int) -> None:
        """Give a request up."""
        self._h2.reset_stream(stream, ErrorCode.CANCEL)
        self.dropped.add(stream)
        self._collect()

    def widen(self, stream: int | None, n_bytes: int) -> None:
        """Widen a stream's window or, without one, the connection's, if that is possible."""
        if stream is not None and (stream in self.dropped or self.responses[stream].has_ended):
            return
        try:
            self._h2.increment_flow_control_window(n_bytes, stream)
        except (h2.exceptions.FlowControlError, h2.exceptions.StreamClosedError):
            return
        self._collect()

    def set(self, **settings: int) -> None:
        """Change settings of the connection, named as in `h2`, unless earlier ones are not acknowledged yet.

        `h2` applies the values of later frames at the acknowledgement of earlier ones.
        """
        if self._is_setting:
            return
        self._is_setting = True
        codes = {getattr(h2.settings.SettingCodes, name): value for name, value in settings.items()}
        self._h2.update_settings(codes)
        self._collect()

    def ping(self) -> None:
        """Send a PING frame."""
        self._h2.ping(b"12345678")
        self._collect()

    def deliver(self, n_bytes: int | None = None) -> None:
        """Let bytes reach the connection: all that there are, unless told otherwise."""
        data = bytes(self.unsent[:n_bytes])
        del self.unsent[: len(data)]
        self.record += data
        self.bench.connection.receive(data, self.bench.now)
        while self.bench.connection.has_backlog:
            self.bench.connection.go_on()

    def listen(self, n_bytes: int = 2**30) -> None:
        """Read what the connection has sent, so many bytes at a time.

        Raises:
            h2.exceptions.ProtocolError: It broke a rule.
        """
        output = self.bench.connection.take_output()
        for start in range(0, len(output), n_bytes):
            for event in self._h2.receive_data(output[start : start + n_bytes]):
                self._note(event)
        self._collect()

    def settle(self) -> None:
        """Exchange bytes until neither side has any."""
        self.deliver()
        self.listen()
        while self.unsent:
            self.deliver()
            self.listen()

    def finish(self) -> None:
        """End all requests and all work, and read all responses."""
        self.settle()
        for stream in self.open_streams:
            self.end(stream)
        self.set(INITIAL_WINDOW_SIZE=2**24)
        self.settle()
        for _ in range(_MOST_ROUNDS):
            if not self.bench.session.working and not self.bench.connection.n_unsent:
                return
            self.bench.session.end_work()
            self.widen(None, 2**24)
            for stream in self.sent:
                self.widen(stream, 2**24)
            self.settle()
        raise AssertionError(self.bench.connection.n_unsent)

    def _note(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                response = self.responses[event.stream_id]
                assert not response.fields
                response.fields = dict(event.headers)
            case h2.events.DataReceived():
                self.responses[event.stream_id].body += event.data
            case h2.events.TrailersReceived():
                self.responses[event.stream_id].trailers = dict(event.headers)
            case h2.events.StreamEnded():
                self.responses[event.stream_id].has_ended = True
            case h2.events.StreamReset():
                self.responses[event.stream_id].code = ErrorCode(event.error_code)
            case h2.events.SettingsAcknowledged():
                self._is_setting = False
            case h2.events.ConnectionTerminated():
                raise AssertionError(event)

    def _collect(self, style: Style = PLAIN) -> None:
        """Take what `h2` has written, and write its header blocks as wanted."""
        data = self._h2.data_to_send()
        if not style:
            self.unsent += data
            return
        assert not data.startswith(PREFACE)
        for item in frames_of(data):
            if item.kind == HEADERS:
                self.unsent += _restyled(item.stream, item.flags, item.payload, style)
            else:
                self.unsent += frame(item.kind, item.flags, item.stream, item.payload)


def _restyled(stream: int, flags: int, block: bytes, style: Style) -> bytes:
    """Return the frames of a header block in a style."""
    end = len(block) // 2 if Style.CONTINUED in style else len(block)
    payload = block[:end]
    if Style.CONTINUED in style:
        flags &= ~END_HEADERS
    if Style.PRIORITY in style:
        flags |= HAS_PRIORITY
        payload = _ON_NO_STREAM + payload
    if Style.PADDED in style:
        flags |= PADDED
        payload = bytes((_PADDING,)) + payload + bytes(_PADDING)
    first = frame(HEADERS, flags, stream, payload)
    if Style.CONTINUED not in style:
        return first
    third = (end + len(block)) // 2
    return (
        first
        + frame(CONTINUATION, 0, stream, block[end:third])
        + frame(CONTINUATION, END_HEADERS, stream, block[third:])
    )

"""The receiving half of a connection: requests out of HEADERS, CONTINUATION, DATA and RST_STREAM frames."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from bandit.client.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HAS_PRIORITY,
    HEADERS,
    PADDED,
    PRIORITY_BYTES,
    RST_STREAM,
    ConnectionFault,
    ErrorCode,
    require_other,
)
from bandit.client.http2.hpack import Decoder, Field, HpackError, ListTooLargeError
from server.http2.budgets import Budgets
from server.http2.exchange import Headers, RequestFault
from server.http2.limits import Limits
from server.http2.open_streams import RENEW, WINDOW, OpenStreams, window_update
from server.http2.requests import MalformedRequestError, RequestReader, check_trailers
from server.http2.sender import Sender
from server.http2.session import Session
from server.http2.streams import NO_LENGTH, Stream

_CODE_BYTES: Final = 4
_LONGEST_LENGTH: Final = 15

_LEAST_INDEXED: Final = 0x81
"""The least byte that is an indexed field (RFC 7541 section 6.1); those above 0x7f are nothing else."""

_MOST_KNOWN: Final = 64
_LONGEST_KNOWN: Final = 64


@dataclass(slots=True)
class _Block:
    """A header block that continues.

    Attributes:
        stream_id: Its stream.
        flags: Of its HEADERS frame.
        parts: What has arrived of it.
        n_bytes: The length of that.
    """

    stream_id: int
    flags: int
    parts: list[bytes] = field(default_factory=list)
    n_bytes: int = 0


class Receiver:
    """What a connection receives of its streams.

    Attributes:
        n_served: Requests that were finished, and pieces that were taken as they came, since this was last
            set to 0.
        handlers: By kind of frame, from flags, stream and payload.
    """

    def __init__(
        self, limits: Limits, budgets: Budgets, streams: OpenStreams, sender: Sender, session: Session
    ) -> None:
        self._limits = limits
        self._budgets = budgets
        self._streams = streams
        self._sender = sender
        self._session = session
        self._decoder = Decoder(max_bytes=limits.header_bytes_at_most)
        self._reader = RequestReader()
        self._known: dict[bytes, Headers] = {}
        self._known_at = 0
        self._window = WINDOW
        self._n_to_renew = 0
        self.n_served = 0
        self._block: _Block | None = None
        self.handlers: Mapping[int, Callable[[int, int, bytes], None]] = {
            DATA: self._on_data,
            HEADERS: self._on_headers,
            RST_STREAM: self._on_reset,
            CONTINUATION: self._on_continuation,
        }

    def close(self) -> None:
        """Let go of what refers back: Python would look for such circles once in millions of objects."""
        self.handlers = {}
        del self._session

    def end_overdue(self, now: float) -> None:
        """Answer the requests that take too long to arrive."""
        overdue_since = now - self._limits.request_seconds
        for stream in list(self._streams.incomplete):
            if stream.arrived_at > overdue_since:
                return
            self._fail(stream, RequestFault.INCOMPLETE)

    def take_whole(self, stream_id: int, block: bytes, body: bytes) -> bool:
        """Deal with a request of two frames, HEADERS and DATA, if it is as most are; return whether it was.

        It is if its block consists of indexed fields, and was seen since the table changed: then its headers
        are known, and no rule can be broken but those that are looked at here. If it is not, nothing was
        done, and its frames are to be handled one by one.
        """
        headers = self._known.get(block)
        streams, n_bytes = self._streams, len(body)
        if (
            headers is None
            or not streams.last_id < stream_id <= streams.final_id
            or not stream_id & 1
            or streams.is_full
            or n_bytes > self._window
            or n_bytes > self._limits.body_bytes
        ):
            return False
        self._window -= n_bytes
        self._n_to_renew += n_bytes
        stream = streams.add(stream_id)
        stream.is_remote_open = False
        exchange = stream.exchange = self._session.begin(stream, headers)
        self.n_served += 1
        if stream.is_local_open:
            if exchange.takes_pieces and body:
                exchange.receive(body)
                body = b""
            exchange.finish(body)
        if self._n_to_renew >= RENEW:
            self.renew_window()
        return True

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client's stream has an odd number")
        payload = _unpadded(flags, payload)
        if flags & HAS_PRIORITY:
            if len(payload) < PRIORITY_BYTES:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS is too short for its priority")
            require_other(stream_id, payload)
            payload = payload[PRIORITY_BYTES:]
        if flags & END_HEADERS:
            self._on_block(stream_id, flags, payload)
        else:
            self._block = _Block(stream_id, flags)
            self._streams.next_kind = CONTINUATION
            self._continue(self._block, payload)

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        block = self._block
        if block is None or block.stream_id != stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION continues nothing")
        self._continue(block, payload)
        if flags & END_HEADERS:
            self._block = None
            self._streams.next_kind = None
            self._on_block(stream_id, block.flags, b"".join(block.parts))

    def _continue(self, block: _Block, payload: bytes) -> None:
        block.parts.append(payload)
        block.n_bytes += len(payload)
        if block.n_bytes > self._limits.block_bytes or len(block.parts) > self._limits.block_frames:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block is too long")

    def _on_block(self, stream_id: int, flags: int, block: bytes) -> None:
        """Deal with a whole header block: the headers of a request, or its trailers."""
        try:
            fields = self._decoder.decode(block)
        except ListTooLargeError as error:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, str(error)) from None
        except HpackError as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, str(error)) from None
        if self._decoder.n_changes != self._known_at:
            self._known_at = self._decoder.n_changes
            self._known.clear()
        if stream_id > self._streams.last_id:
            self._on_request(stream_id, flags, fields, block)
        else:
            self._on_trailers(stream_id, flags, fields)

    def _on_request(self, stream_id: int, flags: int, fields: list[Field], block: bytes) -> None:
        streams = self._streams
        if stream_id > streams.final_id or streams.is_full:
            streams.refuse(stream_id)
            return
        stream = streams.add(stream_id)
        try:
            headers = self._reader.read(fields)
            if b"content-length" in headers:
                stream.n_expected = _length(headers[b"content-length"])
        except MalformedRequestError:
            stream.is_local_open = False  # there is no exchange yet
            streams.reset(stream_id, ErrorCode.PROTOCOL_ERROR)
            return
        stream.is_remote_open = not flags & END_STREAM
        stream.exchange = self._session.begin(stream, headers)
        if not stream.is_local_open:
            self.n_served += 1
        elif self._decoder.n_bytes > self._limits.header_bytes or len(fields) > self._limits.header_fields:
            self._fail(stream, RequestFault.HEADERS_TOO_LARGE)
        elif flags & END_STREAM:
            self._finish(stream, b"")
        else:
            if stream.n_expected == NO_LENGTH:
                self._learn(block, headers)
            self._await_body(stream)

    def _learn(self, block: bytes, headers: Headers) -> None:
        """Remember what a block stands for, if it is one of indexed fields."""
        if len(block) <= _LONGEST_KNOWN and min(block) >= _LEAST_INDEXED:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[block] = headers

    def _await_body(self, stream: Stream) -> None:
        streams = self._streams
        if len(streams.incomplete) >= self._limits.incomplete:
            self._fail(stream, RequestFault.TOO_MANY_INCOMPLETE)
            self._budgets.incomplete(streams.now)
        else:
            streams.incomplete[stream] = None

    def _on_trailers(self, stream_id: int, flags: int, fields: list[Field]) -> None:
        stream = self._streams.by_id.get(stream_id)
        if stream is None or not stream.is_remote_open:
            if not self._streams.ended_early(stream_id):
                code = ErrorCode.PROTOCOL_ERROR if self._streams.has_gaps else ErrorCode.STREAM_CLOSED
                raise ConnectionFault(code, "HEADERS on a closed stream")
            return
        try:
            check_trailers(fields)
        except MalformedRequestError:
            self._streams.reset(stream_id, ErrorCode.PROTOCOL_ERROR)
            return
        if flags & END_STREAM:
            self._finish(stream, b"")
        else:
            self._streams.reset(stream_id, ErrorCode.PROTOCOL_ERROR)

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        n_bytes = len(payload)
        self._window -= n_bytes
        if self._window < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "DATA beyond the connection's window")
        self._n_to_renew += n_bytes
        if flags & PADDED:
            payload = _unpadded(flags, payload)
        if not payload and not flags & END_STREAM:
            self._budgets.idle("empty DATA frames", self._streams.now)
        stream = self._streams.by_id.get(stream_id)
        if stream is None or not stream.is_remote_open:
            self._on_stray_data(stream_id)
        else:
            stream.receive_window -= n_bytes
            stream.n_to_renew += n_bytes
            stream.n_received += len(payload)
            if stream.receive_window < 0:
                self._streams.reset(stream_id, ErrorCode.FLOW_CONTROL_ERROR)
            elif flags & END_STREAM:
                self._finish(stream, payload)
            else:
                self._take_piece(stream, payload)
        self.renew_window()

    def renew_window(self) -> None:
        """Renew the peer's window on the connection, once much of it is used, unless too much is kept.

        Also due as time passes: a peer that has used its window up sends no DATA that would lead here.
        """
        if self._n_to_renew >= RENEW and not self._streams.keeps_too_much:
            self._sender.output.append(window_update(0, self._n_to_renew))
            self._window += self._n_to_renew
            self._n_to_renew = 0

    def _on_stray_data(self, stream_id: int) -> None:
        if stream_id > self._streams.last_id or not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "DATA on a stream that has not begun")
        if not self._streams.ended_early(stream_id):
            self._streams.reset(stream_id, ErrorCode.STREAM_CLOSED)

    def _take_piece(self, stream: Stream, piece: bytes) -> None:
        """Deal with a part of a body after which more follows."""
        streams = self._streams
        if stream.exchange.takes_pieces:
            if piece:
                self.n_served += 1
                stream.exchange.receive(piece)
                self._await_rest(stream)
            if not stream.is_held:
                streams.renew(stream)
            elif stream.is_remote_open:  # else the exchange has ended it
                streams.keep(stream, piece)
        elif stream.n_received > self._limits.body_bytes:
            self._fail(stream, RequestFault.BODY_TOO_LARGE)
        else:
            # Not a list of pieces: those of one byte would take 50 times the memory that is counted.
            if stream.collected is None:
                stream.collected = bytearray()
            stream.collected += piece
            streams.keep(stream, piece)
            streams.renew(stream)

    def _await_rest(self, stream: Stream) -> None:
        """Give a message of which a part has arrived the time of a request."""
        incomplete = self._streams.incomplete
        if stream.is_held or not stream.exchange.n_unread:
            incomplete.pop(stream, None)
        elif stream not in incomplete and stream.is_remote_open:
            stream.arrived_at = self._streams.now
            incomplete[stream] = None

    def _finish(self, stream: Stream, last: bytes) -> None:
        """Deal with the end of a request."""
        exchange = stream.exchange
        if stream.n_expected not in {NO_LENGTH, stream.n_received}:
            self._streams.reset(stream.id, ErrorCode.PROTOCOL_ERROR)
            return
        body = last if stream.collected is None else bytes(stream.collected) + last
        self._streams.forget_request(stream)
        stream.is_remote_open = False
        self.n_served += 1
        if exchange.takes_pieces:
            if body:
                exchange.receive(body)
            body = b""
        elif len(body) > self._limits.body_bytes:
            self._fail(stream, RequestFault.BODY_TOO_LARGE)
            return
        exchange.finish(body)

    def _fail(self, stream: Stream, fault: RequestFault) -> None:
        """Have a request answered that will not be finished."""
        self._streams.forget_request(stream)
        if stream.is_local_open:
            stream.exchange.fail(fault)

    def _on_reset(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != _CODE_BYTES:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM has 4 bytes")
        if stream_id > self._streams.last_id or not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "RST_STREAM on a stream that has not begun")
        stream = self._streams.by_id.get(stream_id)
        has_arrived = stream is None or not stream.is_remote_open
        if stream is not None:
            self._streams.abandon(stream)
        self._budgets.reset_by_peer(self._streams.now, has_arrived=has_arrived)


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame is shorter than its padding")
    return payload[1 : len(payload) - payload[0]]


def _length(value: bytes) -> int:
    if not value.isdigit() or len(value) > _LONGEST_LENGTH:
        raise MalformedRequestError("content-length is not a number")
    return int(value)

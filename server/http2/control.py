"""What concerns a connection as a whole: its settings, windows, pings, age and end."""

import enum
import random
from collections.abc import Callable, Mapping
from struct import Struct
from typing import Final

from bandit.client.http2.frames import (
    ACK,
    GOAWAY,
    LARGEST_PAYLOAD,
    LARGEST_STREAM,
    LARGEST_WINDOW,
    PING,
    PRIORITY,
    PRIORITY_BYTES,
    PUSH_PROMISE,
    SETTINGS,
    WINDOW_UPDATE,
    ConnectionFault,
    ErrorCode,
    Setting,
    frame,
    require_other,
)
from bandit.client.http2.hpack import DEFAULT_TABLE_BYTES
from server.http2.budgets import Budgets
from server.http2.limits import Limits
from server.http2.open_streams import OpenStreams
from server.http2.sender import Sender
from server.http2.session import Session

_PAIR: Final = Struct(">HI")
_WINDOW_BYTES: Final = 4
_PING_BYTES: Final = 8
_LARGEST_FRAME: Final = 2**24 - 1
_DRAIN_PING: Final = b"draining"
_ALIVE_PING: Final = b"alive?  "
_ROUND_TRIP_SECONDS: Final = 1.0
_JITTER: Final = random.Random(random.SystemRandom().getrandbits(64))  # noqa: S311 - spreads reconnects


class _Stage(enum.IntEnum):
    """How far a connection has come."""

    OPENED = 0
    """The peer has not sent its first SETTINGS."""

    SERVING = 1

    LEAVING = 2
    """The peer was told to go elsewhere; streams that it has begun meanwhile are served."""

    LAST = 3
    """The peer knows which stream was the last."""

    ENDED = 4


class Control:
    """The frames of a connection that belong to no stream, and what happens as time passes.

    Attributes:
        heard_at: When the peer last sent anything, on the monotonic clock.
        handlers: By kind of frame, from flags, stream and payload.
    """

    def __init__(
        self,
        limits: Limits,
        budgets: Budgets,
        streams: OpenStreams,
        sender: Sender,
        session: Session,
        now: float,
    ) -> None:
        self._limits = limits
        self._budgets = budgets
        self._streams = streams
        self._sender = sender
        self._session = session
        self._stage = _Stage.OPENED
        self._opened_at = self._busy_at = self.heard_at = now
        self._drain_at = now + limits.age_seconds * _JITTER.uniform(0.9, 1.1)
        self._last_at = self._end_at = float("inf")
        self._is_asked = False
        self._seen_id = 0
        self.handlers: Mapping[int, Callable[[int, int, bytes], None]] = {
            SETTINGS: self._on_settings,
            PING: self._on_ping,
            GOAWAY: self._on_goaway,
            WINDOW_UPDATE: self._on_window_update,
            PRIORITY: self._on_priority,
            PUSH_PROMISE: self._on_push_promise,
        }

    @property
    def is_over(self) -> bool:
        """True if the connection is to be closed: its last stream has ended, or its time is up."""
        return self._stage is _Stage.ENDED or (self._stage is _Stage.LAST and not self._streams.by_id)

    def tick(self, now: float) -> None:
        """Do what is due.

        Raises:
            ConnectionFault: The peer took too long with its first SETTINGS.
        """
        if self._stage is _Stage.OPENED and now - self._opened_at > self._limits.handshake_seconds:
            raise ConnectionFault(ErrorCode.SETTINGS_TIMEOUT, "the first SETTINGS did not arrive")
        if self._streams.by_id or self._streams.last_id != self._seen_id:
            self._busy_at = now
            self._seen_id = self._streams.last_id
        if now >= self._end_at:
            self._stage = _Stage.ENDED
        elif now >= self._last_at:
            self._say_last()
        elif now >= self._drain_at or now - self._busy_at > self._limits.idle_seconds:
            self.begin_drain(now)
        self._look_for_life(now)

    def close(self) -> None:
        """Note that the connection is closed, and let go of what refers back, as `Receiver.close`."""
        self._stage = _Stage.ENDED
        self.handlers = {}
        del self._session

    def begin_drain(self, now: float) -> None:
        """Tell the peer to go elsewhere (section 6.8): twice, so that streams on their way are served."""
        if self._stage < _Stage.LEAVING:
            self._stage = _Stage.LEAVING
            self._last_at = now + _ROUND_TRIP_SECONDS
            self._end_at = now + self._limits.grace_seconds
            self._say_goaway(LARGEST_STREAM)
            self._sender.output.append(frame(PING, 0, 0, _DRAIN_PING))
            self._session.drain()

    def _say_last(self) -> None:
        if self._stage < _Stage.LAST:
            self._stage = _Stage.LAST
            self._last_at = float("inf")
            self._streams.final_id = self._streams.last_id
            self._say_goaway(self._streams.final_id)

    def _say_goaway(self, last_id: int) -> None:
        payload = last_id.to_bytes(4) + ErrorCode.NO_ERROR.to_bytes(4)
        self._sender.output.append(frame(GOAWAY, 0, 0, payload))

    def _look_for_life(self, now: float) -> None:
        """Ask a peer that has been silent for long whether it is there."""
        silence = now - self.heard_at
        if silence < self._limits.keepalive_seconds:
            self._is_asked = False
        elif not self._is_asked:
            self._is_asked = True
            self._sender.output.append(frame(PING, 0, 0, _ALIVE_PING))
        elif silence > self._limits.keepalive_seconds + self._limits.keepalive_timeout_seconds:
            self._stage = _Stage.ENDED

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        self._budgets.settings(self._streams.now)
        if flags & ACK:
            if payload:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement with settings")
            if self._streams.next_kind is not None:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first SETTINGS is an acknowledgement")
            return
        if len(payload) % _PAIR.size:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS has entries of 6 bytes")
        settings: list[tuple[int, int]] = list(_PAIR.iter_unpack(payload))
        for number, value in settings:
            self._check(number, value)
        self._streams.next_kind = None
        if self._stage is _Stage.OPENED:
            self._stage = _Stage.SERVING
        self._sender.output.append(frame(SETTINGS, ACK, 0))
        window = dict(settings).get(Setting.INITIAL_WINDOW_SIZE)
        if window is not None:
            streams = self._streams.by_id.values()
            self._streams.note_sent(self._sender.set_initial_window(window, streams))

    def _check(self, number: int, value: int) -> None:
        """Check a setting. We push nothing and send no long frames. Of repeated settings the last counts."""
        match number:
            case Setting.HEADER_TABLE_SIZE if value < DEFAULT_TABLE_BYTES:
                self._sender.forget_table()
            case Setting.ENABLE_PUSH if value > 1:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
            case Setting.INITIAL_WINDOW_SIZE if value > LARGEST_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the initial window is too wide")
            case Setting.MAX_FRAME_SIZE if not LARGEST_PAYLOAD <= value <= _LARGEST_FRAME:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of range")

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != _PING_BYTES:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PING has 8 bytes")
        if flags & ACK:
            self._budgets.idle("answers to PING", self._streams.now)
            if payload == _DRAIN_PING and self._stage is _Stage.LEAVING:
                self._say_last()
            return
        if not self._streams.has_responded:
            self._budgets.ping(self._streams.now)
        self._streams.has_responded = False
        self._sender.output.append(frame(PING, ACK, 0, payload))

    def _on_goaway(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < _PING_BYTES:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY has 8 bytes or more")
        self.begin_drain(self._streams.now)
        self._say_last()

    def _on_window_update(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != _WINDOW_BYTES:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE has 4 bytes")
        self._budgets.window_update(self._streams.n_begun + self._sender.n_frames)
        n_bytes = int.from_bytes(payload) & LARGEST_WINDOW
        if not stream_id:
            if not n_bytes:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE widens by nothing")
            self._streams.note_sent(self._sender.widen(n_bytes))
            return
        if stream_id > self._streams.last_id or not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE on a stream that has not begun")
        stream = self._streams.by_id.get(stream_id)
        if stream is None:
            return
        if not n_bytes:
            self._streams.reset(stream_id, ErrorCode.PROTOCOL_ERROR)
        elif not self._sender.widen_stream(stream, n_bytes):
            self._streams.reset(stream_id, ErrorCode.FLOW_CONTROL_ERROR)
        else:
            self._streams.note_sent(self._sender.pump(stream))

    def _on_priority(self, _flags: int, stream_id: int, payload: bytes) -> None:
        """Check a frame that RFC 9113 deprecates (section 5.3.2), and do nothing about it."""
        self._budgets.idle("PRIORITY frames", self._streams.now)
        if not stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY without a stream")
        if len(payload) != PRIORITY_BYTES:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY has 5 bytes")
        require_other(stream_id, payload)

    def _on_push_promise(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client can't push")

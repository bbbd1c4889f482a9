"""A connection on a test bench: frames in, frames out, on a clock that the test moves."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from bandit.client.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEAD_BYTES,
    HEADERS,
    LARGEST_STREAM,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    frame,
)
from bandit.client.http2.hpack import encode_field
from server.http2.connection import Connection
from server.http2.limits import Limits, Totals
from server.http2.peer import PeerInfo
from tests.http2.scripted import Script

HELLO: Final = PREFACE + frame(SETTINGS, 0, 0)
START: Final = 1_000.0
"""When connections are opened, in seconds of the bench's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A frame as it was read."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self) -> ErrorCode:
        """The error code of RST_STREAM or GOAWAY."""
        start = {RST_STREAM: 0, GOAWAY: 4}[self.kind]
        return ErrorCode(int.from_bytes(self.payload[start : start + 4]))

    @property
    def last_id(self) -> int:
        """The last stream that a GOAWAY names."""
        assert self.kind == GOAWAY
        return int.from_bytes(self.payload[:4])


def frames_of(data: bytes) -> list[Frame]:
    """Return the frames that bytes consist of."""
    found = []
    position = 0
    while position < len(data):
        start = position + HEAD_BYTES
        end = start + int.from_bytes(data[position : position + 3])
        assert len(data) >= end
        stream = int.from_bytes(data[position + 5 : start])
        assert stream <= LARGEST_STREAM
        kind, flags = data[position + 3 : position + 5]
        found.append(Frame(kind=kind, flags=flags, stream=stream, payload=data[start:end]))
        position = end
    return found


def block(path: bytes = b"/echo", *more: tuple[bytes, bytes], method: bytes = b"POST") -> bytes:
    """Return the header block of a request."""
    fields = ((b":method", method), (b":scheme", b"http"), (b":path", path), *more)
    return b"".join(encode_field(*field) for field in fields)


def headers(stream: int, path: bytes = b"/echo", *more: tuple[bytes, bytes], flags: int = 0) -> bytes:
    """Return the HEADERS frame of a request whose body follows."""
    return frame(HEADERS, END_HEADERS | flags, stream, block(path, *more))


def data_frame(stream: int, body: bytes = b"", *, flags: int = 0) -> bytes:
    """Return a DATA frame after which more follows."""
    return frame(DATA, flags, stream, body)


def request(stream: int, path: bytes = b"/echo", body: bytes = b"body") -> bytes:
    """Return a whole request."""
    return headers(stream, path) + data_frame(stream, body, flags=END_STREAM)


def get(stream: int, path: bytes = b"/echo") -> bytes:
    """Return a whole request without a body."""
    return headers(stream, path, flags=END_STREAM)


def reset_frame(stream: int, code: ErrorCode = ErrorCode.CANCEL) -> bytes:
    """Return a RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4))


def widen(stream: int, n_bytes: int) -> bytes:
    """Return a WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, n_bytes.to_bytes(4))


def settings(*pairs: tuple[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    payload = b"".join(number.to_bytes(2) + value.to_bytes(4) for number, value in pairs)
    return frame(SETTINGS, 0, 0, payload)


class Bench:
    """One connection, its session, and the clock.

    Args:
        limits: Those of the connection.
        totals: Shared with other connections.
        session: What answers the connection, if it is no plain one.
        hello: What the client sends at once; the answers to it are forgotten.

    Attributes:
        connection: The connection.
        session: What answers it.
        totals: As above.
        now: The time.
        n_wakes: How often the connection had output that nobody waited for.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        totals: Totals | None = None,
        session: Script | None = None,
        hello: bytes = HELLO,
    ) -> None:
        self.now = START
        self.n_wakes = 0
        self.session = session or Script()
        self.totals = Totals() if totals is None else totals
        self.connection = Connection(
            lambda _: self.session,
            limits or Limits(),
            self.totals,
            self.now,
            peer=PeerInfo(),
            wake=self._wake,
        )
        if hello:
            self.greeting = self.send(hello)

    def send(self, *data: bytes) -> list[Frame]:
        """Have bytes received, also what takes several turns; return the frames of the output."""
        self.connection.receive(b"".join(data), self.now)
        while self.connection.has_backlog:
            self.connection.go_on()
        return self.take()

    def take(self) -> list[Frame]:
        """Return the frames of the output so far."""
        return frames_of(self.connection.take_output())

    def tick(self, seconds: float = 0.0) -> list[Frame]:
        """Let time pass, look once at its end, and return the frames of the output."""
        self.now += seconds
        self.connection.tick(self.now)
        return self.take()

    def end_work(self) -> list[Frame]:
        """Let all work end, and return the frames of the output."""
        self.session.end_work()
        return self.take()

    def is_over(self) -> bool:
        """Return whether the connection is to be closed."""
        return self.connection.is_over

    def code(self) -> ErrorCode | None:
        """The error code that ended the connection; None if none did."""
        fault = self.connection.fault
        return None if fault is None else fault.code

    def assert_released(self) -> None:
        """Fail if a stream, a byte of a body or an unsent byte is counted any more."""
        assert not self.connection._streams.by_id
        assert self.connection.n_unsent == 0
        assert self.totals == Totals()

    def _wake(self) -> None:
        self.n_wakes += 1


def bytes_of(frames: Iterable[Frame], stream: int) -> bytes:
    """Return the data of a stream."""
    return b"".join(found.payload for found in frames if (found.kind, found.stream) == (DATA, stream))


def of_kind(frames: Iterable[Frame], kind: int) -> list[Frame]:
    """Return the frames of a kind."""
    return [found for found in frames if found.kind == kind]


def resets(frames: Iterable[Frame]) -> dict[int, ErrorCode]:
    """Return the streams that were reset, with their error codes."""
    return {found.stream: found.code for found in of_kind(frames, RST_STREAM)}

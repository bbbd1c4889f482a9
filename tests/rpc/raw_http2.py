"""HTTP/2 by hand, for hostile calls that no gRPC library makes."""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

DATA: Final = 0
HEADERS: Final = 1
RST_STREAM: Final = 3
SETTINGS: Final = 4
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9
END_STREAM: Final = 1
ACK: Final = 1
END_HEADERS: Final = 4
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_INITIAL_WINDOW_SIZE: Final = 4
_DEFAULT_WINDOW: Final = 65_535
_LARGEST_FRAME: Final = 16_384

Connected = socket.socket
"""A socket that is connected to a server."""


class Frame(NamedTuple):
    """A frame (RFC 9113 section 4.1)."""

    kind: int
    flags: int
    stream: int
    payload: bytes


@dataclass
class RawConnection:
    """A connection of HTTP/2 frames that obeys the server's flow control."""

    socket: socket.socket
    windows: dict[int, int] = field(default_factory=lambda: {0: _DEFAULT_WINDOW})
    _new_window: int = _DEFAULT_WINDOW
    _unread: bytes = b""

    @classmethod
    def open(cls, port: int) -> Self:
        """Connect to a port of this machine."""
        return cls.over(socket.create_connection(("127.0.0.1", port), timeout=20))

    @classmethod
    def over(cls, connected: "Connected") -> Self:
        """Exchange settings, without which a server closes the connection.

        Each frame leaves at once, as with every client of gRPC: a reset must not wait for earlier frames.
        """
        if connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = cls(connected)
        try:
            connection.socket.sendall(PREFACE)
            connection.send(SETTINGS, 0, 0, b"")
            next(frame for frame in connection.frames() if frame.kind == SETTINGS and not frame.flags & ACK)
        except (OSError, StopIteration):
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def send(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Send a frame unchanged."""
        self.socket.sendall(frame_bytes(kind, flags, stream, payload))

    def begin(self, stream: int, method: str, *headers: tuple[str, str], flags: int = END_HEADERS) -> None:
        """Begin a call, with literal headers."""
        self.windows[stream] = self._new_window
        self.send(HEADERS, flags, stream, headers_of(method, *headers))

    def send_message(
        self, stream: int, data: bytes, *, n_claimed: int | None = None, is_packed: bool = False
    ) -> None:
        """Send a gRPC message, which may give a wrong length."""
        length = len(data) if n_claimed is None else n_claimed
        rest = struct.pack(">BI", is_packed, length) + data
        while rest:
            room = min(self.windows[0], self.windows[stream], _LARGEST_FRAME)
            if room == 0:
                next(self.frames())
                continue
            self.send(DATA, 0, stream, rest[:room])
            self.windows[0] -= len(rest[:room])
            self.windows[stream] -= len(rest[:room])
            rest = rest[room:]

    def answer(self, stream: int) -> bytes:
        """Return the raw trailers of a call, or what reset it."""
        for frame in self.frames():
            if frame.stream == stream and (frame.kind == RST_STREAM or frame.flags & END_STREAM):
                return frame.payload
        return b""

    def flood(self, data: bytes) -> None:
        """Send frames unchanged, and read what arrives, so that neither side waits for the other."""
        self.socket.sendall(data)
        self.socket.setblocking(False)
        try:
            while received := self.socket.recv(1 << 20):
                self._unread += received
        except BlockingIOError:
            pass
        finally:
            self.socket.settimeout(20)

    def frames(self) -> Iterator[Frame]:
        """Yield frames until the server closes the connection, and answer windows, settings and pings."""
        while True:
            while (frame := self._take()) is None:
                received = self.socket.recv(65_536)
                if not received:
                    return
                self._unread += received
            self._attend(frame)
            yield frame

    def _take(self) -> Frame | None:
        n_bytes = int.from_bytes(self._unread[:3], "big")
        if len(self._unread) < 9 + n_bytes:
            return None
        kind, flags, stream = struct.unpack(">BBI", self._unread[3:9])
        payload, self._unread = self._unread[9 : 9 + n_bytes], self._unread[9 + n_bytes :]
        return Frame(kind, flags, stream, payload)

    def _attend(self, frame: Frame) -> None:
        if frame.kind == WINDOW_UPDATE:
            self.windows[frame.stream] = self.windows.get(frame.stream, 0) + int.from_bytes(
                frame.payload, "big"
            )
        elif frame.kind == PING and not frame.flags & ACK:
            self.send(PING, ACK, 0, frame.payload)
        elif frame.kind == SETTINGS and not frame.flags & ACK:
            for identifier, value in struct.iter_unpack(">HI", frame.payload):
                if identifier == _INITIAL_WINDOW_SIZE:
                    grown = value - self._new_window
                    self._new_window = value
                    self.windows = {s: w + grown if s else w for s, w in self.windows.items()}
            self.send(SETTINGS, ACK, 0, b"")


def frame_bytes(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Encode a frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def headers_of(method: str, *headers: tuple[str, str]) -> bytes:
    """Encode the headers of a call, without indexing."""
    pseudo = [(":method", "POST"), (":scheme", "http"), (":path", method), (":authority", "test")]
    every = [*pseudo, ("te", "trailers"), ("content-type", "application/grpc"), *headers]
    return b"".join(b"\0" + _text(key) + _text(value) for key, value in every)


def _text(text: str) -> bytes:
    """Encode a string of fewer than 127 bytes (RFC 7541 section 5.2), without Huffman coding."""
    return bytes([len(text)]) + text.encode()

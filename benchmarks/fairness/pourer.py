"""A caller on one connection that writes thousands of calls at a time, and then waits for all their answers.

A process of its own: `python -m benchmarks.fairness.pourer HOST PORT REQUESTS SECONDS`, where REQUESTS is a
file of prepared requests. It prints how many calls a second were answered.
"""

import socket
import struct
import sys
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Final

WRITE_BYTES: Final = 256_000
"""As much as the server's event loop hands over at once."""

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA: Final = 0
_HEADERS: Final = 1
_RST_STREAM: Final = 3
_SETTINGS: Final = 4
_WINDOW_UPDATE: Final = 8
_END_STREAM: Final = 1
_ACK: Final = 1
_END_HEADERS: Final = 4
_INITIAL_WINDOW_SIZE: Final = 4
_FIRST_WINDOW: Final = 65_535
_LONGEST_BODY: Final = 1_024
_LARGEST_WINDOW: Final = 2**31 - 1
_HEAD: Final = struct.Struct(">HBBBI")


class Pourer:
    """The connection.

    Args:
        host: An IPv4 address.
        port: Where the server listens.
        requests: Header blocks and bodies, the first of which refers to no other.

    Attributes:
        n_ended: Calls that were answered or refused.
    """

    def __init__(self, host: str, port: int, requests: Iterator[tuple[bytes, bytes]]) -> None:
        self.n_ended = 0
        self._requests = requests
        self._socket = socket.create_connection((host, port), timeout=60.0)
        self._unread = b""
        self._window = _FIRST_WINDOW
        self._next_stream = 1
        wide = struct.pack(">HI", _INITIAL_WINDOW_SIZE, _LARGEST_WINDOW)
        wider = (_LARGEST_WINDOW - _FIRST_WINDOW).to_bytes(4)
        self._socket.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, wide) + _frame(_WINDOW_UPDATE, 0, 0, wider))

    def pour(self) -> None:
        """Write calls at once, as many as there is room for, and read until each has ended."""
        pieces: list[bytes] = []
        n_bytes = 0
        awaited = self.n_ended
        while n_bytes < WRITE_BYTES and self._window >= _LONGEST_BODY:
            block, body = next(self._requests)
            self._window -= len(body)
            stream = self._next_stream
            self._next_stream += 2
            pieces += (
                _frame(_HEADERS, _END_HEADERS, stream, block),
                _frame(_DATA, _END_STREAM, stream, body),
            )
            n_bytes += 2 * _HEAD.size + len(block) + len(body)
            awaited += 1
        self._socket.sendall(b"".join(pieces))
        while self.n_ended < awaited or self._window < _LONGEST_BODY:
            self._read()

    def _read(self) -> None:
        received = self._socket.recv(1 << 20)
        if not received:
            raise ConnectionError("the server has closed the connection")
        data = self._unread + received
        position = 0
        while len(data) - position >= _HEAD.size:
            high, low, kind, flags, stream = _HEAD.unpack_from(data, position)
            stop = position + _HEAD.size + (high << 8 | low)
            if stop > len(data):
                break
            self._take(kind, flags, stream, data[position + _HEAD.size : stop])
            position = stop
        self._unread = data[position:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _WINDOW_UPDATE and not stream:
            self._window += int.from_bytes(payload)
        elif kind == _SETTINGS and not flags & _ACK:
            self._socket.sendall(_frame(_SETTINGS, _ACK, 0, b""))
        elif stream and (kind == _RST_STREAM or (kind in {_DATA, _HEADERS} and flags & _END_STREAM)):
            self.n_ended += 1


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _HEAD.pack(len(payload) >> 8, len(payload) & 255, kind, flags, stream) + payload


def _requests_of(file: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield the requests of the first connection, over and over."""
    data = file.read_bytes()
    (n_requests,) = struct.unpack_from(">I", data, 4)
    position = 8
    found: list[bytes] = []
    for _ in range(2 * n_requests):
        (n_bytes,) = struct.unpack_from(">I", data, position)
        found.append(data[position + 4 : position + 4 + n_bytes])
        position += 4 + n_bytes
    return cycle(zip(found[::2], found[1::2], strict=True))


def main() -> None:
    """Pour for some seconds."""
    host, port, requests, seconds = sys.argv[1:]
    pourer = Pourer(host, int(port), _requests_of(Path(requests)))
    began_at = time.monotonic()
    while time.monotonic() < began_at + float(seconds):
        pourer.pour()
    print(pourer.n_ended / (time.monotonic() - began_at))


if __name__ == "__main__":
    main()

"""What any output of a server must satisfy, whatever its client did, where `h2` can take no part."""

from typing import Final

import hpack

from bandit.client.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    LARGEST_PAYLOAD,
    LARGEST_STREAM,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
)
from tests.http2.bench import Frame, frames_of

_OF_CONNECTION: Final = frozenset({SETTINGS, PING, GOAWAY})


class Watcher:
    """Reads the output of one connection, and fails at what no client may be sent.

    Attributes:
        ended: Streams on which the server has ended its side.
    """

    def __init__(self) -> None:
        self.ended: set[int] = set()
        self._n_frames = 0
        self._begun: set[int] = set()
        self._last_id = LARGEST_STREAM
        self._decoder = hpack.Decoder()
        self._block: Frame | None = None

    def read(self, output: bytes) -> None:
        """Read output."""
        for item in frames_of(output):
            assert self._n_frames or (item.kind, item.flags) == (SETTINGS, 0)
            self._n_frames += 1
            assert len(item.payload) <= LARGEST_PAYLOAD
            assert (item.stream == 0) == (item.kind in _OF_CONNECTION) or item.kind == WINDOW_UPDATE
            assert item.stream & 1 or item.stream == 0
            self._read_frame(item)

    def _read_frame(self, item: Frame) -> None:
        assert (item.kind == CONTINUATION) == (self._block is not None)
        match item.kind:
            case _ if item.kind in {HEADERS, CONTINUATION}:
                self._read_block(item)
            case _ if item.kind == DATA:
                assert item.stream in self._begun - self.ended
                assert not item.flags & END_STREAM
            case _ if item.kind == RST_STREAM:
                assert len(item.payload) == 4
                self.ended.add(item.stream)
            case _ if item.kind == WINDOW_UPDATE:
                assert int.from_bytes(item.payload) > 0
                assert item.stream not in self.ended
            case _ if item.kind == GOAWAY:
                assert item.last_id <= self._last_id
                self._last_id = item.last_id
            case _:
                assert item.kind == PING or item.payload == b"" or not item.flags & ACK

    def _read_block(self, item: Frame) -> None:
        first = item if self._block is None else self._block
        payload = item.payload if self._block is None else self._block.payload + item.payload
        whole = Frame(kind=HEADERS, flags=first.flags, stream=first.stream, payload=payload)
        assert first.stream == item.stream
        if not item.flags & END_HEADERS:
            self._block = whole
            return
        self._block = None
        names = [name for name, _ in self._decoder.decode(payload, raw=True)]
        assert item.stream not in self.ended
        assert (b":status" in names) == (item.stream not in self._begun)
        assert item.stream not in self._begun or first.flags & END_STREAM
        self._begun.add(item.stream)
        if first.flags & END_STREAM:
            self.ended.add(item.stream)

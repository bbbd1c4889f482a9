"""Clients for the coverage-guided fuzzer: frames that they may send or may not, and mere bytes.

```sh
python -m venv /tmp/fuzzing && /tmp/fuzzing/bin/pip install -q -e '.[test]' atheris
/tmp/fuzzing/bin/python -m tests.fuzz connection /tmp/found tests/fuzz/corpus/connection -max_total_time=180
```

New inputs go to the first folder, which must exist. atheris has wheels for Linux only, so the `test` extra
lacks it. `tests/http2/test_corpus.py` replays the corpus without it.
"""

from collections.abc import Callable, Iterator
from typing import Final

from bandit.client.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    frame,
)
from server.http2.limits import Limits
from tests.http2.bench import HELLO, Bench, block
from tests.http2.watcher import Watcher

LIMITS: Final = (
    Limits(),
    Limits(
        streams=3, incomplete=2, body_bytes=100, bodies=150, bodies_in_all=200, turn_requests=1, turn_frames=2
    ),
)
PATHS: Final = (
    b"/echo",
    b"/later",
    b"/pieces",
    b"/held",
    b"/early",
    b"/refused",
    b"/large/9",
    b"/large/70000",
)
NUMBERS: Final = (0, 1, 9, 100, 16_384, 65_535, 2**20, 2**31 - 1, 2**31, 2**32 - 1)
SECONDS: Final = (0.0, 0.5, 2.0, 6.0, 20.0, 61.0, 301.0, 2_000.0)

_FEW: Final = 10
_MOSTLY: Final = 250


class Reader:
    """Numbers, pieces and streams out of the input; zeros once it has ended."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0
        self._last_id = -1

    @property
    def has_more(self) -> bool:
        """True before the end."""
        return self._position < len(self._data)

    def byte(self) -> int:
        """Return the next byte."""
        return (self.piece(1) or b"\0")[0]

    def piece(self, n_bytes: int) -> bytes:
        """Return so many bytes, or what is left."""
        piece = self._data[self._position : self._position + n_bytes]
        self._position += n_bytes
        return piece

    def new_stream(self) -> int:
        """Return a stream to begin: mostly the next."""
        byte = self.byte()
        if byte > _MOSTLY:
            return byte
        self._last_id += 2
        return self._last_id

    def stream(self) -> int:
        """Return a stream to send on: mostly one of the last four."""
        byte = self.byte()
        return byte if byte > _MOSTLY or byte < _FEW else max(self._last_id - byte % 4 * 2, 1)


def _headers(reader: Reader) -> bytes:
    stream, path = reader.new_stream(), PATHS[reader.byte() % len(PATHS)]
    return frame(HEADERS, END_HEADERS, stream, block(path))


def _whole(reader: Reader) -> bytes:
    stream, path = reader.new_stream(), PATHS[reader.byte() % len(PATHS)]
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, block(path))


def _data(reader: Reader) -> bytes:
    stream, n_bytes = reader.stream(), NUMBERS[reader.byte() % 5]
    return frame(DATA, reader.byte() & 0x9, stream, bytes(n_bytes))


def _odd_headers(reader: Reader) -> bytes:
    kind = CONTINUATION if reader.byte() & 1 else HEADERS
    return frame(kind, reader.byte(), reader.stream(), reader.piece(reader.byte()))


def _window(reader: Reader) -> bytes:
    return frame(WINDOW_UPDATE, 0, reader.stream(), _number(reader))


def _reset(reader: Reader) -> bytes:
    return frame(RST_STREAM, 0, reader.stream(), ErrorCode.CANCEL.to_bytes(4))


def _settings(reader: Reader) -> bytes:
    pairs = [reader.byte().to_bytes(2) + _number(reader) for _ in range(reader.byte() % 4)]
    return frame(SETTINGS, reader.byte() & 1, 0, b"".join(pairs))


def _ping(reader: Reader) -> bytes:
    payload = (b"draining", b"alive?  ", b"whatever")[reader.byte() % 3]
    return frame(PING, reader.byte() & 1, 0, payload)


def _priority(reader: Reader) -> bytes:
    return frame(PRIORITY, 0, reader.stream(), bytes(4) + b"\x10")


def _any_frame(reader: Reader) -> bytes:
    return frame(reader.byte() % 12, reader.byte(), reader.stream(), reader.piece(reader.byte()))


def _bytes(reader: Reader) -> bytes:
    return reader.piece(reader.byte())


def _number(reader: Reader) -> bytes:
    return NUMBERS[reader.byte() % len(NUMBERS)].to_bytes(4)


MAKERS: Final[tuple[Callable[[Reader], bytes], ...]] = (
    _headers,
    _whole,
    _data,
    _odd_headers,
    _window,
    _reset,
    _settings,
    _ping,
    _priority,
    _any_frame,
    _bytes,
)


def check(data: bytes) -> ErrorCode | None:
    """Play a client, fail if a rule is broken, and return the code that ended the connection, if one did.

    Args:
        data: A byte that chooses limits and whether the client says hello, then steps: what to do, and how.
    """
    reader = Reader(data)
    first = reader.byte()
    bench = Bench(LIMITS[first & 1], hello=b"")
    watcher = Watcher()
    if not first & 2:
        _receive(bench, HELLO)
    watcher.read(bench.connection.take_output())
    for act in _steps(reader, bench):
        act()
        watcher.read(bench.connection.take_output())
        n_streams = len(bench.connection._streams.by_id)
        assert n_streams == bench.totals.n_streams <= bench.connection._limits.streams
        assert bench.totals.n_body_bytes >= 0
        assert bench.connection.n_unsent >= 0
    bench.connection.lost()
    bench.session.end_work()
    bench.session.end_work()
    assert bench.connection.take_output() == b""
    bench.assert_released()
    return bench.code()


def _steps(reader: Reader, bench: Bench) -> Iterator[Callable[[], object]]:
    """Yield what the client does, or what happens to it."""
    while reader.has_more and not bench.is_over():
        choice = reader.byte() % 16
        if choice < len(MAKERS):
            data = MAKERS[choice](reader)
            yield lambda data=data: _receive(bench, data)  # type: ignore[misc]
        elif choice < 13:
            bench.now += SECONDS[reader.byte() % len(SECONDS)]
            yield lambda: bench.connection.tick(bench.now)
        elif choice < 15:
            yield bench.session.end_work
        else:
            yield lambda: bench.connection.begin_drain(bench.now)


def _receive(bench: Bench, data: bytes) -> None:
    bench.connection.receive(data, bench.now)
    while bench.connection.has_backlog:
        bench.connection.go_on()

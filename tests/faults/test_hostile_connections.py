"""Connections that no library would make: closed in seconds, or served at little cost to others.

The server takes eight calls at once, so that anything that held a stream's slot would keep the good client
out.
"""

import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import Connect, StartServer
from tests.rpc.raw_http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    Frame,
    RawConnection,
    frame_bytes,
    headers_of,
)
from tests.support.observing import MIB, observe
from tests.support.process import WITH_FAST_LANE, ServerProcess, serving
from tests.support.wire import Wire

pytestmark = pytest.mark.both_listeners
CHOOSE: Final = "/bandit.v1.BanditService/Choose"
REWARD: Final = "/bandit.v1.BanditService/Reward"
WATCH: Final = "/grpc.health.v1.Health/Watch"
HANDSHAKE_SECONDS: Final = 5.0
"""How long the server gives a client to complete the handshake."""

SLACK_SECONDS: Final = 10.0
"""Extra time for a busy machine."""

GOOD_P50_SECONDS: Final = 0.1
"""A good client waits a millisecond or two; the rest is for a busy machine and Python's threads."""

FRAME_CPU_SECONDS: Final = 0.4e-3
"""What a frame of an attack may cost the server, with many sent as fast as possible."""

CALL_CPU_SECONDS: Final = 2e-3
GROWTH: Final = 48 * MIB
CANCEL: Final = struct.pack(">I", 8)
REFUSED_STREAM: Final = struct.pack(">I", 7)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with few stream slots, which must end cleanly after all of this."""
    folder = tmp_path_factory.mktemp("hostile")
    with serving(folder / "bandit.db", "--max-concurrent-calls", "8", *WITH_FAST_LANE) as started:
        yield started
    assert [event for event in started.events() if event["level"] in {"error", "critical"}] == []


@pytest.fixture
def wire(server: ServerProcess, connect: Connect) -> Wire:
    """A good client."""
    return connect(server)


def silence(_: socket.socket) -> None:
    """Send nothing."""


def half_a_preface(connection: socket.socket) -> None:
    """Send half of the connection preface."""
    connection.sendall(PREFACE[:10])


def only_the_preface(connection: socket.socket) -> None:
    """Send the preface, and no SETTINGS."""
    connection.sendall(PREFACE)


def slowloris(connection: socket.socket) -> None:
    """Send the preface, and then SETTINGS, a byte every quarter of a second."""
    connection.sendall(PREFACE)
    for byte in struct.pack(">I", 6_000)[1:] + struct.pack(">BBI", SETTINGS, 0, 0) + bytes(6_000):
        connection.sendall(bytes([byte]))
        time.sleep(0.25)


def test_a_client_without_a_handshake_is_disconnected(
    start_server: StartServer, connect: Connect, listener: str
) -> None:
    """Silent, incomplete, preface-only and byte-by-byte handshakes are cut off within seconds, all at once.

    Their server has seen no flood: it delays new connections of an address that floods it.
    """
    server = start_server("--max-concurrent-calls", "8")
    wire = connect(server)
    name = wire.running()
    openings = (silence, half_a_preface, only_the_preface, slowloris)
    with ThreadPoolExecutor(len(openings)) as threads:
        lives = [
            threads.submit(seconds_until_closed, server.port_of(listener), opening) for opening in openings
        ]
        assert wire.choose(name).arm
    for life in lives:
        assert life.result() < HANDSHAKE_SECONDS + SLACK_SECONDS


def seconds_until_closed(port: int, opening: Callable[[socket.socket], None]) -> float:
    """Return how long the server keeps a connection."""
    began_at = time.monotonic()
    opened = socket.create_connection(("127.0.0.1", port), timeout=60)
    with closing(opened) as connection, suppress(ConnectionError):
        opening(connection)
        while connection.recv(65_536):
            pass
    return time.monotonic() - began_at


def ping(_: int) -> bytes:
    """A PING frame."""
    return frame_bytes(PING, 0, 0, bytes(8))


def rapid_reset(number: int) -> bytes:
    """A call that is reset at once (CVE-2023-44487)."""
    stream = 2 * number + 1
    headers = headers_of(CHOOSE)
    return frame_bytes(HEADERS, END_HEADERS, stream, headers) + frame_bytes(RST_STREAM, 0, stream, CANCEL)


def continuation(number: int) -> bytes:
    """Headers that never end (CVE-2024-27316)."""
    if number == 0:
        return frame_bytes(HEADERS, 0, 1, headers_of(CHOOSE))
    return frame_bytes(CONTINUATION, 0, 1, b"\0\x01x" + bytes([100]) + b"y" * 100)


def settings(_: int) -> bytes:
    """A SETTINGS frame, which has to be acknowledged each time."""
    return frame_bytes(SETTINGS, 0, 0, b"")


def open_stream(number: int) -> bytes:
    """The beginning of a call, without its message."""
    return frame_bytes(HEADERS, END_HEADERS, 2 * number + 1, headers_of(CHOOSE))


def ended_stream(number: int) -> bytes:
    """A call that ends without its message."""
    return frame_bytes(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, headers_of(CHOOSE))


def half_a_message(number: int) -> bytes:
    """A call and the beginning of its message."""
    stream = 2 * number + 1
    data = struct.pack(">BI", 0, 82) + b"\x0a\x50"
    return frame_bytes(HEADERS, END_HEADERS, stream, headers_of(REWARD)) + frame_bytes(0, 0, stream, data)


Attack = Callable[[int], bytes]


@pytest.mark.parametrize(
    ("attack", "n_frames"),
    [
        (ping, 10_000),
        (rapid_reset, 8_000),
        (continuation, 30_000),
        (settings, 10_000),
        (open_stream, 3_000),
        (ended_stream, 3_000),
        (half_a_message, 3_000),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_flood_is_withstood(
    server: ServerProcess, listener: str, wire: Wire, attack: Attack, n_frames: int
) -> None:
    """However many frames come on a connection, every call of a good client is as fast as before.

    What a frame costs the server in CPU is bounded, and memory does not grow with them.
    """
    name = wire.running()
    with closing(RawConnection.open(server.port_of(listener))) as connection:
        observed = observe(server, wire, name, lambda: flood(connection, attack, n_frames))
    assert observed.p50_seconds < GOOD_P50_SECONDS
    assert observed.grown_bytes < GROWTH
    assert observed.cpu_seconds < n_frames * FRAME_CPU_SECONDS + observed.n_calls * CALL_CPU_SECONDS


def test_a_ping_flood_ends_the_connection(server: ServerProcess, listener: str) -> None:
    """The sender gets ENHANCE_YOUR_CALM, and the connection is closed."""
    with closing(RawConnection.open(server.port_of(listener))) as connection:
        flood(connection, ping, 1_000)
        (farewell,) = [found for found in heard(connection) if found.kind == GOAWAY]
        assert farewell.payload.endswith(b"too_many_pings")


def test_streams_beyond_the_limit_are_refused(tmp_path: Path, listener: str) -> None:
    """Of 2,000 calls begun on one connection a thousand are held; the rest are reset, to be sent elsewhere.

    Those that are held are health watches, whose requests have arrived: nothing else ends them.
    """
    with (
        serving(tmp_path / "bandit.db", *WITH_FAST_LANE) as server,
        closing(RawConnection.open(server.port_of(listener))) as connection,
    ):
        for start in range(0, 1_000, 100):
            connection.flood(b"".join(watch(number) for number in range(start, start + 100)))
            answered = (found for found in connection.frames() if found.kind == DATA)
            assert len({found.stream for found in islice(answered, 100)}) == 100
        connection.flood(b"".join(watch(number) for number in range(1_000, 2_000)))
        refused = list(islice((found for found in connection.frames() if found.kind == RST_STREAM), 1_000))
        connection.send(PING, 0, 0, b"the end.")
        refused += [found for found in heard(connection, until=PING) if found.kind == RST_STREAM]
    assert len({found.stream for found in refused}) == len(refused) == 1_000
    assert {found.payload for found in refused} == {REFUSED_STREAM}


def watch(number: int) -> bytes:
    """Begin a watch of the server's health."""
    stream = 2 * number + 1
    headers = frame_bytes(HEADERS, END_HEADERS, stream, headers_of(WATCH))
    return headers + frame_bytes(DATA, END_STREAM, stream, struct.pack(">BI", 0, 0))


def flood(connection: RawConnection, attack: Attack, n_frames: int) -> None:
    """Send frames as fast as possible, until the server closes the connection or has them all."""
    with suppress(ConnectionError):
        for start in range(0, n_frames, 100):
            numbers = range(start, min(start + 100, n_frames))
            connection.flood(b"".join(attack(number) for number in numbers))


def heard(connection: RawConnection, until: int | None = None) -> list[Frame]:
    """Return the server's frames until it closes, or answers with a frame of this kind."""
    found: list[Frame] = []
    with suppress(ConnectionError):
        for each in connection.frames():
            found.append(each)
            if each.kind == until and each.flags:
                break
    return found

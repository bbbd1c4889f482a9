"""Frames that cost a peer less than the server: their sender is told to calm down, others notice nothing."""

import struct
import time
from collections.abc import Iterator
from itertools import islice
from typing import Final

import pytest

from bandit.client.http2.frames import ErrorCode
from tests.faults.fast_lane.attackers import (
    CHOOSE,
    REWARD,
    Attack,
    addresses,
    beginning,
    call,
    farewell,
    stream_of,
)
from tests.faults.fast_lane.conftest import Site
from tests.rpc.raw_http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame_bytes,
    headers_of,
)

SECONDS: Final = 2.0
CANCEL: Final = struct.pack(">I", 8)
_BOMB_BYTES: Final = 3_900
"""An entry that fills most of the table of 4,096 bytes: each byte that names it decodes to as much."""

_BOMB_REPEATS: Final = 10_000


def ping(_: int) -> bytes:
    """A PING frame without any call."""
    return frame_bytes(PING, 0, 0, bytes(8))


def settings(_: int) -> bytes:
    """A SETTINGS frame, which has to be acknowledged each time."""
    return frame_bytes(SETTINGS, 0, 0, b"")


def rapid_reset(number: int) -> bytes:
    """A call that is reset before its request (CVE-2023-44487)."""
    return beginning(number, CHOOSE) + frame_bytes(RST_STREAM, 0, stream_of(number), CANCEL)


def late_reset(number: int) -> bytes:
    """A call that is reset as soon as it is made, so that nobody waits for its answer."""
    return call(number, REWARD, b"") + frame_bytes(RST_STREAM, 0, stream_of(number), CANCEL)


def made_you_reset(number: int) -> bytes:
    """A call that the server has to reset for a fault, while its answer is due (CVE-2025-8671)."""
    return beginning(number, CHOOSE) + frame_bytes(WINDOW_UPDATE, 0, stream_of(number), bytes(4))


def continuation(number: int) -> bytes:
    """Headers that never end (CVE-2024-27316)."""
    if number == 0:
        return frame_bytes(HEADERS, 0, 1, headers_of(CHOOSE))
    return frame_bytes(CONTINUATION, 0, 1, b"\0\x01x" + bytes([100]) + b"y" * 100)


def empty_data(number: int) -> bytes:
    """DATA that has nothing in it (CVE-2019-9518)."""
    return beginning(0, CHOOSE) if number == 0 else frame_bytes(DATA, 0, 1, b"")


def window_update(_: int) -> bytes:
    """A window that is widened by a byte."""
    return frame_bytes(WINDOW_UPDATE, 0, 0, (1).to_bytes(4))


def headers_only(number: int) -> bytes:
    """A call that never sends its request."""
    return beginning(number, CHOOSE)


def bomb(number: int) -> bytes:
    """Ten kilobytes of headers that decode to 39 megabytes."""
    rest = _BOMB_BYTES - 127
    value = bytes([127, 0x80 | rest & 127, rest >> 7]) + b"y" * _BOMB_BYTES
    entry = b"\x40\x01x" + value
    block = headers_of(CHOOSE) + entry + b"\xbe" * _BOMB_REPEATS
    return frame_bytes(HEADERS, END_HEADERS | END_STREAM, stream_of(number), block)


@pytest.mark.parametrize(
    ("attack", "n_times"),
    [
        (ping, 5_000),
        (settings, 5_000),
        (rapid_reset, 5_000),
        (late_reset, 20_000),
        (made_you_reset, 5_000),
        (continuation, 5_000),
        (empty_data, 5_000),
        (window_update, 20_000),
        (headers_only, 990),
        (bomb, 10),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_flood_of_frames_ends_its_connection(site: Site, attack: Attack, n_times: int) -> None:
    """Each connection that begins it gets ENHANCE_YOUR_CALM; a good caller is answered throughout."""
    with site.good_caller() as good:
        farewells = list(islice(_farewells(site.port, attack, n_times), 60))
    assert set(farewells) == {ErrorCode.ENHANCE_YOUR_CALM}
    assert good.is_answered
    site.calm_down()


def _farewells(port: int, attack: Attack, n_times: int) -> Iterator[ErrorCode | None]:
    """Attack from one address after the other for two seconds; yield how each connection ended."""
    ends_at = time.monotonic() + SECONDS
    sources = addresses()
    while time.monotonic() < ends_at:
        yield farewell(port, next(sources), attack, n_times)

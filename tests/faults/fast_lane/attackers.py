"""Connections of attackers, each from an address of its choice."""

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import count
from typing import Final

from bandit.client.http2.frames import ErrorCode
from bandit.v1 import bandit_pb2
from tests.rpc.raw_http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    SETTINGS,
    WINDOW_UPDATE,
    RawConnection,
    frame_bytes,
    headers_of,
)

SERVICE: Final = "/bandit.v1.BanditService"
CHOOSE: Final = f"{SERVICE}/Choose"
REWARD: Final = f"{SERVICE}/Reward"
BATCH_CHOOSE: Final = f"{SERVICE}/BatchChoose"
CHOOSE_STREAM: Final = f"{SERVICE}/ChooseStream"
WATCH: Final = "/grpc.health.v1.Health/Watch"
LARGEST_WINDOW: Final = 2**31 - 1
_FIRST_WINDOW: Final = 65_535
_INITIAL_WINDOW_SIZE: Final = 4
_A_TURN: Final = 100
_SECONDS: Final = 20.0

Attack = Callable[[int], bytes]
"""From the number of a frame, or of a few that belong together, to its bytes."""


def addresses() -> Iterator[str]:
    """Yield addresses of this machine, each of them once: the attackers have a whole network."""
    for number in count():
        yield f"127.1.{number // 250}.{1 + number % 250}"


def connected(port: int, source: str) -> socket.socket:
    """Return a connection to a port of this machine from one of its addresses."""
    return socket.create_connection(("127.0.0.1", port), timeout=_SECONDS, source_address=(source, 0))


def greeted(port: int, source: str) -> RawConnection:
    """Return a connection on which settings were exchanged."""
    return RawConnection.over(connected(port, source))


def farewell(port: int, source: str, attack: Attack, n_times: int) -> ErrorCode | None:
    """Send frames as fast as possible; return the reason that the server gives when it closes, if it does."""
    with closing(greeted(port, source)) as connection:
        with suppress(ConnectionError):
            for start in range(0, n_times, _A_TURN):
                last = min(start + _A_TURN, n_times)
                connection.flood(b"".join(map(attack, range(start, last))))
        with suppress(ConnectionError, TimeoutError):
            for frame in connection.frames():
                if frame.kind == GOAWAY:
                    return ErrorCode(int.from_bytes(frame.payload[4:8]))
    return None


def set_windows(connection: RawConnection, n_bytes: int) -> None:
    """Say how much the server may send before it is told of more; nothing will be said again."""
    setting = struct.pack(">HI", _INITIAL_WINDOW_SIZE, n_bytes)
    connection.send(SETTINGS, 0, 0, setting)
    if n_bytes > _FIRST_WINDOW:
        connection.send(WINDOW_UPDATE, 0, 0, (n_bytes - _FIRST_WINDOW).to_bytes(4))


def beginning(number: int, method: str) -> bytes:
    """The headers of a call."""
    return frame_bytes(HEADERS, END_HEADERS, stream_of(number), headers_of(method))


def call(number: int, method: str, message: bytes) -> bytes:
    """A whole call whose message fits into one frame."""
    return beginning(number, method) + message_frame(number, message, END_STREAM)


def message_frame(number: int, message: bytes, flags: int = 0) -> bytes:
    """A message of a call that has begun."""
    return frame_bytes(DATA, flags, stream_of(number), prefixed(message))


def prefixed(message: bytes) -> bytes:
    """A message as gRPC sends it."""
    return struct.pack(">BI", 0, len(message)) + message


def stream_of(number: int) -> int:
    """The id of the stream of a connection's call with this number."""
    return 2 * number + 1


def batch(name: str, n_choices: int) -> bytes:
    """A BatchChoose of an experiment."""
    asked = [bandit_pb2.ChooseRequest(experiment=name)] * n_choices
    return bandit_pb2.BatchChooseRequest(requests=asked).SerializeToString()

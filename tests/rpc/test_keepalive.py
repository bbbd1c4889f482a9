"""Keep-alive: whoever pings no more often than is documented is left alone, on any connection."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from typing import Final

import grpc
import pytest

from tests.rpc.raw_http2 import ACK, DATA, END_STREAM, GOAWAY, PING, RawConnection, frame_bytes
from tests.support.process import ServerProcess
from tests.support.wire import CALL_SECONDS

WATCH: Final = "/grpc.health.v1.Health/Watch"
SECONDS: Final = 46.0
"""Time for four pings: gRPC ends a connection at the third that it finds too early, the first being free."""

LEAST_SECONDS: Final = 10.0


def watch(connection: RawConnection) -> None:
    """Begin a stream that stays open without a word of the server once it has said its health."""
    connection.begin(1, WATCH)
    connection.send_message(1, b"")
    connection.send(DATA, END_STREAM, 1, b"")


def ping(connection: RawConnection, every_seconds: float, n_pings: int) -> tuple[int, bytes]:
    """Ping until the server ends the connection; return the number of answers, and its last words."""
    n_answers = 0
    for _ in range(n_pings):
        try:
            connection.send(PING, 0, 0, b"anything")
            for frame in connection.frames():
                if frame.kind == GOAWAY:
                    return n_answers, frame.payload
                if frame.kind == PING and frame.flags & ACK:
                    n_answers += 1
                    break
        except ConnectionError:
            break
        time.sleep(every_seconds)  # what is tested is the time between pings
    return n_answers, b""


@pytest.mark.both_listeners
@pytest.mark.slow
def test_pings_ten_seconds_apart_are_answered(shared_process: ServerProcess, listener: str) -> None:
    """With a stream on the connection or without any, every one is."""
    n_pings = int(SECONDS // LEAST_SECONDS) + 1
    with ExitStack() as stack, ThreadPoolExecutor() as threads:
        port = shared_process.port_of(listener)
        idle, busy = (stack.enter_context(closing(RawConnection.open(port))) for _ in range(2))
        watch(busy)
        found = list(threads.map(lambda each: ping(each, LEAST_SECONDS, n_pings), (idle, busy)))
    assert found == [(n_pings, b"")] * 2


@pytest.mark.parametrize("has_stream", [False, True])
def test_pings_in_a_hurry_end_the_connection(shared_process: ServerProcess, *, has_stream: bool) -> None:
    """A client that pings once a second is sent away after four, and told why.

    The fast lane lets it ping twenty times.
    """
    with closing(RawConnection.open(shared_process.port)) as connection:
        if has_stream:
            watch(connection)
        n_answers, goaway = ping(connection, 1.0, 20)
    assert n_answers < 6
    assert goaway.endswith(b"too_many_pings")


@pytest.mark.both_listeners
def test_a_flood_of_pings_ends_the_connection(shared_process: ServerProcess, listener: str) -> None:
    """After a thousand pings at once the server says why, and closes the connection."""
    kinds = []
    opened = RawConnection.open(shared_process.port_of(listener))
    with closing(opened) as connection, suppress(ConnectionError):
        connection.socket.sendall(frame_bytes(PING, 0, 0, b"anything") * 1_000)
        kinds = [(frame.kind, frame.payload[8:]) for frame in connection.frames()]
    assert (GOAWAY, b"too_many_pings") in kinds


@pytest.mark.both_listeners
@pytest.mark.slow
def test_an_idle_client_keeps_its_connection(shared_process: ServerProcess, listener: str) -> None:
    """A client of gRPC that pings every 11 s without calls keeps its connection."""
    options = [
        ("grpc.keepalive_time_ms", 11_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    left = threading.Event()

    def note(state: grpc.ChannelConnectivity) -> None:
        if state is not grpc.ChannelConnectivity.READY:
            left.set()

    with grpc.insecure_channel(shared_process.address_of(listener), options) as channel:
        grpc.channel_ready_future(channel).result(CALL_SECONDS)
        channel.subscribe(note)
        assert not left.wait(SECONDS)

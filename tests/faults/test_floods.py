"""Bursts of honest calls, and calls that never send their requests: answered or refused, never CANCELLED."""

import asyncio
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import grpc
import pytest

from bandit.v1 import bandit_pb2, bandit_pb2_grpc
from benchmarks.flood.attacker import flood
from server.rpc.floods.packet_filter import IS_SUPPORTED
from tests.conftest import Connect, StartServer
from tests.rpc.raw_http2 import END_HEADERS, END_STREAM, HEADERS, RawConnection, frame_bytes, headers_of
from tests.support.process import ServerProcess, eventually
from tests.support.refusals import call_of
from tests.support.wire import CALL_SECONDS, METHODS, Wire

CHOOSE: Final = "/bandit.v1.BanditService/Choose"
HEALTH: Final = ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch")
FLOOD_SECONDS: Final = 4.0
MOST_SECONDS: Final = 40.0
"""How long a flood goes on if the server, on a busy machine, is slow to act."""

MOST_GROWTH: Final = 1.3
REQUEST_SECONDS: Final = 1.0
SLACK_SECONDS: Final = 10.0
"""Extra time for a busy machine."""


@pytest.mark.parametrize("n_connections", [4, 8])
def test_a_burst_ends_in_answers(start_server: StartServer, connect: Connect, n_connections: int) -> None:
    """Of 900 calls at once on each of several connections, each is answered or refused for now."""
    server = start_server()
    name = connect(server).running()
    statuses = asyncio.run(burst(server, name, n_connections, 900))
    assert statuses.keys() <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert statuses[grpc.StatusCode.OK] > 0
    assert statuses.total() == 900 * n_connections


async def burst(
    server: ServerProcess, name: str, n_connections: int, n_calls: int
) -> Counter[grpc.StatusCode]:
    """Return how calls that are all made at once end."""
    request = bandit_pb2.ChooseRequest(experiment=name)
    statuses: Counter[grpc.StatusCode] = Counter()

    async def ask(stub: "bandit_pb2_grpc.BanditServiceAsyncStub") -> None:
        try:
            await stub.Choose(request, timeout=3 * CALL_SECONDS)
            statuses[grpc.StatusCode.OK] += 1
        except grpc.aio.AioRpcError as error:
            statuses[error.code()] += 1

    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(server.address, options=options) for _ in range(n_connections)]
    stubs = [bandit_pb2_grpc.BanditServiceStub(channel) for channel in channels]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    await asyncio.gather(*(ask(stub) for stub in stubs for _ in range(n_calls)))
    await asyncio.gather(*(channel.close() for channel in channels))
    return statuses


def test_a_flood_from_one_address_is_withstood(start_server: StartServer, connect: Connect) -> None:
    """A good caller is answered meanwhile, and memory is back soon after.

    Twelve connections a second begin 990 calls each and send none of their requests. They are closed, and
    most new ones of their address, which is that of the good caller, are not let through for a while.
    """
    server = start_server("--flood-seconds", "5")
    wire = connect(server)
    name = wire.running()
    for _ in range(500):
        wire.choose(name)
    before = resident_kib(server)
    with ThreadPoolExecutor(1) as thread:
        began_at = time.monotonic()

        def is_enough() -> bool:
            is_over = time.monotonic() - began_at > FLOOD_SECONDS
            return is_over and (has_logged(server, "address.slowed") or not IS_SUPPORTED)

        flooding = thread.submit(asyncio.run, flood(server.port, CHOOSE, MOST_SECONDS, is_enough))
        n_answered = 0
        while not flooding.done():
            wire.reward(wire.choose(name).decision_id, {"click": 1.0})
            n_answered += 1
    totals = flooding.result()
    assert n_answered > 0
    assert totals.n_made >= 1
    assert has_logged(server, "connection.closed")
    if IS_SUPPORTED:
        assert totals.n_made < totals.n_tried
    eventually(lambda: resident_kib(server) / before, until=lambda growth: growth <= MOST_GROWTH)
    wire.choose(name)


def resident_kib(server: ServerProcess) -> int:
    """Return resident memory in KiB."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (kib,) = re.findall(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kib)


@pytest.mark.skipif(not IS_SUPPORTED, reason="only Linux drops what an address sends")
def test_an_address_that_stops_is_let_in_again(start_server: StartServer) -> None:
    """A while after its last connection was closed, each attempt of the address to connect is let through."""
    server = start_server("--flood-seconds", "1")
    asyncio.run(flood(server.port, CHOOSE, MOST_SECONDS, lambda: has_logged(server, "address.slowed")))
    assert has_logged(server, "address.slowed")
    eventually(lambda: all(can_connect(server.port) for _ in range(40)))


def has_logged(server: ServerProcess, event: str) -> bool:
    """True if the server's log has an event of this name."""
    return any(found["event"] == event for found in server.events())


def can_connect(port: int) -> bool:
    """True if a connection's first packet is answered at once: a dropped one is repeated after a second."""
    with closing(socket.socket()) as client, suppress(TimeoutError):
        client.settimeout(0.5)
        client.connect(("127.0.0.1", port))
        return True
    return False


def open_stream(stream: int, method: str) -> bytes:
    """Begin a call and send nothing more."""
    return frame_bytes(HEADERS, END_HEADERS, stream, headers_of(method))


def half_a_message(stream: int, method: str) -> bytes:
    """Begin a call and its message, and send nothing more."""
    return open_stream(stream, method) + frame_bytes(0, 0, stream, struct.pack(">BI", 0, 82) + b"\x0a\x50")


@pytest.mark.parametrize("begin", [open_stream, half_a_message])
def test_a_call_without_its_request_is_ended(
    start_server: StartServer, connect: Connect, begin: Callable[[int, str], bytes]
) -> None:
    """On every method, health included, the call ends with DEADLINE_EXCEEDED a while after its headers."""
    server = start_server("--request-seconds", str(REQUEST_SECONDS))
    name = connect(server).running()
    with closing(RawConnection.open(server.port)) as connection:
        streams = {2 * number + 1: method for number, method in enumerate([*METHODS, *HEALTH])}
        connection.socket.sendall(b"".join(begin(stream, method) for stream, method in streams.items()))
        began_at = time.monotonic()
        ends: dict[int, bytes] = {}
        for frame in connection.frames():
            if frame.stream and frame.flags & END_STREAM:
                ends[frame.stream] = frame.payload
            if ends.keys() == streams.keys():
                break
        assert REQUEST_SECONDS / 2 < time.monotonic() - began_at < REQUEST_SECONDS + SLACK_SECONDS
    first = next(iter(ends.values()))  # later ones name the same headers by their indexes
    assert b"grpc-status\x014" in first
    assert b"REQUEST_INCOMPLETE" in first
    assert connect(server).choose(name).arm


def test_too_many_calls_without_requests_are_refused_with_a_delay(start_server: StartServer) -> None:
    """A connection may hold 200 of them; a few more are RESOURCE_EXHAUSTED, with a retry after a second."""
    server = start_server()
    with closing(RawConnection.open(server.port)) as connection:
        connection.socket.sendall(b"".join(open_stream(2 * number + 1, CHOOSE) for number in range(210)))
        payload = next(
            frame.payload for frame in connection.frames() if frame.flags & END_STREAM and frame.stream
        )
    assert b"grpc-status\x018" in payload
    assert b"TOO_MANY_INCOMPLETE_REQUESTS" in payload
    assert b"grpc-retry-pushback-ms\x041000" in payload


def test_a_call_that_ends_before_its_request_is_answered(start_server: StartServer) -> None:
    """The call is answered with INVALID_ARGUMENT, and holds nothing."""
    server = start_server()
    with closing(RawConnection.open(server.port)) as connection:
        connection.begin(1, CHOOSE, flags=END_HEADERS | END_STREAM)
        assert b"grpc-status\x013" in connection.answer(1)


@pytest.mark.parametrize(
    ("n_bytes", "is_taken"), [(8_000, True), (15_000, True), (17_000, False), (20_000, False)]
)
def test_metadata_is_refused_from_a_size_on(
    start_server: StartServer, connect: Connect, n_bytes: int, *, is_taken: bool
) -> None:
    """From 16 KiB, with names and 32 bytes a field as in RFC 9113, the same call always ends the same."""
    wire = connect(start_server())
    name = wire.running()
    ends = {end_of(wire, name, n_bytes) for _ in range(20)}
    assert ends == {grpc.StatusCode.OK if is_taken else grpc.StatusCode.RESOURCE_EXHAUSTED}


def end_of(wire: Wire, name: str, n_bytes: int) -> grpc.StatusCode:
    """Return how a call with `n_bytes` of metadata of its own ends."""
    request = bandit_pb2.ChooseRequest(experiment=name)
    try:
        wire.bandit.Choose(request, timeout=CALL_SECONDS, metadata=(("x-padding", "x" * n_bytes),))
    except grpc.RpcError as error:
        return call_of(error).code()
    return grpc.StatusCode.OK


def test_connections_beyond_the_limit_are_closed(start_server: StartServer, connect: Connect) -> None:
    """Existing ones are served; when one of them ends, a new one is taken."""
    server = start_server("--max-connections", "3")
    wire = connect(server)
    name = wire.running()
    with closing(RawConnection.open(server.port)), closing(RawConnection.open(server.port)) as second:
        with closing(socket.create_connection(("127.0.0.1", server.port), timeout=CALL_SECONDS)) as third:
            assert third.recv(1) == b""
        assert wire.choose(name).arm
        second.close()
        eventually(lambda: is_welcome(server.port))
    assert wire.choose(name).arm


def is_welcome(port: int) -> bool:
    """True if a connection receives the server's settings."""
    with suppress(ConnectionError, StopIteration), closing(RawConnection.open(port)):
        return True
    return False

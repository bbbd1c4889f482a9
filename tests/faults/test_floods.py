"""Bursts of honest calls, and calls that never send their requests: answered or refused, never CANCELLED.

Each claim is about both listeners, unless only one of them has what it is about.
"""

import asyncio
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import grpc
import pytest

from bandit.v1 import bandit_pb2, bandit_pb2_grpc
from benchmarks.flood.attacker import flood
from server.rpc.floods.packet_filter import IS_SUPPORTED
from tests.conftest import Connect, StartServer
from tests.rpc.raw_http2 import END_HEADERS, END_STREAM, HEADERS, RawConnection, frame_bytes, headers_of
from tests.support.good_caller import GoodCaller
from tests.support.process import ServerProcess, eventually
from tests.support.refusals import call_of
from tests.support.wire import CALL_SECONDS, METHODS, Wire

DATA_PLANE: Final = "/bandit.v1.BanditService/"
CHOOSE: Final = "/bandit.v1.BanditService/Choose"
FAST_LISTEN: Final = ("--fast-listen", "127.0.0.1:0")
HEALTH: Final = ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch")
FLOOD_SECONDS: Final = 4.0
OTHER_ADDRESS: Final = "127.0.0.2"
MOST_SECONDS: Final = 40.0
"""How long a flood goes on if the server, on a busy machine, is slow to act."""

MOST_GROWTH: Final = 1.3
OWN_CONNECTION: Final = [("grpc.use_local_subchannel_pool", 1)]
REQUEST_SECONDS: Final = 1.0
SLACK_SECONDS: Final = 10.0
"""Extra time for a busy machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A server, and the listener that a test is about.

    Attributes:
        server: Its process.
        control: A channel to the default listener, for what a test needs beforehand.
        wire: A channel to the listener.
        address: The listener's address.
    """

    server: ServerProcess
    control: Wire
    wire: Wire
    address: str

    @property
    def port(self) -> int:
        """The listener's port."""
        return int(self.address.rpartition(":")[2])


StartSite = Callable[..., Site]


@pytest.fixture(params=["grpcio", "fast"])
def start_site(
    request: pytest.FixtureRequest, start_server: StartServer, connect: Connect
) -> Iterator[StartSite]:
    """Start servers whose tests are about one of their listeners, which are in turn the two of them."""
    wires: list[Wire] = []

    def start(*flags: str) -> Site:
        server = start_server(*FAST_LISTEN, *flags)
        address = server.fast_address if request.param == "fast" else server.address
        assert address is not None
        wires.append(Wire(address))
        return Site(server=server, control=connect(server), wire=wires[-1], address=address)

    yield start
    for wire in wires:
        wire.close()


@pytest.mark.parametrize("n_connections", [4, 8])
def test_a_burst_ends_in_answers(start_site: StartSite, n_connections: int) -> None:
    """Of 900 calls at once on each of several connections, each is answered or refused for now."""
    site = start_site()
    name = site.control.running()
    statuses = asyncio.run(burst(site.address, name, n_connections, 900))
    assert statuses.keys() <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert statuses[grpc.StatusCode.OK] > 0
    assert statuses.total() == 900 * n_connections


@pytest.mark.parametrize("n_connections", [4, 8])
def test_a_burst_of_threads_ends_in_answers(start_site: StartSite, n_connections: int) -> None:
    """The same of clients that are not asyncio's, whose calls all begin before any is waited for."""
    site = start_site()
    name = site.control.running()
    request = bandit_pb2.ChooseRequest(experiment=name)
    with ExitStack() as stack:
        channels = [
            stack.enter_context(grpc.insecure_channel(site.address, OWN_CONNECTION))
            for _ in range(n_connections)
        ]
        for channel in channels:
            grpc.channel_ready_future(channel).result(CALL_SECONDS)
        stubs = [bandit_pb2_grpc.BanditServiceStub(channel) for channel in channels]
        calls = [stub.Choose.future(request, timeout=3 * CALL_SECONDS) for _ in range(900) for stub in stubs]
        statuses = Counter(call.code() for call in calls)
    assert statuses.keys() <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert statuses[grpc.StatusCode.OK] > 0


async def burst(address: str, name: str, n_connections: int, n_calls: int) -> Counter[grpc.StatusCode]:
    """Return how calls that are all made at once end."""
    request = bandit_pb2.ChooseRequest(experiment=name)
    statuses: Counter[grpc.StatusCode] = Counter()

    async def ask(stub: "bandit_pb2_grpc.BanditServiceAsyncStub") -> None:
        try:
            await stub.Choose(request, timeout=3 * CALL_SECONDS)
            statuses[grpc.StatusCode.OK] += 1
        except grpc.aio.AioRpcError as error:
            statuses[error.code()] += 1

    channels = [grpc.aio.insecure_channel(address, options=OWN_CONNECTION) for _ in range(n_connections)]
    stubs = [bandit_pb2_grpc.BanditServiceStub(channel) for channel in channels]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    await asyncio.gather(*(ask(stub) for stub in stubs for _ in range(n_calls)))
    await asyncio.gather(*(channel.close() for channel in channels))
    return statuses


@pytest.mark.parametrize("source", ["127.0.0.1", OTHER_ADDRESS])
def test_a_flood_from_one_address_is_withstood(start_site: StartSite, source: str) -> None:
    """A good caller is answered meanwhile, and memory is back soon after.

    Twelve connections a second begin 990 calls each and send none of their requests. Each is closed. The good
    caller has another address, or the same one and a connection that is open already.
    """
    site = start_site("--flood-seconds", "5")
    name = site.control.running()
    for _ in range(500):
        site.wire.choose(name)
    before = resident_kib(site.server)
    is_slowed = partial(has_logged, site.server, "address.slowed")
    has_filter = IS_SUPPORTED and site.address == site.server.address
    began_at = time.monotonic()

    def is_enough() -> bool:
        is_over = time.monotonic() - began_at > FLOOD_SECONDS
        return is_over and (not has_filter or is_slowed())

    with GoodCaller(site.wire, name) as good:
        totals = asyncio.run(flood(site.port, CHOOSE, MOST_SECONDS, is_enough, source=source))
        is_gone = not has_filter or totals.n_made < totals.n_tried
    assert good.is_answered
    assert is_gone
    assert totals.n_made >= 1
    closing_events = ("connection.closed", "fast_lane.connection_closed")
    assert any(has_logged(site.server, event) for event in closing_events)
    eventually(lambda: resident_kib(site.server) / before, until=lambda growth: growth <= MOST_GROWTH)
    site.wire.choose(name)


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
    start_site: StartSite, begin: Callable[[int, str], bytes]
) -> None:
    """On every method, health included, the call ends with DEADLINE_EXCEEDED a while after its headers."""
    site = start_site("--request-seconds", str(REQUEST_SECONDS))
    name = site.control.running()
    is_fast = site.address != site.server.address
    methods = [method for method in METHODS if not is_fast or method.startswith(DATA_PLANE)]
    with closing(RawConnection.open(site.port)) as connection:
        streams = {2 * number + 1: method for number, method in enumerate([*methods, *HEALTH])}
        connection.socket.sendall(b"".join(begin(stream, method) for stream, method in streams.items()))
        began_at = time.monotonic()
        ends: dict[int, bytes] = {}
        for frame in connection.frames():
            if frame.stream and frame.flags & END_STREAM:
                ends[frame.stream] = frame.payload
            if ends.keys() == streams.keys():
                break
        assert REQUEST_SECONDS / 2 < time.monotonic() - began_at < REQUEST_SECONDS + SLACK_SECONDS
    first = next(iter(ends.values()))  # later ones may name the same headers by their indexes
    assert b"grpc-status\x014" in first
    assert b"REQUEST_INCOMPLETE" in first
    assert site.wire.choose(name).arm


def test_too_many_calls_without_requests_are_refused_with_a_delay(start_site: StartSite) -> None:
    """A connection may hold 200 of them, 128 on the fast lane; a few more are RESOURCE_EXHAUSTED.

    They may be retried after a second.
    """
    site = start_site()
    with closing(RawConnection.open(site.port)) as connection:
        connection.socket.sendall(b"".join(open_stream(2 * number + 1, CHOOSE) for number in range(210)))
        payload = next(
            frame.payload for frame in connection.frames() if frame.flags & END_STREAM and frame.stream
        )
    assert b"grpc-status\x018" in payload
    assert b"TOO_MANY_INCOMPLETE_REQUESTS" in payload
    assert b"grpc-retry-pushback-ms\x041000" in payload


def test_a_call_that_ends_before_its_request_is_answered(start_site: StartSite) -> None:
    """The call is answered with INVALID_ARGUMENT, and holds nothing."""
    site = start_site()
    with closing(RawConnection.open(site.port)) as connection:
        connection.begin(1, CHOOSE, flags=END_HEADERS | END_STREAM)
        assert b"grpc-status\x013" in connection.answer(1)


@pytest.mark.parametrize(
    ("n_bytes", "is_taken"), [(8_000, True), (15_000, True), (17_000, False), (20_000, False)]
)
def test_metadata_is_refused_from_a_size_on(start_site: StartSite, n_bytes: int, *, is_taken: bool) -> None:
    """From 16 KiB, with names and 32 bytes a field as in RFC 9113, the same call always ends the same."""
    site = start_site()
    name = site.control.running()
    ends = {end_of(site.wire, name, n_bytes) for _ in range(20)}
    assert ends == {grpc.StatusCode.OK if is_taken else grpc.StatusCode.RESOURCE_EXHAUSTED}


def end_of(wire: Wire, name: str, n_bytes: int) -> grpc.StatusCode:
    """Return how a call with `n_bytes` of metadata of its own ends."""
    request = bandit_pb2.ChooseRequest(experiment=name)
    try:
        wire.bandit.Choose(request, timeout=CALL_SECONDS, metadata=(("x-padding", "x" * n_bytes),))
    except grpc.RpcError as error:
        return call_of(error).code()
    return grpc.StatusCode.OK


def test_connections_beyond_the_limit_are_closed(start_site: StartSite) -> None:
    """Existing ones are served; when one of them ends, a new one is taken."""
    site = start_site("--max-connections", "3")
    name = site.control.running()
    assert site.wire.choose(name).arm
    with closing(RawConnection.open(site.port)), closing(RawConnection.open(site.port)) as second:
        with closing(socket.create_connection(("127.0.0.1", site.port), timeout=CALL_SECONDS)) as third:
            assert is_closed(third)
        assert site.wire.choose(name).arm
        second.close()
        eventually(lambda: is_welcome(site.port))
    assert site.wire.choose(name).arm


def is_closed(connection: socket.socket) -> bool:
    """True if the server closes a connection without a word."""
    with suppress(ConnectionError):
        return connection.recv(1) == b""
    return True


def is_welcome(port: int) -> bool:
    """True if a connection receives the server's settings."""
    with suppress(ConnectionError, StopIteration), closing(RawConnection.open(port)):
        return True
    return False

"""A listener of connections that send back what they receive, and do as they are told."""

import asyncio
import os
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

import uvloop

from server.http2.limits import Limits
from server.http2.peer import PeerInfo
from server.http2.sockets.listener import Listener
from server.listening.open_sockets import OpenSockets

END: Final = b"end"
"""On these bytes the connection says goodbye and is over."""

FLOOD: Final = b"flood"
"""On these bytes it sends `FLOOD_BYTES`."""

FLOOD_BYTES: Final = 32 * 1024 * 1024
"""More than the kernel takes for a peer that does not read: a socket's buffers are up to some MiB."""

GOODBYE: Final = b"goodbye"
DRAINING: Final = b"draining"


@dataclass
class Clock:
    """A monotonic clock that a test can move."""

    ahead: float = 0.0

    def now(self) -> float:
        """Return the time."""
        return monotonic() + self.ahead


class Echo:
    """A connection that sends back what it receives, some bytes a turn."""

    def __init__(self, peer: PeerInfo, wake: Callable[[], None], turn_bytes: int) -> None:
        self.peer = peer
        self.wake = wake
        self.is_over = False
        self.broken_rule = ""
        self.is_lost = False
        self.is_failing = False
        self.n_unsent = 0
        self.n_turns = 0
        self.n_ticks = 0
        self.output = b""
        self._turn_bytes = turn_bytes
        self._unread = b""

    @property
    def has_backlog(self) -> bool:
        """True if bytes are left from the last turn."""
        return bool(self._unread)

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes, and echo a turn of them."""
        del now
        self._unread += data
        self.go_on()

    def go_on(self) -> None:
        """Echo a turn of the bytes."""
        self.n_turns += 1
        turn, self._unread = self._unread[: self._turn_bytes], self._unread[self._turn_bytes :]
        self.is_over = turn.startswith(END)
        self.output += GOODBYE if self.is_over else bytes(FLOOD_BYTES) if turn == FLOOD else turn

    def take_output(self) -> bytes:
        """Return what is to be written."""
        output, self.output = self.output, b""
        return output

    def tick(self, now: float) -> None:
        """Count, and fail if the test wants that."""
        del now
        self.n_ticks += 1
        if self.is_failing:
            raise RuntimeError("a tick that fails")

    def begin_drain(self, now: float) -> None:
        """Say so."""
        del now
        self.output += DRAINING

    def lost(self) -> None:
        """Note that the peer is gone."""
        self.is_lost = True


@dataclass
class Site:
    """A listener at a port of its own.

    Attributes:
        listener: It.
        address: Host and port, or the path of a Unix socket.
        clock: Its clock.
        echoes: Its connections, in the order in which they began.
        events: What it reported.
    """

    listener: Listener
    address: tuple[str, int] | str
    clock: Clock
    echoes: list[Echo]
    events: list[tuple[str, str]]
    streams: list[asyncio.StreamWriter] = field(default_factory=list)

    async def connect(
        self, source: str = "127.0.0.1", context: ssl.SSLContext | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect from an address of this machine."""
        if isinstance(self.address, str):
            reader, writer = await asyncio.open_unix_connection(self.address)
        else:
            host, port = self.address
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)  # or it takes a whole flood
            client.bind((source, 0))
            client.connect((host, port))
            name = None if context is None else host
            reader, writer = await asyncio.open_connection(sock=client, ssl=context, server_hostname=name)
        self.streams.append(writer)
        return reader, writer

    async def is_served(self, source: str = "127.0.0.1") -> bool:
        """True if a new connection is answered, which stays open; False if it was closed."""
        try:
            reader, writer = await self.connect(source)
            return await echoed(reader, writer, b"x") == b"x"
        except ConnectionError:
            return False


async def echoed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bytes:
    """Send bytes, and return as many; fewer if the connection is closed."""
    writer.write(data)
    try:
        return await reader.readexactly(len(data))
    except asyncio.IncompleteReadError as error:
        return error.partial


async def soon(look: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until `look` is true; fail if it is not in time."""
    async with asyncio.timeout(seconds):
        while not look():  # noqa: ASYNC110 - what is waited for notifies nobody
            await asyncio.sleep(0.005)


def on_loop(body: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run a test on the kind of event loop that servers run on."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(body())


@asynccontextmanager
async def listening(
    limits: Limits | None = None,
    *,
    address: str = "127.0.0.1:0",
    turn_bytes: int = 1 << 20,
    context: Callable[[], ssl.SSLContext | None] = lambda: None,
    before: Callable[[Site], Awaitable[None]] | None = None,
) -> AsyncIterator[Site]:
    """Run a listener until the block ends; `before` is called before it starts, when clients may wait."""
    limits = limits or Limits()
    clock = Clock()
    echoes: list[Echo] = []
    events: list[tuple[str, str]] = []

    def make(peer: PeerInfo, _now: float, wake: Callable[[], None]) -> Echo:
        echoes.append(Echo(peer, wake, turn_bytes))
        return echoes[-1]

    opened = OpenSockets.open(address)
    listener = Listener(
        make, limits, clock.now, context=context, on_event=lambda *event: events.append(event[:2])
    )
    where = address.removeprefix("unix:") if address.startswith("unix:") else ("127.0.0.1", opened.port)
    site = Site(listener, where, clock, echoes, events)
    if before is not None:
        await before(site)
    listener.start(opened.sockets)
    try:
        yield site
    finally:
        for stream in site.streams:
            stream.transport.abort()
        await listener.close(5.0)
        opened.close()


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """Let this process open no file until the block ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

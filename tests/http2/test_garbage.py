"""What a connection leaves behind when it has ended."""

import asyncio
import gc
import socket
from collections.abc import Callable
from functools import partial
from time import monotonic
from weakref import ref

import pytest

from bandit.client.http2.frames import PING, PREFACE, SETTINGS, frame
from server.http2.connection import Connection
from server.http2.limits import Limits, Totals
from server.http2.peer import PeerInfo
from server.http2.sockets.listener import Listener
from server.listening.open_sockets import OpenSockets
from tests.http2.scripted import Script


class Watched(Connection):
    """A connection that can be referred to weakly."""


class Owner(Script):
    """A session that refers to its connection, as the product's does."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.connection = connection


def talk(port: int, sent: bytes) -> None:
    """Connect, send bytes, wait for an answer, and leave."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(sent)
        client.recv(1)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n" * 2,
        PREFACE + frame(SETTINGS, 0, 0),
        PREFACE + frame(PING, 0, 0),
    ],
    ids=["nothing", "another protocol", "a greeting", "a fault"],
)
def test_a_connection_that_has_ended_is_freed_at_once(sent: bytes) -> None:
    """No circle of references is left: Python looks for those in old objects once in millions of them."""
    made: list[ref[Watched]] = []

    def make(limits: Limits, peer: PeerInfo, now: float, wake: Callable[[], None]) -> Watched:
        connection = Watched(Owner, limits, Totals(), now, peer=peer, wake=wake)
        made.append(ref(connection))
        return connection

    async def body() -> bool:
        limits = Limits()
        listener = Listener(partial(make, limits), limits, monotonic)
        opened = OpenSockets.open("127.0.0.1:0", None)
        listener.start(opened.sockets)
        await asyncio.to_thread(talk, opened.port, sent)
        await listener.close(20.0)
        await asyncio.sleep(0)
        opened.close()
        return made[0]() is None

    gc.disable()
    try:
        assert asyncio.run(body())
    finally:
        gc.enable()

"""One channel for each client, opened late, and closed at any time."""

import socket
import threading
import time
from concurrent import futures

import grpc
import pytest

from bandit.client import BanditClient, Fallback, UnavailableError
from bandit.client.aio.connection import AsyncConnection
from bandit.client.blocking.connection import Connection, Stubs
from bandit.client.endpoint import Endpoint
from bandit.v1 import bandit_pb2
from tests.bandit.client.peer import Peer, settle

REQUEST = bandit_pb2.ChooseRequest(experiment="ranker")


@pytest.fixture
def endpoint(peer: Peer) -> Endpoint:
    """The peer's endpoint."""
    return Endpoint(target=peer.target, credentials=None, token=None)


def test_channel_is_opened_late_and_once(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel is opened when it is first needed, and only one for all threads that need it at once."""
    opened = []
    insecure_channel = grpc.insecure_channel

    def count(target: str, options: list[tuple[str, str | int]]) -> grpc.Channel:
        opened.append(target)
        return insecure_channel(target, options)

    monkeypatch.setattr(grpc, "insecure_channel", count)
    connection = Connection(endpoint)
    assert opened == []
    gate = threading.Barrier(8)

    def read(_: int) -> Stubs:
        gate.wait()
        return connection.stubs

    with futures.ThreadPoolExecutor(8) as pool:
        stubs = set(map(id, pool.map(read, range(8))))
    connection.close()
    assert len(opened) == len(stubs) == 1


def test_connecting_is_retried_often(fallback: Fallback) -> None:
    """Attempts to connect follow each other within a second; gRPC's default would take 26 s for these."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10.0)
        began = time.monotonic()
        with BanditClient(f"127.0.0.1:{listener.getsockname()[1]}") as client:
            client.choose("ranker", fallback=fallback)
            for _ in range(7):
                listener.accept()[0].close()
        assert time.monotonic() - began < 10.0


def test_silent_peer_is_given_up(fallback: Fallback) -> None:
    """A connection on which the peer is silent is replaced after two seconds; gRPC's default is 20 s."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(10.0)
        with BanditClient(f"127.0.0.1:{silent.getsockname()[1]}") as client:
            client.choose("ranker", fallback=fallback)
            first, _ = silent.accept()
            second, _ = silent.accept()
    first.close()
    second.close()


@pytest.mark.parametrize("kind", [Connection, AsyncConnection])
async def test_closed_before_the_call(
    endpoint: Endpoint, kind: type[Connection] | type[AsyncConnection]
) -> None:
    """A call whose channel another thread or task has just closed raises UnavailableError."""
    connection = kind(endpoint)
    method = connection.stubs.bandit.Choose
    await settle(connection.close())
    with pytest.raises(UnavailableError, match="closed"):
        await settle(connection.call(method, REQUEST, 10.0))  # type: ignore[arg-type]

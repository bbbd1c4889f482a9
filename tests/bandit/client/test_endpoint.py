"""Where calls go, and what is sent with them."""

import os
import socket
from concurrent import futures

import grpc
import pytest

from bandit.client import BanditClient, Fallback
from bandit.client.endpoint import Endpoint
from bandit.v1 import bandit_pb2
from tests.bandit.client.peer import ClientFactory, Handler, Peer, Script, answer, settle

ANSWER = bandit_pb2.ChooseResponse(arm="v1")
BEARER = "opaque-bearer"
LOOPBACK = [
    "127.0.0.1:50051",
    "127.1.2.3:1",
    "localhost:50051",
    "localhost",
    "[::1]:50051",
    "ipv4:127.0.0.1:50051",
    "ipv6:[::1]:50051",
    "dns:localhost:50051",
    "dns:///localhost:50051",
    "unix:/run/bandit.sock",
    "unix-abstract:bandit",
]
REMOTE = [
    "bandit.internal:50051",
    "localhost.example.com:50051",
    "127.0.0.1.example.com:50051",
    "10.0.0.1:50051",
    "0.0.0.0:50051",
    "ipv4:127.0.0.1:1,10.0.0.1:1",
    "dns://10.0.0.1/localhost:50051",
    "[2001:db8::1]:50051",
    "xds:///localhost",
    "127.\u0660.\u0660.\u0661:50051",
    "localho\u017ft:50051",
]


async def test_token_is_sent(new_client: ClientFactory, peer: Peer, fallback: Fallback) -> None:
    """A token is sent with each call as a bearer token; without one there is no such metadata."""
    peer.script.on("Choose", answer(ANSWER))
    for token in (BEARER, None):
        client = new_client(peer.target, choose_timeout=10.0, token=token)
        await settle(client.choose("ranker", fallback=fallback))
    first, second = (received.metadata.get("authorization") for received in peer.script.received)
    assert (first, second) == (f"Bearer {BEARER}", None)


async def test_user_agent_names_the_distribution(
    new_client: ClientFactory, peer: Peer, fallback: Fallback
) -> None:
    """The user agent shows the service's operator which client calls."""
    peer.script.on("Choose", answer(ANSWER))
    await settle(new_client(peer.target, choose_timeout=10.0).choose("ranker", fallback=fallback))
    assert str(peer.script.received[0].metadata["user-agent"]).startswith("bandit-allocator ")


async def test_credentials_are_used(new_client: ClientFactory, script: Script, fallback: Fallback) -> None:
    """With credentials the channel is secure, and carries the token."""
    server = grpc.server(futures.ThreadPoolExecutor(1), [Handler(script)])
    port = server.add_secure_port("127.0.0.1:0", grpc.local_server_credentials())
    server.start()
    script.on("Choose", answer(ANSWER))
    client = new_client(
        f"127.0.0.1:{port}", choose_timeout=10.0, credentials=grpc.local_channel_credentials(), token=BEARER
    )
    assert (await settle(client.choose("ranker", fallback=fallback))).arm == "v1"
    assert script.received[0].metadata["authorization"] == f"Bearer {BEARER}"
    server.stop(0).wait()


@pytest.mark.parametrize("target", LOOPBACK)
def test_token_may_stay_on_the_machine(target: str) -> None:
    """A token without credentials is accepted for a target on this machine."""
    assert Endpoint(target=target, credentials=None, token=BEARER).is_loopback


@pytest.mark.parametrize("target", REMOTE)
def test_token_does_not_leave_in_plain_text(target: str) -> None:
    """A token without credentials is refused for any other target, and the message does not contain it."""
    with pytest.raises(ValueError, match="credentials") as raised:
        BanditClient(target, token=BEARER)
    assert BEARER not in str(raised.value)
    BanditClient(target, token=BEARER, credentials=grpc.ssl_channel_credentials()).close()


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "café"])
def test_token_is_checked(token: str) -> None:
    """A token that no header can carry is refused at once, and the message does not contain it."""
    with pytest.raises(ValueError, match="printable ASCII"):
        BanditClient(token=token)


def test_secrets_are_not_printed() -> None:
    """No representation of the endpoint contains the token."""
    assert BEARER not in repr(Endpoint(target="localhost", credentials=None, token=BEARER))


async def test_loopback_takes_no_proxy(
    new_client: ClientFactory, peer: Peer, fallback: Fallback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy in the environment is not used for a service on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        for name in ("http_proxy", "https_proxy", "grpc_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        for name in ("no_proxy", "no_grpc_proxy"):
            monkeypatch.delenv(name, raising=False)
        assert "http_proxy" in os.environ
        peer.script.on("Choose", answer(ANSWER))
        client = new_client(peer.target, choose_timeout=10.0)
        assert (await settle(client.choose("ranker", fallback=fallback))).arm == "v1"


async def test_large_answers_are_taken(new_client: ClientFactory, peer: Peer, fallback: Fallback) -> None:
    """An answer larger than gRPC's own limit of 4 MiB arrives: a batch may bring 1,000 payloads of 16 KiB."""
    large = bandit_pb2.ChooseResponse(arm="v1", model_uri="x" * (5 << 20))
    peer.script.on("Choose", answer(large))
    client = new_client(peer.target, choose_timeout=10.0)
    assert (await settle(client.choose("ranker", fallback=fallback))).arm == "v1"


def test_options_come_last(peer: Peer, fallback: Fallback) -> None:
    """A channel option of the caller replaces the client's own."""
    peer.script.on("Choose", answer(bandit_pb2.ChooseResponse(arm="v1", model_uri="x" * 5000)))
    options = [("grpc.max_receive_message_length", 1000)]
    with BanditClient(peer.target, choose_timeout=10.0, options=options) as client:
        cause = client.choose("ranker", fallback=fallback).fallback_cause
    assert cause is not None
    assert cause.code is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("name", ["choose_timeout", "batch_choose_timeout", "experiment_timeout"])
def test_timeouts_are_positive(name: str) -> None:
    """A timeout that is not positive is refused when the client is made."""
    with pytest.raises(ValueError, match=f"{name} must be more than zero"):
        BanditClient(**{name: 0.0})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "target",
    [
        "",
        "http://bandit.internal:50051",
        "HTTPS://bandit.internal",
        "tcp://127.0.0.1:1",
        "grpc://b:1",
        "://b",
    ],
)
def test_a_url_is_not_a_target(target: str, new_client: ClientFactory) -> None:
    """A URL is refused as a target: a client that can't reach anything would fall back for ever."""
    with pytest.raises(ValueError, match="a target is HOST:PORT"):
        new_client(target)


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1:99999",
        "b:notaport",
        "b:",
        "[::1]:0",
        "dns:///b:65536",
        "ipv4:127.0.0.1:-1",
        "b:\u0665",
        "b:1 ",
    ],
)
def test_a_port_is_a_port(target: str, new_client: ClientFactory) -> None:
    """A port beyond 65535 is refused: gRPC would cut it to 16 bits, and call whoever is there."""
    with pytest.raises(ValueError, match="the port of a target is a number from 1 to 65535"):
        new_client(target)


@pytest.mark.parametrize(
    "target",
    [
        "b",
        "b:1",
        "::1",
        "fe80::1%eth0",
        "[::1]",
        "[::1]:65535",
        "dns:b",
        "dns:b:80",
        "dns:///b",
        "dns://1.1.1.1:53/b:443",
        "ipv4:10.0.0.1:1,10.0.0.2:2",
        "ipv6:[::1]:1",
        "unix:/run/b:99999",
        "unix-abstract:b",
        "xds:///b:x",
        "b:https",
    ],
)
def test_targets_of_grpc_are_taken(target: str, new_client: ClientFactory) -> None:
    """What gRPC can reach by any of its schemes is a target."""
    new_client(target)


def test_a_target_that_is_not_set_is_refused(new_client: ClientFactory) -> None:
    """None, from a missing environment variable, raises when the client is made, and not in `choose`."""
    with pytest.raises(TypeError, match=r"target must be a str, got None \(NoneType\)"):
        new_client(None)  # type: ignore[arg-type]

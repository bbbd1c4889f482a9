"""Clients that are pickled or copied."""

import copy
import pickle
from pathlib import Path

import grpc
import pytest

from bandit.client import AsyncBanditClient, BanditClient, Fallback, RetryPolicy, Tls
from bandit.v1 import bandit_pb2
from tests.bandit.client.peer import AnyClient, ClientFactory, Peer, answer, settle
from tests.support.certificates import Authority

BEARER = "opaque-bearer"


async def test_pickled_client(new_client: ClientFactory, peer: Peer, tmp_path: Path) -> None:
    """A pickled client, used before or not, is one with the same arguments and a channel of its own."""
    peer.script.on("Choose", answer(bandit_pb2.ChooseResponse(arm="v1")))
    token = tmp_path / "token"
    token.write_text(BEARER)
    client = new_client(peer.target, choose_timeout=10.0, retry=RetryPolicy(timeout=7.0), token=token)
    fallback = Fallback("v0")
    for _ in range(2):
        pickled = pickle.dumps(client)
        assert BEARER.encode() not in pickled
        other: AnyClient = pickle.loads(pickled)  # noqa: S301 - our own bytes
        assert type(other) is type(client)
        assert (await settle(other.choose("ranker", fallback=fallback))).arm == "v1"
        await settle(other.close())
        assert (await settle(client.choose("ranker", fallback=fallback))).arm == "v1"
    assert peer.script.received[0].time_remaining > 5.0
    assert {received.metadata["authorization"] for received in peer.script.received} == {f"Bearer {BEARER}"}
    assert other._retry == RetryPolicy(timeout=7.0)


@pytest.mark.parametrize("kind", [BanditClient, AsyncBanditClient])
def test_pickled_certificates(kind: type[BanditClient] | type[AsyncBanditClient], tmp_path: Path) -> None:
    """Certificates travel as the names of their files, which are read again."""
    ca = tmp_path / "ca.pem"
    ca.write_bytes(Authority.create().pem)
    client = kind("bandit.internal:443", tls=Tls(ca=ca))
    other = pickle.loads(pickle.dumps(client))  # noqa: S301 - our own bytes
    assert other._arguments == client._arguments


@pytest.mark.parametrize("kind", [BanditClient, AsyncBanditClient])
def test_secrets_are_not_pickled(kind: type[BanditClient] | type[AsyncBanditClient]) -> None:
    """A token in a string, or credentials, are refused with the way out, and without the token."""
    with pytest.raises(TypeError, match="as the path of a file") as raised:
        pickle.dumps(kind(token=BEARER))
    assert BEARER not in str(raised.value)
    with pytest.raises(TypeError, match=r"tls=Tls\("):
        pickle.dumps(kind(credentials=grpc.ssl_channel_credentials()))


async def test_copied_client(client: AnyClient, peer: Peer) -> None:
    """A copy is the client itself, also deep within other objects, and whatever its token is."""
    peer.script.on("Choose", answer(bandit_pb2.ChooseResponse(arm="v1")))
    assert copy.copy(client) is client
    settings = copy.deepcopy({"bandit": client, "secret": BanditClient(token=BEARER)})
    assert settings["bandit"] is client
    assert (await settle(client.choose("ranker", fallback=Fallback("v0")))).arm == "v1"

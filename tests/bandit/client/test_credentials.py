"""A client's credentials: tokens from files that may be replaced, and certificates."""

# ruff: noqa: ASYNC240 - a file of a few bytes, written by a test

from pathlib import Path

import grpc
import pytest

from bandit.client import AccessError, BanditClient, Fallback, Tls
from bandit.client.credentials import Bearer
from bandit.v1 import bandit_pb2
from tests.bandit.client.peer import AnyClient, Behaviour, ClientFactory, Peer, answer, settle


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that holds a token."""
    path = tmp_path / "token"
    path.write_text("first\n")
    return path


def takes(token: str) -> Behaviour:
    """Answer calls with this token, and refuse all others."""

    def behave(request: bytes, context: grpc.ServicerContext) -> bytes:
        if ("authorization", f"Bearer {token}") not in [
            tuple(pair) for pair in context.invocation_metadata()
        ]:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no")
        return answer(bandit_pb2.ChooseResponse(arm="v1"))(request, context)

    return behave


def client_with(new_client: ClientFactory, peer: Peer, token: Path) -> AnyClient:
    """A client, of either kind, with a token from a file."""
    return new_client(peer.target, choose_timeout=10.0, token=token)


async def test_a_token_is_read_from_its_file(
    new_client: ClientFactory, peer: Peer, fallback: Fallback, file: Path
) -> None:
    """The token is the file's text without the line's end."""
    peer.script.on("Choose", takes("first"))
    choice = await settle(client_with(new_client, peer, file).choose("ranker", fallback=fallback))
    assert choice.arm == "v1"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_of_windows_holds_the_same_token(file: Path, encoding: str) -> None:
    """A byte order mark, CRLF, and the UTF-16 of PowerShell are not part of the token."""
    file.write_bytes("first\r\n".encode(encoding))
    assert Bearer(file).metadata == (("authorization", "Bearer first"),)


async def test_a_refused_token_is_read_again_and_tried_once(
    new_client: ClientFactory, peer: Peer, fallback: Fallback, file: Path
) -> None:
    """A token that replaced the refused one in the file is sent within the same call."""
    peer.script.on("Choose", takes("second"))
    client = client_with(new_client, peer, file)
    file.write_text("second\n")
    assert (await settle(client.choose("ranker", fallback=fallback))).arm == "v1"
    assert (await settle(client.choose("ranker", fallback=fallback))).arm == "v1"
    assert len(peer.script.received) == 3


async def test_a_token_that_stays_refused_is_an_access_error(
    new_client: ClientFactory, peer: Peer, fallback: Fallback, file: Path
) -> None:
    """A refused token is sent only once while its file stays the same or can't be read."""
    peer.script.on("Choose", takes("second"))
    client = client_with(new_client, peer, file)
    for _ in range(2):
        cause = (await settle(client.choose("ranker", fallback=fallback))).fallback_cause
        assert isinstance(cause, AccessError)
        file.unlink(missing_ok=True)
    assert len(peer.script.received) == 2


def test_a_string_is_a_token_and_never_a_path(file: Path) -> None:
    """A token that looks like a path is sent as it is."""
    assert Bearer(str(file)).metadata == (("authorization", f"Bearer {file}"),)


def test_a_file_that_is_missing_or_holds_no_token_raises_at_once(file: Path, tmp_path: Path) -> None:
    """Making the client raises, and the text does not show what the file holds."""
    with pytest.raises(OSError, match="no-token"):
        BanditClient(token=tmp_path / "no-token")
    file.write_text("two words")
    with pytest.raises(ValueError, match="printable ASCII") as caught:
        BanditClient(token=file)
    assert "words" not in str(caught.value)


def test_a_certificate_goes_with_its_key(tmp_path: Path) -> None:
    """One without the other is refused, and so are two settings of what is trusted."""
    with pytest.raises(ValueError, match="needs its key"):
        Tls(certificate=tmp_path / "c.pem")
    with pytest.raises(ValueError, match="needs its key"):
        Tls(key=tmp_path / "c.key")
    with pytest.raises(ValueError, match="exclude each other"):
        BanditClient(tls=Tls(), credentials=grpc.ssl_channel_credentials())
    with pytest.raises(OSError, match=r"ca\.pem"):
        BanditClient(tls=Tls(ca=tmp_path / "ca.pem"))
    BanditClient("bandit.internal:443", tls=Tls(), token="sent").close()  # noqa: S106 - a test's own

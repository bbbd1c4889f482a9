"""TLS: refusals before a handler runs, and certificates that change under load."""

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from bandit.client import BanditClient, CallError, Fallback, Tls
from server.app.access import Access
from server.app.errors import StartupError, startup_errors
from server.cli.main import cli
from server.rpc.guard.tls import CertificateError, CertificateFiles
from server.services.runtime.clock import Clock
from server.settings import Settings
from tests.conftest import StartServer
from tests.security.conftest import Enter, TokensFile
from tests.support.certificates import Authority
from tests.support.process import WITH_FAST_LANE, ServerProcess, eventually, serving
from tests.support.refusals import call_of, refused
from tests.support.wire import Wire


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[ServerProcess]:
    """Start a server that requires client certificates, and knows one caller by its certificate."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = authority.issue("server.test").write(folder, "server")
    (folder / "ca.pem").write_bytes(authority.pem)
    (folder / "tokens.toml").write_text(
        '[[callers]]\nname = "ranker"\nroles = ["choose"]\ncertificate_names = ["ranker.test"]\n'
    )
    flags = ["--tls-certificate", str(certificate), "--tls-key", str(key)]
    flags += ["--tls-client-ca", str(folder / "ca.pem"), "--tokens", str(folder / "tokens.toml")]
    with serving(folder / "bandit.db", *flags, "--metrics-listen", "127.0.0.1:0", *WITH_FAST_LANE) as started:
        yield started


def n_calls(server: ServerProcess) -> float:
    """Return the number of calls of Choose that reached its handler."""
    labels = {"grpc_type": "unary", "grpc_service": "bandit.v1.BanditService"}
    return server.sample("grpc_server_started_total", **labels, grpc_method="Choose")


def is_answered(wire: Wire) -> bool:
    """True if the caller of a channel may choose."""
    return refused(lambda: wire.choose("missing")).code is grpc.StatusCode.NOT_FOUND


@pytest.mark.both_listeners
def test_a_caller_is_known_by_its_certificate(
    server: ServerProcess, authority: Authority, enter: Enter
) -> None:
    """A caller is known by the common name or an alternative name that the tokens file lists."""
    known = enter(server, credentials=authority.credentials(authority.issue("ranker.test")))
    assert is_answered(known)
    stranger = enter(server, credentials=authority.credentials(authority.issue("stranger.test")))
    assert refused(lambda: stranger.choose("missing")).code is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.both_listeners
@pytest.mark.parametrize("case", ["plain text", "no certificate", "wrong CA of ours", "wrong CA of theirs"])
def test_a_handshake_that_fails_reaches_no_handler(
    case: str, server: ServerProcess, authority: Authority, enter: Enter
) -> None:
    """The call gets UNAVAILABLE, and no method begins."""
    stranger = Authority.create("another authority")
    credentials = {
        "plain text": None,
        "no certificate": authority.credentials(),
        "wrong CA of ours": stranger.credentials(authority.issue("ranker.test")),
        "wrong CA of theirs": authority.credentials(stranger.issue("ranker.test")),
    }[case]
    before = n_calls(server)
    wire = enter(server, credentials=credentials)
    with pytest.raises(grpc.RpcError) as caught:
        wire.choose("missing")
    assert call_of(caught.value).code() is grpc.StatusCode.UNAVAILABLE
    assert n_calls(server) == before


@pytest.mark.both_listeners
@pytest.mark.parametrize(
    ("version", "is_taken"),
    [
        (ssl.TLSVersion.TLSv1, False),
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_nothing_older_than_tls_1_2(
    version: ssl.TLSVersion,
    *,
    is_taken: bool,
    server: ServerProcess,
    listener: str,
    authority: Authority,
    tmp_path: Path,
) -> None:
    """The server itself refuses older versions, whatever the client offers."""
    paths = authority.issue("ranker.test").write(tmp_path, "client")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_verify_locations(cadata=authority.pem.decode())
    context.load_cert_chain(*paths)
    context.set_alpn_protocols(["h2"])
    context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", server.port_of(listener)), timeout=20) as plain:
        if not is_taken:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                context.wrap_socket(plain, server_hostname="127.0.0.1")
            return
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped:
            assert wrapped.selected_alpn_protocol() == "h2"


def serial_of(port: int, authority: Authority) -> str:
    """Return the serial number of the certificate at a port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority.pem.decode())
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped,
    ):
        certificate = wrapped.getpeercert()
    assert certificate is not None
    return str(certificate["serialNumber"])


@pytest.mark.both_listeners
def test_a_new_certificate_is_shown_without_a_restart_and_without_a_failed_call(
    start_server: StartServer, listener: str, tmp_path: Path, authority: Authority, enter: Enter
) -> None:
    """No call fails, on old or new connections; a broken certificate is logged once and not used."""
    certificate, key = authority.issue("server.test").write(tmp_path, "server")
    many = ("--fast-new-connections", "0")  # the test makes a hundred a second from one address
    server = start_server("--tls-certificate", str(certificate), "--tls-key", str(key), *many)
    port = server.port_of(listener)
    stop, failures, counts = threading.Event(), list[Exception](), [0, 0]

    def load(kind: int) -> None:
        wire = Wire.to(server, listener, credentials=authority.credentials())
        while not stop.is_set():
            try:
                wire.choose(name)
                counts[kind] += 1
            except grpc.RpcError as error:
                failures.append(error)
            if kind:  # a connection for each call
                wire.close()
                wire = Wire.to(server, listener, credentials=authority.credentials())
        wire.close()

    name = enter(server, credentials=authority.credentials()).running()
    threads = [threading.Thread(target=load, args=(kind,)) for kind in (0, 1)]
    for thread in threads:
        thread.start()
    first = serial_of(port, authority)
    authority.issue("server.test").write(tmp_path, "server")
    second = eventually(lambda: serial_of(port, authority), until=lambda serial: serial != first)
    certificate.write_text("no certificate")
    eventually(lambda: any(event["event"] == "file.not_reloaded" for event in server.events()))
    assert serial_of(port, authority) == second
    done = list(counts)
    eventually(lambda: min(now - then for now, then in zip(counts, done, strict=True)) > 0)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    (event,) = [event for event in server.events() if event["event"] == "file.not_reloaded"]
    assert str(certificate) in event["error"]
    assert "PRIVATE" not in json.dumps(event)


@pytest.mark.parametrize("case", ["missing", "no PEM", "another's key"])
def test_an_unusable_certificate_is_logged_by_name(case: str, tmp_path: Path, authority: Authority) -> None:
    """The log has the files and the reason, and nothing of a key."""
    certificate, key = authority.issue("server.test").write(tmp_path, "server")
    if case == "missing":
        key.unlink()
    elif case == "no PEM":
        certificate.write_text("no certificate")
    else:
        key.write_bytes(authority.issue("other.test").key)
    with pytest.raises(CertificateError) as caught:
        CertificateFiles(certificate=certificate, key=key).watched()
    assert str(key) in str(caught.value)
    assert "PRIVATE" not in str(caught.value)


def test_an_encrypted_key_is_refused(tmp_path: Path, authority: Authority) -> None:
    """An encrypted key is refused, as no one is there to type its password."""
    certificate, key = authority.issue("server.test").write(tmp_path, "server")
    secret = load_pem_private_key(key.read_bytes(), None)
    encryption = BestAvailableEncryption(b"word")
    key.write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    with pytest.raises(CertificateError, match=str(key)):
        CertificateFiles(certificate=certificate, key=key).watched()


def test_a_server_without_its_certificate_does_not_start(tmp_path: Path) -> None:
    """The start fails with one line that names the file."""
    settings = Settings(tls_certificate=tmp_path / "no.pem", tls_key=tmp_path / "no.key")
    with pytest.raises(StartupError, match=r"no\.pem: no such file or directory"), startup_errors(Settings()):
        Access(settings, Clock())


def test_the_client_speaks_tls_with_a_token(
    start_server: StartServer, tmp_path: Path, authority: Authority
) -> None:
    """TLS files and token work; with another CA, the fallback is served, and commands print a clear error."""
    certificate, key = authority.issue("server.test").write(tmp_path, "server")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    file = TokensFile.create(tmp_path / "tokens.toml", {"all": 'roles = ["viewer", "choose"]'})
    server = start_server(
        "--tls-certificate", str(certificate), "--tls-key", str(key), "--tokens", str(file.path)
    )
    (tmp_path / "token").write_text(file.token("all") + "\n")
    token = tmp_path / "token"
    with BanditClient(server.address, tls=Tls(ca=tmp_path / "ca.pem"), token=token) as client:
        assert list(client.experiments.list()) == []
        cause = client.choose("missing", fallback=Fallback("v1"), timeout=20).fallback_cause
        assert cause is not None
        assert cause.code is grpc.StatusCode.NOT_FOUND
    (tmp_path / "other.pem").write_bytes(Authority.create().pem)
    with BanditClient(server.address, tls=Tls(ca=tmp_path / "other.pem"), token=token) as client:
        assert client.choose("missing", fallback=Fallback("v1"), timeout=5).is_fallback
        with pytest.raises(CallError):
            list(client.experiments.list())
    flags = ["experiment", "list", "--server", server.address, "--ca"]
    done = CliRunner().invoke(cli, [*flags, str(tmp_path / "ca.pem"), "--token-file", str(token)])
    assert (done.exit_code, done.stdout[:14]) == (0, "no experiments")
    done = CliRunner().invoke(cli, [*flags, str(tmp_path / "other.pem")])
    assert done.stderr == (
        f"error: TLS with {server.address} failed: check --ca, and that the server accepts your certificate\n"
    )
    done = CliRunner().invoke(cli, [*flags, str(tmp_path / "no.pem")])
    assert (done.exit_code, done.stderr) == (2, f"error: {tmp_path / 'no.pem'}: no such file or directory\n")
    done = CliRunner().invoke(cli, flags[:-1])
    assert done.stderr.startswith(f"error: the server at {server.address} closed the connection")

"""TLS of the listener: what is refused, and what a certificate says."""

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from server.http2.limits import Limits
from server.http2.sockets.link import Abort
from server.http2.sockets.tls import certificate_names
from server.rpc.guard.tls import CertificateFiles
from tests.http2.sockets.echo import echoed, listening, on_loop, soon
from tests.support.certificates import Authority

AUTHORITY = Authority.create()


def server_context(folder: Path, name: str, *, wants_client: bool = False) -> ssl.SSLContext:
    """Return the context of a server with a new certificate."""
    certificate, key = AUTHORITY.issue(name).write(folder, name)
    (folder / "ca.pem").write_bytes(AUTHORITY.pem)
    client_ca = folder / "ca.pem" if wants_client else None
    return CertificateFiles(certificate=certificate, key=key, client_ca=client_ca).watched().value.context


def client_context() -> ssl.SSLContext:
    """Return the context of a client that trusts the authority, and speaks HTTP/2."""
    context = ssl.create_default_context(cadata=AUTHORITY.pem.decode())
    context.set_alpn_protocols(["h2"])
    return context


@pytest.mark.parametrize("protocols", [[], ["http/1.1"]])
def test_another_protocol_is_closed(tmp_path: Path, protocols: list[str]) -> None:
    """A client that does not ask for HTTP/2 in the handshake gets nothing."""
    context = ssl.create_default_context(cadata=AUTHORITY.pem.decode())
    if protocols:
        context.set_alpn_protocols(protocols)
    server = server_context(tmp_path, "server.test")

    async def body() -> None:
        async with listening(context=lambda: server) as site:
            try:
                reader, _ = await site.connect(context=context)
                assert await reader.read() == b""
            except OSError:
                pass
            await soon(lambda: site.listener.n_aborted[Abort.NOT_HTTP2] == 1)
            await soon(lambda: site.listener.counts.n_open == 0)

    on_loop(body)


@pytest.mark.parametrize("case", ["TLS 1.1", "no authenticated encryption", "no client certificate"])
def test_weak_handshakes_fail(tmp_path: Path, case: str) -> None:
    """They reach no connection, are counted, and give their place back."""
    context = client_context()
    server = server_context(tmp_path, "server.test", wants_client=case == "no client certificate")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if case == "TLS 1.1":
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    elif case == "no authenticated encryption":
        context.set_ciphers("ECDHE-ECDSA-AES128-SHA")

    async def body() -> None:
        async with listening(context=lambda: server) as site:
            with pytest.raises(OSError):  # noqa: PT011 - each case has another
                await site.connect(context=context)
            await soon(lambda: site.listener.n_aborted[Abort.HANDSHAKE] == 1)
            assert (site.echoes, site.listener.counts.n_open) == ([], 0)

    on_loop(body)


def test_a_slow_handshake_is_cut_off(tmp_path: Path) -> None:
    """A client that connects and says nothing is closed in time."""
    server = server_context(tmp_path, "server.test")

    async def body() -> None:
        async with listening(replace(Limits(), handshake_seconds=0.2), context=lambda: server) as site:
            reader, _ = await site.connect()
            assert await asyncio.wait_for(reader.read(), 10) == b""
            await soon(lambda: site.listener.n_aborted[Abort.HANDSHAKE] == 1)
            assert site.listener.counts.n_open == 0

    on_loop(body)


def test_a_new_certificate_is_for_new_connections(tmp_path: Path) -> None:
    """The next handshake shows it, and an open connection goes on."""
    current = [server_context(tmp_path, "old.test")]

    async def body() -> None:
        async with listening(context=lambda: current[0]) as site:
            reader, writer = await site.connect(context=client_context())
            assert "old.test" in certificate_names(writer.get_extra_info("peercert"))
            current[0] = server_context(tmp_path, "new.test")
            _, later = await site.connect(context=client_context())
            assert "new.test" in certificate_names(later.get_extra_info("peercert"))
            assert await echoed(reader, writer, b"x") == b"x"

    on_loop(body)


def test_names_of_a_client(tmp_path: Path) -> None:
    """They are those of its certificate: the alternative names, and then the common name."""
    server = server_context(tmp_path, "server.test", wants_client=True)
    context = client_context()
    context.load_cert_chain(*AUTHORITY.issue("ranker.test").write(tmp_path, "ranker"))

    async def body() -> None:
        async with listening(context=lambda: server) as site:
            reader, writer = await site.connect(context=context)
            assert await echoed(reader, writer, b"x") == b"x"
            assert site.echoes[0].peer.certificate_names == ("127.0.0.1", "ranker.test", "ranker.test")

    on_loop(body)


def test_names_are_written_as_grpc_writes_them() -> None:
    """Every kind that gRPC shows, an IPv6 address in its short form, and the first common name."""
    certificate = {
        "subject": ((("commonName", "first"),), (("commonName", "second"),)),
        "subjectAltName": (
            ("DNS", "a.test"),
            ("URI", "spiffe://a"),
            ("email", "a@test"),
            ("IP Address", "2001:DB8:0:0:0:0:0:1"),
            ("DirName", ((("commonName", "directory"),),)),
        ),
    }
    names = ("a.test", "spiffe://a", "a@test", "2001:db8::1", "first")
    assert certificate_names(certificate) == names
    assert certificate_names(None) == ()

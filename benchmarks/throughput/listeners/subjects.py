"""The servers that are compared, each with what a caller of it needs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from benchmarks.harness.processes import FAST_LISTEN, Child, ChildError, clean_environment, serving
from benchmarks.throughput.listeners.rows import Name

_FAST: Final = (
    *(FAST_LISTEN, "127.0.0.1:0"),
    *(
        "--fast-connections-by-address",
        "0",
        "--fast-new-connections",
        "0",
    ),  # all connections have one address
)
_STOP_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A listener, and how it is called.

    Attributes:
        pid: The process.
        address: HOST:PORT.
        is_echo: Whether it is an echo, with methods of its own.
        token: The caller's token, if it wants one.
        certificate: The certificate that its clients trust, PEM, if it speaks TLS.
    """

    pid: int
    address: str
    is_echo: bool = False
    token: str | None = None
    certificate: bytes | None = None

    def channel(self) -> grpc.Channel:
        """Open an ordinary channel."""
        options = [("grpc.enable_http_proxy", 0)]
        if self.certificate is None:
            return grpc.insecure_channel(self.address, options)
        return grpc.secure_channel(self.address, grpc.ssl_channel_credentials(self.certificate), options)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of a call."""
        return () if self.token is None else (("authorization", f"Bearer {self.token}"),)


Subjects = Mapping[Name, Subject]


@contextmanager
def plain(folder: Path, *, has_fast: bool) -> Iterator[Subjects]:
    """Run a server with one or both listeners, without TLS and tokens."""
    with serving(folder, *(_FAST if has_fast else ())) as child:
        yield _both(child, Name.DEFAULT, Name.FAST)


@contextmanager
def secured(folder: Path, database: Path, *, has_fast: bool) -> Iterator[Subjects]:
    """Run a server with TLS, and one with tokens, on copies of a database.

    Args:
        folder: For the copies.
        database: The folder of a database that no server uses.
        has_fast: Whether they have a fast lane.
    """
    fast = _FAST if has_fast else ()
    tls, token = folder / "tls", folder / "token"
    for copy in (tls, token):
        shutil.copytree(database, copy)
    certificate, flags = _certificate(tls)
    secret, tokens = _token(token)
    with serving(tls, *fast, *flags) as first, serving(token, *fast, "--tokens", str(tokens)) as second:
        yield {
            **_both(first, Name.DEFAULT_TLS, Name.FAST_TLS, certificate=certificate),
            **_both(second, Name.DEFAULT_KNOWING, Name.FAST_KNOWING, token=secret),
        }


@contextmanager
def go_echoing(program: Path, n_bytes: int) -> Iterator[Subject]:
    """Run the echo on grpc-go on one thread of Go code, with answers of `n_bytes` bytes."""
    environment = {**os.environ, "GOMAXPROCS": "1"}
    command = [str(program), "-response-bytes", str(n_bytes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            line = "" if process.stdout is None else process.stdout.readline()
            if not line:
                raise ChildError("the echo on grpc-go did not start")
            yield Subject(pid=process.pid, address=line.split()[-1], is_echo=True)
        finally:
            process.terminate()
            process.wait(_STOP_SECONDS)


def _both(
    child: Child, default: Name, fast: Name, *, token: str | None = None, certificate: bytes | None = None
) -> dict[Name, Subject]:
    addresses = {default: child.address, fast: child.fast_address}
    return {
        name: Subject(pid=child.pid, address=address, token=token, certificate=certificate)
        for name, address in addresses.items()
        if address
    }


def _certificate(folder: Path) -> tuple[bytes, tuple[str, ...]]:
    """Write a certificate for 127.0.0.1 and its key; return the certificate, and the server's flags."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "benchmark")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate)
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, ("--tls-certificate", str(files[0]), "--tls-key", str(files[1]))


def _token(folder: Path) -> tuple[str, Path]:
    """Return the token of a caller who may choose, and the file that the server knows it by."""
    file = folder / "tokens.toml"
    flags = ("--caller", "ranker", "--role", "choose", "--append", str(file))
    command = [sys.executable, "-m", "server", "token", "new", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean_environment())
    if done.returncode != 0:
        raise ChildError(f"no token could be made: {done.stderr.strip()}")
    return done.stdout.strip(), file

"""TLS: the server's certificate, reloaded when its files change, and the check of client certificates.

Both listeners ask for the certificate before each handshake; open connections keep the one they began with.
They accept TLS 1.2 and 1.3, and nothing older.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from server.http2.sockets.tls import new_context
from server.services.runtime.input_files import InputFileError, read_bytes
from server.services.runtime.reloading_file import ReloadingFile


class CertificateError(Exception):
    """Unusable certificate files; the text names them and never contains key material."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What was read from the files, for each listener.

    Attributes:
        grpc: For gRPC.
        context: For the fast lane.
    """

    grpc: grpc.ServerCertificateConfiguration
    context: ssl.SSLContext


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFiles:
    """The server's certificate files, all in PEM.

    Attributes:
        certificate: The server's certificate, followed by its intermediate certificates.
        key: Its private key, unencrypted.
        client_ca: The root certificates for clients, which must then present a certificate; None to ask for
            none.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def watched(self) -> ReloadingFile[Configuration]:
        """Return the certificate, reloaded when it changes; CertificateError if the files are unusable."""
        paths = [self.certificate, self.key] + ([self.client_ca] if self.client_ca else [])
        return ReloadingFile("tls", paths, self._load, CertificateError)

    def _load(self) -> Configuration:
        """Read the files and check that they match: gRPC would report a mismatch to clients only."""
        before = self._read()
        context = self._checked_context()
        if self._read() != before:
            raise CertificateError(f"{self.certificate} and {self.key} are being written")
        certificate, key, client_ca = before
        configuration = grpc.ssl_server_certificate_configuration([(key, certificate)], client_ca)
        return Configuration(grpc=configuration, context=context)

    def _read(self) -> tuple[bytes, bytes, bytes | None]:
        client_ca = None if self.client_ca is None else _read(self.client_ca)
        return _read(self.certificate), _read(self.key), client_ca

    def _checked_context(self) -> ssl.SSLContext:
        context = new_context()
        try:
            context.load_cert_chain(self.certificate, self.key, password=_refuse_password)
        except (ssl.SSLError, ValueError, OSError) as error:
            raise CertificateError(
                f"{self.certificate} and {self.key} are not a certificate and its key in PEM: "
                f"{_reason(error)}"
            ) from None
        try:
            if self.client_ca is not None:
                context.load_verify_locations(self.client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except (ssl.SSLError, ValueError, OSError) as error:
            raise CertificateError(
                f"{self.client_ca} holds no certificates in PEM: {_reason(error)}"
            ) from None
        return context


def credentials_of(watched: ReloadingFile[Configuration], *, wants_client: bool) -> grpc.ServerCredentials:
    """Return credentials with the current certificate; `wants_client` requires one from the client, too."""
    shown = watched.value

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        """Return a changed certificate, or None; gRPC calls this in a thread of its own."""
        nonlocal shown
        if watched.value is shown:
            return None
        shown = watched.value
        return shown.grpc

    # The type stub does not allow None.
    return grpc.dynamic_ssl_server_credentials(shown.grpc, fetch, wants_client)  # type: ignore[arg-type]


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path, may_be_pipe=False)
    except InputFileError as error:
        raise CertificateError(f"{path}: {error}") from None


def _refuse_password() -> str:
    raise ValueError("the key is encrypted: decrypt it, since the server can't ask for a password")


def _reason(error: Exception) -> str:
    """Return OpenSSL's reason in words; it gives none for a file that is not PEM at all."""
    reason = getattr(error, "reason", None)
    if isinstance(error, ssl.SSLError) and not reason:
        return "one of them is not PEM"
    return str(reason or error).replace("_", " ").lower()

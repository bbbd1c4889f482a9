"""TLS: the server's certificate, loaded again when its files change, and who must show one of their own.

gRPC asks before each handshake which certificate to show; connections that stand keep the one they began
with. It speaks TLS 1.2 and 1.3, and nothing older.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import grpc

from server.services.runtime.input_files import InputFileError, read_bytes
from server.services.runtime.reloading_file import ReloadingFile

Configuration: TypeAlias = grpc.ServerCertificateConfiguration


class CertificateError(Exception):
    """Certificate files that can't be used; the text names them and holds nothing of a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFiles:
    """Where the server's certificate is, all PEM.

    Attributes:
        certificate: The server's, followed by those between it and its root.
        key: Its private key, not encrypted.
        client_ca: The roots of client certificates, which clients then have to show; None for none.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def watched(self) -> ReloadingFile[Configuration]:
        """The certificate of now; CertificateError if the files can't be used."""
        paths = [self.certificate, self.key] + ([self.client_ca] if self.client_ca else [])
        return ReloadingFile("tls", paths, self._load, CertificateError)

    def _load(self) -> Configuration:
        """Reads the files, and looks whether they belong together: gRPC would say so to clients only."""
        before = self._read()
        self._check()
        if self._read() != before:
            raise CertificateError(f"{self.certificate} and {self.key} are being written")
        certificate, key, client_ca = before
        return grpc.ssl_server_certificate_configuration([(key, certificate)], client_ca)

    def _read(self) -> tuple[bytes, bytes, bytes | None]:
        client_ca = None if self.client_ca is None else _read(self.client_ca)
        return _read(self.certificate), _read(self.key), client_ca

    def _check(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.key, password=_refuse_password)
        except (ssl.SSLError, ValueError, OSError) as error:
            raise CertificateError(
                f"{self.certificate} and {self.key} are no certificate and its key in PEM: {_reason(error)}"
            ) from None
        try:
            if self.client_ca is not None:
                context.load_verify_locations(self.client_ca)
        except (ssl.SSLError, ValueError, OSError) as error:
            raise CertificateError(
                f"{self.client_ca} holds no certificates in PEM: {_reason(error)}"
            ) from None


def credentials_of(watched: ReloadingFile[Configuration], *, wants_client: bool) -> grpc.ServerCredentials:
    """Credentials that show the certificate of now; `wants_client` requires one of the client, too."""
    shown = watched.value

    def fetch() -> Configuration | None:
        """For gRPC to call in a thread of its own; None for no change."""
        nonlocal shown
        if watched.value is shown:
            return None
        shown = watched.value
        return shown

    # The stub does not know that None is an answer.
    return grpc.dynamic_ssl_server_credentials(shown, fetch, wants_client)  # type: ignore[arg-type]


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path, may_be_pipe=False)
    except InputFileError as error:
        raise CertificateError(f"{path}: {error}") from None


def _refuse_password() -> str:
    raise ValueError("the key is encrypted, and nobody is there to type its password")


def _reason(error: Exception) -> str:
    """What OpenSSL found, in its words; it has none for a file that is no PEM at all."""
    reason = getattr(error, "reason", None)
    if isinstance(error, ssl.SSLError) and not reason:
        return "one of them is not PEM"
    return str(reason or error).replace("_", " ").lower()

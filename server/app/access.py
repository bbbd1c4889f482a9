"""Access: TLS and tokens from the settings, loaded again when their files change."""

import asyncio
import ssl
from typing import Any, Final

import grpc
import structlog

from server.addresses import is_loopback
from server.rpc.guard.authentication import Authenticator
from server.rpc.guard.tls import CertificateFiles, Configuration, credentials_of
from server.services.access.tokens_file import TokensFileError, load_tokens
from server.services.runtime.clock import Clock
from server.services.runtime.reloading_file import ReloadingFile
from server.settings import Settings

LOOK_SECONDS: Final = 1.0
"""How often to look for changed files."""

log = structlog.get_logger()


class Access:
    """TLS and authentication, as configured.

    Attributes:
        authenticator: Authenticates callers.
        credentials: Those of gRPC's port; None for plain text.

    Args:
        settings: Name the files.
        clock: The time.

    Raises:
        CertificateError: A certificate, key or client CA can't be used.
        TokensFileError: The tokens file can't be used.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._reloading: list[ReloadingFile[Any]] = []
        self._tls: ReloadingFile[Configuration] | None = None
        self.credentials = self._open_tls()
        self.authenticator = self._open_tokens(clock)

    def context(self) -> ssl.SSLContext | None:
        """Return the TLS of the fast lane's next handshake; None for plain text."""
        return None if self._tls is None else self._tls.value.context

    async def look(self) -> None:
        """Load the files that changed, on a thread, since they may be on a network."""
        for reloading in self._reloading:
            await asyncio.to_thread(reloading.look)

    def log_access(self) -> None:
        """Log who can call; a warning if anyone can, from anywhere."""
        facts = {
            "tls": self._settings.tls_certificate is not None,
            "client_certificates": self._settings.tls_client_ca is not None,
            "tokens": self._settings.tokens is not None,
        }
        if self._settings.tokens is None and self._settings.tls_client_ca is None:
            write = log.info if all(map(is_loopback, self._settings.addresses)) else log.warning
            write("access.open", **facts, meaning="anyone who reaches the port may do everything")
        else:
            log.info("access.guarded", **facts)

    def _open_tls(self) -> grpc.ServerCredentials | None:
        certificate, key = self._settings.tls_certificate, self._settings.tls_key
        if certificate is None or key is None:
            return None
        client_ca = self._settings.tls_client_ca
        reloading = CertificateFiles(certificate=certificate, key=key, client_ca=client_ca).watched()
        self._tls = reloading
        self._reloading.append(reloading)
        return credentials_of(reloading, wants_client=client_ca is not None)

    def _open_tokens(self, clock: Clock) -> Authenticator:
        path = self._settings.tokens
        reloading = None
        if path is not None:
            reloading = ReloadingFile("tokens", [path], lambda: load_tokens(path), TokensFileError)
            self._reloading.append(reloading)
        return Authenticator(reloading, clock, calls_per_second=self._settings.calls_per_second)

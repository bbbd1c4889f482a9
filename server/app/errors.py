"""Startup errors."""

from collections.abc import Iterator
from contextlib import contextmanager

from server.rpc.guard.tls import CertificateError
from server.rpc.server import ListenError
from server.services.access.tokens_file import TokensFileError
from server.store.errors import StoreError


class StartupError(Exception):
    """The command can't start; the message is for the person who started it."""


@contextmanager
def startup_errors() -> Iterator[None]:
    """Raise StartupError for errors of the layers below."""
    try:
        yield
    except (StoreError, ListenError, CertificateError, TokensFileError) as error:
        raise StartupError(str(error)) from error

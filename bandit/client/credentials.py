"""Certificates, and a bearer token that may be replaced while the client runs."""

import codecs
import re
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Final, TypeAlias

import grpc

from bandit.wrong_types import require, wrong_type

Metadata: TypeAlias = tuple[tuple[str, str], ...]

_MOST_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """TLS to the service, configured from PEM files.

    Attributes:
        ca: the root certificates that the service's is verified against; None for those that gRPC brings.
        certificate: the client's own certificate, for services that require one.
        key: the private key of `certificate`.

    Raises:
        TypeError: one of them is not a path.
        ValueError: there is a certificate without a key, or a key without a certificate, or PEM text in place
            of the path of its file. No message contains the text.
    """

    ca: str | PathLike[str] | None = None
    certificate: str | PathLike[str] | None = None
    key: str | PathLike[str] | None = None

    def __post_init__(self) -> None:
        for name in ("ca", "certificate", "key"):
            _check_path(name, getattr(self, name))
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a client certificate needs its key, and a key its certificate")

    def read(self) -> grpc.ChannelCredentials:
        """Return the channel credentials of the files as they are now; OSError if one can't be read."""
        ca, certificate, key = (
            None if path is None else _read_some(Path(path)) for path in (self.ca, self.certificate, self.key)
        )
        return grpc.ssl_channel_credentials(ca, key, certificate)


def channel_credentials(
    tls: Tls | None, credentials: grpc.ChannelCredentials | None
) -> grpc.ChannelCredentials | None:
    """Return the credentials of a channel, given in one of two ways; None for plain text.

    Raises:
        TypeError: one of them has a wrong type. The message does not contain it.
        ValueError: both are given.
        OSError: a file can't be read.
    """
    require("tls", tls, Tls | None, "a Tls or None")
    wanted = "channel credentials or None"
    require("credentials", credentials, grpc.ChannelCredentials | None, wanted, is_secret=True)
    if tls is None:
        return credentials
    if credentials is not None:
        raise ValueError("tls and credentials exclude each other")
    return tls.read()


class Bearer:
    """A bearer token: a string, or a file that is read again when the service refuses its content.

    Args:
        source: the token as a str, or the path of the file that holds it; None for no token.

    Raises:
        TypeError: the source is neither. The message does not contain it.
        ValueError: the token can't be sent in a header. The message does not contain it.
        OSError: the file can't be read.
    """

    def __init__(self, source: str | PathLike[str] | None) -> None:
        self._path = None
        if source is None or isinstance(source, str):
            self.metadata = _to_metadata(source)
        else:
            if not isinstance(source, PathLike):
                raise wrong_type("token", source, "a str, a path or None", is_secret=True)
            self._path = Path(source)
            self.metadata = _to_metadata(_read(self._path))

    def renew(self, refused: Metadata | None) -> bool:
        """Read the file again; True if the token now differs from the one that was refused."""
        if self._path is not None:
            try:
                self.metadata = _to_metadata(_read(self._path))
            except (OSError, ValueError):  # in the middle of its replacement: the next refusal reads it again
                return False
        return self.metadata != refused


def _check_path(name: str, path: object) -> None:
    """Raise an error if `path` is no path, without what it is: it may be a private key."""
    if path is not None and not isinstance(path, str | PathLike):
        raise wrong_type(name, path, "the path of a PEM file, or None", is_secret=True)
    if isinstance(path, str) and "-----BEGIN" in path:
        raise ValueError(f"{name} must be the path of a PEM file, and is its text")


def _read(path: Path) -> str:
    data = _read_some(path)
    is_wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # of Windows PowerShell
    return data.decode("utf-16" if is_wide else "utf-8-sig", errors="replace").strip()


def _read_some(path: Path) -> bytes:
    """The content of a file, cut off at 1 MiB: anything larger is not a token or a certificate."""
    with path.open("rb") as file:
        return file.read(_MOST_BYTES)


def _to_metadata(token: str | None) -> Metadata | None:
    """The metadata that is sent with every call."""
    if token is None:
        return None
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise ValueError("a token must be printable ASCII without spaces")
    return (("authorization", f"Bearer {token}"),)

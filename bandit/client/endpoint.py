"""The address of the service and how to reach it: target, credentials and channel options."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from os import PathLike
from urllib.parse import unquote

import grpc

from bandit import DISTRIBUTION  # an ImportError if the linter with the same import name shadows this package
from bandit.client.credentials import Bearer
from bandit.sizes import UNIX_ADDRESS_BYTES
from bandit.wrong_types import require, shown

DEFAULT_TARGET = "127.0.0.1:50051"

# A service that restarts is found again within about a second. A connection attempt is given up after two, a
# peer that acknowledges nothing after five (TCP_USER_TIMEOUT follows the keepalive timeout).
CHANNEL_OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.primary_user_agent", DISTRIBUTION),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.max_receive_message_length", -1),  # 1,000 arms may bring 16 KiB of payload each
)

_SCHEMES = frozenset({"dns", "google-c2p", "ipv4", "ipv6", "unix", "unix-abstract", "vsock", "xds"})
_HOST_SCHEMES = frozenset({"dns", "ipv4", "ipv6"})
_LARGEST_PORT = 65_535

_IPV6 = 6

_HOST = re.compile(r"(?:[^:/,\[\]\s]+|\[[^\]\s]+\])(?::([^:/,]*))?")

_UNIX = re.compile(r"unix(?:-abstract)?:(?://(?=/))?(.*)", re.IGNORECASE | re.DOTALL)

_LOOPBACK = re.compile(
    r"unix(-abstract)?:.*|(dns:(///)?|ipv4:|ipv6:)?(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?",
    re.ASCII | re.IGNORECASE,  # \d matches digits of any script, and `s` a long one, otherwise
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A service to connect to.

    Attributes:
        target: a gRPC target, such as `127.0.0.1:50051`, `dns:///bandit.internal:443` or
            `unix:/run/bandit/bandit.sock`.
        credentials: of the channel; None for plain text.
        token: a bearer token, or the path of a file that holds one, sent with every call; it needs
            credentials or a loopback target.
        options: channel options that replace the client's own.
    """

    target: str
    credentials: grpc.ChannelCredentials | None = field(repr=False)
    token: str | PathLike[str] | None = field(repr=False)
    options: Sequence[tuple[str, str | int]] = ()
    bearer: Bearer = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require("target", self.target, str, "a str")
        _check_target(self.target)
        if _unix_bytes(self.target) > UNIX_ADDRESS_BYTES:
            raise ValueError(
                f"the path of a Unix socket has at most {UNIX_ADDRESS_BYTES} bytes, got {self.target!r}"
            )
        object.__setattr__(self, "bearer", Bearer(self.token))
        if self.token is not None and self.credentials is None and not self.is_loopback:
            raise ValueError(f"a token needs credentials or a loopback target, got {self.target!r}")

    @property
    def is_loopback(self) -> bool:
        """True if calls do not leave this machine."""
        return _LOOPBACK.fullmatch(self.target) is not None

    def channel_arguments(self) -> tuple[str, grpc.ChannelCredentials | None, list[tuple[str, str | int]]]:
        """Return the target, credentials and options of a channel."""
        # gRPC sends even loopback calls to the proxy of the environment unless `no_proxy` lists them.
        proxy = {"grpc.enable_http_proxy": 0} if self.is_loopback else {}
        # Else gRPC would look for the socket's path in the certificate of a server that has one.
        name = {"grpc.ssl_target_name_override": "localhost"} if _UNIX.fullmatch(self.target) else {}
        # One value for each key: of two, gRPC would take the first.
        options = {**dict(CHANNEL_OPTIONS), **proxy, **name, **dict(self.options)}
        return self.target, self.credentials, list(options.items())


def _check_target(target: str) -> None:
    """Raise ValueError for what gRPC would take, to fail at each call or to call a stranger.

    It looks for a host of the name of an unknown scheme, of several hosts or of a host with spaces around it,
    and cuts a port down to 16 bits.
    """
    scheme, _, rest = target.partition(":")
    has_scheme = scheme.lower() in _SCHEMES
    if not has_scheme and _HOST.fullmatch(target) is None and not _is_ipv6(target):
        raise ValueError(
            "a target is HOST:PORT or another of gRPC's, such as dns:///bandit.internal:443, got "
            f"{shown(target)}"
        )
    if has_scheme and scheme.lower() not in _HOST_SCHEMES:
        return
    place = _HOST.fullmatch(rest.removeprefix("///") if has_scheme else target)
    port = place[1] if place else None
    if port is None or port.lower() in {"http", "https"}:  # gRPC knows the ports of these two
        return
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= _LARGEST_PORT):
        raise ValueError(f"the port of a target is a number from 1 to {_LARGEST_PORT}, got {shown(target)}")


def _is_ipv6(target: str) -> bool:
    """True if the target is an IPv6 address without brackets and port."""
    try:
        return ip_address(target).version == _IPV6
    except ValueError:
        return False


def _unix_bytes(target: str) -> int:
    """Return the number of bytes of a Unix socket's path or name; 0 for another target."""
    match = _UNIX.fullmatch(target)
    return len(os.fsencode(unquote(match[1]))) if match else 0

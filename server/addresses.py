"""Addresses of the forms `HOST:PORT`, `unix:PATH` and `unix-abstract:NAME`."""

import os
import re
import sys
from ipaddress import IPv6Address, ip_address
from typing import Final
from urllib.parse import unquote

from bandit.sizes import UNIX_ADDRESS_BYTES

_ADDRESS: Final = re.compile(r"([^\s:\[\]]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})", re.ASCII)
LARGEST_PORT: Final = 65_535

_UNIX: Final = "unix:"
_ABSTRACT: Final = "unix-abstract:"
_NOT_IN_PATHS: Final = re.compile(r"[\x00-\x1f\x7f?#]")
"""What gRPC would take for something else than a part of the path; `%3F` and `%23` are a path's own."""


def split_address(address: str) -> tuple[str, int]:
    """Split `HOST:PORT` into host and port; the brackets around an IPv6 host are removed.

    Raises:
        ValueError: no host, no port, or a port outside 0 to 65535.

    >>> split_address("[::1]:50051")
    ('::1', 50051)
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match[2]) > LARGEST_PORT:
        raise ValueError(
            "must be HOST:PORT with a port from 0 to 65535, such as 127.0.0.1:50051 or [::1]:50051"
        )
    return match[1].strip("[]"), int(match[2])


def join_address(host: str, port: int) -> str:
    """Return `HOST:PORT`, with brackets around an IPv6 host.

    >>> join_address("::1", 50051)
    '[::1]:50051'
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_unix(address: str) -> bool:
    """True if `address` is that of a Unix socket, with or without a path."""
    return address.startswith((_UNIX, _ABSTRACT))


def unix_path(address: str) -> str:
    """Return the path of `unix:PATH`, with `%` decoded as gRPC does; empty for `unix-abstract:NAME`.

    >>> unix_path("unix:///run/bandit.sock"), unix_path("unix:bandit.sock")
    ('/run/bandit.sock', 'bandit.sock')
    """
    if not address.startswith(_UNIX):
        return ""
    path = address.removeprefix(_UNIX)
    return unquote(path.removeprefix("//") if path.startswith("///") else path)


def abstract_name(address: str) -> str:
    """Return the name of `unix-abstract:NAME`, with `%` decoded as gRPC does; empty for `unix:PATH`."""
    return unquote(address.removeprefix(_ABSTRACT)) if address.startswith(_ABSTRACT) else ""


def listen_address(address: str) -> str:
    """Return an address unless no server can listen at it, as far as its text shows.

    Raises:
        ValueError: neither `HOST:PORT` nor a Unix socket's address, or a path that is too long.
    """
    if is_unix(address):
        _check_unix(address)
        return address
    try:
        split_address(address)
    except ValueError as error:
        raise ValueError(f"{error}, or a Unix socket such as unix:/run/bandit.sock") from None
    return address


def metrics_address(address: str) -> str:
    """Return an address unless no metrics can be read there, as far as its text shows.

    Raises:
        ValueError: not `HOST:PORT`.
    """
    if is_unix(address):
        raise ValueError("must be HOST:PORT: Prometheus reads metrics over TCP, not from a Unix socket")
    split_address(address)
    return address


def is_loopback(address: str) -> bool:
    """True if only this machine can reach `address`. The only name that counts is localhost."""
    if is_unix(address):
        return True
    host, _ = split_address(address)
    try:
        return ip_address(as_ipv4(host)).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def as_ipv4(host: str) -> str:
    """Return an IP address in one form, and an IPv4 address as such, also where IPv6 has mapped it.

    >>> as_ipv4("::ffff:127.0.0.1"), as_ipv4("0:0:0:0:0:0:0:1"), as_ipv4("fe80::1%2")
    ('127.0.0.1', '::1', 'fe80::1%2')
    """
    address = ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def with_port(address: str, port: int) -> str:
    """Return `HOST:PORT` with another port; a Unix socket's address unchanged."""
    if is_unix(address):
        return address
    host, _ = split_address(address)
    return join_address(host, port)


def _check_unix(address: str) -> None:
    name = unix_path(address) or abstract_name(address)
    if not name or name.endswith("/") or name.startswith("//") or _NOT_IN_PATHS.search(address):
        raise ValueError(
            "must be unix:PATH, such as unix:/run/bandit.sock or unix:bandit.sock, or unix-abstract:NAME; "
            "write ? and # as %3F and %23"
        )
    if address.startswith(_ABSTRACT) and sys.platform != "linux":
        raise ValueError("needs Linux, which alone has abstract sockets: use unix:PATH")
    n_bytes = len(os.fsencode(name))
    if n_bytes > UNIX_ADDRESS_BYTES:
        raise ValueError(
            f"the path of a Unix socket has at most {UNIX_ADDRESS_BYTES} bytes, this one {n_bytes}: "
            "use a shorter one, or one relative to the working directory"
        )

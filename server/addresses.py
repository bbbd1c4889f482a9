"""Addresses of the form `HOST:PORT`."""

import re
from ipaddress import ip_address
from typing import Final

_ADDRESS: Final = re.compile(r"([^\s:\[\]]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})", re.ASCII)
LARGEST_PORT: Final = 65_535


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


def is_loopback(address: str) -> bool:
    """True if only this machine can reach `address` (`HOST:PORT`). The only name that counts is localhost."""
    host, _ = split_address(address)
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

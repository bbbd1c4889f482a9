"""Names of peers as gRPC writes them, and the network that each belongs to."""

from contextlib import suppress
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final
from urllib.parse import quote, unquote

from server.addresses import as_ipv4, join_address

_NETWORK_BITS: Final = 64
"""An IPv6 host usually has a whole /64 to itself."""


@lru_cache(maxsize=4_096)
def address_of(peer: str) -> str:
    """Return the network address of a peer: an IPv4 address, or the /64 of an IPv6 address.

    It is empty for a client of a Unix socket: gRPC writes all of them as `unix:`.

    >>> address_of("ipv4:192.0.2.1:50000"), address_of("ipv6:%5B2001:db8::1%5D:50000")
    ('192.0.2.1', '2001:db8::/64')
    """
    host = place_of(peer)[0]
    with suppress(ValueError):
        found = ip_address(host.partition("%")[0])
        if isinstance(found, IPv6Address):
            network = int(found) >> _NETWORK_BITS << _NETWORK_BITS
            return f"{IPv6Address(network)}/{_NETWORK_BITS}"
    return host


def place_of(peer: str) -> tuple[str, int]:
    """Return host and port of a peer as gRPC writes it."""
    host, _, port = unquote(peer.partition(":")[2]).rpartition(":")
    return host.strip("[]"), int(port) if port.isdecimal() else 0


def peer_name(name: object) -> str:
    """Return what gRPC calls the other end of a connection.

    Args:
        name: As `socket.accept` gives it: a text or bytes for a Unix socket.

    >>> peer_name(("192.0.2.1", 50000)), peer_name(("2001:db8::1", 50000, 0, 0)), peer_name("")
    ('ipv4:192.0.2.1:50000', 'ipv6:%5B2001:db8::1%5D:50000', 'unix:')
    """
    if not isinstance(name, tuple):
        return "unix:"
    host = as_ipv4(name[0])
    return f"ipv{6 if ':' in host else 4}:{quote(join_address(host, name[1]), safe=':')}"

"""Closing one connection of a gRPC server from outside: gRPC has no call for that.

A connection is found among the descriptors of this process by both its ends, and shut down. gRPC sees the end
of the stream of bytes, as if the peer had hung up, and ends the calls of the connection.
"""

import os
import socket
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, suppress
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final
from urllib.parse import unquote

from server.rpc.floods.packet_filter import thin_out

_DESCRIPTORS: Final = "/dev/fd"
_MARKED_BITS: Final = 64
"""An IPv6 host usually has a whole /64 to itself."""


@lru_cache(maxsize=4_096)
def address_of(peer: str) -> str:
    """The network address of a peer as gRPC writes it: an IPv4 address, or the /64 of an IPv6 address.

    >>> address_of("ipv4:192.0.2.1:50000"), address_of("ipv6:%5B2001:db8::1%5D:50000")
    ('192.0.2.1', '2001:db8::/64')
    """
    host = _place_of(peer)[0]
    with suppress(ValueError):
        found = ip_address(host.partition("%")[0])
        if isinstance(found, IPv6Address):
            network = int(found) >> _MARKED_BITS << _MARKED_BITS
            return f"{IPv6Address(network)}/{_MARKED_BITS}"
    return host


def shut_down(peers: Collection[str], port: int) -> int:
    """Shuts down the connections of these peers to a port of this process; returns how many there were.

    Each descriptor is duplicated before it is looked at, so that what is shut down is what was looked at,
    whatever gRPC closes and opens meanwhile.

    Args:
        peers: As gRPC writes them, such as `ipv4:192.0.2.1:50000`.
        port: Where the server listens.
    """
    wanted = {_place_of(peer) for peer in peers}
    n_found = 0
    for connection in _sockets():
        with closing(connection), suppress(OSError):
            if connection.getsockname()[1] == port and _place(connection.getpeername()) in wanted:
                connection.shutdown(socket.SHUT_RDWR)
                n_found += 1
    return n_found


def let_through(shares: Mapping[str, float], port: int) -> None:
    """Has the kernel drop attempts to connect to a port of this process, but for a share of each address's.

    Args:
        shares: An address as `address_of` has it, and what share of its attempts is let through.
        port: Where the server listens.

    Raises:
        OSError: The system refuses.
    """
    for found in _sockets():
        with closing(found):
            if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and found.getsockname()[1] == port:
                thin_out(shares, found)


def _sockets() -> Iterator[socket.socket]:
    """A duplicate of every IP socket of this process, for the caller to close."""
    for entry in os.scandir(_DESCRIPTORS):
        with suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(int(entry.name)).st_mode):
                continue
            duplicate = os.dup(int(entry.name))
            try:
                connection = socket.socket(fileno=duplicate)
            except OSError:
                os.close(duplicate)
                continue
            if connection.family in {socket.AF_INET, socket.AF_INET6}:
                yield connection
            else:
                connection.close()


def _place_of(peer: str) -> tuple[str, int]:
    """Host and port of a peer as gRPC writes it."""
    host, _, port = unquote(peer.partition(":")[2]).rpartition(":")
    return host.strip("[]"), int(port) if port.isdecimal() else 0


def _place(name: tuple[str, int]) -> tuple[str, int]:
    """Host and port of a socket's end, an IPv4 address as such also on an IPv6 socket."""
    address = ip_address(name[0].partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped) if mapped is not None else name[0], name[1]

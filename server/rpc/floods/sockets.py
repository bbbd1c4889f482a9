"""Closing one connection of a gRPC server from outside, for which gRPC has no call.

A connection is found by both its ends among the descriptors of this process, and shut down. gRPC sees the end
of the byte stream, as if the peer had closed the connection, and ends its calls.
"""

import os
import resource
import socket
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from ipaddress import IPv6Address, ip_address
from typing import Final

from server.listening.peers import place_of
from server.rpc.floods.packet_filter import attach_filter

_DESCRIPTORS: Final = "/dev/fd"
_MOST_DESCRIPTORS: Final = 1 << 20


def shut_down(peers: Collection[str], port: int) -> int:
    """Shut down the connections of these peers to a port of this process; return how many there were.

    Each descriptor is duplicated before it is inspected, so that the socket that is shut down is the one that
    was inspected, whatever gRPC closes and opens meanwhile.

    Args:
        peers: As gRPC writes them, such as `ipv4:192.0.2.1:50000`.
        port: The port that the server listens at.
    """
    places = {place_of(peer) for peer in peers}
    n_found = 0
    for connection in ip_sockets():
        with closing(connection), suppress(OSError):
            if connection.getsockname()[1] == port and _place(connection.getpeername()) in places:
                connection.shutdown(socket.SHUT_RDWR)
                n_found += 1
    return n_found


def limit_connections(shares: Mapping[str, float], port: int) -> None:
    """Drop all but a share of each address's connection attempts at a port of this process, in the kernel.

    Args:
        shares: Addresses, in the form of `address_of`, to the share of their attempts that is let through.
        port: The port that the server listens at.

    Raises:
        OSError: The system refused the filter.
    """
    for found in ip_sockets():
        with closing(found):
            if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and found.getsockname()[1] == port:
                attach_filter(shares, found)


def ip_sockets() -> Iterator[socket.socket]:
    """Yield a duplicate of every IP socket of this process, for the caller to close."""
    for descriptor in _descriptors():
        with suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            duplicate = os.dup(descriptor)
            try:
                connection = socket.socket(fileno=duplicate)
            except OSError:
                os.close(duplicate)
                continue
            if connection.family in {socket.AF_INET, socket.AF_INET6}:
                yield connection
            else:
                connection.close()


def _descriptors() -> Iterable[int]:
    """Return the numbers that descriptors of this process have, or may have where the system lists none."""
    try:
        return [int(entry.name) for entry in os.scandir(_DESCRIPTORS)]
    except OSError:  # a container or a chroot without /proc
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return range(_MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft)


def _place(name: tuple[str, int]) -> tuple[str, int]:
    """Return host and port of a socket's end; an IPv4 address as such, even on an IPv6 socket."""
    address = ip_address(name[0].partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped) if mapped is not None else name[0], name[1]

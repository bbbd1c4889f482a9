"""The IP addresses of a name, and sockets that have each of them alone.

A name may have several addresses. A server that listened at some of them only would leave the others to
another server, and a client could reach either by the one name.
"""

import errno
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

from server.addresses import as_ipv4, join_address, split_address
from server.listening.errors import ListenError
from server.listening.occupants import THIS_PROCESS, occupant_of

Resolver = Callable[[str, int], Sequence[tuple[Any, ...]]]
"""From a name and a port to what `socket.getaddrinfo` returns."""

_LOCALHOST: Final = ("127.0.0.1", "::1")
"""What clients of gRPC connect to for localhost, whatever the hosts file has (RFC 6761 section 6.3)."""

_MOST_DRAWS: Final = 50
"""How often a free port is drawn until it is free at every address of a name."""

_ABSENT: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An IP address and a port.

    Attributes:
        host: An IP address; `::` stands for every address of the machine, of IPv4 and IPv6.
        port: 0 for a free one.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return join_address(self.host, self.port)

    @property
    def is_everywhere(self) -> bool:
        """True if it stands for every address of the machine."""
        return ip_address(self.host).is_unspecified

    @property
    def is_loopback(self) -> bool:
        """True if only this machine can reach it."""
        return ip_address(self.host).is_loopback

    def bind(self) -> socket.socket:
        """Return a socket that has this place alone.

        Raises:
            OSError: Another socket has it, or it can't be bound.
        """
        try:
            return self._bind()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        # Connections of an earlier server that fade hold the port for a minute, but for this option.
        return self._bind(socket.SO_REUSEADDR)

    def join(self) -> socket.socket:
        """Return a socket that shares this place with other processes of this user, one of which holds it.

        Raises:
            OSError: It can't be bound, or a socket has it that does not share it.
        """
        return self._bind(socket.SO_REUSEPORT)

    def _bind(self, *options: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        try:
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not self.is_everywhere))
            for option in options:
                bound.setsockopt(socket.SOL_SOCKET, option, 1)
            bound.bind((self.host, self.port))
        except OSError:
            bound.close()
            raise
        return bound


def places_of(address: str, resolve: Resolver | None = None) -> tuple[Place, ...]:
    """Return every place that an address of the form `HOST:PORT` stands for, each once.

    `0.0.0.0` and `[::]` are the same, as for gRPC: every address of this machine.

    Args:
        address: Its host may be a name.
        resolve: Looks up a name; None for the system's resolver.

    Raises:
        ListenError: The name has no address.
    """
    host, port = split_address(address)
    if host.lower() == "localhost":
        hosts: tuple[str, ...] = _LOCALHOST
    else:
        try:
            found = (resolve or _look_up)(host, port)
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not a name"
            raise ListenError(address, f"{host} has no address: {reason}") from None
        hosts = tuple(dict.fromkeys(as_ipv4(str(entry[4][0])) for entry in found))
    for found_host in hosts:
        if reason := _why_nobody_calls(found_host):
            raise ListenError(address, f"{found_host} {reason}: choose another address")
    places = tuple(Place(host=found_host, port=port) for found_host in hosts)
    if any(place.is_everywhere for place in places):
        return (Place(host="::" if _has_ipv6() else "0.0.0.0", port=port),)  # noqa: S104 - as the operator asks
    return places


def claim(address: str, resolve: Resolver | None = None) -> dict[Place, socket.socket]:
    """Bind every place of an address, or none: return each place, with its port, and its socket.

    No other process has any of the places, not even one that shares them. Of a loopback address that this
    machine lacks, because IPv6 is turned off, nothing is bound, since nobody can listen there.

    Args:
        address: `HOST:PORT`; with port 0, one port that is free at every place.
        resolve: Looks up a name; None for the system's resolver.

    Raises:
        ListenError: A place is taken, or is not this machine's; or the name has no address.
    """
    places = places_of(address, resolve)
    for _ in range(_MOST_DRAWS):
        claimed = _claim_all(address, places)
        if claimed:
            return claimed
    raise ListenError(address, "no port is free at each of its addresses")


def reason_of(error: OSError, place: Place) -> str:
    """Return why a place can't be bound, for an operator."""
    match error.errno:
        case errno.EADDRINUSE:
            occupant = occupant_of(place.host, place.port)
            if occupant == THIS_PROCESS:
                return f"{place} is taken by another address of this server: choose another port"
            return f"{place} is taken by {occupant}. Stop it, or choose another port"
        case errno.EADDRNOTAVAIL:
            return f"{place.host} is not an address of this machine"
        case errno.EAFNOSUPPORT:
            return f"{place.host} is an IPv6 address, and this machine has no IPv6"
        case errno.EACCES:
            return f"port {place.port} needs a privilege, as ports below 1024 do"
        case _:
            return f"{place}: {os.strerror(error.errno or errno.EIO)}"


def _claim_all(address: str, places: Sequence[Place]) -> dict[Place, socket.socket]:
    """Return the sockets of all places; nothing if the port that was drawn is taken at one of them."""
    claimed: dict[Place, socket.socket] = {}
    reasons = []
    port = places[0].port
    try:
        for place in places:
            wanted = replace(place, port=port)
            try:
                bound = wanted.bind()
            except OSError as error:
                if error.errno in _ABSENT and place.is_loopback:
                    reasons.append(reason_of(error, wanted))
                    continue
                if error.errno == errno.EADDRINUSE and port != place.port:
                    break
                raise ListenError(address, reason_of(error, wanted)) from None
            port = bound.getsockname()[1]
            claimed[replace(place, port=port)] = bound
        else:
            if not claimed:
                raise ListenError(address, reasons[0])
            whole, claimed = claimed, {}
            return whole
    finally:
        for bound in claimed.values():
            bound.close()
    return {}


def _look_up(host: str, port: int) -> Sequence[tuple[Any, ...]]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)


def _why_nobody_calls(host: str) -> str:
    """Why no client can connect to an IP address, although a socket may be bound there; empty if one can."""
    address = ip_address(host)
    if address.is_multicast or host == "255.255.255.255":
        return "stands for many machines, and no client can connect to it"
    if isinstance(address, IPv6Address) and address.is_link_local and not address.scope_id:
        return "is of one of this machine's networks, and does not say of which"
    return ""


def _has_ipv6() -> bool:
    """True if gRPC uses IPv6, which it tells by the loopback address: `::` can be bound without any."""
    try:
        with closing(Place(host="::1", port=0).bind()):
            return True
    except OSError:
        return False

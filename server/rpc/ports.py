"""Ports of a gRPC server: every address of a name or none, and Unix sockets.

gRPC is content with one address of several, and binds what is left of a wildcard when a part of it is taken.
So it is given IP addresses that were free a moment ago, one by one, and is checked afterwards.
"""

import socket
from collections.abc import Sequence
from contextlib import closing, suppress
from urllib.parse import quote

import grpc

from server.addresses import abstract_name, as_ipv4, is_unix, unix_path
from server.listening.errors import ListenError
from server.listening.occupants import occupant_of
from server.listening.places import Place, claim
from server.listening.unix_socket import UnixSocket
from server.rpc.floods.sockets import ip_sockets


class Ports:
    """The ports of a gRPC server that has not started.

    Args:
        server: The server.
        credentials: None for plain text.
    """

    def __init__(self, server: grpc.aio.Server, credentials: grpc.ServerCredentials | None) -> None:
        self._server = server
        self._credentials = credentials
        self._unix_socket: UnixSocket | None = None

    def open(self, address: str, places: Sequence[Place] | None = None) -> int:
        """Listen at every place of `address`; return the port, 0 for a Unix socket.

        Args:
            address: `HOST:PORT`, `unix:PATH` or `unix-abstract:NAME`.
            places: Those of `address` if the parent holds them; else None.

        Raises:
            ListenError: The server can't listen at all of them.
        """
        if is_unix(address):
            self._open_unix(address)
            return 0
        if places is None:
            claimed = claim(address)
            for bound in claimed.values():
                bound.close()
            places = tuple(claimed)
        for place in places:
            self._add(address, str(place), _lost(place))
        for place in places:
            if not _listens(place):
                raise ListenError(address, _lost(place))
        return places[0].port

    def close(self) -> None:
        """Remove the file of a Unix socket, once the server has ended."""
        if self._unix_socket is not None:
            self._unix_socket.remove()

    def _open_unix(self, address: str) -> None:
        path = unix_path(address)
        if not path:
            taken = "another program has this name. Stop it, or choose another name"
            if _is_taken(abstract_name(address)):
                raise ListenError(address, taken)
            self._add(address, address, taken)
            return
        unix_socket = UnixSocket(address, path)
        with unix_socket.placed() as own:
            self._add(address, f"unix:{quote(str(own))}", f"gRPC can't listen in {own.parent}")
        self._unix_socket = unix_socket

    def _add(self, address: str, literal: str, reason: str) -> None:
        try:
            port = (
                self._server.add_insecure_port(literal)
                if self._credentials is None
                else self._server.add_secure_port(literal, self._credentials)
            )
        except RuntimeError:
            port = 0
        if port == 0:
            raise ListenError(address, reason)


def _lost(place: Place) -> str:
    return f"{place} was free and is now taken by {occupant_of(place.host, place.port)}"


def _listens(place: Place) -> bool:
    """True if this process listens at all of a place."""
    for found in ip_sockets():
        with closing(found), suppress(OSError):
            host, port = found.getsockname()[:2]
            if port != place.port or not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                continue
            if as_ipv4(host) == as_ipv4(place.host) and (host != "::" or _is_dual(found)):
                return True
    return False


def _is_dual(listener: socket.socket) -> bool:
    return not listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def _is_taken(name: str) -> bool:
    """True if a process has an abstract socket of this name."""
    with closing(socket.socket(socket.AF_UNIX)) as probe:
        try:
            probe.bind(b"\0" + name.encode())
        except OSError:
            return True
        return False

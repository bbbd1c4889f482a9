"""Sockets that listen at every place of an address or none, for a server that accepts by itself."""

import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final, Self

from server.addresses import abstract_name, is_unix, unix_path
from server.listening.errors import ListenError
from server.listening.places import Place, claim, reason_of
from server.listening.unix_socket import UnixSocket

_BACKLOG: Final = 1_024
"""Connections that wait to be accepted; the kernel lowers it to its own limit, somaxconn."""


class OpenSockets:
    """Sockets that listen; connections wait in the kernel until they are accepted.

    Args:
        sockets: They listen, and do not block.
        port: Their port; 0 for a Unix socket.
        file: The file of a Unix socket.

    Attributes:
        sockets: As above.
        port: As above.
    """

    def __init__(
        self, sockets: Sequence[socket.socket], *, port: int = 0, file: UnixSocket | None = None
    ) -> None:
        self.sockets = tuple(sockets)
        self.port = port
        self._file = file

    @classmethod
    def open(cls, address: str, places: Sequence[Place] | None = None) -> Self:
        """Listen at every place of `address`.

        Args:
            address: `HOST:PORT`, `unix:PATH` or `unix-abstract:NAME`.
            places: Those of `address` if the parent holds them and other processes share them; else None.

        Raises:
            ListenError: A place is taken, or can't be listened at.
        """
        if is_unix(address):
            return cls._open_unix(address)
        if places is None:
            claimed = claim(address)
            listening = _listening(address, claimed)
            return cls(listening, port=next(iter(claimed)).port)
        return cls(_shared(address, places), port=places[0].port)

    def close(self) -> None:
        """Listen no more, and remove the file of a Unix socket."""
        for listening in self.sockets:
            listening.close()
        if self._file is not None:
            self._file.remove()

    @classmethod
    def _open_unix(cls, address: str) -> Self:
        path = unix_path(address)
        bound = socket.socket(socket.AF_UNIX)
        try:
            bound.setblocking(False)
            if not path:
                _bind_abstract(bound, address)
                return cls([bound])
            file = UnixSocket(address, path)
            with file.placed() as own:
                bound.bind(os.fspath(own))
                bound.listen(_BACKLOG)
            return cls([bound], file=file)
        except ListenError:
            bound.close()
            raise


def _bind_abstract(bound: socket.socket, address: str) -> None:
    try:
        bound.bind(b"\0" + abstract_name(address).encode())
        bound.listen(_BACKLOG)
    except OSError:
        reason = "another program has this name. Stop it, or choose another name"
        raise ListenError(address, reason) from None


def _shared(address: str, places: Sequence[Place]) -> list[socket.socket]:
    with ExitStack() as stack:
        bound = {}
        for place in places:
            try:
                bound[place] = stack.enter_context(place.join())
            except OSError as error:
                raise ListenError(address, reason_of(error, place)) from None
        listening = _listening(address, bound)
        stack.pop_all()
        return listening


def _listening(address: str, bound: dict[Place, socket.socket]) -> list[socket.socket]:
    """Let sockets that are bound listen; close all of them if one can't."""
    with ExitStack() as stack:
        for place, each in bound.items():
            stack.enter_context(each)
            try:
                each.setblocking(False)
                each.listen(_BACKLOG)
            except OSError as error:
                raise ListenError(address, reason_of(error, place)) from None
        stack.pop_all()
        return list(bound.values())

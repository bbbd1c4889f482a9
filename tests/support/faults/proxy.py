"""A proxy to the database that loses a COMMIT, or the database's reply to it."""

import enum
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from typing_extensions import override

from benchmarks.harness.tcp_proxy import TcpProxy

_COMMIT: Final = b"Q\x00\x00\x00\x0bCOMMIT\x00"
"""COMMIT in PostgreSQL's wire protocol: a simple query with its length."""


class Loss(enum.Enum):
    """The part of the next COMMIT that is lost, together with the connection."""

    REPLY = "reply"
    REQUEST = "request"


class Proxy(TcpProxy):
    """A TCP proxy that can lose a COMMIT.

    Attributes:
        lose: The part of the next COMMIT to lose; None once it is lost.
        n_lost: How many COMMITs it hit.
        after_loss: Called when the database knows of a loss, before the client does.
    """

    def __init__(self, target: int) -> None:
        self.lose: Loss | None = None
        self.n_lost = 0
        self.after_loss: Callable[[], None] | None = None
        super().__init__(target)

    @override
    def forward(self, source: socket.socket, sink: socket.socket, data: bytes, *, is_request: bool) -> bool:
        if is_request and data == _COMMIT and self.lose is not None:
            self._lose_commit(source, sink, data)
            return False
        return super().forward(source, sink, data, is_request=is_request)

    def _lose_commit(self, client: socket.socket, server: socket.socket, data: bytes) -> None:
        loss, self.lose = self.lose, None
        self.n_lost += 1
        if loss is Loss.REQUEST:
            self.drop(server)
        else:
            self.drop(client)
            with suppress(OSError):
                server.sendall(data)
                server.shutdown(socket.SHUT_WR)
                while server.recv(65_536):
                    pass  # the other pump may take it; either way it is lost
        if self.after_loss is not None:
            self.after_loss()

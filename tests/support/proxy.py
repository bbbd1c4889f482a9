"""A TCP proxy that a test can pause, and that loses a COMMIT or what the database said to it."""

import contextlib
import enum
import socket
import threading
from collections.abc import Callable
from typing import Final, Self

_COMMIT: Final = b"Q\x00\x00\x00\x0bCOMMIT\x00"
"""COMMIT in PostgreSQL's wire protocol: a simple query with its length."""


class Loss(enum.Enum):
    """What of the next COMMIT is lost, with the connection."""

    REPLY = "reply"
    REQUEST = "request"


class Proxy:
    """Forwards connections to a port of this machine, each way in a thread of its own.

    Attributes:
        port: Where it listens on 127.0.0.1.
        lose: What to lose of the next COMMIT; None once it is lost.
        n_lost: How many COMMITs it hit.
        after_loss: Called when the database knows of a loss, before the client does.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._may_pass = threading.Event()
        self._may_pass.set()
        self._sockets: list[socket.socket] = []
        self.lose: Loss | None = None
        self.n_lost = 0
        self.after_loss: Callable[[], None] | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._may_pass.set()
        self._listener.close()
        for sock in self._sockets:
            _drop(sock)

    @property
    def n_connections(self) -> int:
        """How many connections were made through it."""
        return len(self._sockets) // 2

    def pause(self) -> None:
        """Swallows nothing and forwards nothing, as a network that is cut."""
        self._may_pass.clear()

    def resume(self) -> None:
        """Forwards what waited, and what comes."""
        self._may_pass.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += (client, server)
                for source, sink in ((client, server), (server, client)):
                    arguments = (source, sink, source is client)
                    threading.Thread(target=self._pump, args=arguments, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_request: bool) -> None:  # noqa: FBT001
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                self._may_pass.wait()
                if is_request and data == _COMMIT and self.lose is not None:
                    self._lose_commit(source, sink, data)
                    break
                sink.sendall(data)
        _drop(source)
        _drop(sink)

    def _lose_commit(self, client: socket.socket, server: socket.socket, data: bytes) -> None:
        loss, self.lose = self.lose, None
        self.n_lost += 1
        if loss is Loss.REQUEST:
            _drop(server)
        else:
            _drop(client)
            with contextlib.suppress(OSError):
                server.sendall(data)
                server.shutdown(socket.SHUT_WR)
                while server.recv(65_536):
                    pass  # the other pump may take it; either way it reaches nobody
        if self.after_loss is not None:
            self.after_loss()


def _drop(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()

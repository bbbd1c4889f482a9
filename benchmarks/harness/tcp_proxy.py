"""A TCP connection to the database that can be cut without either end being notified."""

import socket
import threading
from contextlib import suppress
from typing import Self


class TcpProxy:
    """Forwards connections to a port of this machine, each direction in its own thread.

    Args:
        target: The database's port.

    Attributes:
        port: The port at this end of 127.0.0.1.
        n_connections: Connections made through it.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.n_connections = 0
        self._is_whole = threading.Event()
        self._is_whole.set()
        self._ends: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cut(self) -> None:
        """Stop forwarding, without losing bytes."""
        self._is_whole.clear()

    def mend(self) -> None:
        """Forward what waited, and what comes."""
        self._is_whole.set()

    def close(self) -> None:
        """Drop every connection and accept no more."""
        self._is_whole.set()
        self._listener.close()
        for end in tuple(self._ends):
            self.drop(end)

    def drop(self, end: socket.socket) -> None:
        """End a connection at one end."""
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
        self._ends.discard(end)

    def forward(self, source: socket.socket, sink: socket.socket, data: bytes, *, is_request: bool) -> bool:
        """Pass bytes on; return whether the connection is still open. Subclasses may drop the bytes instead.

        Args:
            source: Where they came from.
            sink: Where they go.
            data: The bytes.
            is_request: Whether they go towards the database.
        """
        del source, is_request
        sink.sendall(data)
        return True

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:  # the database is down: as if there were no network
                    client.close()
                    continue
                self.n_connections += 1
                self._ends |= {client, server}
                for ends in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_request: bool) -> None:  # noqa: FBT001
        with suppress(OSError):
            while data := source.recv(65_536):
                self._is_whole.wait()
                if not self.forward(source, sink, data, is_request=is_request):
                    break
        self.drop(source)
        self.drop(sink)

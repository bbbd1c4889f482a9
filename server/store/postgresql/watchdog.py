"""A watchdog over calls to a database, which ends those that hang by shutting their socket.

A backend that is frozen, or beyond a cut cable, answers nothing and closes nothing: no deadline of the
server, and no option of the client's library, ends a call that waits for it. A shut socket does.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_TICK_SECONDS: Final = 0.1


class Watchdog:
    """Shuts the sockets of watched blocks that take too long. Safe to use from any thread."""

    def __init__(self) -> None:
        self._watched: dict[int, tuple[float, socket.socket]] = {}
        self._lock = threading.Lock()
        self._has_ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store-watchdog", daemon=True)
        self._thread.start()

    @contextmanager
    def watching(self, sock: socket.socket, seconds: float) -> Iterator[None]:
        """Shut the socket unless the block ends in time."""
        key = id(sock)
        with self._lock:
            self._watched[key] = (time.monotonic() + seconds, sock)
        try:
            yield
        finally:
            with self._lock:
                self._watched.pop(key, None)

    def end(self) -> None:
        """End the watch and its thread. May be called twice."""
        self._has_ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._has_ended.wait(_TICK_SECONDS):
            now = time.monotonic()
            with self._lock:
                for key, (deadline, sock) in list(self._watched.items()):
                    if deadline <= now:
                        del self._watched[key]
                        with contextlib.suppress(OSError):
                            sock.shutdown(socket.SHUT_RDWR)

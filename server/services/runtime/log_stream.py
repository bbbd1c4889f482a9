"""A stream of log lines that neither fails nor waits for long: a log must not stop what it describes."""

import os
import select
import threading
from typing import Final

_PATIENCE_SECONDS: Final = 0.1
"""How long a line waits for a reader that has fallen behind; once, until it reads again."""

_PIECE_BYTES: Final = 4_096
"""POSIX lets a pipe that is ready take this much at once; more could wait for the reader."""


class LogStream:
    """Writes lines to a descriptor, and drops those that it does not take, such as those for a full disk.

    A reader that is stopped does not stop the server: a line waits 0.1 s at most, and none waits while the
    reader stays behind. May be used from any thread.

    Args:
        descriptor: Where the lines go.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._is_behind = False
        self._is_torn = False
        self._n_lost = 0

    @property
    def n_lost(self) -> int:
        """How many lines were dropped since the last one that was written."""
        return self._n_lost

    def write(self, line: str) -> int:
        """Write a line with its end, or drop it; return its length."""
        data = line.encode(errors="backslashreplace")
        with self._lock:
            try:
                is_written = self._write(b"\n" + data if self._is_torn else data)
            except OSError:
                is_written = False
            self._n_lost = 0 if is_written else self._n_lost + 1
        return len(line)

    def flush(self) -> None:
        """Do nothing: every line is written at once."""

    def _write(self, data: bytes) -> bool:
        """Write in pieces that can't block; return whether all of them were taken."""
        rest = memoryview(data)
        while rest:
            if not self._is_ready():
                return False
            try:
                n_written = os.write(self._descriptor, rest[:_PIECE_BYTES])
            except BlockingIOError:  # the descriptor does not block, and took less than it promised
                return False
            rest = rest[n_written:]
            self._is_torn = bool(rest)
        return True

    def _is_ready(self) -> bool:
        """Return whether the next piece is taken at once, after waiting for that if it was so before."""
        poller = select.poll()
        poller.register(self._descriptor, select.POLLOUT)
        is_ready = bool(poller.poll(0 if self._is_behind else 1_000 * _PATIENCE_SECONDS))
        self._is_behind = not is_ready
        return is_ready

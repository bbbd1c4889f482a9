"""The turn of one process to send what an outbox holds, so that several do not send the same."""

import os
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # where there are no such locks, each process sends: the service counts each reward once
    fcntl = None  # type: ignore[assignment]


class Turn:
    """A lock on a file beside the outbox's; it ends with the process, and no child inherits it.

    Args:
        path: the file; it is created if there is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self) -> bool:
        """True if this process sends; that of two processes only one does, is an economy and no promise."""
        if self._descriptor is not None or fcntl is None:
            return True
        try:
            descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError:  # such as a full disk: what is there should be sent nevertheless
            return True
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            os.close(descriptor)
            return False
        except OSError:  # a file system without locks
            os.close(descriptor)
            return True
        self._descriptor = descriptor
        return True

    def end(self) -> None:
        """Let another process send."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)

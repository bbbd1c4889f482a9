"""Ownership of a file: one process at a time, by a lock that the kernel drops with the process."""

import fcntl
import os
from pathlib import Path

from server.store.errors import StoreInUseError, StoreUnavailableError


class FileLock:
    """Makes this process the owner of a database file, until `release` or the end of the process.

    The lock is on a file of its own that is never deleted: locking the database itself would clash
    with SQLite's own locks.

    Raises:
        StoreInUseError: Another process owns it.
        StoreUnavailableError: The folder does not exist or can't be written.
    """

    def __init__(self, database: Path) -> None:
        file = database.resolve()  # a link to it is the same file
        path = file.with_name(file.name + ".lock")
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreUnavailableError(f"can't open {path}: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(self._descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            raise StoreInUseError(str(database), owner) from None
        os.truncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Release the lock. May be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

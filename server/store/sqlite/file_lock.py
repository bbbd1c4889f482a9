"""Ownership of a file: one process at a time, by a lock that the kernel drops with the process."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from server.store.errors import StoreInUseError, StorePlaceError
from server.store.sqlite.places import shown


class FileLock:
    """Makes this process the owner of a database file, until `release` or the end of the process.

    The lock is on a file of its own: locking the database itself would clash with SQLite's own locks. It is
    never deleted once the database is in use; what a start that failed has made, it takes away again.

    Attributes:
        is_kept: Whether `release` leaves the file where it is.

    Raises:
        StoreInUseError: Another process owns it.
        StorePlaceError: The file can't be opened or made.
    """

    def __init__(self, database: Path) -> None:
        file = database.resolve()  # a link to it is the same file
        self._path = file.with_name(file.name + ".lock")
        self.is_kept = True
        self._descriptor = -1
        while self._descriptor < 0:
            self._take(database)
        with suppress(OSError):  # it is for errors only, and the disk may be full
            os.truncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def _take(self, database: Path) -> None:
        """Lock the file, unless a start that has just failed takes it away.

        Raises:
            StoreInUseError: It is locked.
        """
        self.is_kept = os.path.lexists(self._path)
        descriptor = _open(self._path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise StoreInUseError(str(database), owner) from None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), self._path.stat()):
                self._descriptor = descriptor
                return
        os.close(descriptor)

    def release(self) -> None:
        """Release the lock. May be called twice."""
        if self._descriptor < 0:
            return
        if not self.is_kept:
            with suppress(OSError):
                self._path.unlink()
        os.close(self._descriptor)
        self._descriptor = -1


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorePlaceError(f"can't open {shown(path)}: {reason.lower()}") from error

"""A Unix socket's file: nobody's, a dead server's or a living one's; and its permissions.

gRPC removes any socket that it finds at its path, and at its end any that it finds there then: a second
server would take the address without a word. So gRPC listens at a path of this process's own in the same
folder. The file gets its permissions there, and is then moved to where clients look for it.
"""

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Final

from bandit.sizes import UNIX_ADDRESS_BYTES
from server.listening.errors import ListenError

MODE: Final = 0o660
"""The owner's user and group may call: side-cars often run as another user with a group in common."""

_LOCK_SECONDS: Final = 5.0
_LOCK_POLL_SECONDS: Final = 0.02


class UnixSocket:
    """The file of one server's socket.

    Args:
        address: As the operator gave it, for errors.
        path: Where clients look for it.
    """

    def __init__(self, address: str, path: str) -> None:
        self._address = address
        self._path = Path(path)
        self._identity: tuple[int, int] | None = None

    @contextmanager
    def placed(self) -> Iterator[Path]:
        """Yield where to listen; then move what listens there to the path, with its permissions.

        Servers that start at the same time in one folder do this one after the other.

        Raises:
            ListenError: A server listens at the path, something else is there, or the folder can't be used.
        """
        own = self._path.with_name(f".{token_hex(4)}")
        n_bytes = len(os.fsencode(own))
        if n_bytes > UNIX_ADDRESS_BYTES:
            raise self._error(f"its folder's path is too long by {n_bytes - UNIX_ADDRESS_BYTES} bytes")
        with self._folder_locked():
            self._check_free()
            try:
                with closing(socket.socket(socket.AF_UNIX)) as probe:
                    probe.bind(os.fspath(own))  # gRPC would not say why it can't
                own.unlink()
                yield own
                own.chmod(MODE)
                own.rename(self._path)
                self._identity = _identity(self._path)
            except OSError as error:
                raise self._error(f"{self._path.parent}: {os.strerror(error.errno or errno.EIO)}") from None
            finally:
                with suppress(OSError):
                    own.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the file, unless another server's has replaced it."""
        with suppress(OSError):
            if self._identity is not None and _identity(self._path) == self._identity:
                self._path.unlink()

    @contextmanager
    def _folder_locked(self) -> Iterator[None]:
        try:
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self._error(f"{self._path.parent}: {os.strerror(error.errno or errno.EIO)}") from None
        try:
            if not os.access(self._path.parent, os.W_OK | os.X_OK):
                raise self._error(f"{self._path.parent}: this user may not create files there")
            self._lock(folder)
            yield
        finally:
            os.close(folder)

    def _lock(self, folder: int) -> None:
        """Lock the folder; a file system without locks is used without one."""
        until = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise self._error(f"another program keeps {self._path.parent} locked") from None
                time.sleep(_LOCK_POLL_SECONDS)
            except OSError:
                return
            else:
                return

    def _check_free(self) -> None:
        """Raise unless nothing is at the path, or the socket of a server that has ended."""
        try:
            kind = self._path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(kind):
            raise self._error("what is there is not a socket; it was left alone. Choose another path")
        with closing(socket.socket(socket.AF_UNIX)) as client:
            client.setblocking(False)
            number = client.connect_ex(os.fspath(self._path))
        if number == errno.ECONNREFUSED:
            return
        if number in {errno.EACCES, errno.EPERM}:
            raise self._error("the socket there is another user's. Remove it, or choose another path")
        raise self._error("another server listens there. Stop it, or choose another path")

    def _error(self, reason: str) -> ListenError:
        return ListenError(self._address, reason)


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino

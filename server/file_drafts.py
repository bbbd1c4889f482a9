"""Drafts: files written under a temporary name and renamed once they are complete.

A draft's name can't be guessed, and it is never a file or link that existed before: in a folder that others
may write to, no one can get hold of its content. Its writer holds a lock, so that the drafts of killed
processes can be told from those in use; the next writer of the same file deletes them.
"""

import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

_SUFFIX: Final = r"\.[0-9a-f]{16}\.new"


class Draft(NamedTuple):
    """A new, empty file.

    Attributes:
        path: Its path until `install`.
        descriptor: A file descriptor, open for writing.
    """

    path: Path
    descriptor: int

    def install(self, path: Path) -> None:
        """Sync it and rename it to `path`, replacing any file there; OSError leaves that file as it was."""
        os.fsync(self.descriptor)
        self.path.replace(path)
        _sync_folder(path.parent)


@contextmanager
def draft_of(path: Path, *, mode: int) -> Iterator[Draft]:
    """Create a draft of a file, in its folder; it is deleted at the end unless it was installed.

    Args:
        path: The file that it will become.
        mode: Its permissions.

    Raises:
        OSError: The draft can't be created, or what is there is a device, pipe or socket: a rename would take
            its place.
    """
    with suppress(FileNotFoundError):
        mode_there = path.lstat().st_mode
        if not (stat.S_ISREG(mode_there) or stat.S_ISLNK(mode_there) or stat.S_ISDIR(mode_there)):
            raise OSError(errno.EINVAL, "is a device, pipe or socket, and must be a regular file", str(path))
    _delete_abandoned(path)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield Draft(draft, descriptor)
    finally:
        with suppress(OSError):
            draft.unlink()
        os.close(descriptor)


def _delete_abandoned(path: Path) -> None:
    """Delete the drafts of a file whose writers have ended."""
    pattern = re.compile(re.escape(f".{path.name}") + _SUFFIX)
    with suppress(OSError):
        for found in [each for each in path.parent.iterdir() if pattern.fullmatch(each.name)]:
            with suppress(OSError):
                _delete_unless_locked(found)


def _delete_unless_locked(draft: Path) -> None:
    descriptor = os.open(draft, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        draft.unlink()
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Small files that are there as a whole or not at all."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from server.file_drafts import draft_of


def replace_file(path: Path, data: bytes, *, mode: int) -> None:
    """Writes a file so that a reader, or a start after a crash, finds the old content or the new one.

    Args:
        path: Where; the folder must be there.
        data: The content.
        mode: The new file's permissions.

    Raises:
        OSError: It was not written; the old content stays.
    """
    with draft_of(path, mode=mode) as draft:
        with os.fdopen(draft.descriptor, "wb", closefd=False) as file:
            file.write(data)
        draft.install(path)


def open_file(path: Path) -> BufferedReader:
    """Opens a file to read; OSError also for a pipe or a device, which could make a reader wait for ever."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return os.fdopen(descriptor, "rb")

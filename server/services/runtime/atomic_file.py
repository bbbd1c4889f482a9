"""Replacing small files atomically."""

import os
from pathlib import Path

from server.file_drafts import draft_of


def replace_file(path: Path, data: bytes, *, mode: int) -> None:
    """Write a file so that a reader, or a start after a crash, finds either the old content or the new.

    Args:
        path: The file; its folder must exist.
        data: The content.
        mode: The new file's permissions.

    Raises:
        OSError: The file was not written; the old content stays.
    """
    with draft_of(path, mode=mode) as draft:
        with os.fdopen(draft.descriptor, "wb", closefd=False) as file:
            file.write(data)
        draft.install(path)

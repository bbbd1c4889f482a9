"""Files that appear all at once when they are complete: written under temporary names, then renamed."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from server.services.exports.errors import ExportError


class Staging:
    """The files of one export while they are written.

    Args:
        paths: Where they are to appear.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._made: list[Path] = []

    def make_folders(self) -> None:
        """Make the folders that are missing; ExportError if one can't be made."""
        for path in self._paths:
            missing = [folder for folder in path.parents if not folder.exists()]
            for folder in reversed(missing):
                with _export_errors(folder):
                    folder.mkdir()
                self._made.append(folder)

    @contextmanager
    def open(self, path: Path) -> Iterator[IO[bytes]]:
        """Open one of the files under its temporary name; it is on the disk at the end of the block.

        Raises:
            ExportError: It can't be written.
        """
        with _export_errors(path), _partial(path).open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())

    def publish(self) -> None:
        """Rename every file to its own name."""
        for path in self._paths:
            with _export_errors(path):
                _partial(path).replace(path)

    def clear(self) -> None:
        """Remove what was not published, and folders that were made for it."""
        for path in self._paths:
            with suppress(OSError):
                _partial(path).unlink()
        for folder in reversed(self._made):
            with suppress(OSError):  # not empty: the export is in it
                folder.rmdir()


@contextmanager
def staging(paths: Sequence[Path], *, may_replace: bool) -> Iterator[Staging]:
    """Files that appear when the block ends, and leave nothing behind if it raises.

    Raises:
        ExportError: A file is there already and may not be replaced, or can't be written.
    """
    standing = [str(path) for path in paths if path.exists()]
    if standing and not may_replace:
        raise ExportError(f"already there: {', '.join(standing)}; --force replaces")
    files = Staging(paths)
    try:
        files.make_folders()
        yield files
        files.publish()
    finally:
        files.clear()


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


@contextmanager
def _export_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExportError(f"{path}: {(error.strerror or str(error)).lower()}") from error

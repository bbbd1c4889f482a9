"""Files that appear together once they are complete: written under temporary names, then renamed."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from server.services.exports.errors import ExportError


class Staging:
    """The files of one export while they are being written.

    Args:
        paths: Their final paths.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._made: list[Path] = []

    def make_folders(self) -> None:
        """Create missing folders.

        Raises:
            ExportError: One can't be created, or a device, pipe or socket is in the place of a file.
        """
        for path in self._paths:
            if os.path.lexists(path) and not (path.is_file() or path.is_symlink()):
                raise ExportError(f"{path} is no regular file: name another")
            missing = [folder for folder in path.parents if not os.path.lexists(folder)]
            for folder in reversed(missing):
                with _export_errors(folder):
                    folder.mkdir()
                self._made.append(folder)

    @contextmanager
    def open(self, path: Path) -> Iterator[IO[bytes]]:
        """Open one of the files under its temporary name; it is on disk at the end of the block.

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
        """Remove files that were not published, and empty folders that were created for them."""
        for path in self._paths:
            with suppress(OSError):
                _partial(path).unlink()
        for folder in reversed(self._made):
            with suppress(OSError):  # not empty: the export is in it
                folder.rmdir()


@contextmanager
def staging(paths: Sequence[Path], *, may_replace: bool) -> Iterator[Staging]:
    """Publish files when the block ends; leave nothing behind if it raises.

    Raises:
        ExportError: A file exists and may not be replaced, or can't be written.
    """
    existing = [str(path) for path in paths if os.path.lexists(path)]
    if existing and not may_replace:
        raise ExportError(f"already exists: {', '.join(existing)}; replace with --force")
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

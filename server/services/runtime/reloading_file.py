"""Values loaded from files, and loaded again when the files change; a broken file keeps the old value."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

import structlog

_Value = TypeVar("_Value")
_Mark: TypeAlias = tuple[tuple[int, int, int] | None, ...]

log = structlog.get_logger()


class ReloadingFile(Generic[_Value]):
    """A value from files. `look` may be called from any thread; `value` is replaced as a whole.

    Args:
        what: A word for the log, such as `tokens`.
        paths: The files.
        load: Loads the value from them.
        expected: The error of `load` for bad files; its message is logged and contains no secret.

    Raises:
        Exception: Any error of the first `load`.
    """

    def __init__(
        self,
        what: str,
        paths: Sequence[Path],
        load: Callable[[], _Value],
        expected: type[Exception],
    ) -> None:
        self._what = what
        self._paths = tuple(paths)
        self._load = load
        self._expected = expected
        self._mark = self._read_mark()
        self.value = load()

    def look(self) -> None:
        """Load the value again if a file has changed since the last look; log it once."""
        mark = self._read_mark()
        if mark == self._mark:
            return
        self._mark = mark
        if any(path.exists() and not path.is_file() for path in self._paths):
            self._log_not_reloaded("not a file")  # a pipe could keep the reader waiting forever
            return
        try:
            self.value = self._load()
        except self._expected as error:
            self._log_not_reloaded(str(error))
        else:
            log.info("file.reloaded", what=self._what)

    def _log_not_reloaded(self, why: str) -> None:
        log.warning(
            "file.not_reloaded", what=self._what, error=why, meaning="the last good one stays in force"
        )

    def _read_mark(self) -> _Mark:
        """Return a value that differs once a file has changed or a symbolic link points elsewhere."""
        return tuple(_mark_of(path) for path in self._paths)


def _mark_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino

"""The files of an SQLite database: whether they belong together, and whether they are still where they were.

SQLite finds the write-ahead log by its name alone, and replays it into any database of that name. And it
goes on writing to files that were replaced or deleted: what it commits then is gone when it ends.
"""

from pathlib import Path
from typing import Final

from server.store.errors import SchemaError, StoreBrokenError

_READ_VERSION_AT: Final = 19
_WITHOUT_LOG: Final = 1
"""What the file's header says of a database that has no write-ahead log; 2 if it may have one."""


def companions(database: Path) -> tuple[Path, ...]:
    """The other files that belong to a database, whether they exist or not."""
    file = database.resolve()
    return tuple(file.with_name(file.name + suffix) for suffix in ("-wal", "-shm", "-journal", ".lock"))


def require_own_log(database: Path) -> None:
    """Raise SchemaError if the write-ahead log found by a database's name is that of one it replaced.

    A backup is a database without a log, and becomes one with a log before there is a log. So a log of a
    database whose header knows of none was left behind by another database.
    """
    file = database.resolve()
    log = file.with_name(file.name + "-wal")
    try:
        has_log = (
            log.stat().st_size > 0
        )  # looked at first: a server may be giving the database its log just now
        with file.open("rb") as opened:
            header = opened.read(_READ_VERSION_AT + 1)
    except OSError:  # one of them is not there, or SQLite says better why it can't be read
        return
    if has_log and header[_READ_VERSION_AT:] == bytes([_WITHOUT_LOG]):
        raise SchemaError(
            f"{log} belongs to a database that {database} has replaced, and would damage it: "
            f"delete {log} and {log.with_name(file.name + '-shm')}, then start again"
        )


class FilesInPlace:
    """Notices that the files of an open database were replaced or deleted.

    Args:
        database: The file, open in SQLite with its write-ahead log.
    """

    def __init__(self, database: Path) -> None:
        self._file = database.resolve()
        self._log = self._file.with_name(self._file.name + "-wal")
        self._number: int | None = None

    def check(self) -> None:
        """Raise StoreBrokenError unless what was just committed is in the files that a start will find."""
        try:
            number = self._file.stat().st_ino
            self._log.stat()
        except FileNotFoundError as error:
            raise StoreBrokenError(f"{error.filename} was deleted while the server used it") from None
        except OSError:
            return
        if self._number is None:
            self._number = number
        elif self._number != number:
            raise StoreBrokenError(f"{self._file} was replaced while the server used it")

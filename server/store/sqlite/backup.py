"""A consistent copy of an SQLite file in service: all of one moment, checked, and safe on disk."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import URL

from server.file_drafts import draft_of
from server.store.errors import (
    BackupTargetError,
    SchemaError,
    StoreBrokenError,
    StoreFullError,
    StoreUnavailableError,
)
from server.store.records import Progress
from server.store.sqlite.files import companions, require_own_log
from server.store.sqlite.places import file_of, is_unchanging, require_no_log, require_readable
from server.store.urls import parse_url

_PAGES: Final = 2_048
"""Pages copied at once: 8 MiB."""

_TIMEOUT_SECONDS: Final = 30.0
_MODE: Final = 0o600
"""Only its owner can read a copy: the keys that sign decisions are in it."""


class Backup(NamedTuple):
    """A copy that was made.

    Attributes:
        n_bytes: Its size.
        n_outcomes: Rows of the reward log in it.
    """

    n_bytes: int
    n_outcomes: int


def back_up(url: str, target: Path, progress: Progress, *, may_replace: bool = False) -> Backup:
    """Copy the database of a URL to a new file, while others may be writing to it.

    All of it is of the moment at which the copy begins. Writers are not blocked.

    Args:
        url: `sqlite:///FILE`.
        target: Where the copy goes. It is complete or not there at all.
        progress: Called with how many of how many pages are copied.
        may_replace: Whether a file that is there may be replaced.

    Raises:
        BackupTargetError: There is a file already, or the folder can't be written.
        SchemaError: The file is not a database of this service, or its write-ahead log is another's.
        StorePlaceError: There is none, or it can't be read where it is.
        StoreUnavailableError: It can't be read, or is not SQLite's.
        StoreFullError: There is no room for the copy.
        StoreBrokenError: The database is damaged; no copy was kept.
    """
    source = _file_of(url)
    require_own_log(source)
    with _translated_errors(target):
        _require_place(source, target, may_replace=may_replace)
        with draft_of(target, mode=_MODE) as draft:
            _copy(source, draft.path, progress)
            n_outcomes = _check(draft.path)
            draft.install(target)
        return Backup(target.stat().st_size, n_outcomes)


def _require_place(source: Path, target: Path, *, may_replace: bool) -> None:
    """Raise BackupTargetError unless a copy may be put there."""
    if target.is_dir():
        raise BackupTargetError(f"{target} is a folder: name a file in it")
    if Path(os.path.realpath(target)) in companions(source):
        raise BackupTargetError(f"{target} belongs to the database: name another file")
    if os.path.lexists(target) and not may_replace:
        raise BackupTargetError(f"{target} is there already: name another file, or replace it with --force")
    if target.exists() and source.samefile(target):
        raise BackupTargetError(f"{target} is the database itself")
    if not target.parent.is_dir():
        raise BackupTargetError(f"can't write {target}: there is no folder {target.parent}")


def _file_of(url: str) -> Path:
    parsed = parse_url(url)
    if parsed.drivername != "sqlite":
        address = URL.create("postgresql", parsed.username, None, parsed.host, parsed.port, parsed.database)
        raise StoreUnavailableError(
            "PostgreSQL makes its own consistent copies: "
            f"pg_dump --format=custom --file=FILE '{address.render_as_string()}', "
            "and pg_restore to put one back"
        )
    file = file_of(parsed)
    require_readable(file)
    return file


def _copy(source: Path, partial: Path, progress: Progress) -> None:
    """Copy page by page, in one read transaction: without it, every write would restart the copy."""
    is_still = is_unchanging(source)
    uri = f"{source.resolve().as_uri()}?mode=ro{'&immutable=1' if is_still else ''}"
    with (
        closing(sqlite3.connect(uri, uri=True, timeout=_TIMEOUT_SECONDS, isolation_level=None)) as reader,
        closing(sqlite3.connect(partial, timeout=_TIMEOUT_SECONDS, isolation_level=None)) as writer,
    ):
        writer.execute("PRAGMA synchronous=OFF")  # the whole file is synced once, at the end
        writer.execute("PRAGMA journal_mode=MEMORY")  # so that a copy that is cut short is one file
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
        reader.backup(writer, pages=_PAGES, progress=lambda _, left, total: progress(total - left, total))
        reader.execute("COMMIT")
        if is_still:
            require_no_log(source)
        writer.execute("PRAGMA journal_mode=DELETE")  # so that it is known for a copy: see `sqlite.files`


def _check(partial: Path) -> int:
    """Raise unless the copy is sound and one of ours; return how many outcomes are logged in it."""
    uri = f"{partial.resolve().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as copy:
        found = [str(text) for (text,) in copy.execute("PRAGMA integrity_check")]
        if found != ["ok"]:
            raise StoreBrokenError(f"the database is damaged, and no copy was kept: {found[0]}")
        tables = {name for (name,) in copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"alembic_version", "rewards"} <= tables:
            raise SchemaError("the file is not a database of this service")
        ((n_outcomes,),) = copy.execute("SELECT count(*) FROM rewards")
        return int(n_outcomes)


_NOT_OURS: Final = frozenset({sqlite3.SQLITE_NOTADB})
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR})


@contextmanager
def _translated_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        extended = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        code = extended & 0xFF
        if extended == sqlite3.SQLITE_IOERR_SHMSIZE:
            raise StoreFullError(
                "no room left beside the database, where it needs a file to be read"
            ) from error
        if code == sqlite3.SQLITE_FULL:
            raise StoreFullError("no room left for the copy") from error
        if code in _NOT_OURS:
            raise SchemaError("the file is not a database of this service") from error
        if code in _DAMAGED:
            raise StoreBrokenError("the database is damaged, or its disk is; no copy was kept") from error
        raise StoreUnavailableError("the database can't be read") from error
    except OSError as error:
        raise BackupTargetError(f"can't write {target}: {error.strerror}") from error

"""The place that an SQLite URL names: whether a database can be there, before anything is made or locked.

SQLite and the operating system refuse such places too, but late and with a word that fits many of them: by
then there is a lock file beside somebody else's file.
"""

import errno
import os
import stat
from pathlib import Path
from typing import Final

from sqlalchemy import URL

from server.printing import printable
from server.store.errors import ForeignFileError, StorePlaceError
from server.store.sqlite.files import companions

_MAGIC: Final = b"SQLite format 3\0"
_LOG_VERSIONS_AT: Final = 18
_WITH_LOG: Final = 2
"""What the file's header says of a database that may have a write-ahead log."""

_LONGEST_SUFFIX: Final = len("-journal")
_LONGEST_SHOWN: Final = 120
_WITHOUT_EFFECT: Final = frozenset(
    {"timeout", "isolation_level", "detect_types", "check_same_thread", "cached_statements"}
)
"""Options of Python's driver that the store sets itself."""

_REASONS: Final = {
    errno.ENOENT: "there is no such folder",
    errno.ENOTDIR: "a part of the path is a file, where a folder is needed",
    errno.EACCES: "this user may not look into the folder",
    errno.ELOOP: "the path has a link that leads back to itself",
    errno.ENAMETOOLONG: "the name is too long for the file system",
}


def file_of(url: URL) -> Path:
    """Return the file of an SQLite URL, which need not exist.

    Raises:
        StorePlaceError: The URL names no file.
    """
    name = url.database
    if name is None or name in {"", ":memory:"}:
        raise StorePlaceError(
            "this version keeps its state in a file: name one, as in sqlite:///FILE", is_malformed=True
        )
    if unknown := sorted(url.query.keys() - _WITHOUT_EFFECT):
        raise StorePlaceError(
            f"an SQLite URL takes no options, and {shown(unknown[0])} is given after a question mark: leave "
            "it out, or write %3F for a question mark in the file's name",
            is_malformed=True,
        )
    if "\0" in name:
        raise StorePlaceError(
            "the file's name must not hold a NUL byte (%00): name another file", is_malformed=True
        )
    if name.endswith("/") or Path(name).name in {"", ".", ".."}:
        raise StorePlaceError(
            f"{shown(name)} is a folder, and must be a file: name one in it, such as bandit.db",
            is_malformed=True,
        )
    file = Path(name)
    if not file.is_absolute() and not _has_working_directory():
        raise StorePlaceError(
            f"can't open {shown(file)}: the working directory was deleted; start in one that is there, or "
            "name the file by its absolute path"
        )
    return file


def require_readable(file: Path) -> None:
    """Raise unless a file is there that may be a database of this service, and may be read.

    Raises:
        StorePlaceError: There is no such file, or it can't be read.
        ForeignFileError: It is no database.
    """
    mode = _mode_of(file)
    if mode is None:
        raise StorePlaceError(f"there is no database {shown(file)}")
    _require_database(file, mode)


def require_ownable(file: Path) -> None:
    """Raise unless a process may own a database that is in this file, or will be.

    Raises:
        StorePlaceError: It can't be created, read or written there.
        ForeignFileError: The file is no database.
    """
    mode = _mode_of(file)
    folder = file.resolve().parent
    if mode is not None:
        _require_database(file, mode)
        if not _may_write(file):
            raise StorePlaceError(f"{shown(file)} can't be written: {_why_not(file)}")
    elif file.name != file.name.strip():
        raise StorePlaceError(
            f"the name of a new database must not begin or end with white space: {shown(repr(str(file)))}",
            is_malformed=True,
        )
    elif not folder.is_dir():
        raise StorePlaceError(f"can't create {shown(file)}: there is no folder {shown(folder)}")
    needed = [each for each in companions(file) if not each.name.endswith("-journal")]
    if not _may_write(folder) and not all(each.exists() for each in needed):
        raise StorePlaceError(
            f"can't open {shown(file)}: its folder {shown(folder)} must take the log and the lock beside the "
            f"file, and {_why_not(folder)}"
        )
    _require_short(file, folder)


def is_unchanging(file: Path) -> bool:
    """Whether a database must be opened as one that nobody writes, because SQLite could not otherwise.

    A database with a write-ahead log needs two files beside it, also to be read. Where neither it nor its
    folder can be written, as on a read-only mount, SQLite does without them if it is told that the file does
    not change; it then passes over the log.

    Raises:
        StorePlaceError: There is such a log, which holds commits, and it can't be read here; or the file can
            be written and its folder can't.
    """
    real = file.resolve()
    log, index = (real.with_name(real.name + suffix) for suffix in ("-wal", "-shm"))
    if _may_write(real.parent) or not _may_have_log(real) or (log.exists() and index.exists()):
        return False  # SQLite reads or makes all three, whether a server is there or not
    if _may_write(real):
        raise StorePlaceError(
            f"can't open {shown(file)}: SQLite must make two files beside it, and {_why_not(real.parent)}: "
            "copy it to a folder that can be written, and name that copy"
        )
    require_no_log(file)
    return True


def url_of_unchanging(file: Path) -> URL:
    """Return the URL that opens a database as one that nobody writes."""
    options = {"mode": "ro", "immutable": "1", "uri": "true"}
    return URL.create("sqlite", database=file.resolve().as_uri(), query=options)


def require_no_log(file: Path) -> None:
    """Raise StorePlaceError if commits in a database's write-ahead log would be passed over."""
    real = file.resolve()
    log = real.with_name(real.name + "-wal")
    try:
        n_bytes = log.stat().st_size
    except FileNotFoundError:
        return
    if n_bytes:
        raise StorePlaceError(
            f"the latest commits are in {shown(log)}, which can't be read where nothing can be written: copy "
            f"{shown(file.name)} and {shown(log.name)} together to a folder that can be written, and name "
            "that copy"
        )


def shown(place: object) -> str:
    r"""Return a path as shown in an error: on one line, and not at any length.

    >>> shown(Path("a\nb"))
    'a\\nb'
    """
    text = str(place)
    if len(text) > _LONGEST_SHOWN:
        text = f"{text[: _LONGEST_SHOWN // 2]}…{text[-_LONGEST_SHOWN // 2 :]} ({len(text):,} characters)"
    return printable(text)


def _has_working_directory() -> bool:
    try:
        Path.cwd()
    except OSError:
        return False
    return True


def _mode_of(file: Path) -> int | None:
    """Return the mode of a file, None if there is none; StorePlaceError if there can be none."""
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, (error.strerror or str(error)).lower())
        raise StorePlaceError(f"can't open {shown(file)}: {reason}") from error
    if stat.S_ISDIR(mode):
        raise StorePlaceError(f"{shown(file)} is a folder, and must be a file: name one in it")
    if not stat.S_ISREG(mode):
        raise StorePlaceError(f"{shown(file)} is a device, pipe or socket, and must be a regular file")
    return mode


def _require_database(file: Path, mode: int) -> None:
    """Raise unless a regular file can be read and is empty or SQLite's."""
    try:
        with file.open("rb") as opened:
            header = opened.read(len(_MAGIC))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StorePlaceError(
            f"can't read {shown(file)}: {reason} (its mode is {stat.S_IMODE(mode):o})"
        ) from error
    if header not in {b"", _MAGIC}:
        raise ForeignFileError(f"the file is not a database of this service: {shown(file)}")


def _require_short(file: Path, folder: Path) -> None:
    """Raise StorePlaceError if the files beside a database would have too long a name."""
    length = len(os.fsencode(file.resolve().name))
    longest = os.pathconf(folder, "PC_NAME_MAX") - _LONGEST_SUFFIX
    if length > longest:
        raise StorePlaceError(
            f"the name of {shown(file)} has {length} bytes, and must have at most {longest}: SQLite keeps "
            "files beside it whose names are longer"
        )


def _may_have_log(file: Path) -> bool:
    """Whether the header of a database says that it may have a write-ahead log."""
    with file.open("rb") as opened:
        return opened.read(_LOG_VERSIONS_AT + 2)[_LOG_VERSIONS_AT:] == bytes([_WITH_LOG, _WITH_LOG])


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _why_not(path: Path) -> str:
    """Why something that is there can't be written."""
    try:
        flags = os.statvfs(path).f_flag
    except OSError:
        flags = 0
    if flags & os.ST_RDONLY:
        return "it is on a file system that is mounted read-only"
    return f"this user may not write it (its mode is {stat.S_IMODE(path.stat().st_mode):o})"

"""The database in an outbox's file: its tables, and connections on which each commit is synced."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, TypeVar

APPLICATION_ID: Final = 0x42_4F_42_31  # "BOB1"
VERSION: Final = 1
SMALLEST_BYTES: Final = 512
"""The smallest page of SQLite."""

_BUSY_SECONDS: Final = 10.0
ResultT = TypeVar("ResultT")

_SCHEMA: Final = """
CREATE TABLE pending (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    decision_id TEXT NOT NULL, outcomes TEXT NOT NULL, revision INTEGER NOT NULL,
    seconds REAL NOT NULL, boot TEXT NOT NULL, uptime REAL NOT NULL
);
CREATE TABLE refused (
    number INTEGER PRIMARY KEY,
    decision_id TEXT NOT NULL, outcomes TEXT NOT NULL, revision INTEGER NOT NULL,
    seconds REAL NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL
);
CREATE TABLE sizes (pending INTEGER NOT NULL, refused INTEGER NOT NULL);
INSERT INTO sizes VALUES (0, 0);
CREATE TRIGGER pending_more AFTER INSERT ON pending BEGIN UPDATE sizes SET pending = pending + 1; END;
CREATE TRIGGER pending_less AFTER DELETE ON pending BEGIN UPDATE sizes SET pending = pending - 1; END;
CREATE TRIGGER refused_more AFTER INSERT ON refused BEGIN UPDATE sizes SET refused = refused + 1; END;
CREATE TRIGGER refused_less AFTER DELETE ON refused BEGIN UPDATE sizes SET refused = refused - 1; END;
"""


def connect(path: Path) -> sqlite3.Connection:
    """Open a file that exists; threads must take turns."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )


def set_up(connection: sqlite3.Connection) -> bool:
    """Let each commit return once it is on disk; True if it goes to a log beside the file first."""
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")  # where fsync leaves data in the disk's cache: macOS
    return bool(mode == "wal")


def create(connection: sqlite3.Connection) -> None:
    """Create the tables, unless another process has done so meanwhile."""
    connection.execute("BEGIN EXCLUSIVE")
    with closing(connection.cursor()) as cursor:
        if tags(connection)[0] != APPLICATION_ID:
            for statement in _statements(_SCHEMA):
                cursor.execute(statement)
            cursor.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            cursor.execute(f"PRAGMA user_version = {VERSION}")
        cursor.execute("COMMIT")


def _statements(script: str) -> Iterator[str]:
    """Yield the statements of a script; `executescript` would commit before the first."""
    statement = ""
    for line in script.splitlines():
        statement += f"{line}\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def tags(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return the application id and the version of the tables; 0 in an empty file."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return application_id, version


def patiently(act: Callable[[], ResultT]) -> ResultT:
    """Repeat what another process may block for a moment without SQLite waiting for it by itself."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            return act()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.02)

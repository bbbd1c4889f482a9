"""The file of an outbox: an SQLite database in WAL mode, synced at each commit, for any number of processes.

Numbers of rewards are never used twice. So two processes that send the same rewards can't delete any other.
"""

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from bandit.client.errors import CallError
from bandit.client.outbox.age import Moment, moment
from bandit.client.outbox.database import (
    APPLICATION_ID,
    SMALLEST_BYTES,
    VERSION,
    connect,
    create,
    patiently,
    set_up,
    tags,
)
from bandit.client.outbox.errors import OutboxClosedError, OutboxFileError, OutboxFullError
from bandit.client.outbox.refused import RefusedReward
from bandit.client.values import Reward


class OutboxFile:
    """The rewards on disk; thread-safe, and safe beside other processes.

    Every method raises OutboxFileError if the file can't be used, and OutboxClosedError after `close`.

    Args:
        path: the file; it is created, readable by its owner only, if there is none.
        most_pending: how many rewards may wait.
        most_refused: how many refused rewards are kept.
    """

    MOST_AT_ONCE: Final = 100
    """How many rewards one statement appends: every SQLite takes as many cells."""

    def __init__(self, path: Path, most_pending: int, most_refused: int) -> None:
        self.path = path
        self._most_pending = most_pending
        self._most_refused = most_refused
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._is_closed = False
        self._has_log = False
        self._cause_of_no_use = ""
        with self._errors("the file can't be opened"):
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            if 0 < path.stat().st_size < SMALLEST_BYTES:  # SQLite would take it for empty, and begin it anew
                raise OutboxFileError(str(path), "is no reward outbox: move it away or name another")
            self._identity = _identity(path)
            self._connection = connect(path)
            self._prepare(self._connection)

    def add(self, rewards: Sequence[Reward]) -> list[OutboxFullError | None]:
        """Append rewards with one commit, which is on disk when this returns.

        It is one statement: a signal handler runs between statements, and may add a reward itself.

        Args:
            rewards: at most `MOST_AT_ONCE`.

        Returns:
            For each reward, in order, None, or the error of a full outbox.
        """
        if not rewards:
            return []
        now = moment()
        cells = [cell for each in rewards for cell in _cells(each)]
        with self._lock, self._errors("the file can't be written, so nothing was kept"):
            n_kept = (
                self._opened()
                .execute(
                    "INSERT INTO pending (decision_id, outcomes, revision, seconds, boot, uptime) "  # noqa: S608 - placeholders
                    f"WITH added (a, b, c) AS (VALUES {', '.join(['(?, ?, ?)'] * len(rewards))}) "
                    "SELECT a, b, c, ?, ?, ? FROM added LIMIT (SELECT max(? - pending, 0) FROM sizes)",
                    (*cells, now.seconds, now.boot, now.uptime, self._most_pending),
                )
                .rowcount
            )
            if not self._is_in_place():
                raise OutboxFileError(
                    str(self.path),
                    "the file or its log was deleted or replaced while in use, so nothing was kept",
                )
        if n_kept == len(rewards):
            return [None] * n_kept
        full = OutboxFullError(str(self.path), self.sizes()[0], self._most_pending)
        return [None] * n_kept + [full] * (len(rewards) - n_kept)

    def read(self, after: int, most: int) -> dict[int, Reward]:
        """Return the next rewards beyond a number, by their numbers in order."""
        rows = self._query(
            "SELECT number, decision_id, outcomes, revision FROM pending WHERE number > ? "
            "ORDER BY number LIMIT ?",
            (after, most),
        )
        return {number: _reward(*cells) for number, *cells in rows}

    def settle(self, delivered: Sequence[int], refused: Mapping[int, CallError]) -> int:
        """Forget what was delivered and set apart what was refused; return how many refused ones it forgot.

        Beyond the bound those that were refused first are forgotten.
        """
        now = time.time()
        with self._transaction("so rewards that were sent will be sent again") as connection:
            for number, error in refused.items():
                connection.execute(
                    "INSERT OR IGNORE INTO refused "
                    "SELECT number, decision_id, outcomes, revision, ?, ?, ?, ? "
                    "FROM pending WHERE number = ?",
                    (now, error.code.name, error.reason, _summary(error), number),
                )
            numbers = [(number,) for number in (*delivered, *refused)]
            connection.executemany("DELETE FROM pending WHERE number = ?", numbers)
            return connection.execute(
                "DELETE FROM refused WHERE number IN (SELECT number FROM refused ORDER BY number LIMIT "
                "(SELECT max(refused - ?, 0) FROM sizes))",
                (self._most_refused,),
            ).rowcount

    def refused(self, most: int) -> list[RefusedReward]:
        """Return refused rewards, the first ones first."""
        rows = self._query("SELECT * FROM refused ORDER BY number LIMIT ?", (most,))
        return [
            RefusedReward(
                number=number,
                reward=_reward(decision_id, outcomes, revision),
                refused_at=datetime.fromtimestamp(seconds, UTC),
                status=status,
                reason=reason,
                message=message,
            )
            for number, decision_id, outcomes, revision, seconds, status, reason, message in rows
        ]

    def retry(self, numbers: Sequence[int] | None) -> int:
        """Move refused rewards, or all of them, back to those that wait; return how many.

        Raises:
            OutboxFullError: there is no room for them.
        """
        now = moment()
        with self._transaction("so nothing was moved") as connection:
            chosen = _choose(connection, numbers)
            (n_pending,) = connection.execute("SELECT pending FROM sizes").fetchone()
            if n_pending + len(chosen) > self._most_pending:
                raise OutboxFullError(str(self.path), n_pending, self._most_pending)
            connection.executemany(
                "INSERT INTO pending (decision_id, outcomes, revision, seconds, boot, uptime) "
                "SELECT decision_id, outcomes, revision, ?, ?, ? FROM refused WHERE number = ?",
                [(now.seconds, now.boot, now.uptime, number) for (number,) in chosen],
            )
            connection.executemany("DELETE FROM refused WHERE number = ?", chosen)
            return len(chosen)

    def drop(self, numbers: Sequence[int] | None) -> int:
        """Forget refused rewards, or all of them; return how many."""
        with self._transaction("so nothing was dropped") as connection:
            chosen = _choose(connection, numbers)
            connection.executemany("DELETE FROM refused WHERE number = ?", chosen)
            return len(chosen)

    def sizes(self) -> tuple[int, int]:
        """Return how many rewards wait, and how many were refused."""
        ((n_pending, n_refused),) = self._query("SELECT pending, refused FROM sizes")
        return n_pending, n_refused

    def last_number(self) -> int:
        """Return the number of the newest reward that waits; 0 if none does."""
        ((number,),) = self._query("SELECT coalesce(max(number), 0) FROM pending")
        return int(number)

    def has_up_to(self, number: int) -> bool:
        """True if a reward with this number, or a lower one, waits."""
        return bool(self._query("SELECT 1 FROM pending WHERE number <= ? LIMIT 1", (number,)))

    def oldest_age(self) -> timedelta:
        """Return how long the oldest reward has waited; 0 if none waits."""
        rows = self._query("SELECT seconds, boot, uptime FROM pending ORDER BY number LIMIT 1")
        return Moment(*rows[0]).until(moment()) if rows else timedelta(0)

    def close(self) -> None:
        """Close the file; closing again does nothing."""
        with self._lock:
            self._is_closed = True
            self._disconnect()

    def before_fork(self) -> None:
        """Close the file until the fork is over: no connection to SQLite may cross one."""
        self._lock.acquire()
        self._disconnect()

    def after_fork_in_parent(self) -> None:
        """Allow the file to be opened again."""
        self._lock.release()

    def after_fork(self) -> None:
        """Allow the file to be opened again, unless the fork was none of Python's."""
        self._lock = threading.RLock()
        if self._connection is not None:
            self._cause_of_no_use = "the process was forked around Python: open the outbox after the fork"

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _opened(self) -> sqlite3.Connection:
        if self._is_closed:
            raise OutboxClosedError(str(self.path))
        if self._cause_of_no_use:
            raise OutboxFileError(str(self.path), self._cause_of_no_use)
        connection = self._connection  # which a signal handler may close
        if connection is None:
            if not self._is_in_place():
                raise OutboxFileError(str(self.path), "the file was deleted or replaced while in use")
            connection = self._connection = connect(self.path)
            self._has_log = set_up(connection)
        return connection

    def _is_in_place(self) -> bool:
        """True if the path still leads to the file that was opened: else what is written would be lost.

        The log goes with the connection that a fork closes, so no other thread may fork meanwhile; a signal
        handler may, hence the order.
        """
        has_log = Path(f"{self.path}-wal").exists() or not self._has_log or self._connection is None
        with suppress(OSError):
            return has_log and _identity(self.path) == self._identity
        return False

    def _query(self, statement: str, parameters: Sequence[object] = ()) -> list[Any]:
        with self._lock, self._errors("the file can't be read"):
            return self._opened().execute(statement, parameters).fetchall()

    @contextmanager
    def _transaction(self, consequence: str) -> Iterator[sqlite3.Connection]:
        with self._lock, self._errors(f"the file can't be written, {consequence}"):
            connection = self._opened()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors(self, problem: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutboxFileError(str(self.path), f"{problem}: {error.strerror}") from error
        except sqlite3.Error as error:
            raise OutboxFileError(str(self.path), f"{problem}: {error}") from error

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Check that the file is an outbox, or make it one if it is empty."""
        try:
            self._recognise(connection)
            self._has_log = patiently(lambda: set_up(connection))
        except BaseException:
            self._disconnect()
            raise

    def _recognise(self, connection: sqlite3.Connection) -> None:
        try:
            application_id, version = tags(connection)
            n_tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            raise OutboxFileError(
                str(self.path), f"is no reward outbox, or is damaged ({error}): move it away or name another"
            ) from error
        if application_id != APPLICATION_ID and (application_id or n_tables):
            raise OutboxFileError(
                str(self.path), "is a database of something else, not a reward outbox: name another file"
            )
        if version > VERSION:
            raise OutboxFileError(str(self.path), "was written by a newer version: upgrade this one")
        if found != "ok":
            raise OutboxFileError(str(self.path), f"is damaged ({found}): move it away")
        if not n_tables:
            patiently(lambda: create(connection))


def _choose(connection: sqlite3.Connection, numbers: Sequence[int] | None) -> list[tuple[int]]:
    every: list[tuple[int]] = connection.execute("SELECT number FROM refused ORDER BY number").fetchall()
    return every if numbers is None else [each for each in every if each[0] in set(numbers)]


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _cells(reward: Reward) -> tuple[str, str, int]:
    decision = reward.decision if isinstance(reward.decision, str) else reward.decision.decision_id
    return decision, json.dumps(dict(reward.outcomes)), reward.revision


def _reward(decision_id: str, outcomes: str, revision: int) -> Reward:
    return Reward(decision_id, json.loads(outcomes), revision)


def _summary(error: CallError) -> str:
    """The message, with the field violations, which say what was wrong."""
    details = "; ".join(f"{each.field}: {each.description}" for each in error.field_violations)
    return details or error.message

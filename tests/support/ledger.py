"""The database on disk, read next to the server and without its code."""

import base64
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple


class StoredEpoch(NamedTuple):
    """A row of the table of epochs."""

    number: int
    started_at: int
    shares: dict[str, float]


def query(database: Path, statement: str, parameters: Iterable[object] = ()) -> list[tuple[Any, ...]]:
    """Return the rows of a statement, read-only."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(statement, tuple(parameters)).fetchall()


def decision_of(decision_id: str) -> bytes:
    """Return the unique id in a decision id, as the log stores it."""
    return base64.urlsafe_b64decode(decision_id)[2:18]


def number_of(database: Path, experiment: str) -> int:
    """Return the store's number of an experiment."""
    ((number,),) = query(database, "SELECT number FROM experiments WHERE name = ?", [experiment])
    return int(number)


def arm_names(database: Path, experiment: str) -> Mapping[int, str]:
    """Return the store's numbers of arms, mapped to their ids."""
    ((document,),) = query(database, "SELECT document FROM experiments WHERE name = ?", [experiment])
    return {number: arm for arm, number in json.loads(document)["arm_numbers"].items()}


def stored_epochs(database: Path, experiment: str) -> list[StoredEpoch]:
    """Return the epochs of an experiment in order, with shares by arm id; microseconds since 1970."""
    names = arm_names(database, experiment)
    rows = query(
        database,
        "SELECT number, started_at, shares FROM epochs WHERE experiment = ? ORDER BY number",
        [number_of(database, experiment)],
    )
    return [
        StoredEpoch(number, at, {names[int(arm)]: share for arm, share in json.loads(shares).items()})
        for number, at, shares in rows
    ]


def logged_decisions(database: Path) -> set[bytes]:
    """Return the decisions that the reward log has."""
    return {decision for (decision,) in query(database, "SELECT DISTINCT decision FROM rewards")}


def integrity(database: Path) -> list[str]:
    """Return the result of SQLite's own check: `ok`."""
    return [text for (text,) in query(database, "PRAGMA integrity_check")]


@contextmanager
def commits_held_up(database: Path) -> Iterator[None]:
    """Let no commit of the server through, by holding the database's write lock."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")

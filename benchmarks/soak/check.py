"""The ledger after a soak: what was sent and acknowledged, compared with the database."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.harness.postgresql import query
from benchmarks.soak.clients import Books
from server.app import maintenance
from server.settings import Settings

_OF: Final = " WHERE experiment = (SELECT number FROM experiments WHERE name = ?)"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerComparison:
    """What the comparison found.

    Attributes:
        n_logged: Outcomes in the log.
        n_lost: Acknowledged rewards and revisions that the log does not have.
        n_doubled: Outcomes in the sums beyond those in the log.
        n_unknown: Outcomes in the log that were never sent.
        n_purged: Outcomes of the experiment of long ago that were rightly purged from the log.
        n_in_doubt: Rewards whose commit was unknown to the client, and whose retry was a duplicate.
        differences: What `verify` prints: sums that are not the fold of the log, faults of the file.
        wrong: Impossible answers, and failures without an excuse.
    """

    n_logged: int
    n_lost: int
    n_doubled: int
    n_unknown: int
    n_purged: int
    n_in_doubt: int
    differences: tuple[str, ...]
    wrong: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Whether nothing is lost, doubled, unknown or wrong."""
        faults = (self.n_lost, self.n_doubled, self.n_unknown, self.differences, self.wrong)
        return not any(faults)


def check(database: str, books: Books, experiment: str, *, n_expired: int) -> LedgerComparison:
    """Compare, with every server stopped and every reward acknowledged.

    Args:
        database: Its URL.
        books: What the clients know.
        experiment: The experiment that they chose from.
        n_expired: Outcomes of long ago that must be purged from the log by now, and kept in its sums.
    """
    rows = _read_of(database, experiment, "SELECT decision, quanta, revision FROM rewards")
    logged = {bytes(decision): (quanta, revision) for decision, quanta, revision in rows}
    counted = "SELECT coalesce(sum(n + late_n), 0) FROM outcome_facts"
    ((n_counted,),) = _read_of(database, experiment, counted)
    ((n_purged,),) = _read(database, "SELECT coalesce(sum(n + late_n), 0) FROM sealed_facts")
    ((n_sealed,),) = _read_of(database, experiment, "SELECT count(*) FROM seals")
    report = maintenance.verify(Settings(database=database), lambda _done, _total: None)
    last = {key: (values[-1], len(values) - 1) for key, values in books.sent.items()}
    return LedgerComparison(
        n_logged=len(rows),
        n_lost=sum(logged.get(key) != last[key] for key in books.acked),
        n_doubled=int(n_counted) - len(rows),
        n_unknown=len(logged.keys() - books.sent.keys()),
        n_purged=int(n_purged),
        n_in_doubt=books.in_doubt,
        differences=tuple(report.differences),
        wrong=(*books.wrong, *books.failed_chooses, *_wrongly_sealed(n_sealed, int(n_purged), n_expired)),
    )


def n_left(database: str, experiment: str) -> int:
    """Return how many outcomes of an experiment the log has."""
    ((found,),) = _read_of(database, experiment, "SELECT count(*) FROM rewards")
    return int(found)


def _wrongly_sealed(n_sealed: int, n_purged: int, n_expired: int) -> Iterator[str]:
    if n_sealed:
        yield "today's decisions are sealed: a wrong clock was trusted"
    if n_purged != n_expired:
        yield f"{n_purged} outcomes were purged instead of {n_expired}"


def _read_of(database: str, experiment: str, statement: str) -> list[tuple[Any, ...]]:
    """Return the rows of a statement on one table with an experiment column, for this experiment."""
    return _read(database, statement + _OF, experiment)


def _read(database: str, statement: str, *parameters: str) -> list[tuple[Any, ...]]:
    if database.startswith("postgresql"):
        return query(database, statement.replace("?", "%s"), parameters)
    file = Path(database.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return connection.execute(statement, parameters).fetchall()

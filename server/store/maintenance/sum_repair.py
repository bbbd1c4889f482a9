"""Repair of sums that are no longer whole numbers.

SQLite turns a sum that overflows 64 bits into a floating-point number, and every later one of its row. That
happened to sums of squares up to version 0.2, after some eight million outcomes at a metric's maximum in one
epoch. Outcome facts are the sealed sums plus the fold of the log, so any one of the three follows from the
other two.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

import structlog
from sqlalchemy import Connection, text

from bandit.facts import OutcomeKey
from server.store.columns.exact_sums import StoredTally
from server.store.dialect import Dialect
from server.store.errors import SchemaError
from server.store.tables import facts, sealed_facts

log = structlog.get_logger()

_TABLES: Final = ("outcome_facts", "sealed_facts")
_IS_INEXACT: Final = "typeof(squares) = 'real' OR typeof(late_squares) = 'real'"
"""No sum of whole numbers outgrows 64 bits before that of their squares does."""

_KEY: Final = ", ".join(OutcomeKey._fields)
_IS_KEY: Final = " AND ".join(f"{name} = :{name}" for name in OutcomeKey._fields)


INEXACT: Final = "sums that are no longer whole numbers, since they outgrew 64 bits under an older version"


class Repaired(NamedTuple):
    """What was repaired.

    Attributes:
        n_sums: How many keys had a sum that was no whole number.
        lost: Those of them whose sealed sum stays what SQLite rounded it to: the outcomes were purged, and
            the facts were rounded, too.
    """

    n_sums: int = 0
    lost: tuple[OutcomeKey, ...] = ()


def find_inexact(connection: Connection) -> list[str]:
    """Name of the tables that hold a sum which is no whole number; only SQLite has such."""
    if connection.dialect.name != "sqlite":
        return []
    query = "SELECT EXISTS (SELECT 1 FROM {table} WHERE {condition})"
    return [
        table
        for table in _TABLES
        if connection.exec_driver_sql(query.format(table=table, condition=_IS_INEXACT)).scalar_one()
    ]


def require_exact(connection: Connection) -> None:
    """Raise SchemaError if a sum of the facts is not a whole number. Does not read the log."""
    for table in find_inexact(connection):
        raise SchemaError(
            f"the table {table} holds {INEXACT}: to recount, stop the server and run `bandit-server rebuild`"
        )


def repair(connection: Connection, dialect: Dialect) -> Repaired:
    """Make every sum a whole number again, from the log; exact sums are not touched.

    Reads the log once for each experiment that has such a sum. The caller keeps writers away.
    """
    if not find_inexact(connection):
        return Repaired()
    of_facts, of_seals = (_inexact_keys(connection, table) for table in _TABLES)
    folded: dict[OutcomeKey, StoredTally] = {}
    for number in sorted({key.experiment for key in of_facts | of_seals}):
        log.info("sums.recounting", experiment=number)
        folded |= facts.over_parts(facts.fold_log(connection, number))
    sealed = sealed_facts.read(connection)
    stored = facts.sum_all(connection)
    for key in sorted(of_seals):
        exact = sealed[key]
        if key not in of_facts:
            exact = stored.get(key, StoredTally()).minus(folded.get(key, StoredTally()))
        sealed_facts.replace(connection, key, exact)
        sealed[key] = exact
    _delete(connection, of_facts)
    facts.add_outcomes(
        connection,
        dialect,
        {
            facts.OutcomePart(key): sealed.get(key, StoredTally()).plus(folded.get(key, StoredTally()))
            for key in of_facts
        },
        slot=0,
    )
    repaired = Repaired(len(of_facts | of_seals), tuple(sorted(of_facts & of_seals)))
    for key in repaired.lost:
        log.warning("sums.rounded", **key._asdict() | {"basis": key.basis.name.lower()})
    log.info("sums.mended", n_sums=repaired.n_sums, n_rounded=len(repaired.lost))
    return repaired


def _inexact_keys(connection: Connection, table: str) -> set[OutcomeKey]:
    query = f"SELECT DISTINCT {_KEY} FROM {table} WHERE {_IS_INEXACT}"  # noqa: S608 - names of the code
    return {facts.key_of(row) for row in connection.exec_driver_sql(query)}


def _delete(connection: Connection, keys: Iterable[OutcomeKey]) -> None:
    statement = text(f"DELETE FROM outcome_facts WHERE {_IS_KEY}")  # noqa: S608 - as above
    for key in sorted(keys):
        connection.execute(statement, {**key._asdict(), "basis": int(key.basis)})

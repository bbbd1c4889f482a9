"""The reward log in SQL: a row for each decision and metric, written by an upsert."""

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from sqlalchemy import Connection

from bandit.decision_id import Basis
from server.store.columns.exact_sums import STEP_BITS, quanta_of
from server.store.dialect import Dialect, RowsStatement
from server.store.records import OutcomeEntry
from server.store.tables.schema import rewards

RowKey: TypeAlias = tuple[bytes, int]
"""Decision and metric."""


Row: TypeAlias = tuple[
    bytes, int, int, int, int, int, int, int, int, bool, bool, int, int | None, float | None, int | None
]
"""The columns of `rewards` but for what was replaced."""


class Touched(NamedTuple):
    """A row that the upsert inserted or changed.

    Attributes:
        replaced_quanta: The value before; None if the row is new.
        is_late: Whether the row's first value was late; a revision stays on its side of the window.
        is_apart: Whether the row is kept apart.
        basis: Under which basis the row is counted: one that was there keeps its own.
        replaced_steps: The steps before; None if the row is new or had none.
    """

    replaced_quanta: int | None
    is_late: bool
    is_apart: bool
    basis: int
    replaced_steps: int | None = None


class StoredOutcome(NamedTuple):
    """A row as it stands."""

    quanta: int
    revision: int
    value: float | None = None
    steps: int | None = None

    def holds(self, outcome: OutcomeEntry) -> bool:
        """Whether it is of this value: as posted, or as it counts where only that is known."""
        if self.value is None or self.steps is None or quanta_of(self.steps) != self.quanta:
            return self.quanta == logged_as(outcome)[0]
        return self.value == (outcome.quanta if outcome.value is None else outcome.value)


_ROW: Final = (
    *("decision", "metric", "experiment", "epoch", "segment", "arm", "basis", "quanta", "revision"),
    *("is_late", "is_apart", "received_ms", "unit", "value", "steps"),
)
_UPSERT: Final = RowsStatement(
    f"""
    INSERT INTO rewards ({", ".join(_ROW)})
    {{rows}}
    ON CONFLICT (decision, metric) DO UPDATE SET
        replaced_quanta = rewards.quanta, quanta = excluded.quanta, revision = excluded.revision,
        replaced_steps = rewards.steps, steps = excluded.steps, value = excluded.value
    WHERE excluded.revision > rewards.revision
    RETURNING decision, metric, replaced_quanta, is_late, is_apart, basis, replaced_steps
    """,
    [rewards.c[name] for name in _ROW],
    is_write=True,
)
_FIND: Final = RowsStatement(
    """
    WITH wanted (decision, metric) AS ({rows})
    SELECT decision, metric, quanta, revision, value, steps
    FROM wanted JOIN rewards USING (decision, metric)
    """,
    [rewards.c.decision, rewards.c.metric],
    is_write=False,
)
_INSERTED: Final = {
    (is_late, is_apart, basis): Touched(None, is_late, is_apart, int(basis))
    for is_late in (False, True)
    for is_apart in (False, True)
    for basis in Basis
}
"""New rows differ in nothing else, and there are thousands of them a second."""


def upsert(connection: Connection, dialect: Dialect, rows: Sequence[Row]) -> dict[RowKey, Touched]:
    """Insert rows with distinct keys, sorted, or replace those of a lower revision.

    Returns:
        The rows that it inserted or changed.
    """
    return {
        (decision, metric): _INSERTED[is_late, is_apart, basis]
        if replaced is None
        else Touched(replaced, bool(is_late), bool(is_apart), basis, steps)
        for decision, metric, replaced, is_late, is_apart, basis, steps in dialect.execute_rows(
            connection, _UPSERT, rows
        )
    }


def find(connection: Connection, dialect: Dialect, keys: Sequence[RowKey]) -> dict[RowKey, StoredOutcome]:
    """Read rows by key, including those that others committed after the transaction began."""
    found = dialect.execute_rows(connection, _FIND, keys)
    return {(decision, metric): StoredOutcome(*stored) for decision, metric, *stored in found}


def logged_as(outcome: OutcomeEntry) -> tuple[int, int | None]:
    """The quanta of the log and the steps that an outcome has there."""
    if outcome.is_real:
        return quanta_of(outcome.quanta), outcome.quanta
    return outcome.quanta, None if outcome.value is None else outcome.quanta << STEP_BITS

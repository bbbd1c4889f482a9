"""Writers in a SQL database; see `WriterStore` for the contract."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection
from typing_extensions import override

from server.store.columns.times import to_micros
from server.store.contract.writers import WriterStore
from server.store.records import MoveStep, WriterState
from server.store.sql_store.part import SqlPart
from server.store.tables import ended_runs, writers
from server.store.tables.schema import writers as writers_table


class SqlWriterStore(SqlPart, WriterStore):
    """Keeps the runs of servers."""

    @override
    def claim_slot(self, incarnation: bytes, now: datetime) -> int:
        # In two transactions: two that have written the table could not both lock it.
        dialect = self._dialect

        def renew(connection: Connection) -> int | None:
            return writers.renew(connection, incarnation, dialect.read_clock(connection, now))

        def claim(connection: Connection) -> int:
            dialect.lock_tables(connection, writers_table)
            return writers.claim(
                connection,
                incarnation,
                dialect.read_clock(connection, now),
                is_shared=dialect.is_shared,
                decided_ms=to_micros(now) // 1000,
            )

        slot = dialect.write(renew)
        return dialect.write(claim) if slot is None else slot

    @override
    def read_writers(self) -> Sequence[WriterState]:
        return self._dialect.read(writers.read_all)

    @override
    def end_runs(self, silent: Sequence[WriterState], now: datetime) -> Sequence[bytes]:
        return self._dialect.write(lambda c: ended_runs.end_runs(c, self._dialect, silent, now))

    @override
    def end_cleanly(self, incarnation: bytes, now: datetime) -> None:
        self._dialect.write(
            lambda c: ended_runs.end_cleanly(c, incarnation, self._dialect.read_clock(c, now))
        )

    @override
    def move_uncounted(self, slot: int, n_looked_at: int) -> MoveStep | None:
        if not self._dialect.read(ended_runs.is_waiting):  # a look writes nothing where nothing is to be done
            return None
        return self._dialect.write(lambda c: ended_runs.move_step(c, self._dialect, slot, n_looked_at))

    @override
    def forget_writers(self, silent_since: datetime) -> None:
        self._dialect.write(lambda c: writers.forget(c, to_micros(silent_since)))

"""The verification of the ledger in a SQL database; see `LedgerStore` for the contract."""

from collections.abc import Mapping, Sequence

from typing_extensions import override

from bandit.facts import OutcomeKey, Tally
from server.store.contract.ledger import LedgerStore
from server.store.errors import StoreBrokenError
from server.store.maintenance import ledger_check, sum_repair
from server.store.records import Progress, Rebuilt
from server.store.sql_store.part import SqlPart
from server.store.tables.schema import outcome_facts, rewards


class SqlLedgerStore(SqlPart, LedgerStore):
    """Compares the reward log with the facts, and rebuilds these."""

    @override
    def compare_ledger(
        self, progress: Progress
    ) -> tuple[Mapping[OutcomeKey, Tally], Mapping[OutcomeKey, Tally]]:
        with self._dialect.reading(is_long=True) as connection:
            return ledger_check.compare(connection, progress)

    @override
    def count_apart(self) -> int:
        with self._dialect.reading(is_long=True) as connection:
            return ledger_check.count_apart(connection)

    @override
    def rebuild_outcomes(self, progress: Progress) -> Rebuilt:
        with self._dialect.writing(is_long=True) as connection:
            self._dialect.lock_tables(connection, rewards, outcome_facts)
            return ledger_check.rebuild(connection, self._dialect, progress)

    @override
    def check_integrity(self) -> Sequence[str]:
        try:
            with self._dialect.reading(is_long=True) as connection:
                found = self._dialect.check_integrity(connection)
                inexact = sum_repair.find_inexact(connection)
                return [*found, *(f"{table} holds {sum_repair.INEXACT}" for table in inexact)]
        except StoreBrokenError as error:  # so damaged that the check itself can't go on
            return [str(error)]

"""Seals and purging in a SQL database; see `RetentionStore` for the contract."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from typing_extensions import override

from server.store.columns.times import to_micros
from server.store.contract.retention import RetentionStore
from server.store.maintenance import purge
from server.store.records import PurgeStep, SealedEpochs, SealSummary
from server.store.sql_store.part import SqlPart
from server.store.tables import seals


class SqlRetentionStore(SqlPart, RetentionStore):
    """Seals epochs, and purges the reward log."""

    @override
    def find_sealable(
        self, after: int, limit: int, now: datetime, retention: timedelta
    ) -> tuple[Sequence[SealedEpochs], int | None]:
        return self._dialect.read(lambda c: seals.find_sealable(c, after, limit, now, retention))

    @override
    def seal(self, wanted: Sequence[SealedEpochs], now: datetime) -> None:
        self._dialect.write(lambda c: seals.raise_seals(c, wanted, now))

    @override
    def settle_seals(self) -> bool:
        self._dialect.write(lambda c: seals.fence(c, self._dialect))
        return self._dialect.write(lambda c: seals.settle(c, self._dialect))

    @override
    def purge(self, start: bytes, end: bytes, n_looked_at: int) -> PurgeStep:
        return self._dialect.write(lambda c: purge.purge_step(c, start, end, n_looked_at))

    @override
    def purge_configurations(self, before: datetime) -> int:
        return self._dialect.write(lambda c: purge.purge_configurations(c, to_micros(before)))

    @override
    def summarise_seals(self) -> SealSummary:
        return self._dialect.read(purge.summarise)

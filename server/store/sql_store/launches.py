"""Looks and requests of launches in a SQL database; see `LaunchStore` for the contract."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection
from typing_extensions import override

from server.store.contract.launches import LaunchStore
from server.store.records import ExperimentRecord, Lease, NewEvent, StoredLook, VerbRequest
from server.store.sql_store.part import SqlPart
from server.store.tables import events, experiments
from server.store.tables.launch import leases, requests
from server.store.tables.launch import looks as looks_table


class SqlLaunchStore(SqlPart, LaunchStore):
    """Keeps the looks at launches, and the requests that moved one."""

    @override
    def keep_looks(
        self,
        record: ExperimentRecord,
        looks: Mapping[int, StoredLook],
        happened: Sequence[NewEvent] = (),
        *,
        at: datetime,
        fence: Lease | None = None,
    ) -> bool:
        def keep(connection: Connection) -> bool:
            if fence is not None:
                leases.require(connection, fence)
            if not experiments.is_at(connection, record):
                return False
            looks_table.keep(connection, record.number, looks)
            version, revision = self._dialect.version, record.revision
            events.append(connection, record.number, happened, version, at=at, revision=revision)
            return True

        return self._dialect.write(keep)

    @override
    def read_looks(self, experiments: Collection[int]) -> Mapping[int, Mapping[int, StoredLook]]:
        return self._dialect.read(lambda c: looks_table.read(c, experiments))

    @override
    def find_request(self, caller: str, request_id: str) -> VerbRequest | None:
        return self._dialect.read(lambda c: requests.find(c, caller, request_id))

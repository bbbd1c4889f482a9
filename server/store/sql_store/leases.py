"""Leases in a SQL database; see `LeaseStore` for the contract."""

from typing_extensions import override

from server.store.contract.leases import LeaseStore
from server.store.records import Lease
from server.store.sql_store.part import SqlPart
from server.store.tables.launch import leases


class SqlLeaseStore(SqlPart, LeaseStore):
    """Keeps leases."""

    @override
    def read_lease(self, name: str) -> Lease:
        return self._dialect.read(lambda c: leases.read(c, name))

    @override
    def take_over_lease(self, seen: Lease, holder: str) -> Lease | None:
        return self._dialect.write(lambda c: leases.take_over(c, seen, holder))

    @override
    def renew_lease(self, lease: Lease) -> Lease | None:
        return self._dialect.write(lambda c: leases.renew(c, lease))

    @override
    def release_lease(self, lease: Lease) -> None:
        self._dialect.write(lambda c: leases.release(c, lease))

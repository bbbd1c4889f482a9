"""The store on a SQL database: transactions around the statements of `server.store.tables`.

The contract has a module for each subject, and so has this package. Its classes say what a transaction
does, and know no database: how one is begun, repeated and given up is said by `server.store.dialect`.
"""

from typing_extensions import override

from server.store.contract import Store
from server.store.dialect import Dialect
from server.store.errors import StoreUnavailableError
from server.store.maintenance import sum_repair
from server.store.migrate import CURRENT, Schema, has_schema, migrate, require_schema
from server.store.sql_store.clock import SqlClockStore
from server.store.sql_store.deliveries import SqlDeliveryStore
from server.store.sql_store.events import SqlEventStore
from server.store.sql_store.experiments import SqlExperimentStore
from server.store.sql_store.facts import SqlFactStore
from server.store.sql_store.launches import SqlLaunchStore
from server.store.sql_store.leases import SqlLeaseStore
from server.store.sql_store.ledger import SqlLedgerStore
from server.store.sql_store.retention import SqlRetentionStore
from server.store.sql_store.signing_keys import SqlKeyStore
from server.store.sql_store.writers import SqlWriterStore
from server.store.tables import events


class SqlStore(
    SqlExperimentStore,
    SqlEventStore,
    SqlDeliveryStore,
    SqlFactStore,
    SqlWriterStore,
    SqlRetentionStore,
    SqlLedgerStore,
    SqlClockStore,
    SqlKeyStore,
    SqlLaunchStore,
    SqlLeaseStore,
    Store,
):
    """See `Store` for the contract.

    Args:
        dialect: The database, opened.
        is_ready: Whether it is known to be of this version's schema.
        schema: What `prepare` migrates to.
    """

    def __init__(self, dialect: Dialect, *, is_ready: bool = True, schema: Schema = CURRENT) -> None:
        self._opened = dialect
        self._schema = schema
        self._is_ready = is_ready

    @property
    @override
    def _dialect(self) -> Dialect:
        if not self._is_ready:
            raise StoreUnavailableError("the database was not reached yet")
        return self._opened

    @property
    @override
    def is_shared(self) -> bool:
        return self._opened.is_shared

    @override
    def prepare(self, *, may_migrate: bool, may_be_inexact: bool = False) -> None:
        # A look first, under the bounds of any transaction: a migration has none, and few starts need one.
        if not self._opened.write(lambda c: has_schema(c, self._schema)):
            with self._opened.writing(is_long=True) as connection:
                if may_migrate:
                    self._opened.lock_schema(connection)
                    migrate(connection, self._opened, self._schema)
                require_schema(connection, self._schema)
        if not may_be_inexact:
            with self._opened.reading(is_long=True) as connection:
                sum_repair.require_exact(connection)
        self._opened.write(lambda c: events.repair_versions(c, self._opened.read_horizon(c)))
        self._opened.keep()
        self._is_ready = True

    @property
    @override
    def wal_bytes(self) -> int | None:
        return self._opened.wal_bytes

    @property
    @override
    def flaw(self) -> str | None:
        return self._opened.flaw

    @override
    def close(self) -> None:
        self._opened.close()

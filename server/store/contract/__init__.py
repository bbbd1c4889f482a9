"""The contract of a store.

**Threads.** Every method may be called from any thread; calls that write wait for one another. Every method
blocks.

**Atomicity.** Each call that writes is one transaction: it is done wholly, durably and visibly to every later
read when it returns, and not at all if it raises. After `StoreUnavailableError` from a database that was lost
during COMMIT, it may have been done. Repeating a call with equal arguments is exact in every method: what was
done is not done again, and the answer is that of a call that succeeded.

**Ownership.** Values handed in are not kept; values handed out are immutable.

**Audit.** The methods that change experiments or keys take the caller's name, and keep an entry of who
changed what in the transaction of the change; what was done is not entered again when repeated. The same goes
for the events of experiments.

**Failure.** Every method raises `StoreUnavailableError` if the database can't be reached, and
`StoreBrokenError` if a write to stable storage failed. Only what is beyond that is said at a method.
"""

from abc import ABC, abstractmethod

from server.store.contract.clock import ClockStore
from server.store.contract.deliveries import DeliveryStore
from server.store.contract.events import EventStore
from server.store.contract.experiments import ExperimentStore
from server.store.contract.facts import FactStore
from server.store.contract.launches import LaunchStore
from server.store.contract.leases import LeaseStore
from server.store.contract.ledger import LedgerStore
from server.store.contract.retention import RetentionStore
from server.store.contract.signing_keys import KeyStore
from server.store.contract.writers import WriterStore


class Store(
    ExperimentStore,
    EventStore,
    DeliveryStore,
    FactStore,
    WriterStore,
    RetentionStore,
    LedgerStore,
    ClockStore,
    KeyStore,
    LaunchStore,
    LeaseStore,
    ABC,
):
    """Experiments, epochs, facts and the reward log in a SQL database."""

    @property
    @abstractmethod
    def is_shared(self) -> bool:
        """Whether other processes may write at the same time, so that their changes must be polled for."""

    @property
    @abstractmethod
    def wal_bytes(self) -> int | None:
        """Bytes of the write-ahead log on disk; None where the database keeps it to itself. Never waits."""

    @property
    @abstractmethod
    def flaw(self) -> str | None:
        """Why an acknowledged commit could be lost, as last read; None if it can't. Never waits.

        While there is a flaw every method that writes raises `StoreUnsafeError`.
        """

    @abstractmethod
    def prepare(self, *, may_migrate: bool, may_be_inexact: bool = False) -> None:
        """Bring the database to the schema of this version.

        Until this has returned, every other method raises `StoreUnavailableError`. Exact when repeated.

        Args:
            may_migrate: Whether an empty or older database is migrated, or refused.
            may_be_inexact: Whether it may hold sums that are no whole numbers, as SQLite made them.

        Raises:
            SchemaError: It is of another version and may not or can't be migrated, is not ours, or holds sums
                that are no whole numbers.
            StoreUnreachableError: It can't be reached now; it may be later.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the database; further calls are errors. May be called twice."""

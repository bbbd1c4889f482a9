"""The contract of a store.

**Threads.** Every method may be called from any thread; calls that write wait for one another. Every method
blocks.

**Atomicity.** Each call that writes is one transaction: it is done wholly, durably and visibly to every later
read when it returns, and not at all if it raises. After `StoreUnavailableError` from a database that was lost
during COMMIT, it may have been done. Repeating a call with equal arguments is exact in every method: what was
done is not done again, and the answer is that of a call that succeeded.

**Ownership.** Values handed in are not kept; values handed out are immutable.

**Audit.** The methods that change experiments or keys take the caller's name, and keep an entry of who
changed what in the transaction of the change; what was done is not entered again when repeated.

**Failure.** Every method raises `StoreUnavailableError` if the database can't be reached, and
`StoreBrokenError` if a write to stable storage failed. Only what is beyond that is said at a method.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Final

from bandit.experiment import Experiment
from bandit.facts import Epoch, OutcomeKey, Tally
from bandit.units import UnitFacts
from server.store.clock_interface import ClockStore
from server.store.history import History
from server.store.records import (
    AuditEntry,
    Changes,
    ExperimentFacts,
    ExperimentRecord,
    Flush,
    KeyRing,
    PurgeStep,
    ReportFacts,
    RewardEntry,
    SealedEpochs,
    SealSummary,
    State,
    Verdict,
)

ANYONE: Final = "anyone"
"""The caller where callers need not say who they are."""

Progress = Callable[[int, int], None]
"""Called with how many of how many steps are done."""


class Store(ClockStore, ABC):
    """Experiments, epochs, facts and the reward log in a SQL database."""

    @property
    @abstractmethod
    def is_shared(self) -> bool:
        """Whether other processes may write while this one does, and have to be heard of by polling."""

    @property
    @abstractmethod
    def wal_bytes(self) -> int | None:
        """Bytes of the write-ahead log on disk; None where the database keeps it to itself. Never waits."""

    @abstractmethod
    def prepare(self, *, may_migrate: bool) -> None:
        """Brings the database to the schema of this version; must have returned before anything else works.

        Until then every other method raises `StoreUnavailableError`. Exact when repeated.

        Args:
            may_migrate: Whether an empty or older database is migrated, or refused.

        Raises:
            SchemaError: It is of another version and may not or can't be migrated, or is not ours.
            StoreAwayError: It can't be reached now; it may be later.
        """

    @abstractmethod
    def close(self) -> None:
        """Lets go of the database; further calls are errors. May be called twice."""

    # Writers and keys

    @abstractmethod
    def adopt_keys(self, candidate: KeyRing) -> KeyRing:
        """The ring of the store; `candidate` becomes it if there is none. Exact when repeated."""

    @abstractmethod
    def read_keys(self) -> KeyRing | None:
        """The ring of the store; None if there is none."""

    @abstractmethod
    def rotate_keys(
        self,
        secret: bytes,
        now: datetime,
        *,
        delay: timedelta,
        ended_before: datetime | None,
        caller: str = ANYONE,
    ) -> KeyRing:
        """The ring with a new key, which signs after `delay`. Exact when repeated with the same secret.

        A key that signed stays in the ring. Only when all 256 ids are taken, the key that ended first gives
        up its own, if it ended before `ended_before`; None lets none do so.

        Raises:
            KeysNotReadyError: The newest key does not sign yet, or no id is free; or there is no ring.
        """

    @abstractmethod
    def revoke_key(self, key: int, now: datetime, *, caller: str = ANYONE) -> KeyRing:
        """The ring without a key that was replaced. Exact when repeated: a key that is not there stays away.

        Raises:
            KeysNotReadyError: The key signs or is about to; or there is no ring.
        """

    @abstractmethod
    def claim_slot(self, incarnation: bytes, now: datetime) -> int:
        """A slot that no other live writer counts in, for a run marked by 16 random bytes.

        Calling it again says that the writer lives, and returns the same slot, or another one if the writer
        was silent for so long that somebody took the first. Exact when repeated.
        """

    @abstractmethod
    def forget_writers(self, silent_since: datetime) -> None:
        """Forgets writers without a slot that were not heard of since; their flushes can't be repeated."""

    # Experiments

    @abstractmethod
    def create_experiment(
        self, experiment: Experiment, now: datetime, caller: str = ANYONE
    ) -> ExperimentRecord:
        """Stores a draft.

        Raises:
            NameTakenError: The name is or was in use.
        """

    @abstractmethod
    def find_experiment(self, name: str) -> ExperimentRecord | None:
        """The experiment of this name; None if there is none or it was deleted."""

    @abstractmethod
    def has_name(self, name: str) -> bool:
        """Whether an experiment has or had this name."""

    @abstractmethod
    def list_experiments(
        self,
        after: str,
        limit: int,
        state: State | None = None,
        namespaces: Collection[str] | None = None,
    ) -> list[ExperimentRecord]:
        """At most `limit` experiments in the order of names, from the first name beyond `after`.

        Only those in one of the namespaces, if any are given.
        """

    @abstractmethod
    def change_experiment(
        self,
        before: ExperimentRecord,
        after: ExperimentRecord,
        epoch: Epoch | None = None,
        *,
        caller: str = ANYONE,
    ) -> ExperimentRecord:
        """Stores `after` in place of `before` with the next revision, and `epoch`, if any, made from it.

        `epoch.revision` is set to the new revision.

        Raises:
            StaleRevisionError: The stored experiment is no longer `before`, or the epoch's number is taken.
        """

    @abstractmethod
    def delete_experiment(self, before: ExperimentRecord, now: datetime, caller: str = ANYONE) -> None:
        """Hides an experiment for good; its records stay.

        Raises:
            StaleRevisionError: The stored experiment is no longer `before`.
        """

    @abstractmethod
    def load_changes(self, since: int | None) -> Changes:
        """What changed since the load that gave this watermark; everything for None. Misses nothing."""

    @abstractmethod
    def list_audit_entries(
        self,
        before: int | None,
        limit: int,
        experiment: str | None = None,
        namespaces: Collection[str] | None = None,
    ) -> list[AuditEntry]:
        """At most `limit` entries of the audit, the newest first.

        Args:
            before: Only entries with a lower number; None for all.
            limit: How many.
            experiment: Only those of the experiment of this name.
            namespaces: Only those of experiments in one of these namespaces.
        """

    # Epochs and facts

    @abstractmethod
    def add_epoch(self, epoch: Epoch) -> Epoch | None:
        """The epoch of that number: this one, or the one that another writer stored first.

        Returns:
            None if the experiment no longer runs at the revision that the epoch was made from.
        """

    @abstractmethod
    def read_nonces(self, experiment: int) -> Mapping[tuple[int, int], int]:
        """(segment, number) to nonce for every epoch of the experiment."""

    @abstractmethod
    def read_facts(self, experiment: int) -> ExperimentFacts | None:
        """The experiment, its epochs and facts in one snapshot; None if there is none or it was deleted."""

    @abstractmethod
    def read_report(self, name: str) -> ReportFacts | None:
        """All that a report on the experiment of this name is made of, in one snapshot; None as above.

        Of millions of facts or units it may take long, and holds up nobody.
        """

    @abstractmethod
    def read_declarations(self, experiment: int) -> Sequence[Experiment]:
        """Every declaration under which the experiment has run, oldest first."""

    @abstractmethod
    def add_decisions(self, flush: Flush) -> None:
        """Adds counts to the facts, and units seen. Exact when repeated: a flush that was added is not again.

        Raises:
            WriterUnknownError: The writer has claimed no slot, or was silent for weeks and is forgotten.
        """

    @abstractmethod
    def record_rewards(self, entries: Sequence[RewardEntry], slot: int) -> list[Verdict]:
        """Writes outcomes into the log and adds what is new to the facts, in one commit.

        Entries take effect in their order. Exact when repeated: what was recorded comes back as a duplicate.

        What is sealed is refused by what the database says, and by no clock.

        Returns:
            One verdict for each entry, in order.

        Raises:
            RowRefusedError: The database refused a value of some entry; none was stored.
        """

    @abstractmethod
    def read_units(self, experiment: int) -> UnitFacts | None:
        """Who was counted once, and how units repeat, in one snapshot; None as in `read_facts`.

        Folded in the database, which takes some seconds for a million units. Outcomes count by the windows
        that the metrics have now; a metric without one has none.
        """

    @abstractmethod
    def read_history(self, name: str) -> AbstractContextManager[History | None]:
        """The experiment of this name with its reward log; None if there is none or it was deleted.

        What is read inside the block is of one snapshot, however long that takes. Writers go on.
        """

    # Retention

    @abstractmethod
    def find_sealable(
        self, after: int, limit: int, now: datetime, retention: timedelta
    ) -> tuple[Sequence[SealedEpochs], int | None]:
        """What may be sealed of the next `limit` experiments beyond a number, and where to go on.

        An epoch may be sealed when it ended longer ago than `max_decision_age` and `retention` together.

        Returns:
            The epochs, and the number to hand to the next call; None if there are no more experiments.
        """

    @abstractmethod
    def seal(self, wanted: Sequence[SealedEpochs], now: datetime) -> None:
        """Lets the log take nothing any more for decisions of these epochs. Seals never go back."""

    @abstractmethod
    def settle_seals(self) -> bool:
        """Whether no writer is under way that may not know of a seal; only what is settled is purged."""

    @abstractmethod
    def purge(self, start: bytes, end: bytes, n_looked_at: int) -> PurgeStep:
        """Moves rows that are sealed and settled from the log into the sealed sums, in one transaction.

        Args:
            start: The first id of a decision to look at.
            end: The first id not to look at any more.
            n_looked_at: How many rows of the log to look at, about.
        """

    @abstractmethod
    def purge_configurations(self, before: datetime) -> int:
        """Deletes revisions older than that which no epoch was made from and which are not in force.

        Returns:
            How many there were.
        """

    @abstractmethod
    def summarise_seals(self) -> SealSummary:
        """What is sealed in the whole store."""

    # Care of the ledger

    @abstractmethod
    def audit(self, progress: Progress) -> tuple[Mapping[OutcomeKey, Tally], Mapping[OutcomeKey, Tally]]:
        """The sealed sums with the fold of the log, and the outcome facts, all of one snapshot."""

    @abstractmethod
    def count_apart(self) -> int:
        """How many outcomes were kept apart, since their epoch is not the stored one of that number.

        Those that were purged count, too.
        """

    @abstractmethod
    def rebuild_outcomes(self, progress: Progress) -> int:
        """Writes the outcome facts anew from the sealed sums and the log; decision counts stay.

        Returns:
            How many rows were written.
        """

    @abstractmethod
    def check_integrity(self) -> Sequence[str]:
        """What the database finds wrong with its own files; empty if nothing."""

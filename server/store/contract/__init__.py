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
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import NamedTuple

from bandit.experiment import Experiment
from bandit.facts import Epoch, OutcomeKey, Tally
from bandit.facts.units import UnitFacts
from server.store.contract.clock import ClockStore
from server.store.contract.signing_keys import ANYONE, KeyStore
from server.store.records import (
    AuditEntry,
    Changes,
    ExperimentFacts,
    ExperimentRecord,
    Flush,
    Progress,
    ReportFacts,
    RewardEntry,
    RewardVerdict,
    State,
)
from server.store.records.bounds import MoveStep
from server.store.records.epoch_terms import EpochKey, EpochTerms
from server.store.records.seals import PurgeStep, SealedEpochs, SealSummary
from server.store.tables.history import History
from server.store.tables.writers import WriterState


class Rebuilt(NamedTuple):
    """What a rebuild of the outcome facts did.

    Attributes:
        n_rows: Rows that it wrote.
        rounded: Keys whose sealed sum is no longer exact: SQLite had rounded it, and the facts as well.
    """

    n_rows: int
    rounded: tuple[OutcomeKey, ...] = ()


class Store(ClockStore, KeyStore, ABC):
    """Experiments, epochs, facts and the reward log in a SQL database."""

    @property
    @abstractmethod
    def is_shared(self) -> bool:
        """Whether other processes may write while this one does, and have to be heard of by polling."""

    @property
    @abstractmethod
    def wal_bytes(self) -> int | None:
        """Bytes of the write-ahead log on disk; None where the database keeps it to itself. Never waits."""

    @property
    @abstractmethod
    def flaw(self) -> str | None:
        """Why a commit could be lost after it was acknowledged, as last heard; None if it can't. Never waits.

        While there is a flaw every method that writes raises `StoreUnsafeError`.
        """

    @abstractmethod
    def prepare(self, *, may_migrate: bool, may_be_inexact: bool = False) -> None:
        """Brings the database to the schema of this version; must have returned before anything else works.

        Until then every other method raises `StoreUnavailableError`. Exact when repeated.

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
        """Lets go of the database; further calls are errors. May be called twice."""

    # Writers

    @abstractmethod
    def claim_slot(self, incarnation: bytes, now: datetime) -> int:
        """A slot that no other live writer counts in, for a run marked by 16 random bytes.

        Calling it again says that the writer lives, and returns the same slot, or another one if the writer
        was silent for so long that somebody took the first. Exact when repeated.

        Raises:
            RunTakenError: Another run, or one that was ended, has the 24 bits that stand for this one in ids.
        """

    @abstractmethod
    def read_writers(self) -> Sequence[WriterState]:
        """Every run of a server that is remembered."""

    @abstractmethod
    def end_runs(self, silent: Sequence[WriterState], now: datetime) -> Sequence[bytes]:
        """Ends runs, each only if it is still in this state; returns the incarnations of those it ended.

        For good: their flushes are refused from now on, and outcomes of decisions that no flush has counted
        are recorded as `Basis.UNCOUNTED`. `move_uncounted` does the same to those that are recorded already.

        Raises:
            OlderServersError: A live server is of a release that could not read such outcomes.
            StoreUnavailableError: As everywhere, or a long transaction is in the way; nothing was changed.
        """

    @abstractmethod
    def end_cleanly(self, incarnation: bytes, now: datetime) -> None:
        """Says that a run ends with all its decisions counted, so that nobody looks for what it lost."""

    @abstractmethod
    def move_uncounted(self, slot: int, n_looked_at: int) -> MoveStep | None:
        """Sets recorded outcomes of uncounted decisions apart: a step over about so many rows of the log.

        None if there is nothing left to do. The facts are the fold of the log before and after.
        """

    @abstractmethod
    def forget_writers(self, silent_since: datetime) -> None:
        """Forgets writers without a slot that were not heard of since; their flushes can't be repeated."""

    # Experiments

    @abstractmethod
    def create_experiment(
        self, experiment: Experiment, now: datetime, caller: str = ANYONE, *, quota: int | None = None
    ) -> ExperimentRecord:
        """Stores a draft.

        Args:
            experiment: What is declared.
            now: When.
            caller: Who wants it.
            quota: How many experiments its namespace may hold then, those without a namespace counted as one;
                exact, however many are created at once. Deleted ones do not count. None for no limit.

        Raises:
            QuotaReachedError: The namespace is full.
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
    def find_epochs(self, wanted: Collection[EpochKey]) -> Mapping[EpochKey, EpochTerms]:
        """The terms of those of the epochs that there are. Costs no more where an experiment has many."""

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
            RunEndedError: The run was ended, and the flush can't be added any more.
        """

    @abstractmethod
    def record_rewards(self, entries: Sequence[RewardEntry], slot: int) -> list[RewardVerdict]:
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
    def compare_ledger(
        self, progress: Progress
    ) -> tuple[Mapping[OutcomeKey, Tally], Mapping[OutcomeKey, Tally]]:
        """The sealed sums with the fold of the log, and the outcome facts, all of one snapshot.

        Both in steps, of which the quantum of a real metric is one and that of another is 2^20; a sum of
        squares in squares of steps.
        """

    @abstractmethod
    def count_apart(self) -> int:
        """How many outcomes were kept apart, since their epoch is not the stored one of that number.

        Those that were purged count, too.
        """

    @abstractmethod
    def rebuild_outcomes(self, progress: Progress) -> Rebuilt:
        """Writes the outcome facts anew from the sealed sums and the log; decision counts stay."""

    @abstractmethod
    def check_integrity(self) -> Sequence[str]:
        """What the database finds wrong with its own files; empty if nothing."""

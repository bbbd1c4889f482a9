"""The contract of a store.

**Threads.** Every method may be called from any thread; calls that write wait for one another. Every method
blocks.

**Atomicity.** Each call that writes is one transaction: it is done wholly, durably and visibly to every later
read when it returns, and not at all if it raises. After `StoreUnavailableError` from a database that was lost
during COMMIT, it may have been done. Repeating a call with equal arguments is exact in every method: what was
done is not done again, and the answer is that of a call that succeeded.

**Ownership.** Values handed in are not kept; values handed out are immutable.

**Failure.** Every method raises `StoreUnavailableError` if the database can't be reached, and
`StoreBrokenError` if a write to stable storage failed. Only what is beyond that is said at a method.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from bandit.experiment import Experiment
from bandit.facts import Epoch, OutcomeKey, Tally
from bandit.units import UnitFacts
from server.store.records import (
    Changes,
    ExperimentFacts,
    ExperimentRecord,
    Flush,
    KeyRing,
    RewardEntry,
    State,
    Verdict,
)

Progress = Callable[[int, int], None]
"""Called with how many of how many steps are done."""


class Store(ABC):
    """Experiments, epochs, facts and the reward log in a SQL database."""

    @property
    @abstractmethod
    def is_shared(self) -> bool:
        """Whether other processes may write while this one does, and have to be heard of by polling."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of the database; further calls are errors. May be called twice."""

    # Writers and keys

    @abstractmethod
    def adopt_keys(self, candidate: KeyRing) -> KeyRing:
        """The ring of the store; `candidate` becomes it if there is none. Exact when repeated."""

    @abstractmethod
    def claim_slot(self, incarnation: bytes, now: datetime) -> int:
        """A slot that no other live writer counts in, for a run marked by 16 random bytes.

        Calling it again says that the writer lives, and returns the same slot, or another one if the writer
        was silent for so long that somebody took the first. Exact when repeated.
        """

    # Experiments

    @abstractmethod
    def create_experiment(self, experiment: Experiment, now: datetime) -> ExperimentRecord:
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
    def list_experiments(self, after: str, limit: int, state: State | None = None) -> list[ExperimentRecord]:
        """At most `limit` experiments in the order of names, from the first name beyond `after`."""

    @abstractmethod
    def change_experiment(
        self, before: ExperimentRecord, after: ExperimentRecord, epoch: Epoch | None = None
    ) -> ExperimentRecord:
        """Stores `after` in place of `before` with the next revision, and `epoch`, if any, made from it.

        `epoch.revision` is set to the new revision.

        Raises:
            StaleRevisionError: The stored experiment is no longer `before`, or the epoch's number is taken.
        """

    @abstractmethod
    def delete_experiment(self, before: ExperimentRecord, now: datetime) -> None:
        """Hides an experiment for good; its records stay.

        Raises:
            StaleRevisionError: The stored experiment is no longer `before`.
        """

    @abstractmethod
    def load_changes(self, since: int | None) -> Changes:
        """What changed since the load that gave this watermark; everything for None. Misses nothing."""

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

    # Care of the ledger

    @abstractmethod
    def audit(self, progress: Progress) -> tuple[Mapping[OutcomeKey, Tally], Mapping[OutcomeKey, Tally]]:
        """The fold of the log and the outcome facts, both of one snapshot."""

    @abstractmethod
    def count_apart(self) -> int:
        """How many outcomes are kept apart, since their epoch is not the stored one of that number."""

    @abstractmethod
    def rebuild_outcomes(self, progress: Progress) -> int:
        """Writes the outcome facts anew from the log; decision counts stay.

        Returns:
            How many rows were written.
        """

    @abstractmethod
    def check_integrity(self) -> Sequence[str]:
        """What the database finds wrong with its own files; empty if nothing."""

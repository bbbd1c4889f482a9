"""The part of a store that keeps experiments, and who changed them.

Threads, atomicity, ownership, audit and failure are those of `server.store.contract`.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from datetime import datetime

from bandit.experiment import Experiment
from bandit.facts import Epoch
from server.store.records import (
    ANYONE,
    AuditEntry,
    Changes,
    ExperimentRecord,
    Lease,
    NewEvent,
    State,
    VerbRequest,
)


class ExperimentStore(ABC):
    """The part of a store that keeps experiments, and who changed them."""

    @abstractmethod
    def create_experiment(
        self, experiment: Experiment, now: datetime, caller: str = ANYONE, *, quota: int | None = None
    ) -> ExperimentRecord:
        """Store a draft.

        Args:
            experiment: What is declared.
            now: When.
            caller: Who creates it.
            quota: How many experiments its namespace may hold then, those without a namespace counted as one;
                exact, however many are created at once. Deleted ones do not count. None for no limit.

        Raises:
            QuotaReachedError: The namespace is full.
            NameTakenError: The name is or was in use.
            OlderServersError: A live server is of a release that refuses the names of its arms or metrics.
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
        request: VerbRequest | None = None,
        events: Sequence[NewEvent] = (),
        fence: Lease | None = None,
    ) -> ExperimentRecord:
        """Store `after` in place of `before` with the next revision, and `epoch`, if any, made from it.

        `epoch.revision` is set to the new revision.

        Args:
            before: What is stored.
            after: What is to be stored.
            epoch: The epoch that begins with it.
            caller: Who changes it.
            request: The request that asks for it, remembered as carried out.
            events: What happens with it, beside a change of its state, which is an event in any case. Without
                any, a change that leaves the state is the event that it was updated.
            fence: The lease under which it is made: it can't change hands until the change is stored or
                refused.

        Raises:
            LeaseLostError: The lease of `fence` has changed hands.
            StaleRevisionError: The stored experiment is no longer `before`, or the epoch's number is taken.
        """

    @abstractmethod
    def delete_experiment(self, before: ExperimentRecord, now: datetime, caller: str = ANYONE) -> None:
        """Delete an experiment for good; its rows stay, hidden.

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

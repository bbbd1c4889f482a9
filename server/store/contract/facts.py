"""The part of a store that keeps epochs, facts and the reward log.

Threads, atomicity, ownership, audit and failure are those of `server.store.contract`.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

from bandit.facts import Epoch
from bandit.facts.shadow_pairs import ShadowFacts
from bandit.facts.units import SteeringFacts
from server.store.records import (
    EpochKey,
    EpochTerms,
    ExperimentFacts,
    Flush,
    History,
    ReportFacts,
    RewardEntry,
    RewardVerdict,
)


class FactStore(ABC):
    """The part of a store that keeps epochs, facts and the reward log."""

    @abstractmethod
    def add_epoch(self, epoch: Epoch) -> Epoch | None:
        """The epoch of that number: this one, or the one that another writer stored first.

        Returns:
            None if the experiment no longer runs at the revision that the epoch was made from.
        """

    @abstractmethod
    def find_epochs(self, wanted: Collection[EpochKey]) -> Mapping[EpochKey, EpochTerms]:
        """The terms of those epochs that exist. Its cost does not grow with the number of epochs."""

    @abstractmethod
    def read_facts(self, experiment: int, *, with_parts: bool = True) -> ExperimentFacts | None:
        """The experiment, its epochs and facts in one snapshot; None if there is none or it was deleted.

        The parts of the first epoch are for evidence. A fold does without, which saves a third of the time.
        """

    @abstractmethod
    def read_steering(
        self, experiment: int, lag: timedelta, now: datetime
    ) -> Mapping[int, SteeringFacts] | None:
        """Metric number to what units steer with, in one snapshot; None if decisions count, or as above.

        A decision counts once its window and then `lag` have passed before `now`. Takes a second or two for a
        hundred thousand units, and blocks no writer.
        """

    @abstractmethod
    def read_report(
        self, name: str, lag: timedelta = timedelta(), now: datetime | None = None
    ) -> ReportFacts | None:
        """What a report on the experiment of this name is made of, in one snapshot; None as in `read_facts`.

        Takes some seconds for a million units, and blocks no writer. Outcomes of units count by the windows
        that the metrics have now; a metric without one has none.

        Args:
            name: The experiment's name.
            lag: As in `read_steering`.
            now: As in `read_steering`; None leaves out what units steer with.
        """

    @abstractmethod
    def read_shadows(self, experiment: int, lag: timedelta, now: datetime) -> ShadowFacts | None:
        """What came of an experiment's shadow decisions, in one snapshot; None as in `read_facts`.

        A decision counts once its window and then `lag` have passed before `now`. Takes some seconds for a
        million pairs, and blocks no writer.
        """

    @abstractmethod
    def add_decisions(self, flush: Flush) -> None:
        """Add counts and units to the facts. Exact when repeated: a flush is added once.

        Raises:
            WriterUnknownError: The writer has claimed no slot, or was silent for weeks and is forgotten.
            RunEndedError: The run was ended, and the flush can't be added any more.
        """

    @abstractmethod
    def record_rewards(self, entries: Sequence[RewardEntry], slot: int) -> list[RewardVerdict]:
        """Write outcomes to the log and add what is new to the facts, in one commit.

        Entries take effect in their order. Exact when repeated: what was recorded comes back as a duplicate.

        Whether a decision is sealed depends on the database alone, and on no clock.

        Returns:
            One verdict for each entry, in order.

        Raises:
            RowRefusedError: The database refused a value of some entry; none was stored.
        """

    @abstractmethod
    def read_history(self, name: str) -> AbstractContextManager[History | None]:
        """The experiment of this name with its reward log; None if there is none or it was deleted.

        All reads inside the block are of one snapshot, however long they take. Writers are not blocked.
        """

"""The part of a store that seals epochs and purges the log.

Threads, atomicity, ownership, audit and failure are those of `server.store.contract`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime, timedelta

from server.store.records import PurgeStep, SealedEpochs, SealSummary


class RetentionStore(ABC):
    """The part of a store that seals epochs and purges the log."""

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
        """Reject outcomes of decisions of these epochs from now on. Only `repair_clock` lowers a seal."""

    @abstractmethod
    def settle_seals(self) -> bool:
        """Whether every transaction under way knows of the seals; only what is settled is purged."""

    @abstractmethod
    def purge(self, start: bytes, end: bytes, n_looked_at: int) -> PurgeStep:
        """Move rows that are sealed and settled from the log into the sealed sums, in one transaction.

        Args:
            start: The first id of a decision to look at.
            end: The first id beyond those to look at.
            n_looked_at: About how many rows of the log to look at.
        """

    @abstractmethod
    def purge_configurations(self, before: datetime) -> int:
        """Delete revisions that were stored before an instant, explain no epoch and are not in force.

        Returns:
            How many there were.
        """

    @abstractmethod
    def summarise_seals(self) -> SealSummary:
        """What is sealed in the whole store."""

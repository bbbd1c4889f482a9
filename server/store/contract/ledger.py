"""The part of a store that verifies the ledger.

Threads, atomicity, ownership, audit and failure are those of `server.store.contract`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from bandit.facts import OutcomeKey, Tally
from server.store.records import Progress, Rebuilt


class LedgerStore(ABC):
    """The part of a store that verifies the ledger."""

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

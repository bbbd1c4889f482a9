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
        """The sealed sums plus the fold of the log, and the outcome facts, of one snapshot.

        Both in steps, of which the quantum of a real metric is one and that of another is 2^20; a sum of
        squares in squares of steps.
        """

    @abstractmethod
    def count_apart(self) -> int:
        """Count the outcomes that were kept apart because the stored epoch of that number is another.

        Includes those that were purged.
        """

    @abstractmethod
    def rebuild_outcomes(self, progress: Progress) -> Rebuilt:
        """Replace the outcome facts by the sealed sums plus the fold of the log; decision counts stay."""

    @abstractmethod
    def check_integrity(self) -> Sequence[str]:
        """Defects that the database finds in its own files; empty if none."""

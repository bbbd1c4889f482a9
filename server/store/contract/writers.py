"""The part of a store that keeps the runs of servers.

Threads, atomicity, ownership, audit and failure are those of `server.store.contract`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime

from server.store.records import MoveStep, WriterState


class WriterStore(ABC):
    """The part of a store that keeps the runs of servers."""

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

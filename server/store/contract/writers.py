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
        """Claim a slot that no other live writer counts in, for a run marked by 16 random bytes.

        Call it again now and then to show that the writer lives: it returns the same slot, or another if the
        writer was silent so long that its slot was given away. Exact when repeated.

        Raises:
            RunTakenError: Another run, or one that was ended, has the 24 bits that stand for this one in ids.
        """

    @abstractmethod
    def read_writers(self) -> Sequence[WriterState]:
        """Every run of a server that is still known."""

    @abstractmethod
    def end_runs(self, silent: Sequence[WriterState], now: datetime) -> Sequence[bytes]:
        """End runs, each only if it is still in this state; return the incarnations of those it ended.

        For good: their flushes are refused from now on, and outcomes of decisions that no flush has counted
        are recorded as `Basis.UNCOUNTED`. `move_uncounted` does the same to those that are recorded already.

        Raises:
            OlderServersError: A live server is of a release that could not read such outcomes.
            StoreUnavailableError: As everywhere, or a long transaction is in the way; nothing was changed.
        """

    @abstractmethod
    def end_cleanly(self, incarnation: bytes, now: datetime) -> None:
        """Note that a run ends with all its decisions counted, so that none are looked for."""

    @abstractmethod
    def move_uncounted(self, slot: int, n_looked_at: int) -> MoveStep | None:
        """Move recorded outcomes of uncounted decisions to a basis of their own, about `n_looked_at` rows on.

        None if there is nothing left to do. The facts are the fold of the log before and after.
        """

    @abstractmethod
    def forget_writers(self, silent_since: datetime) -> None:
        """Forget writers without a slot that have been silent since; their flushes can't be repeated."""

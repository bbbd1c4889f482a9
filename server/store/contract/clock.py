"""What a store keeps of the clock: which time all servers agree has passed, and how long it was undoubted.

Threads, atomicity, ownership and failure are those of `server.store.contract`.
"""

from abc import ABC, abstractmethod
from datetime import datetime, timedelta

from server.store.records import ClockBeat, ClockReading, ClockRepair


class ClockStore(ABC):
    """The part of a store that keeps the clock."""

    @abstractmethod
    def read_clock(self, now: datetime, trust_after: timedelta) -> ClockReading:
        """Reads the clock that servers share, which is `now` where there is only one, and the record of it.

        Args:
            now: This machine's time.
            trust_after: How long servers must have run since an instant was marked before it is trusted.
        """

    @abstractmethod
    def beat_clock(self, beat: ClockBeat, trust_after: timedelta) -> None:
        """Adds what a server has run free of doubt, and moves the mark. Marks never go back by this."""

    @abstractmethod
    def accept_clock(self, now: datetime, *, reason: str, caller: str) -> datetime:
        """Makes the clock that servers share right, whatever was marked; returns its time.

        Servers go by it from their next poll on. What was marked beyond it is forgotten.
        """

    @abstractmethod
    def repair_clock(self, now: datetime, *, reason: str, caller: str) -> ClockRepair:
        """Mends what a clock that was ahead left: seals, and instants in the future.

        Seals go back to how far the log is purged; experiments whose epochs start in the future get a cap;
        keys, writers and experiments that are dated in the future are dated now.
        """

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
        """Read the clock that servers share (`now` where there is only one server) and its record.

        Args:
            now: This machine's time.
            trust_after: How long servers must have run since an instant was marked before it is trusted.
        """

    @abstractmethod
    def beat_clock(self, beat: ClockBeat, trust_after: timedelta) -> None:
        """Add the time that a server has run free of doubt, and move the mark, which never goes back."""

    @abstractmethod
    def accept_clock(self, now: datetime, *, reason: str, caller: str) -> datetime:
        """Accept the clock that servers share, whatever was marked; return its time.

        Servers go by it from their next poll on. Later marks are forgotten.
        """

    @abstractmethod
    def repair_clock(self, now: datetime, *, reason: str, caller: str) -> ClockRepair:
        """Repair what a clock that was ahead left: seals, and instants in the future.

        Seals go back to how far the log is purged; experiments whose epochs start in the future get a cap;
        keys, writers and experiments that are dated in the future are dated now.
        """

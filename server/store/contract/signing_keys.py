"""What a store keeps of the keys that sign decisions.

Threads, atomicity, ownership, audit and failure are those of `server.store.contract`.
"""

from abc import ABC, abstractmethod
from datetime import datetime, timedelta
from typing import Final

from server.store.records import KeyRing

ANYONE: Final = "anyone"
"""The caller where callers need not say who they are."""


class KeyStore(ABC):
    """The ring of keys."""

    @abstractmethod
    def adopt_keys(self, candidate: KeyRing) -> KeyRing:
        """The ring of the store; `candidate` becomes it if there is none. Exact when repeated."""

    @abstractmethod
    def read_keys(self) -> KeyRing | None:
        """The ring of the store; None if there is none."""

    @abstractmethod
    def rotate_keys(
        self,
        secret: bytes,
        now: datetime,
        *,
        delay: timedelta,
        ended_before: datetime | None,
        caller: str = ANYONE,
    ) -> KeyRing:
        """The ring with a new key, which signs after `delay`. Exact when repeated with the same secret.

        A key that signed stays in the ring. Only when all 256 ids are taken, the key that ended first gives
        up its own, if it ended before `ended_before`; None lets none do so.

        Raises:
            KeysNotReadyError: The newest key does not sign yet, or no id is free; or there is no ring.
        """

    @abstractmethod
    def revoke_key(self, key: int, now: datetime, *, caller: str = ANYONE) -> KeyRing:
        """The ring without a key that was replaced. Exact when repeated: a key that is not there stays away.

        Raises:
            KeysNotReadyError: The key signs or is about to; or there is no ring.
        """

    @abstractmethod
    def read_mark(self) -> int:
        """A mark that lies behind every transaction that is under way."""

    @abstractmethod
    def has_passed(self, mark: int) -> bool:
        """Whether all transactions have ended that write and were under way at a mark."""

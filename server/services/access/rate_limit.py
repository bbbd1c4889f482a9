"""Rate limits: a token bucket per caller."""

from typing import Final

_BURST_SECONDS: Final = 1.0


class Bucket:
    """The permits of one caller; the bucket holds those of one second, and at least one.

    A batch is admitted as a single call, and its further items are charged when it has been read. The balance
    may then fall below zero, and later calls wait for it.

    Args:
        per_second: Permits added per second, more than 0.
        now: Seconds of a clock that never goes back.
    """

    __slots__ = ("_at", "_balance", "_capacity", "per_second")

    def __init__(self, per_second: float, now: float) -> None:
        self.per_second = per_second
        self._capacity = max(per_second * _BURST_SECONDS, 1.0)
        self._balance = self._capacity
        self._at = now

    def take(self, now: float) -> float:
        """Take one permit and return 0.0, or return the seconds until there is one.

        >>> bucket = Bucket(2.0, now=0.0)
        >>> [bucket.take(now) for now in (0.0, 0.0, 0.0, 0.5)]
        [0.0, 0.0, 0.5, 0.0]
        """
        arrived = (now - self._at) * self.per_second
        self._balance = min(self._capacity, self._balance + arrived)
        self._at = now
        if self._balance < 1.0:
            return (1.0 - self._balance) / self.per_second
        self._balance -= 1.0
        return 0.0

    def charge(self, n_permits: int) -> None:
        """Take permits, even if there are fewer; the balance then falls below zero."""
        self._balance -= n_permits

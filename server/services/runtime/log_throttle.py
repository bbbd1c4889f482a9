"""Throttled logging: few lines for a flood of events."""

from collections.abc import Hashable
from typing import Final

from server.services.runtime.clock import Clock

_SILENT_SECONDS: Final = 10.0
_MOST_KEYS: Final = 1_000


class LogThrottle:
    """Admits at most one line per key every 10 s, and counts those left out.

    Args:
        clock: The time.
    """

    def __init__(self, clock: Clock) -> None:
        self._now = clock.monotonic
        self._silent_until: dict[Hashable, float] = {}
        self._n_left_out = 0

    def admit(self, key: Hashable = None) -> int | None:
        """Return how many lines of any key were left out since the last one; None to leave this one out."""
        now = self._now()
        if now < self._silent_until.get(key, float("-inf")):
            self._n_left_out += 1
            return None
        if len(self._silent_until) >= _MOST_KEYS:
            self._silent_until.clear()
        self._silent_until[key] = now + _SILENT_SECONDS
        n_left_out, self._n_left_out = self._n_left_out, 0
        return n_left_out

    def reset(self) -> None:
        """Admit the next line of every key."""
        self._silent_until.clear()

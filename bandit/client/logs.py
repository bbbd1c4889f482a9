"""The client's lines in the caller's log: they never raise, and do not flood it."""

import contextlib
import logging
import threading
import time
import traceback
from collections.abc import Callable, Hashable
from typing import Final

from bandit.client.processes import forks

logger = logging.getLogger("bandit.client")

WARNING_INTERVAL: Final = 10.0
"""Seconds between two warnings of one kind."""

MAX_WARNED: Final = 1000
"""Kinds of warnings that are remembered: names may come from users."""


def log(level: int, text: str, *arguments: object, exc_info: bool = False) -> None:
    """Log for the client; never raises, though a filter of the caller's logging may."""
    try:
        logger.log(level, text, *arguments, exc_info=exc_info, stacklevel=2)
    except Exception:  # noqa: BLE001 - such as a filter that needs a web framework's request
        with contextlib.suppress(Exception):  # standard error may be closed
            traceback.print_exc()  # as logging does for what its handlers raise


class Throttle:
    """Lets one warning of each kind through in 10 s; thread-safe.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.RLock()  # a signal handler may warn, too
        self._key_to_warned_at: dict[Hashable, float] = {}
        self._n_unsaid = 0
        forks.register(self)

    def after_fork(self) -> None:
        """Begin anew in a child: another thread of the parent may have held the lock."""
        self._lock = threading.RLock()
        self._key_to_warned_at = {}
        self._n_unsaid = 0

    def admit(self, key: Hashable) -> int | None:
        """Return how many warnings were held back since the last one; None to hold this one back, too."""
        with self._lock:
            now = self._clock()
            if now < self._key_to_warned_at.get(key, float("-inf")) + WARNING_INTERVAL:
                self._n_unsaid += 1
                return None
            if len(self._key_to_warned_at) >= MAX_WARNED:
                self._key_to_warned_at.clear()
            self._key_to_warned_at[key] = now
            n_unsaid, self._n_unsaid = self._n_unsaid, 0
            return n_unsaid

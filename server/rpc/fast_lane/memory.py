"""Memory that connections took and gave back, returned to the system."""

import asyncio
from collections.abc import Callable
from typing import Final

from server.http2.limits import KIB, MIB

CONNECTION_BYTES: Final = 16 * KIB
STREAM_BYTES: Final = KIB
BATCH_BYTES: Final = 128 * KIB
"""Of a large batch that is being answered: about 1,000 answers of 150 bytes."""

_MUCH: Final = 16 * MIB
"""Less than this is not worth the 0.1 s in which other threads may have to wait for memory."""

_LOOK_SECONDS: Final = 0.25
_QUIET_SECONDS: Final = 3.0


class FreedMemory:
    """Returns memory to the system once connections have taken much less of it, for seconds, than before.

    After a flood of 5,000 connections 119 MiB stayed otherwise. Belongs to the event loop's thread.

    Args:
        held: Returns about how many bytes connections hold.
        give_back: Returns freed memory to the system.
    """

    def __init__(self, held: Callable[[], int], give_back: Callable[[], None]) -> None:
        self._held = held
        self._give_back = give_back
        self._most = 0
        self._low_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look."""
        self._loop = asyncio.get_running_loop()
        self._look_on()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look_on(self) -> None:
        self._timer = self._loop.call_later(_LOOK_SECONDS, self._look_on)
        self.look(self._loop.time())

    def look(self, now: float) -> None:
        """Look once; `now` is on the monotonic clock, in seconds."""
        held = self._held()
        self._most = max(self._most, held)
        if self._most - held < _MUCH:
            self._low_since = None
        elif self._low_since is None:
            self._low_since = now
        elif now - self._low_since > _QUIET_SECONDS:
            self._most, self._low_since = held, None
            self._give_back()

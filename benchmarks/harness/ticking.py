"""A timer that ticks every millisecond on an event loop, and notes how late each tick comes."""

import asyncio
import time
from typing import Final

TICK_SECONDS: Final = 0.001


class Ticker:
    """Ticks on a loop for as long as it runs: a tick is late by as long as the loop was held.

    Args:
        loop: The loop, which need not run yet.

    Attributes:
        late: By how many seconds each tick was late, while `is_noting`.
        is_noting: Whether lateness is noted.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.late: list[float] = []
        self.is_noting = False
        self._wait()

    def _wait(self) -> None:
        self._due_at = time.perf_counter() + TICK_SECONDS
        self._loop.call_later(TICK_SECONDS, self._on_tick)

    def _on_tick(self) -> None:
        if self.is_noting:
            self.late.append(max(time.perf_counter() - self._due_at, 0.0))
        self._wait()


async def tick(seconds: float) -> list[float]:
    """Tick on the loop that runs, for some seconds; return by how many seconds each tick was late."""
    ticker = Ticker(asyncio.get_running_loop())
    ticker.is_noting = True
    await asyncio.sleep(seconds)
    return ticker.late

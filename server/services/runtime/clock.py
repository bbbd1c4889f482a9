"""The clocks of this machine in one place, so that tests can replace them."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final


def _monotonic_clock() -> Callable[[], float]:
    """Return a clock that never goes back, and that also counts while the machine sleeps if possible."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    return time.monotonic


_MONOTONIC: Final = _monotonic_clock()


class Clock:
    """The clocks of this machine, taken as they are; `ServiceClock` checks them.

    Attributes:
        is_doubted: Whether the time may be wrong; if so, nothing new that depends on it is begun.
        is_settled: Whether the time is reliable enough to refuse a reward for good.
        confirms_decisions: Whether decisions made now may steer.
        monotonic: Seconds of a clock that never goes back, for durations.
    """

    is_doubted: bool = False
    is_settled: bool = True
    confirms_decisions: bool = True
    monotonic: Callable[[], float] = staticmethod(_MONOTONIC)  # not a method, since every call reads it

    def time_ms(self) -> int:
        """Return the wall clock's milliseconds since 1970; it may jump."""
        return time.time_ns() // 1_000_000

    def now(self) -> datetime:
        """Return the wall clock's instant, aware, UTC."""
        return datetime.now(UTC)

    def trusted_until(self) -> datetime | None:
        """Return the latest instant that irreversible acts may reach; None if none is allowed now."""
        return self.now()

"""The clocks of this machine, in one place, so that tests can replace them."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final


def _monotonic_clock() -> Callable[[], float]:
    """A clock that never goes back; it counts while the machine sleeps, where there is one that does."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    return time.monotonic


_MONOTONIC: Final = _monotonic_clock()


class Clock:
    """The clocks of this machine, believed as they are; `ServiceClock` doubts them.

    Attributes:
        is_doubted: Whether the time may be wrong: then nothing is begun that goes by it.
        is_settled: Whether the time is known well enough to refuse a reward for good because of it.
        confirms_decisions: Whether a decision that is made now may steer.
        monotonic: Seconds of a clock that never goes back, for durations.
    """

    is_doubted: bool = False
    is_settled: bool = True
    confirms_decisions: bool = True
    monotonic: Callable[[], float] = staticmethod(_MONOTONIC)  # not a method: it is asked with every call

    def time_ms(self) -> int:
        """Milliseconds since 1970, as the wall clock has it; it may jump."""
        return time.time_ns() // 1_000_000

    def now(self) -> datetime:
        """The wall clock's instant, aware, UTC."""
        return datetime.now(UTC)

    def trusted_until(self) -> datetime | None:
        """The latest instant that anything irreversible may reach; None if nothing may be done now."""
        return self.now()

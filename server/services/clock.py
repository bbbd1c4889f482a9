"""The time, asked for in one place, so that a test can be its master."""

import time
from datetime import UTC, datetime


class Clock:
    """The clocks of this machine."""

    def time_ms(self) -> int:
        """Milliseconds since 1970, as the wall clock has it; it may jump."""
        return time.time_ns() // 1_000_000

    def now(self) -> datetime:
        """The wall clock's instant, aware, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back, for durations."""
        return time.monotonic()

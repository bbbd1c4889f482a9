"""Ages of rewards that outlive the process, right also where the wall clock is set meanwhile.

Within one boot of the machine an age is measured with the clock that counts since the boot, which every
process shares and nobody sets. Only a reward of an earlier boot, or on a machine without a boot id, has an
age by the wall clock.
"""

import time
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Final

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant on three clocks.

    Attributes:
        seconds: since 1970, by the wall clock.
        boot: the id of the machine's boot; empty where there is none.
        uptime: seconds since that boot, suspension included.
    """

    seconds: float
    boot: str
    uptime: float

    def until(self, later: "Moment") -> timedelta:
        """Return the time between two moments, never negative.

        >>> Moment(500.0, "a", 10.0).until(Moment(2_000.0, "a", 12.0))
        datetime.timedelta(seconds=2)
        >>> Moment(500.0, "a", 10.0).until(Moment(560.0, "b", 2.0))
        datetime.timedelta(seconds=60)
        >>> Moment(500.0, "a", 10.0).until(Moment(400.0, "b", 2.0))
        datetime.timedelta(0)
        """
        is_same_boot = bool(self.boot) and self.boot == later.boot
        passed = later.uptime - self.uptime if is_same_boot else later.seconds - self.seconds
        return timedelta(seconds=max(passed, 0.0))


def moment() -> Moment:
    """Return this moment."""
    return Moment(time.time(), _boot_id(), time.clock_gettime(_CLOCK))


@cache
def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""

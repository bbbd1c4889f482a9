"""A wall clock for child processes that can be set while they run, by libfaketime, and nobody else's.

Only the wall clock lies: monotonic clocks, sleeps and timeouts stay true, as on a host whose clock is set.
"""

import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

from benchmarks.harness.processes import ChildError

INSTALLATION: Final = "apt-get install faketime"
"""What puts libfaketime where it is looked for, on Debian and Ubuntu."""

PROGRAM: Final = "benchmarks.harness.serve_under_faketime"
"""The module that runs `bandit-server` under a faked clock."""

_NAME: Final = "faketime/libfaketimeMT.so.1"
_FOLDERS: Final = ("/usr/lib", "/usr/lib64", "/usr/local/lib")
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - libfaketime's choice
_RIGHT: Final = "+0"


def find_library() -> Path | None:
    """Where libfaketime is, in its variant for programs with threads; None if it is not installed."""
    patterns = (_NAME, f"*/{_NAME}")
    found = (path for folder in _FOLDERS for pattern in patterns for path in Path(folder).glob(pattern))
    return next(found, None)


class FakedClock:
    """The wall clock of the processes that are started in its environment. At first it is right.

    Args:
        file: Where the lie is kept; it is written now.

    Raises:
        ChildError: libfaketime is not installed.
    """

    def __init__(self, file: Path) -> None:
        library = find_library()
        if library is None:
            raise ChildError(f"libfaketime is not installed, so no clock can be set: {INSTALLATION}")
        self._library = library
        self._file = file
        self.set_right()

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment, in addition, to have this clock.

        The last two keep libfaketime away from what is no wall clock: with its correction for waits on the
        monotonic clock, threads of a Python process wait for half a second until another lets them run.
        """
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "NO_FAKE_STAT": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }

    def set_off(self, by: timedelta) -> None:
        """Sets the clock ahead of the true time, or behind it."""
        self._write(f"{by.total_seconds():+.3f}")

    def set_to_1970(self) -> None:
        """Sets the clock to where a host without a battery begins."""
        self.set_off(timedelta(minutes=1) - timedelta(seconds=time.time()))

    def set_right(self) -> None:
        """Sets the clock to the true time."""
        self._write(_RIGHT)

    def _write(self, text: str) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(text, encoding="ascii")
        new.chmod(0o644)  # a PostgreSQL that root starts runs as somebody else
        new.replace(self._file)


def clear_away(pids: Iterable[int]) -> None:
    """Removes what libfaketime leaves behind of processes that were killed, if they ran under it.

    A later process of the same id would refuse to start.
    """
    for pid in pids:
        for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
            with suppress(OSError):
                (_SHARED_MEMORY / name).unlink()

"""A settable wall clock for child processes, by libfaketime, which leaves all other processes alone.

Only the wall clock is wrong: monotonic clocks, sleeps and timeouts stay true, as on a host whose clock is
set.
"""

import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

from benchmarks.harness.processes import ChildError

INSTALLATION: Final = "apt-get install faketime"
"""The command that installs libfaketime where it is looked for, on Debian and Ubuntu."""

PROGRAM: Final = "benchmarks.harness.serve_under_faketime"
"""The module that runs `bandit-server` under a faked clock."""

_NAME: Final = "faketime/libfaketimeMT.so.1"
_FOLDERS: Final = ("/usr/lib", "/usr/lib64", "/usr/local/lib")
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - libfaketime's choice
_RIGHT: Final = "+0"


def find_library() -> Path | None:
    """Return the path of libfaketime's variant for programs with threads; None if it is not installed."""
    patterns = (_NAME, f"*/{_NAME}")
    found = (path for folder in _FOLDERS for pattern in patterns for path in Path(folder).glob(pattern))
    return next(found, None)


class FakedClock:
    """The wall clock of the processes that are started in its environment. At first it is right.

    Args:
        file: Where the offset is kept; it is written now.

    Raises:
        ChildError: libfaketime is not installed.
    """

    def __init__(self, file: Path) -> None:
        library = find_library()
        if library is None:
            raise ChildError(f"libfaketime, which sets clocks, is not installed. Install it: {INSTALLATION}")
        self._library = library
        self._file = file
        self.set_right()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a process needs in its environment, in addition, to have this clock.

        The last two restrict libfaketime to wall clocks: with its correction for waits on the monotonic
        clock, threads of a Python process wait for half a second until another lets them run.
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
        """Set the clock ahead of the true time, or behind it."""
        self._write(f"{by.total_seconds():+.3f}")

    def set_to_1970(self) -> None:
        """Set the clock to where a host without a battery starts."""
        self.set_off(timedelta(minutes=1) - timedelta(seconds=time.time()))

    def set_right(self) -> None:
        """Set the clock to the true time."""
        self._write(_RIGHT)

    def _write(self, text: str) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(text, encoding="ascii")
        new.chmod(0o644)  # a PostgreSQL that root starts runs as another user
        new.replace(self._file)


def clear_away(pids: Iterable[int]) -> None:
    """Remove what libfaketime leaves behind of killed processes that ran under it.

    A later process of the same id would refuse to start.
    """
    for pid in pids:
        for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
            with suppress(OSError):
                (_SHARED_MEMORY / name).unlink()

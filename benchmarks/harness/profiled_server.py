"""bandit-server, under cProfile between SIGUSR1 and SIGUSR2.

`python -m benchmarks.harness.profiled_server OUTPUT serve …` takes the arguments of `bandit-server` after the
first. So imports, set-up and warm-up stay out of the profile.
"""

import cProfile
import signal
import sys
from types import FrameType
from typing import Final

from server.__main__ import main

START: Final = signal.SIGUSR1
STOP: Final = signal.SIGUSR2


def _run_profiled(output: str) -> None:
    profile = cProfile.Profile()

    def start(_number: int, _frame: FrameType | None) -> None:
        profile.enable()

    def stop(_number: int, _frame: FrameType | None) -> None:
        profile.disable()
        profile.dump_stats(output)

    signal.signal(START, start)
    signal.signal(STOP, stop)
    main()


if __name__ == "__main__":
    _run_profiled(sys.argv.pop(1))

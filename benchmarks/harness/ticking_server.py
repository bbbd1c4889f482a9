"""bandit-server with a timer on its event loop, whose lateness is noted between SIGUSR1 and SIGUSR2.

`python -m benchmarks.harness.ticking_server FILE serve …` takes the arguments of `bandit-server` after the
first. At SIGUSR1 it takes the switch interval of the interpreter from FILE, in seconds; nothing is changed if
the file is empty. At SIGUSR2 it replaces the file by a JSON array of lateness in seconds.
"""

import json
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Final

import uvloop

from benchmarks.harness.ticking import Ticker
from server.__main__ import main

START: Final = signal.SIGUSR1
STOP: Final = signal.SIGUSR2


def _run_ticking(file: Path) -> None:
    make_loop = uvloop.new_event_loop
    tickers: list[Ticker] = []

    def make_ticking_loop() -> uvloop.Loop:
        loop = make_loop()
        tickers.append(Ticker(loop))
        return loop

    def start(_number: int, _frame: FrameType | None) -> None:
        if interval := file.read_text():
            sys.setswitchinterval(float(interval))
        tickers[-1].late = []
        tickers[-1].is_noting = True

    def stop(_number: int, _frame: FrameType | None) -> None:
        tickers[-1].is_noting = False
        done = file.with_suffix(".new")
        done.write_text(json.dumps(tickers[-1].late))
        done.replace(file)

    signal.signal(START, start)
    signal.signal(STOP, stop)
    uvloop.new_event_loop = make_ticking_loop
    main()


if __name__ == "__main__":
    _run_ticking(Path(sys.argv.pop(1)))

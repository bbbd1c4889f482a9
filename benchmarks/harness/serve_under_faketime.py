"""Run `bandit-server` under libfaketime: `python -m benchmarks.harness.serve_under_faketime serve ...`.

libfaketime 0.9.10, which Debian 12 has, breaks one call of a process whose monotonic clock stays true:
sleeping until a moment of that clock, which is `time.sleep` from Python 3.11 on, fails with EINVAL. So
here `time.sleep` waits in another way. The rest of the process is unchanged.
"""

import select
import time
from typing import SupportsFloat, SupportsIndex

from server.__main__ import main


def _sleep(seconds: SupportsFloat | SupportsIndex, /) -> None:
    select.select([], [], [], float(seconds))


time.sleep = _sleep

if __name__ == "__main__":
    main()

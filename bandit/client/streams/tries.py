"""When a client may try to open a stream again.

Full jitter spreads the clients of a server that restarts, as `bandit.client.retry` does for rewards. While
they wait, each question is a call of its own, so a long wait costs speed and no answer.
"""

import random
import time
from collections.abc import Callable
from typing import Final

import grpc

FIRST_BACKOFF: Final = 1.0
"""The longest wait after one failure, in seconds; it doubles with each further one in a row."""

LONGEST_BACKOFF: Final = 30.0

UNIMPLEMENTED_SECONDS: Final = 600.0
"""How long a server without streams is not asked for one: it may be upgraded meanwhile."""


class Tries:
    """Whether the stream of a client may be opened now.

    Threads may race to note an ending: at worst one of two that failed together is not counted.

    Args:
        clock: monotonic seconds.
        uniform: draws a float between its two arguments.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._clock = clock
        self._uniform = uniform
        self._n_failures = 0
        self._next_at = float("-inf")

    def may_open(self) -> bool:
        """True if the time has come for another try."""
        return self._clock() >= self._next_at

    def note_end(self, code: grpc.StatusCode, *, has_answered: bool) -> None:
        """Note how a stream ended.

        One that answered and then ended with OK, as when a server stops or a connection is old, may be
        replaced at once. One that answered nothing may not: each question would open another.
        """
        if has_answered:
            self._n_failures = 0
            if code is grpc.StatusCode.OK:
                return
        if code is grpc.StatusCode.UNIMPLEMENTED:
            self._next_at = self._clock() + UNIMPLEMENTED_SECONDS
            return
        longest = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(self._n_failures, 60))
        self._n_failures += 1
        self._next_at = self._clock() + self._uniform(0.0, longest)

"""Retries of rewards: exponential backoff with full jitter, within one deadline for all attempts.

Repeating is safe: a decision counts once for each metric, so an attempt whose answer was lost comes back as
`OutcomeResult.DUPLICATE`. Full jitter (a delay drawn uniformly from zero to the backoff) spreads the callers
of a service that restarts; see M. Brooker (2015), "Exponential Backoff And Jitter", AWS Architecture Blog.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from bandit.client.arguments import call_seconds, duration
from bandit.client.errors import CallError
from bandit.wrong_types import require_number


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How long and how often a reward is tried. All durations are positive, in seconds.

    Attributes:
        timeout: for all attempts and the waits between them.
        attempt_timeout: for one attempt, so that one lost packet does not use up all the time.
        initial_backoff: the longest wait after the first attempt; it doubles after each further one.
        maximum_backoff: the longest wait after any attempt.
    """

    timeout: float = 10.0
    attempt_timeout: float = 3.0
    initial_backoff: float = 0.05
    maximum_backoff: float = 1.0

    def __post_init__(self) -> None:
        for name in ("timeout", "attempt_timeout", "initial_backoff", "maximum_backoff"):
            object.__setattr__(self, name, duration(name, getattr(self, name)))

    def backoff(self, n_attempts: int) -> float:
        """Return the longest wait after `n_attempts` attempts (counted from 1), in seconds.

        >>> [RetryPolicy().backoff(n) for n in (1, 2, 3, 5, 6, 5000)]
        [0.05, 0.1, 0.2, 0.8, 1.0, 1.0]
        """
        doublings = min(n_attempts - 1, 60)
        return min(self.maximum_backoff, self.initial_backoff * 2.0**doublings)


class Attempts:
    """The attempts of one call: how long the next may take, and whether and when to make it.

    Args:
        policy: the durations.
        timeout: for all attempts, in place of the policy's.
        clock: monotonic seconds.
        uniform: draws a float between its two arguments.

    Raises:
        TypeError: the timeout is not a number.
        InvalidArgumentError: the timeout is not finite.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        timeout: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._uniform = uniform
        self._n_attempts = 0
        self._deadline = clock() + (policy.timeout if timeout is None else call_seconds(timeout))

    def begin(self) -> float:
        """Count an attempt and return how long it may take, in seconds; not positive if no time is left."""
        self._n_attempts += 1
        return min(self._policy.attempt_timeout, self._remaining())

    def find_delay(self, error: CallError | None) -> float | None:
        """Return the seconds to wait before the next attempt, or None to give up.

        The jitter is added to the delay that the service asks for, so that callers that it refused together
        do not return together.
        """
        if error is None or not error.is_retryable:
            return None
        delay = error.asked_seconds + self._uniform(0.0, self._policy.backoff(self._n_attempts))
        if delay >= self._remaining():
            error.add_note(f"given up after {self._n_attempts} attempts")
            return None
        return delay

    def _remaining(self) -> float:
        return self._deadline - self._clock()


class Returns:
    """When to watch again after a stream of answers has ended, for as long as the caller has patience.

    Args:
        patience: how many seconds the service may be away.
        clock: monotonic seconds.
        uniform: draws a float between its two arguments.

    Raises:
        TypeError: the patience is not a number.
        InvalidArgumentError: it is not finite.
    """

    def __init__(
        self,
        patience: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        require_number("patience", patience)
        self._patience = call_seconds(patience)
        self._clock = clock
        self._uniform = uniform
        self._away_since: float | None = None
        self._n_ends = 0

    def note_answer(self) -> None:
        """Note that the service has answered."""
        self._away_since = None
        self._n_ends = 0

    def delay(self) -> float:
        """Return the seconds to wait before the next stream after one that the service has ended."""
        self._n_ends += 1
        return self._uniform(0.0, _WATCHING.backoff(self._n_ends))

    def find_delay(self, error: CallError) -> float | None:
        """Return the seconds to wait before the next stream after one that failed, or None to give up."""
        if not error.is_retryable:
            return None
        delay = error.asked_seconds + self.delay()
        now = self._clock()
        self._away_since = now if self._away_since is None else self._away_since
        return None if now + delay > self._away_since + self._patience else delay


_WATCHING = RetryPolicy(initial_backoff=0.2, maximum_backoff=10.0)

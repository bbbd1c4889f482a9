"""The thread that sends what an outbox holds.

It reads on from where it stopped, and returns to what is left once it has seen the end. So rewards that
can't be delivered for now, such as those of a namespace that the token lost, keep nothing else waiting.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bandit.client.blocking.client import BanditClient
from bandit.client.errors import AccessError, CallError
from bandit.client.logs import Throttle, log
from bandit.client.outbox.alarm import Alarm
from bandit.client.outbox.file import OutboxFile
from bandit.client.outbox.posting import (
    MOST_BYTES,
    Answer,
    estimate_bytes,
    find_common_failure,
    is_refusal,
    post,
)
from bandit.client.outbox.turn import Turn
from bandit.client.values import Reward, RewardResult

POLL_SECONDS: Final = 0.5
"""How often it looks for rewards that another process put into the file, and whether that still sends."""

_MOST_REWARDS: Final = 1000
_LONGEST_ASKED_SECONDS: Final = 60.0
_OF_ONE_REWARD: Final = frozenset({"CLOCK_IN_DOUBT", "INTERNAL", "PERMISSION_DENIED"})
"""Reasons that a single reward can have by itself: others need not wait for what was posted alone."""


class Backoff:
    """Waits that double up to a bound, each at random between half of it and all.

    Args:
        first: seconds.
        most: seconds.
    """

    def __init__(self, first: float, most: float) -> None:
        self._first = first
        self._most = most
        self._next = first

    def lengthen(self) -> float:
        """Return the next wait in seconds."""
        wait, self._next = self._next, min(self._next * 2, self._most)
        return random.uniform(wait / 2, wait)  # noqa: S311 - jitter

    def reset(self) -> None:
        """Begin anew with the first."""
        self._next = self._first


class Sender:
    """Sends until it is stopped, in a daemon thread.

    Args:
        file: the rewards.
        client: posts them.
        on_progress: called after each change of what waits.

    Attributes:
        last_error: why the last try failed; None if it succeeded.
    """

    def __init__(self, file: OutboxFile, client: BanditClient, on_progress: Callable[[], None]) -> None:
        self.last_error: Exception | None = None
        self._file = file
        self._client = client
        self._on_progress = on_progress
        self._turn = Turn(Path(f"{file.path}-sender"))
        self._wake = Alarm()
        self._is_stopped = False
        self._is_hurried = False
        self._is_warned = False
        self._refusals = Throttle()
        self._cursor = 0
        self._revisit_at = float("-inf")
        self._outage = Backoff(0.1, 30.0)
        self._denial = Backoff(2.0, 60.0)
        self._leftovers = Backoff(1.0, 60.0)
        self._thread = threading.Thread(target=self._run, name="bandit-outbox", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look for rewards now."""
        self._wake.set()

    def hurry(self) -> None:
        """Try again now, whatever the waits."""
        for backoff in (self._outage, self._denial, self._leftovers):
            backoff.reset()
        self._revisit_at = float("-inf")
        self._is_hurried = True
        self._wake.set()

    def stop(self, timeout: float) -> None:
        """Send no more; wait up to `timeout` seconds for the call in flight."""
        self._is_stopped = True
        self._wake.set()
        self._thread.join(timeout)

    def forget(self) -> None:
        """Close, in the child of a fork, what the parent's thread had open."""
        self._turn.end()

    def _run(self) -> None:
        while not self._is_stopped:
            try:
                seconds, is_interruptible = self._step()
            except Exception as error:  # noqa: BLE001 - the thread must outlive whatever one batch brings
                seconds, is_interruptible = self._outage.lengthen(), False
                if not self._is_stopped:
                    self._note(error)
            if seconds > 0.0:
                self._rest(seconds, is_interruptible=is_interruptible)
        self._turn.end()

    def _rest(self, seconds: float, *, is_interruptible: bool) -> None:
        """Wait; a new reward ends it only if the service is not the cause."""
        until = time.monotonic() + seconds
        while not self._is_stopped and (left := until - time.monotonic()) > 0.0:
            if self._wake.wait(left):
                self._wake.clear()
                if is_interruptible or self._is_hurried:
                    return

    def _step(self) -> tuple[float, bool]:
        """Send one batch; return the seconds to wait, and whether a new reward ends the wait."""
        if not self._turn.take():
            return POLL_SECONDS, True
        self._wake.clear()
        self._is_hurried = False
        rewards = self._read()
        if rewards:
            return self._deliver(rewards), False
        return self._end_of_pass(), True

    def _read(self) -> dict[int, Reward]:
        """Return the next rewards that fit into one call."""
        n_bytes = 0
        fitting: dict[int, Reward] = {}
        for number, reward in self._file.read(self._cursor, _MOST_REWARDS).items():
            n_bytes += estimate_bytes(reward)
            if fitting and n_bytes > MOST_BYTES:
                break
            fitting[number] = reward
        return fitting

    def _end_of_pass(self) -> float:
        """Return the seconds to wait for more; begin again with what is left if it is time."""
        if self._cursor == 0:
            return POLL_SECONDS
        if self._file.sizes()[0] == 0:
            self._leftovers.reset()
            return POLL_SECONDS
        left = self._revisit_at - time.monotonic()
        if left > 0.0:
            return min(left, POLL_SECONDS)
        self._cursor = 0
        self._revisit_at = time.monotonic() + self._leftovers.lengthen()
        return 0.0

    def _deliver(self, rewards: dict[int, Reward]) -> float:
        """Post rewards and settle their answers; return the seconds to wait before the next."""
        answers = post(self._client, list(rewards.values()))
        failure = find_common_failure(answers)
        is_of_one = failure is not None and len(rewards) == 1 and failure.reason in _OF_ONE_REWARD
        if failure is not None and not is_refusal(failure) and not is_of_one:
            self._note(failure)
            backoff = self._denial if isinstance(failure, AccessError) else self._outage
            return max(backoff.lengthen(), min(failure.asked_seconds, _LONGEST_ASKED_SECONDS))
        self._settle(dict(zip(rewards, answers, strict=True)))
        self._cursor = max(rewards)
        self._outage.reset()
        self._denial.reset()
        return 0.0

    def _settle(self, answers: dict[int, Answer]) -> None:
        delivered = [number for number, answer in answers.items() if isinstance(answer, RewardResult)]
        errors = {number: answer for number, answer in answers.items() if isinstance(answer, CallError)}
        refused = {number: error for number, error in errors.items() if is_refusal(error)}
        n_forgotten = self._file.settle(delivered, refused)
        kept = [error for number, error in errors.items() if number not in refused]
        if kept:
            self._note(kept[-1])
        elif not refused:
            self._note_success()
        if refused:
            self._note_refusals(list(refused.values()), n_forgotten)
        self._on_progress()

    def _note(self, error: Exception) -> None:
        self.last_error = error
        if not self._is_warned:
            self._is_warned = True
            log(logging.WARNING, "%s: rewards wait: %s", self._file.path, error)

    def _note_success(self) -> None:
        self.last_error = None
        if self._is_warned:
            self._is_warned = False
            log(logging.INFO, "%s: rewards are sent again", self._file.path)

    def _note_refusals(self, errors: list[CallError], n_forgotten: int) -> None:
        self.last_error = errors[-1]
        if n_forgotten:
            text = "%s: %d refused rewards were forgotten, since there are more than max_refused"
            log(logging.ERROR, text, self._file.path, n_forgotten)
        n_unsaid = self._refusals.admit(self._file.path)
        if n_unsaid is not None:
            text = "%s: %d rewards were refused: %s (and %d warnings since the last one)"
            log(logging.WARNING, text, self._file.path, len(errors), errors[-1], n_unsaid)

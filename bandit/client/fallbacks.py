"""Fallbacks: served in place of a failed answer, and logged without flooding the log."""

import copy
import logging
import threading
import time
from collections.abc import Callable, Sequence

from bandit.client import forks
from bandit.client.batches import ChooseBatch
from bandit.client.errors import CallError
from bandit.client.values import Choice, Fallback, Question, Reason

logger = logging.getLogger("bandit.client")

WARNING_INTERVAL = 10.0  # seconds between two warnings of one experiment and status
MAX_WARNED = 1000  # experiments and statuses remembered: names may come from users


class Fallbacks:
    """Turns failures into fallbacks; thread-safe.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.RLock()  # a signal handler may choose, too
        self._key_to_warned_at: dict[tuple[str, str], float] = {}
        self._n_unsaid = 0
        forks.register(self)

    def after_fork(self) -> None:
        """Begin anew in a child: another thread of the parent may have held the lock."""
        self._lock = threading.RLock()
        self._key_to_warned_at = {}
        self._n_unsaid = 0

    def serve(self, experiment: str, fallback: Fallback, cause: CallError) -> Choice:
        """Return the fallback as a choice, with its cause; log a warning."""
        self._warn(experiment, fallback.arm, cause)
        return Choice(
            arm=fallback.arm,
            reason=Reason.FALLBACK,
            payload_source=fallback.payload,
            # A copy has no traceback, so a choice that is kept does not keep the frames of its call.
            fallback_cause=copy.copy(cause),
        )

    def serve_batch(self, questions: Sequence[Question], batch: ChooseBatch) -> list[Choice]:
        """Return the answers of a batch, with the fallback in place of each failed one."""
        return [
            self.serve(question.experiment, question.fallback, answer)
            if isinstance(answer, CallError)
            else answer
            for question, answer in zip(questions, batch.in_order(), strict=True)
        ]

    def _warn(self, experiment: str, arm: str, cause: CallError) -> None:
        key = (experiment, cause.code.name)
        with self._lock:
            if self._clock() < self._key_to_warned_at.get(key, float("-inf")) + WARNING_INTERVAL:
                self._n_unsaid += 1
                return
            if len(self._key_to_warned_at) >= MAX_WARNED:
                self._key_to_warned_at.clear()
            self._key_to_warned_at[key] = self._clock()
            n_unsaid, self._n_unsaid = self._n_unsaid, 0
        logger.warning(
            "experiment %r: served fallback arm %r: %s (and %d fallbacks since the last warning)",
            experiment,
            arm,
            cause,
            n_unsaid,
        )

"""Fallbacks: served in place of a failed answer, counted, and logged without flooding the log."""

import copy
import logging
import time
from collections.abc import Callable, Sequence

from bandit.client.batches import ChooseBatch
from bandit.client.counts import Counters, EventKind
from bandit.client.errors import CallError
from bandit.client.logs import Throttle, log
from bandit.client.values import Choice, Fallback, Question, Reason


class Fallbacks:
    """Turns failures into fallbacks; thread-safe.

    Args:
        counters: count the fallbacks.
        clock: monotonic seconds.
    """

    def __init__(self, counters: Counters, clock: Callable[[], float] = time.monotonic) -> None:
        self._counters = counters
        self._throttle = Throttle(clock)

    def serve(self, experiment: str, fallback: Fallback, cause: CallError) -> Choice:
        """Return the fallback as a choice, with its cause; count it and log a warning."""
        self._counters.add(EventKind.FALLBACK, experiment=experiment, cause=cause)
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
        n_unsaid = self._throttle.admit((experiment, cause.code.name))
        if n_unsaid is not None:
            log(
                logging.WARNING,
                "experiment %r: served fallback arm %r: %s (and %d fallbacks since the last warning)",
                experiment,
                arm,
                cause,
                n_unsaid,
            )

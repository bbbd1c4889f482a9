"""What a client counts of its own work, and the hook that hears of it."""

import inspect
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Final

from bandit.client.errors import CallError
from bandit.client.logs import log
from bandit.client.processes import forks
from bandit.client.values import OutcomeResult, RewardResult
from bandit.wrong_types import wrong_type

MAX_CAUSES: Final = 100
"""Causes that are counted apart: reasons come from whoever answers."""

OTHER_CAUSES: Final = "OTHER"


class EventKind(StrEnum):
    """What happened."""

    FALLBACK = auto()
    """`choose` or `batch_choose` served the caller's fallback."""
    LATE = auto()
    """An outcome came after its window: stored, and without influence. One of `serve` is POSTED as well."""
    POSTED = auto()
    """An outcome of `serve` was recorded."""
    DROPPED = auto()
    """An outcome of `serve` was not sent: too many were waiting, or the client was closed."""
    REFUSED = auto()
    """The service refused an outcome of `serve` for good, such as a value outside the metric's range."""
    FAILED = auto()
    """An outcome of `serve` was sent, and the service did not answer in all the time for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientEvent:
    """Something that the client counts, as `on_event` hears of it.

    Attributes:
        kind: what happened.
        n: how many fallbacks or outcomes, at least 1.
        experiment: the experiment's name; empty for late outcomes, whose decision id does not tell it.
        cause: for FALLBACK, REFUSED and FAILED the service's reason, such as `RATE_LIMITED`, or the status
            where there is none, such as `DEADLINE_EXCEEDED`; otherwise empty.
    """

    kind: EventKind
    n: int = 1
    experiment: str = ""
    cause: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a client has counted since it was made. All but fallbacks are outcomes, one for each metric.

    Attributes:
        cause_to_n_fallbacks: fallbacks that were served, by reason or status; see `ClientEvent.cause`.
        n_late: outcomes of `reward`, `batch_reward` and `serve` that came after their window.
        n_posted: outcomes of `serve` that were recorded.
        n_dropped: outcomes of `serve` that were not sent.
        n_refused: outcomes of `serve` that the service refused for good.
        n_failed: outcomes of `serve` without an answer; they may be recorded.
    """

    cause_to_n_fallbacks: Mapping[str, int]
    n_late: int
    n_posted: int
    n_dropped: int
    n_refused: int
    n_failed: int

    @property
    def n_fallbacks(self) -> int:
        """Fallbacks of all causes."""
        return sum(self.cause_to_n_fallbacks.values())


class Counters:
    """Counts events and passes them to a hook; thread-safe.

    Args:
        on_event: called with each event; what it raises is logged once and goes no further.

    Raises:
        TypeError: the hook can't be called, or is a coroutine function.
    """

    def __init__(self, on_event: Callable[[ClientEvent], object] | None = None) -> None:
        _check_hook(on_event)
        self._on_event = on_event
        self._has_failed = False
        self._lock = threading.RLock()  # a signal handler may count, too
        self._kind_to_n: Counter[EventKind] = Counter()
        self._cause_to_n_fallbacks: Counter[str] = Counter()
        forks.register(self)

    def after_fork(self) -> None:
        """Free, in a child, what another thread of the parent may have held."""
        self._lock = threading.RLock()

    def add(
        self, kind: EventKind, n: int = 1, *, experiment: str = "", cause: CallError | None = None
    ) -> None:
        """Count `n` events and pass them on as one; none if `n` is 0."""
        if n <= 0:
            return
        word = "" if cause is None else cause.reason or cause.code.name
        with self._lock:
            self._kind_to_n[kind] += n
            if kind is EventKind.FALLBACK:
                is_known = word in self._cause_to_n_fallbacks or len(self._cause_to_n_fallbacks) < MAX_CAUSES
                self._cause_to_n_fallbacks[word if is_known else OTHER_CAUSES] += n
        if self._on_event is not None:
            self._pass_on(ClientEvent(kind=kind, n=n, experiment=experiment, cause=word))

    def add_late(self, result: RewardResult) -> None:
        """Count the late outcomes of a reward."""
        results = result.metric_to_result.values()
        if OutcomeResult.LATE in results:
            self.add(EventKind.LATE, sum(each is OutcomeResult.LATE for each in results))

    def add_late_of(self, results: Iterable[RewardResult | CallError]) -> None:
        """Count the late outcomes of many rewards."""
        for result in results:
            if isinstance(result, RewardResult):
                self.add_late(result)

    def counts(self) -> Counts:
        """Return what was counted so far."""
        with self._lock:
            of = self._kind_to_n.copy()
            causes = dict(self._cause_to_n_fallbacks)
        return Counts(
            cause_to_n_fallbacks=causes,
            n_late=of[EventKind.LATE],
            n_posted=of[EventKind.POSTED],
            n_dropped=of[EventKind.DROPPED],
            n_refused=of[EventKind.REFUSED],
            n_failed=of[EventKind.FAILED],
        )

    def _pass_on(self, event: ClientEvent) -> None:
        try:
            self._on_event(event)  # type: ignore[misc]  # the caller has looked
        except Exception:  # noqa: BLE001 - the log has it
            if not self._has_failed:
                self._has_failed = True
                log(logging.ERROR, "on_event raised; the client goes on, and logs this once", exc_info=True)


def _check_hook(hook: object) -> None:
    if hook is not None and (not callable(hook) or inspect.iscoroutinefunction(hook)):
        raise wrong_type("on_event", hook, "a function that is not async, or None")

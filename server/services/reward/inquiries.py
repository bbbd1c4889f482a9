"""Inquiries: before a reward is refused for good, ask the store whether it knows more than this server.

Any caller can cause questions, by naming things that do not exist. So a recently answered question is not
asked again, concurrent questions share one load of changes, and loads are spaced out: the load on the store
does not grow with the calls.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final, TypeAlias

from server.services.runtime.clock import Clock

Subject: TypeAlias = int | str
"""The subject of a question: an experiment, by the store's number or by name, or `KEYS`."""

KEYS: Final = 0
"""The keys that sign decisions: no experiment has this number."""

_MOST_REMEMBERED: Final = 10_000


class Inquiries:
    """Asks the store what changed, for callers who would be refused. Belongs to the event loop's thread.

    Args:
        refresh: Loads the state of the store at the time of the call, or later.
        clock: The time.
        memory_seconds: How long an answer holds: no longer than replicas may take to know of a change.
        pause_seconds: Time from the start of a load to the next one; by default at most twenty a second.
    """

    def __init__(
        self,
        refresh: Callable[[], Awaitable[None]],
        clock: Clock,
        *,
        memory_seconds: float,
        pause_seconds: float = 0.05,
    ) -> None:
        self._refresh = refresh
        self._clock = clock
        self._memory = memory_seconds
        self._pause = pause_seconds
        self._answered: dict[Subject, float] = {}
        self._next: asyncio.Task[float] | None = None
        self._tasks: set[asyncio.Task[float]] = set()
        self._began_at = float("-inf")

    def is_answered(self, subject: Subject) -> bool:
        """Return whether the store was asked about it recently, so that its answer is known here."""
        return self._clock.monotonic() - self._answered.get(subject, float("-inf")) < self._memory

    async def ask(self, subjects: Collection[Subject]) -> None:
        """Load what the store knows about these subjects, unless that was done recently.

        Raises:
            StorageUnavailableError: The store can't be reached.
        """
        unanswered = [subject for subject in subjects if not self.is_answered(subject)]
        if not unanswered:
            return
        if self._next is None:
            self._next = asyncio.create_task(self._load())
            self._tasks.add(self._next)
            self._next.add_done_callback(self._tasks.discard)
        asked_at = await asyncio.shield(self._next)
        for subject in unanswered:
            self._remember(subject, asked_at)

    async def end(self) -> None:
        """Cancel the loads in progress."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _load(self) -> float:
        """Load, after a pause since the last load; return when the store was asked."""
        await asyncio.sleep(max(self._began_at + self._pause - self._clock.monotonic(), 0.0))
        self._next = None  # a later question may be about something newer
        self._began_at = asked_at = self._clock.monotonic()
        await self._refresh()
        return asked_at

    def _remember(self, subject: Subject, asked_at: float) -> None:
        self._answered.pop(subject, None)
        if len(self._answered) >= _MOST_REMEMBERED:
            self._answered.pop(next(iter(self._answered)))
        self._answered[subject] = asked_at

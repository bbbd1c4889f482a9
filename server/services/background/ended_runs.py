"""Ending the runs of dead servers, so that outcomes of uncounted decisions are excluded.

Ending a run can't be undone: if its server lives, the decisions that it has not flushed yet are dropped. So a
run must have been silent for long. Silence is counted by this server's own monotonic clock, and only while it
reached the store itself: neither an outage of the store, nor a wall clock that jumps, nor a database's clock
makes a server look dead.
"""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Final

import structlog

from server.services.experiments.allocator import Allocator
from server.services.runtime.async_store import AsyncStore
from server.services.runtime.clock import Clock
from server.services.runtime.writer import Writer
from server.store.errors import OlderServersError, StoreUnavailableError, StoreUnreachableError
from server.store.records import WriterState

SILENCE: Final = timedelta(minutes=15)
"""How long a run must be silent. A live run reports every 10 s; a machine that is moved, or a process that is
stopped for a core dump, is silent for minutes and comes back. Until a dead run is ended, the outcomes of
about a second of its decisions are compared although they should not be."""

LOOK_SECONDS: Final = 10.0
"""How often to look for silent runs."""

_MOST_CREDIT: Final = 2 * LOOK_SECONDS
"""The most silence that a look can add: nothing is known about times without a look."""

_ROWS: Final = 2_000
"""Rows of the log that one transaction reads."""

log = structlog.get_logger()


class LastHeard:
    """The silence of each run, counting only time in which it could have been heard."""

    def __init__(self) -> None:
        self._heard: dict[bytes, tuple[tuple[int, int], float]] = {}
        self._looked_at: float | None = None

    def note(self, states: Iterable[WriterState], now_seconds: float) -> list[tuple[WriterState, float]]:
        """Note the runs as the store has them now; return each with its seconds of silence."""
        before, self._looked_at = self._looked_at, now_seconds
        elapsed = 0.0 if before is None else min(now_seconds - before, _MOST_CREDIT)
        silence = []
        heard = {}
        for state in states:
            sign = (state.seen_at, state.sequence)
            known, seconds = self._heard.get(state.incarnation, (None, 0.0))
            seconds = seconds + elapsed if known == sign else 0.0
            heard[state.incarnation] = (sign, seconds)
            silence.append((state, seconds))
        self._heard = heard
        return silence


class RunReaper:
    """Ends silent runs and moves their uncounted outcomes. Belongs to the event loop's thread.

    Args:
        store: Has the runs.
        writer: This run, which is never ended here.
        allocator: Notified of experiments whose facts changed.
        clock: The time.
        may_end: Returns whether irreversible acts are allowed now.

    Attributes:
        n_moved: Outcomes that this run of the server has marked as uncounted.
    """

    def __init__(
        self,
        store: AsyncStore,
        writer: Writer,
        allocator: Allocator,
        clock: Clock,
        *,
        may_end: Callable[[], bool] = lambda: True,
    ) -> None:
        self._store = store
        self._writer = writer
        self._allocator = allocator
        self._clock = clock
        self._may_end = may_end
        self._last_heard = LastHeard()
        self._logged = ""
        self.n_moved = 0

    async def run_once(self) -> None:
        """End dead runs, and move their uncounted outcomes.

        Raises:
            StoreError: Completed steps stay done; the next run continues.
        """
        silent = await self._find_silent()
        if silent and self._may_end():
            await self._end(silent)
        await self._move()

    async def _find_silent(self) -> list[WriterState]:
        """Return the other runs that are dead and whose decision ids show which decisions they counted."""
        states = await self._store.read_writers()
        enough = SILENCE.total_seconds() if self._store.is_shared else 0.0
        return [
            state
            for state, seconds in self._last_heard.note(states, self._clock.monotonic())
            if seconds >= enough and self._is_endable(state)
        ]

    def _is_endable(self, state: WriterState) -> bool:
        is_other = state.incarnation != self._writer.incarnation
        return is_other and state.code is not None and state.ended_at is None

    async def _end(self, silent: list[WriterState]) -> None:
        try:
            ended = await self._store.end_runs(silent, self._clock.now())
        except OlderServersError as error:
            self._warn_once("runs.wait_for_older_servers", str(error))
        except StoreUnreachableError:
            raise
        except StoreUnavailableError as error:  # a long transaction reads rows that would have to be locked
            self._warn_once("runs.wait_for_readers", str(error))
        else:
            self._logged = ""
            for incarnation in ended:
                log.info("run.ended", run=incarnation.hex()[:8])

    def _warn_once(self, event: str, error: str) -> None:
        """Log once why runs can't be ended."""
        if event != self._logged:
            log.warning(event, error=error)
        self._logged = event

    async def _move(self) -> None:
        n_rows = 0
        while True:
            step = await self._store.move_uncounted(self._writer.slot, _ROWS)
            if step is None:
                break
            n_rows += step.n_rows
            self.n_moved += step.n_rows
            self._allocator.mark_grown(step.experiments)
        if n_rows:
            log.info("outcomes.uncounted", outcomes=n_rows)

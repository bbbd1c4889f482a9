"""The commit queue of rewards: rewards that arrive during one commit are stored by the next."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from itertools import chain
from typing import Final

import structlog

from server.services.errors import (
    OverloadedError,
    ServiceError,
    StorageFullError,
    StorageUnavailableError,
    StorageUnsafeError,
)
from server.services.runtime.async_store import AsyncStore
from server.services.runtime.clock import Clock
from server.services.runtime.log_throttle import LogThrottle
from server.services.runtime.writer import Writer
from server.store.errors import (
    RowRefusedError,
    StoreBrokenError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    StoreUnsafeError,
)
from server.store.records import Recorded, Refused, RewardEntry, RewardVerdict

MAX_COMMIT_ROWS: Final = 4_096
"""The most rows of a commit, so that none makes others wait for long."""

MAX_TURNS: Final = 16
"""How often the outcomes of one decision may change in a commit: each change takes statements of its own."""

_ENTRY_BYTES: Final = 400
_OUTCOME_BYTES: Final = 160
_RETRY_WHEN_FULL: Final = timedelta(milliseconds=200)
_RETRY_WHEN_NO_ROOM: Final = timedelta(seconds=1)
_SMOOTHING: Final = 0.2

log = structlog.get_logger()


class _Submission:
    """Rewards that are committed together, and the future of their verdicts."""

    __slots__ = ("done", "entries", "n_bytes", "n_rows")

    def __init__(self, entries: Sequence[RewardEntry], done: asyncio.Future[list[RewardVerdict]]) -> None:
        self.entries = entries
        self.done = done
        self.n_rows, self.n_bytes = _size(entries)


def _size(entries: Sequence[RewardEntry]) -> tuple[int, int]:
    """Return the rows of the log and an estimate of the memory."""
    n_rows = sum(len(entry.outcomes) for entry in entries)
    return n_rows, _ENTRY_BYTES * len(entries) + _OUTCOME_BYTES * n_rows


def _pieces(entries: Sequence[RewardEntry]) -> list[Sequence[RewardEntry]]:
    """Cut a call that repeats one decision very often into pieces that each fit in a commit."""
    if len(entries) <= MAX_TURNS or len({entry.decision for entry in entries}) == len(entries):
        return [entries]
    pieces: list[Sequence[RewardEntry]] = []
    turns, start = _Turns(), 0
    for number, entry in enumerate(entries):
        if not turns.has_room_for([entry]):
            pieces.append(entries[start:number])
            turns, start = _Turns(), number
        turns.take(entry)
    return [*pieces, entries[start:]]


class _Turns:
    """Counts, within one commit, how often each decision's rewards differ from the one before."""

    def __init__(self) -> None:
        self._last: dict[bytes, RewardEntry] = {}
        self._n_turns: dict[bytes, int] = {}
        self._barred: set[bytes] = set()

    def has_room_for(self, entries: Sequence[RewardEntry]) -> bool:
        """True if these may follow; if not, bar their decisions from this commit, to keep their order."""
        decisions = {entry.decision for entry in entries}
        if any(self._n_turns.get(d, 0) >= MAX_TURNS or d in self._barred for d in decisions):
            self._barred |= decisions
            return False
        return True

    def take(self, entry: RewardEntry) -> None:
        """Add an entry; an exact repetition of the one before takes no statement."""
        last = self._last.get(entry.decision)
        self._last[entry.decision] = entry
        if last is not None and (last.outcomes, last.revision) != (entry.outcomes, entry.revision):
            self._n_turns[entry.decision] = self._n_turns.get(entry.decision, 0) + 1


class RewardQueue:
    """Groups rewards into commits. Belongs to the event loop's thread.

    Args:
        store: Records the rewards.
        writer: Has the slot in which rewards are counted.
        clock: Times the commits.
        max_rows: The most outcomes that may wait; more are refused.
        max_bytes: The most memory, estimated, that they may take; more are refused.
        on_recorded: Called with the numbers of the experiments whose facts grew.
        on_broken: Called when durability can't be promised any more.
    """

    def __init__(
        self,
        store: AsyncStore,
        writer: Writer,
        clock: Clock,
        *,
        max_rows: int,
        max_bytes: int,
        on_recorded: Callable[[Iterable[int]], None],
        on_broken: Callable[[], None],
    ) -> None:
        self._store = store
        self._writer = writer
        self._clock = clock
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._on_recorded = on_recorded
        self._on_broken = on_broken
        self._waiting: deque[_Submission] = deque()
        self._n_bytes = 0
        self._arrived = asyncio.Event()
        self._is_closed = False
        self._throttle = LogThrottle(clock)
        self.n_rows = 0
        self.commit_seconds = 0.0
        self.observers: list[Callable[[int, float], None]] = []
        self.results: Counter[tuple[int, int, int, str]] = Counter()

    async def submit(self, entries: Sequence[RewardEntry]) -> list[RewardVerdict]:
        """Return one verdict for each entry, once they are committed.

        Cancelling the call does not take the entries back: they may still be committed.

        Raises:
            OverloadedError: The queue is full; nothing was stored.
            StorageUnavailableError: The store can't be reached; nothing was acknowledged.
        """
        n_rows, n_bytes = _size(entries)
        is_full = self.n_rows + n_rows > self._max_rows or self._n_bytes + n_bytes > self._max_bytes
        if is_full and self.n_rows > 0:
            raise OverloadedError(
                f"{self.n_rows} outcomes are already waiting for a commit", _RETRY_WHEN_FULL
            )
        self.n_rows += n_rows
        self._n_bytes += n_bytes
        loop = asyncio.get_running_loop()
        submissions = [_Submission(piece, loop.create_future()) for piece in _pieces(entries)]
        self._waiting.extend(submissions)
        self._arrived.set()
        if len(submissions) == 1:
            return await submissions[0].done
        settled = await asyncio.gather(*(submission.done for submission in submissions))
        return list(chain.from_iterable(settled))

    async def run(self) -> None:
        """Commit what is submitted, until `close` was called and nothing waits."""
        while not (self._is_closed and not self._waiting):
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                await self._commit(self._take())

    def close(self) -> None:
        """End `run` once everything submitted is committed or refused."""
        self._is_closed = True
        self._arrived.set()

    def _take(self) -> list[_Submission]:
        """Take the next commit, in order; submissions that need too many statements wait for another one."""
        taken: list[_Submission] = []
        n_rows = 0
        while self._waiting and (not taken or n_rows + self._waiting[0].n_rows <= MAX_COMMIT_ROWS):
            taken.append(self._waiting.popleft())
            n_rows += taken[-1].n_rows
        decisions = [entry.decision for submission in taken for entry in submission.entries]
        if len(set(decisions)) == len(decisions):
            return taken
        self._waiting.extendleft(reversed(taken))
        return self._take_in_turns()

    def _take_in_turns(self) -> list[_Submission]:
        """As `_take`, if some decision occurs more than once."""
        taken: list[_Submission] = []
        deferred: list[_Submission] = []
        turns, n_rows = _Turns(), 0
        while self._waiting and len(deferred) < MAX_COMMIT_ROWS:
            submission = self._waiting[0]
            if taken and n_rows + submission.n_rows > MAX_COMMIT_ROWS:
                break
            self._waiting.popleft()
            if not turns.has_room_for(submission.entries):
                deferred.append(submission)
                continue
            for entry in submission.entries:
                turns.take(entry)
            taken.append(submission)
            n_rows += submission.n_rows
        self._waiting.extendleft(reversed(deferred))
        return taken

    async def _commit(self, taken: Sequence[_Submission]) -> None:
        entries = [entry for submission in taken for entry in submission.entries]
        started_at = self._clock.monotonic()
        try:
            verdicts = await self._record(entries)
        except Exception as error:  # noqa: BLE001 - the callers get an answer in any case
            self._fail(taken, error)
        else:
            self._settle(taken, entries, verdicts)
        finally:
            self._n_bytes -= sum(submission.n_bytes for submission in taken)
            n_rows = sum(submission.n_rows for submission in taken)
            self.n_rows -= n_rows
            self._observe(n_rows, self._clock.monotonic() - started_at)

    async def _record(self, entries: Sequence[RewardEntry]) -> list[RewardVerdict]:
        """Record the entries; those that the database refuses are found by halving, and fail alone."""
        try:
            return await self._store.record_rewards(entries, self._writer.slot)
        except RowRefusedError:
            if len(entries) == 1:
                log.exception("reward.refused_by_database", experiment=entries[0].experiment)
                return [Refused()]
            half = len(entries) // 2
            return [*await self._record(entries[:half]), *await self._record(entries[half:])]

    def _settle(
        self, taken: Sequence[_Submission], entries: Sequence[RewardEntry], verdicts: Sequence[RewardVerdict]
    ) -> None:
        self._throttle.reset()
        self._on_recorded({entry.experiment for entry in entries})
        for entry, verdict in zip(entries, verdicts, strict=True):
            if isinstance(verdict, Recorded):
                for outcome, result in zip(entry.outcomes, verdict.results, strict=True):
                    self.results[entry.experiment, entry.arm, outcome.metric, result] += 1
        start = 0
        for submission in taken:
            end = start + len(submission.entries)
            if not submission.done.done():
                submission.done.set_result(list(verdicts[start:end]))
            start = end

    def _fail(self, taken: Sequence[_Submission], error: Exception) -> None:
        self._log_failure(error)
        for submission in taken:
            if not submission.done.done():
                submission.done.set_exception(_to_service_error(error))
        if isinstance(error, StoreBrokenError):
            self._on_broken()

    def _log_failure(self, error: Exception) -> None:
        """Log a failed commit: every unexpected error with its traceback, outages at most every 10 s."""
        facts = {"error": type(error).__name__, "cause": str(error)}
        if not isinstance(error, StoreUnavailableError):
            log.error("reward.commit_failed", **facts, exc_info=error)
        elif (n_left_out := self._throttle.admit()) is not None:
            log.warning("reward.commit_failed", **facts, n_unsaid=n_left_out)

    def _observe(self, n_rows: int, seconds: float) -> None:
        self.commit_seconds += _SMOOTHING * (seconds - self.commit_seconds)
        for observe in self.observers:
            observe(n_rows, seconds)


def _to_service_error(error: Exception) -> Exception:
    if isinstance(error, StoreFullError):
        return StorageFullError("the store has no room left", _RETRY_WHEN_NO_ROOM)
    if isinstance(error, StoreUnsafeError):
        return StorageUnsafeError(str(error))
    if isinstance(error, StoreError):
        return StorageUnavailableError()
    return error if isinstance(error, ServiceError) else RuntimeError("the commit failed")

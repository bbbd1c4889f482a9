"""The commit queue of rewards: rewards that arrive during one commit are stored by the next."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import partial
from itertools import chain
from operator import methodcaller
from typing import Any, Final, Protocol, TypeVar

import structlog

from server.services.errors import (
    OverloadedError,
    ServiceError,
    StorageFullError,
    StorageUnavailableError,
    StorageUnsafeError,
)
from server.services.reward.turns import Turns, pieces_of
from server.services.runtime.async_store import AsyncStore, Thread
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

_ANSWERS_A_TURN: Final = 64
"""Rewards that are answered before the event loop does other things: each answer is also written to a
connection, so that a commit of a thousand would hold the loop for some 30 ms."""

_ENTRY_BYTES: Final = 400
_OUTCOME_BYTES: Final = 160
_RETRY_WHEN_FULL: Final = timedelta(milliseconds=200)
_RETRY_WHEN_NO_ROOM: Final = timedelta(seconds=1)
_SMOOTHING: Final = 0.2

_Answer = TypeVar("_Answer")

log = structlog.get_logger()


class _Submission:
    """Rewards that are committed together, and the future of their answer.

    Attributes:
        entries: The rewards.
        done: The future.
        to_answer: Makes the future's result of the verdicts.
        n_rows: Rows of the log.
        n_bytes: An estimate of the memory.
    """

    __slots__ = ("done", "entries", "n_bytes", "n_rows", "to_answer")

    def __init__(
        self,
        entries: Sequence[RewardEntry],
        done: asyncio.Future[Any],
        to_answer: Callable[[Sequence[RewardVerdict]], Any],
    ) -> None:
        self.entries = entries
        self.done = done
        self.to_answer = to_answer
        self.n_rows = sum([len(entry.outcomes) for entry in entries])
        self.n_bytes = _ENTRY_BYTES * len(entries) + _OUTCOME_BYTES * self.n_rows

    def settle(self, verdicts: Sequence[RewardVerdict]) -> None:
        """Answer the caller, unless it has given up."""
        if not self.done.done():
            self.done.set_result(self.to_answer(verdicts))

    def fail(self, error: Exception) -> None:
        """Answer the caller with an error, unless it has given up."""
        if not self.done.done():
            self.done.set_exception(error)


class _Commit:
    """A commit under way.

    Attributes:
        submissions: What is committed.
        entries: Its rewards.
        began_at: The clock's monotonic time at the start.
        repeated: The task that finds the rewards that the database refuses; None if it refused none.
    """

    __slots__ = ("began_at", "entries", "repeated", "submissions")

    def __init__(self, submissions: Sequence[_Submission], began_at: float) -> None:
        self.submissions = submissions
        self.entries = [entry for submission in submissions for entry in submission.entries]
        self.began_at = began_at
        self.repeated: asyncio.Task[list[RewardVerdict]] | None = None


class _Done(Protocol):
    """What a commit ends with: a future of either kind."""

    def result(self) -> list[RewardVerdict]:
        """Return the verdicts, or raise why there are none."""


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
        self._committed: deque[tuple[_Submission, Sequence[RewardVerdict]]] = deque()
        self._n_bytes = 0
        self._ended: asyncio.Future[None] | None = None
        self._is_busy = False
        self._is_closed = False
        self._throttle = LogThrottle(clock)
        self.n_rows = 0
        self.commit_seconds = 0.0
        self.observers: list[Callable[[int, float], None]] = []
        self.results: Counter[tuple[int, int, int, str]] = Counter()

    def post(
        self, entries: Sequence[RewardEntry], to_answer: Callable[[Sequence[RewardVerdict]], _Answer]
    ) -> asyncio.Future[_Answer]:
        """Queue entries, and return the future of the answer: there once they are committed.

        It fails with StorageUnavailableError if the store can't be reached; then nothing was acknowledged.
        Cancelling it does not take the entries back: they may still be committed.

        Args:
            entries: What to commit.
            to_answer: Makes the answer of one verdict for each entry.

        Raises:
            OverloadedError: The queue is full; nothing was stored.
        """
        loop = asyncio.get_running_loop()
        posted = _Submission(entries, loop.create_future(), to_answer)
        is_full = (
            self.n_rows + posted.n_rows > self._max_rows or self._n_bytes + posted.n_bytes > self._max_bytes
        )
        if is_full and self.n_rows > 0:
            raise OverloadedError(
                f"{self.n_rows} outcomes are already waiting for a commit", _RETRY_WHEN_FULL
            )
        self.n_rows += posted.n_rows
        self._n_bytes += posted.n_bytes
        pieces = pieces_of(entries)
        if len(pieces) == 1:
            self._waiting.append(posted)
        else:
            parts = [_Submission(piece, loop.create_future(), list) for piece in pieces]
            self._waiting.extend(parts)
            posted.done = loop.create_task(_join([part.done for part in parts], to_answer))
        self._wake(loop)
        return posted.done

    async def run(self) -> None:
        """Commit what is submitted, until `close` was called and nothing waits."""
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        self._wake(loop)
        await self._ended

    def close(self) -> None:
        """End `run` once everything submitted is committed or refused."""
        self._is_closed = True
        if self._ended is not None:
            self._wake(self._ended.get_loop())

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin a commit, unless one is under way, with everything that comes in this turn of the loop."""
        if not self._is_busy and self._ended is not None:
            self._is_busy = True
            loop.call_soon(self._begin)

    def _begin(self) -> None:
        """Begin the next commit, from the end of the last; if nothing waits, rest."""
        if self._ended is None or self._ended.done():
            self._is_busy = False
        elif self._waiting:
            commit = _Commit(self._take(), self._clock.monotonic())
            work = methodcaller("record_rewards", commit.entries, self._writer.slot)
            self._store.start(Thread.WRITE, work, partial(self._finish, commit))
        else:
            self._is_busy = False
            if self._is_closed and not self._committed:
                self._ended.set_result(None)

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
        turns, n_rows = Turns(), 0
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

    def _finish(self, commit: _Commit, done: _Done) -> None:
        """Answer the callers of a commit; one of which the database refused a row is repeated by halves."""
        taken = commit.submissions
        n_rows = sum([submission.n_rows for submission in taken])
        try:
            verdicts = done.result()
        except RowRefusedError:
            loop = asyncio.get_running_loop()
            commit.repeated = loop.create_task(self._record(commit.entries))
            commit.repeated.add_done_callback(partial(self._finish, commit))
            return
        except Exception as error:  # noqa: BLE001 - the callers get an answer in any case
            self._fail(taken, error)
        else:
            self._settle(commit, verdicts)
        self._n_bytes -= sum([submission.n_bytes for submission in taken])
        self.n_rows -= n_rows
        self._observe(n_rows, self._clock.monotonic() - commit.began_at)
        self._begin()

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

    def _settle(self, commit: _Commit, verdicts: Sequence[RewardVerdict]) -> None:
        self._throttle.reset()
        self._on_recorded({entry.experiment for entry in commit.entries})
        is_answering = bool(self._committed)
        start = 0
        for submission in commit.submissions:
            end = start + len(submission.entries)
            self._committed.append((submission, verdicts[start:end]))
            start = end
        if not is_answering:
            self._answer()

    def _answer(self) -> None:
        """Answer the callers of what is committed, a turn of them; the next commit need not wait for that."""
        n_answered = 0
        while self._committed and n_answered < _ANSWERS_A_TURN:
            submission, verdicts = self._committed.popleft()
            self._count_results(submission.entries, verdicts)
            submission.settle(verdicts)
            n_answered += len(verdicts)
        loop = asyncio.get_running_loop()
        if self._committed:
            loop.call_soon(self._answer)
        elif self._is_closed:
            self._wake(loop)

    def _count_results(self, entries: Sequence[RewardEntry], verdicts: Sequence[RewardVerdict]) -> None:
        for entry, verdict in zip(entries, verdicts, strict=True):
            if isinstance(verdict, Recorded):
                for outcome, result in zip(entry.outcomes, verdict.results, strict=True):
                    self.results[entry.experiment, entry.arm, outcome.metric, result] += 1

    def _fail(self, taken: Sequence[_Submission], error: Exception) -> None:
        self._log_failure(error)
        for submission in taken:
            submission.fail(_to_service_error(error))
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


async def _join(
    parts: Sequence[asyncio.Future[list[RewardVerdict]]],
    to_answer: Callable[[Sequence[RewardVerdict]], _Answer],
) -> _Answer:
    """Return the answer of a call that was cut into pieces."""
    return to_answer(list(chain.from_iterable(await asyncio.gather(*parts))))


def _to_service_error(error: Exception) -> Exception:
    if isinstance(error, StoreFullError):
        return StorageFullError("the store has no room left", _RETRY_WHEN_NO_ROOM)
    if isinstance(error, StoreUnsafeError):
        return StorageUnsafeError(str(error))
    if isinstance(error, StoreError):
        return StorageUnavailableError()
    return error if isinstance(error, ServiceError) else RuntimeError("the commit failed")

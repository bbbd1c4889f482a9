"""A reward outbox: rewards that outlive outages of the service and crashes of the reporter."""

import copy
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from bandit.client.blocking.client import BanditClient
from bandit.client.messages import reward_request
from bandit.client.outbox.errors import OutboxClosedError, OutboxError
from bandit.client.processes import forks
from bandit.client.values import Reward, Rewarded, RewardResult
from bandit.wrong_types import require

if TYPE_CHECKING:
    from bandit.client.outbox.refused import RefusedReward
    from bandit.client.outbox.sender import Sender

_JOIN_SECONDS: Final = 1.0


class RewardOutbox:
    """Keeps rewards in a file until the service has acknowledged them, and sends them from a thread.

    Once `reward` has returned, its reward is on disk: neither a crash of this process nor an outage of the
    service, however long, loses it. It is sent at least once, and the service counts it once. What the
    service refuses for good is set apart with its reason. Refused credentials are no fault of a reward: it
    waits.

    Threads may share an outbox, and processes of one machine a file: one of them sends, and another takes
    over when it ends. So does the child of a fork. From asyncio, call
    `await asyncio.to_thread(outbox.reward, choice, outcomes)`. Beside the file there are files whose names
    end in `-wal`, `-shm` and `-sender`.

    Args:
        path: the file, on a local disk; it is created if there is none, readable by its owner only.
        client: posts the rewards; the outbox does not close it.
        max_rewards: how many rewards may wait.
        max_refused: how many refused rewards are kept; beyond that the first are forgotten, with an error in
            the log.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: a bound is not positive.
        OutboxFileError: the file can't be opened, is damaged, or is none of an outbox. It is left as it is.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        client: BanditClient,
        *,
        max_rewards: int = 100_000,
        max_refused: int = 100_000,
    ) -> None:
        require("path", path, str | PathLike, "a path")
        require("client", client, BanditClient, "a BanditClient")
        for name, value in (("max_rewards", max_rewards), ("max_refused", max_refused)):
            require(name, value, int, "an int")
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        # SQLite is missing in some builds of Python; the client works there all the same.
        from bandit.client.outbox.file import OutboxFile  # noqa: PLC0415

        self._client = client
        self._file = OutboxFile(Path(path).absolute(), max_rewards, max_refused)
        self._is_closed = False
        self._sender: Sender | None = None
        self._begin()
        forks.register_holder(self)
        self._find_sender()

    def reward(self, decision: Rewarded, outcomes: Mapping[str, float], *, revision: int = 0) -> bool:
        """Keep the outcomes of a decision; once this returns, they are on disk.

        Threads that call this at the same time share a commit.

        Args:
            decision: the choice, what an arm saw in shadow, or its decision id; an empty id is a fallback's.
            outcomes: metric name to value, in the metric's own unit and range.
            revision: 0 for a first report; a higher one replaces the value of a lower one.

        Returns:
            True if the reward was kept; False if the arm was the caller's fallback, so that there is none.

        Raises:
            TypeError: an argument has a wrong type.
            InvalidArgumentError: a value can't be sent.
            OutboxFullError: `max_rewards` wait already.
            OutboxFileError: the disk is full or broken, or the file was deleted.
            OutboxClosedError: the outbox is closed.
        """
        request = reward_request(decision, outcomes, revision)
        if isinstance(request, RewardResult):
            return False
        waiting = _Waiting(Reward(request.decision_id, dict(request.outcomes), request.revision))
        with self._lock:
            self._waiting.append(waiting)
        with self._commit_lock:  # whoever has it commits for all that wait
            while not waiting.is_done:
                self._commit(waiting)
        if waiting.error is not None:
            raise waiting.error
        with suppress(OutboxClosedError):  # closed by a signal handler or a thread meanwhile: it is kept
            self._find_sender().wake()
        return True

    def __len__(self) -> int:
        """Return how many rewards wait, those of other processes included."""
        return self._file.sizes()[0]

    def __bool__(self) -> bool:
        """Return True: an empty outbox is an outbox."""
        return True

    @property
    def pending(self) -> int:
        """How many rewards wait."""
        return len(self)

    @property
    def oldest_age(self) -> timedelta:
        """How long the oldest reward has waited, even if the clock was set meanwhile; 0 if none waits."""
        return self._file.oldest_age()

    @property
    def n_refused(self) -> int:
        """How many refused rewards are kept."""
        return self._file.sizes()[1]

    @property
    def last_error(self) -> Exception | None:
        """Why the last try of this process to send failed; None if it succeeded, or another process sends."""
        sender = self._sender
        return sender.last_error if sender is not None else None

    def refused(self, most: int = 1000) -> list["RefusedReward"]:
        """Return refused rewards, at most `most` of them, those that were kept first first."""
        return self._file.refused(most)

    def retry_refused(self, numbers: Sequence[int] | None = None) -> int:
        """Send refused rewards again, those with these numbers or all; return how many.

        Raises:
            OutboxFullError: there is no room for them.
        """
        n_moved = self._file.retry(numbers)
        self._find_sender().wake()
        return n_moved

    def drop_refused(self, numbers: Sequence[int] | None = None) -> int:
        """Forget refused rewards, those with these numbers or all; return how many."""
        return self._file.drop(numbers)

    def flush(self, timeout: float | None = None) -> bool:
        """Try now to send what is kept at this moment, and wait for it.

        Args:
            timeout: seconds; None waits for as long as it takes.

        Returns:
            True if nothing of it waits any more: it was acknowledged or refused.
        """
        last = self._file.last_number()
        until = float("inf") if timeout is None else time.monotonic() + timeout
        self._find_sender().hurry()
        while self._file.has_up_to(last):
            left = until - time.monotonic()
            if left <= 0.0:
                return False
            with self._progress:  # another process that sends can't notify
                self._progress.wait(min(left, 0.1))
        return True

    def close(self, timeout: float = 5.0) -> bool:
        """Wait up to `timeout` seconds for what is kept to be sent; stop sending and close the file.

        What still waits stays in the file for the next outbox on it. Closing again does nothing.

        Returns:
            True if nothing was left that waits.
        """
        if self._is_closed:
            return True
        try:
            is_empty = self.flush(timeout)
        except OutboxError:
            is_empty = False
        with self._lock:
            self._is_closed = True
            sender, self._sender = self._sender, None
        if sender is not None:
            sender.stop(_JOIN_SECONDS)
        self._file.close()
        return is_empty

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _begin(self) -> None:
        """Make what no other process shares."""
        self._lock = threading.RLock()  # a signal handler may post a reward in the middle of another
        self._commit_lock = threading.RLock()
        self._progress = threading.Condition()
        self._waiting: list[_Waiting] = []

    def _commit(self, last: "_Waiting") -> None:
        """Write what waits for a commit, the first of it, and note what became of it.

        Should `last` alone be left, an interrupt has ended the commit that had taken it.
        """
        most = self._file.MOST_AT_ONCE
        with self._lock:
            waiting, self._waiting = self._waiting[:most], self._waiting[most:]
        if not waiting and not last.is_done:
            waiting = [last]
        errors: Sequence[OutboxError | None]
        try:
            errors = self._file.add([each.reward for each in waiting])
        except OutboxError as failure:
            errors = [failure] * len(waiting)
        except BaseException:  # such as Ctrl-C: the other threads must not take theirs for written
            with self._lock:
                self._waiting = [*waiting, *self._waiting]
            raise
        for each, error in zip(waiting, errors, strict=True):
            each.settle(error)

    def _find_sender(self) -> "Sender":
        sender = self._sender
        if sender is not None:
            return sender
        from bandit.client.outbox.sender import Sender  # noqa: PLC0415 - needs SQLite, too

        with self._lock:
            if self._is_closed:
                raise OutboxClosedError(str(self._file.path))
            if self._sender is None:
                self._sender = Sender(self._file, self._client, self._notify)
            return self._sender

    def _notify(self) -> None:
        with self._progress:
            self._progress.notify_all()

    def before_fork(self) -> None:
        """Close the file; Python calls this before a fork."""
        self._file.before_fork()

    def after_fork_in_parent(self) -> None:
        """Let the file be opened again; Python calls this after a fork."""
        self._file.after_fork_in_parent()

    def after_fork(self) -> None:
        """Begin anew as a process of its own; Python calls this in the child of a fork."""
        self._file.after_fork()
        self._begin()
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.forget()


class _Waiting:
    """A reward whose thread waits for the commit."""

    def __init__(self, reward: Reward) -> None:
        self.reward = reward
        self.is_done = False
        self.error: OutboxError | None = None

    def settle(self, error: OutboxError | None) -> None:
        """Note the end of the commit. Each thread raises an error of its own."""
        self.error = copy.copy(error)
        self.is_done = True

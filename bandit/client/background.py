"""What differs between asyncio and threads where work goes on behind a caller's back.

Items are put into a bounded queue and sent in batches, by a task of each event loop or by a daemon thread of
each process. Either is started by the first item and ends when there is nothing to do, so that an idle client
costs nothing and can be collected. Nothing here raises, and `put` never waits for a send.
"""

from __future__ import annotations  # generic types exist in the stubs alone

import asyncio
import atexit
import contextvars
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, TypeVar
from weakref import WeakSet

from bandit.client.processes import forks

ItemT = TypeVar("ItemT")

MAX_WAITING: Final = 10_000
"""Items that may wait; more are dropped."""

MAX_SENT: Final = 500
"""Items of one batch: together far less than what a call may hold."""

GATHERING_SECONDS: Final = 0.1
"""How long a first item waits for others to be sent with it."""

CLOSING_SECONDS: Final = 2.0
"""How long closing the client, or the end of its event loop or process, waits for the last items."""

IDLE_SECONDS: Final = 10.0
"""How long a thread without work waits for more before it ends."""


class AsyncBackground(Generic[ItemT]):
    """Sends items in tasks, one of each event loop that puts items.

    Args:
        send: sends some items within so many seconds (None: its own time); it never raises.
        drop: counts items that will not be sent.
    """

    def __init__(
        self,
        send: Callable[[list[ItemT], float | None], Awaitable[None]],
        drop: Callable[[list[ItemT]], None],
    ) -> None:
        self._send = send
        self._drop = drop
        self._items: deque[ItemT] = deque()
        self._loop_to_task: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}
        self._is_closed = False
        forks.register(self)

    def after_fork(self) -> None:
        """Leave to the parent, in a child, what it is about to send."""
        self._items = deque()
        self._loop_to_task = {}

    async def put(self, item: ItemT) -> None:
        """Queue an item, or drop it where too many wait or the client is closed; does not suspend.

        The task begins before its caller's ends, so a loop that ends with the caller finds it, cancels it,
        and gives it the time to send what waits.
        """
        if self._is_closed or len(self._items) >= MAX_WAITING:
            self._drop([item])
            return
        self._items.append(item)
        loop = asyncio.get_running_loop()
        if loop in self._loop_to_task:
            return
        for ended in [each for each in tuple(self._loop_to_task) if each.is_closed()]:
            self._loop_to_task.pop(ended, None)
        # Without the context of the caller: a trace or a request of its own ends before this does.
        self._loop_to_task[loop] = loop.create_task(self._run(loop), context=contextvars.Context())

    async def close(self) -> None:
        """Send what waits, for at most `CLOSING_SECONDS`, and refuse more."""
        self._is_closed = True
        running = asyncio._get_running_loop()  # noqa: SLF001 - in the documentation; None where there is none
        task = self._loop_to_task.get(running) if running else None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        await self._send_last([])

    async def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        some: list[ItemT] = []
        try:
            while self._items:
                await asyncio.sleep(GATHERING_SECONDS)
                some = _take(self._items)
                await self._send(some, None)
                some = []
        except asyncio.CancelledError:  # the client is closed, or its loop ends
            await self._send_last(some)
            raise
        finally:
            self._loop_to_task.pop(loop, None)

    async def _send_last(self, some: list[ItemT]) -> None:
        """Send these items and what waits, once more where a send was broken off; drop what is left."""
        deadline = time.monotonic() + CLOSING_SECONDS
        some = some or _take(self._items)
        while some:
            await self._send(some, deadline - time.monotonic())
            some = _take(self._items)
            if time.monotonic() > deadline:
                self._drop([*some, *self._items])
                self._items.clear()
                return


class Background(Generic[ItemT]):
    """Sends items in a daemon thread; thread-safe. A process that was forked has a queue of its own.

    Args:
        send: sends some items within so many seconds (None: its own time); it never raises.
        drop: counts items that will not be sent.
    """

    def __init__(
        self, send: Callable[[list[ItemT], float | None], None], drop: Callable[[list[ItemT]], None]
    ) -> None:
        self._send = send
        self._drop = drop
        self._process_to_worker: dict[int, _Worker[ItemT]] = {}
        self._is_closed = False

    def put(self, item: ItemT) -> None:
        """Queue an item, or drop it where too many wait or the client is closed."""
        if self._is_closed or not self._worker().put(item):
            self._drop([item])

    def close(self) -> None:
        """Send what waits, for at most `CLOSING_SECONDS`, and refuse more."""
        self._is_closed = True
        self._worker().close(CLOSING_SECONDS)

    def _worker(self) -> _Worker[ItemT]:
        process = os.getpid()
        worker = self._process_to_worker.get(process)
        if worker is None:  # of two threads that get here together, both get the worker of the first
            worker = self._process_to_worker.setdefault(process, _Worker(self._send, self._drop))
        return worker


class _Worker(Generic[ItemT]):
    """The queue and the thread of one process, that which makes it."""

    def __init__(
        self, send: Callable[[list[ItemT], float | None], None], drop: Callable[[list[ItemT]], None]
    ) -> None:
        self._send = send
        self._drop = drop
        self._items: queue.SimpleQueue[ItemT | None] = queue.SimpleQueue()  # None wakes the thread
        self._lock = threading.RLock()  # a signal handler may put an item in the middle of a start
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._deadline = 0.0
        self.process = os.getpid()

    def put(self, item: ItemT) -> bool:
        """Queue an item; False if too many wait or no thread can be started."""
        if self._items.qsize() >= MAX_WAITING:
            return False
        self._items.put(item)
        if self._thread is None and not self._start():
            self._drop(self._take(MAX_WAITING))
        return True

    def close(self, seconds: float) -> None:
        """Send what waits and end the thread, for at most so many seconds; drop what is left."""
        self._deadline = time.monotonic() + seconds
        self._closing.set()
        self._items.put(None)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():  # a hook may close its client
            thread.join(seconds)
        left = self._take(MAX_WAITING)
        if left:
            self._drop(left)

    def _start(self) -> bool:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="bandit-posts", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # no more threads, or the interpreter ends
                    return False
                self._thread = thread
                _started.add(self)
        return True

    def _run(self) -> None:
        try:
            while (some := self._gather()) is not None:
                if some:
                    self._send(some, self._deadline - time.monotonic() if self._closing.is_set() else None)
        except BaseException:  # a hook calls sys.exit, or gevent kills the greenlet in the thread's place
            self._thread = None  # first: whoever puts an item looks at it afterwards
            if not self._items.empty():
                self._start()
            raise

    def _gather(self) -> list[ItemT] | None:
        """Wait for some items; None if the thread shall end."""
        try:
            first = self._items.get(timeout=0 if self._closing.is_set() else IDLE_SECONDS)
        except queue.Empty:
            return None if self._may_end() else []
        self._closing.wait(GATHERING_SECONDS)
        rest = self._take(MAX_SENT - 1)
        return rest if first is None else [first, *rest]

    def _may_end(self) -> bool:
        """Give the thread up unless an item has come since."""
        with self._lock:
            thread, self._thread = self._thread, None  # first: whoever puts an item looks at it afterwards
            if self._items.empty():
                return True
            self._thread = thread
            return False

    def _take(self, most: int) -> list[ItemT]:
        some: list[ItemT] = []
        try:
            while len(some) < most:
                item = self._items.get_nowait()
                if item is not None:
                    some.append(item)
        except queue.Empty:
            pass
        return some


def _take(items: deque[ItemT]) -> list[ItemT]:
    """Take the next batch; other loops may take at the same time."""
    some: list[ItemT] = []
    try:
        while len(some) < MAX_SENT:
            some.append(items.popleft())
    except IndexError:
        pass
    return some


_started: WeakSet[_Worker[Any]] = WeakSet()
"""Workers that have had a thread: their last items are sent before the interpreter ends."""


@atexit.register
def _close_all() -> None:
    deadline = time.monotonic() + CLOSING_SECONDS
    for worker in list(_started):
        if worker.process == os.getpid():  # the threads and locks of a parent are not here
            worker.close(max(deadline - time.monotonic(), 0.0))

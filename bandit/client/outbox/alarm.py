"""A call that wakes a thread, also from a signal handler."""

import queue
from contextlib import suppress


class Alarm:
    """An event that a signal handler may set while it is being set, where `threading.Event` deadlocks."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        """Let `wait` return."""
        if self._calls.empty():
            self._calls.put(None)

    def clear(self) -> None:
        """Let `wait` wait again."""
        with suppress(queue.Empty):
            while True:
                self._calls.get_nowait()

    def wait(self, seconds: float) -> bool:
        """Wait until it is set, which this clears; False if that took longer than some seconds."""
        with suppress(queue.Empty):
            self._calls.get(timeout=seconds)
            return True
        return False

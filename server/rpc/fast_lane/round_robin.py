"""Turns of the streams of one connection, one after the other."""

import asyncio
from collections import deque
from collections.abc import Callable


class RoundRobin:
    """Lets one stream of a connection go on in each turn of the event loop, in the order in which they ask.

    A thousand streams with a thousand messages each would otherwise hold all other calls up for a second.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()

    def ask(self, go_on: Callable[[], None]) -> None:
        """Have `go_on` called when it is the stream's turn."""
        self._waiting.append(go_on)
        if len(self._waiting) == 1:
            self._schedule()

    def _schedule(self) -> None:
        asyncio.get_running_loop().call_soon(self._give)

    def _give(self) -> None:
        go_on = self._waiting.popleft()
        if self._waiting:
            self._schedule()
        go_on()

"""The switch that stops accepting calls, and ends those that take too long."""

import asyncio
from collections.abc import Callable
from typing import Any


class Gate:
    """The switch of one server. Not thread-safe: use it from the event loop's thread only.

    Attributes:
        is_open: Whether calls are accepted.
        in_flight: The futures or tasks of the calls and streams that are being answered.
        on_close: Called when the gate closes: the streams, which end soon instead of waiting for messages.
    """

    def __init__(self) -> None:
        self.is_open = True
        self.in_flight: set[asyncio.Future[Any]] = set()
        self.on_close: set[Callable[[], None]] = set()
        self._is_over = False

    def close(self) -> None:
        """Refuse calls from now on, as `UNAVAILABLE`."""
        self.is_open = False
        for tell in tuple(self.on_close):
            tell()

    def end_calls(self) -> None:
        """End the calls in flight as `UNAVAILABLE`. The store may still do what they asked for."""
        self._is_over = True
        for working in tuple(self.in_flight):
            working.cancel()

    def has_ended(self) -> bool:
        """True if a call that is cancelled now was ended by `end_calls`, and not by its client."""
        return self._is_over

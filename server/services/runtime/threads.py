"""The threads that may wait: for the store (one writes, one reads, one polls), to compute, to make reports.

The event loop answers Choose, so nothing on it waits for a disk or a quadrature.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class Workers:
    """Runs blocking calls off the event loop, each kind in its own thread, in the order asked for."""

    def __init__(self) -> None:
        self._writer = ThreadPoolExecutor(1, "store-writer")
        self._reader = ThreadPoolExecutor(1, "store-reader")
        self._poller = ThreadPoolExecutor(1, "store-poller")
        self._computer = ThreadPoolExecutor(1, "computer")
        self._reporter = ThreadPoolExecutor(1, "reporter")

    async def write(
        self, call: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Result:
        """The result of a call that writes to the store."""
        return await _run(self._writer, partial(call, *args, **kwargs))

    async def read(
        self, call: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Result:
        """The result of a call that reads from the store."""
        return await _run(self._reader, partial(call, *args, **kwargs))

    async def poll(
        self, call: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Result:
        """The result of a call that hears from the store what changed; no other kind stands in its line.

        How old the snapshot is must not depend on what callers ask of the store.
        """
        return await _run(self._poller, partial(call, *args, **kwargs))

    async def compute(
        self, call: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Result:
        """The result of a long computation, which may read from the store."""
        return await _run(self._computer, partial(call, *args, **kwargs))

    async def report(
        self, call: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Result:
        """The result of a computation that nothing may wait for but its caller; it may read from the store.

        A report on very many arms takes seconds: neither an epoch nor a pause stands in line behind it.
        """
        return await _run(self._reporter, partial(call, *args, **kwargs))

    def close(self) -> None:
        """Waits for what was asked for, and ends the threads."""
        for executor in (self._writer, self._reader, self._poller, self._computer, self._reporter):
            executor.shutdown(wait=True)


async def _run(executor: ThreadPoolExecutor, call: Callable[[], _Result]) -> _Result:
    return await asyncio.get_running_loop().run_in_executor(executor, call)

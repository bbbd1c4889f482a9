"""How long a stream of grpc.aio may live: until its connection gets old, or the server stops."""

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from server.rpc.guard.gate import Gate

_SHARES_OF_LIFE: Final = (0.8, 0.9)
"""When a stream ends, as shares of the age at which its connection does; drawn, so that few end at a time."""


@contextmanager
def lifetime(gate: Gate, connection_seconds: float, finish: Callable[[], None]) -> Iterator[None]:
    """Have a stream, which the running task answers, end in time.

    Args:
        gate: Ends it when the server stops.
        connection_seconds: The age at which clients are asked to reconnect.
        finish: Lets the stream end soon; may be called twice.
    """
    share = random.uniform(*_SHARES_OF_LIFE)  # noqa: S311 - it spreads load, and hides nothing
    timer = asyncio.get_running_loop().call_later(share * connection_seconds, finish)
    gate.on_close.add(finish)
    task = asyncio.current_task()
    if task is not None:
        gate.in_flight.add(task)
        task.add_done_callback(gate.in_flight.discard)
    try:
        yield
    finally:
        timer.cancel()
        gate.on_close.discard(finish)

"""Deadlines of calls, as gRPC sends them: the time that is left, in `grpc-timeout`."""

import asyncio
from collections.abc import Callable
from typing import Final

import grpc

from server.http2.exchange import Headers
from server.http2.streams import Stream
from server.rpc.messages.status import Failure

DEADLINE_PASSED: Final = Failure(
    grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline of the call passed", "DEADLINE_EXCEEDED"
)
_SECONDS: Final = {b"H": 3_600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_MOST_DIGITS: Final = 8


def deadline_of(stream: Stream, headers: Headers) -> float | None:
    """Return when a call must have ended, on the monotonic clock; None if it has no deadline.

    It counts from when the headers were read, so that time spent waiting for a turn counts.
    """
    timeout = headers.get(b"grpc-timeout")
    if timeout is None:
        return None
    digits, unit = timeout[:-1], timeout[-1:]
    if unit not in _SECONDS or not digits.isdigit() or len(digits) > _MOST_DIGITS:
        return None  # as gRPC's own servers do
    return stream.arrived_at + int(digits) * _SECONDS[unit]


def act_at(deadline: float, now: float, act: Callable[[], None]) -> asyncio.TimerHandle:
    """Act at a deadline; return the timer, to be cancelled when the call ends."""
    return asyncio.get_running_loop().call_later(max(deadline - now, 0.0), act)

"""The load client: a separate process, on uvloop, that calls raw grpc.aio stubs from concurrent callers.

Requests are serialised before the clock runs and responses are not parsed while it does, so that the client
costs the same whatever is called.
"""

import asyncio
import multiprocessing
import os
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import cycle, islice
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Final, Self

import grpc
import uvloop

from benchmarks.harness.processes import cpu_seconds
from benchmarks.harness.profiled_server import START, STOP
from benchmarks.harness.timings import Round
from benchmarks.harness.workloads import Stub, Workload, check_response

_N_CONNECTIONS: Final = 4
"""As from several backends; one connection would also reach the server's limit on its streams."""

_OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # otherwise all channels would share one connection
)
_GRACE_SECONDS: Final = 120.0
_WARM_UP_ROUNDS: Final = 3


class LoadError(Exception):
    """The load client failed; the text is its own error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One round of calls.

    Attributes:
        address: The server.
        pid: Its process, whose CPU time is read before and after.
        workload: The requests sent.
        n_callers: Each sends its next call when its last was answered.
        seconds: When callers stop, if the requests have not ended before.
        is_profiled: Whether the server is `profiled_server`, signalled when the clock starts and stops.
    """

    address: str
    pid: int
    workload: Workload
    n_callers: int
    seconds: float
    is_profiled: bool = False


class LoadClient:
    """The client process; a context manager that ends it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other_end = context.Pipe()
        self._process = context.Process(target=_main, args=(other_end,), daemon=True)
        self._process.start()
        other_end.close()

    def run(self, load: Load) -> Round:
        """Make the calls; raise LoadError if one of them fails."""
        self._pipe.send(load)
        if not self._pipe.poll(load.seconds + _GRACE_SECONDS):
            raise LoadError("the load client does not answer")
        answer = self._pipe.recv()
        if not isinstance(answer, Round):
            raise LoadError(f"{load.workload.method}: {answer}")
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pipe.close()
        self._process.join(5)
        self._process.kill()
        self._process.join()


def _main(pipe: Connection) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        while True:
            try:
                load = pipe.recv()
            except (EOFError, KeyboardInterrupt):
                return
            try:
                pipe.send(runner.run(_run(load)))
            except (grpc.aio.AioRpcError, ValueError, OSError) as error:
                pipe.send(f"{type(error).__name__}: {error}")


async def _run(load: Load) -> Round:
    async with AsyncExitStack() as stack:
        n_connections = min(_N_CONNECTIONS, load.n_callers)
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(load.address, options=_OPTIONS))
            for _ in range(n_connections)
        ]
        requests = await load.workload.requests(channels[0])
        stubs: list[Stub] = [channel.unary_unary(load.workload.method) for channel in channels]
        n_warm_up = await _warm_up(stubs, requests, load)
        if load.is_profiled:
            os.kill(load.pid, START)
        latencies = array("d")
        cpu_before = cpu_seconds(load.pid)
        began = time.perf_counter()
        ends_at = began + load.seconds
        callers = zip(range(load.n_callers), cycle(stubs), strict=False)
        await asyncio.gather(*(_keep_calling(stub, requests, ends_at, latencies) for _, stub in callers))
        seconds = time.perf_counter() - began
        if load.is_profiled:
            os.kill(load.pid, STOP)
        return Round(
            seconds=seconds,
            cpu_seconds=cpu_seconds(load.pid) - cpu_before,
            latencies=latencies,
            items_per_call=load.workload.items_per_call,
            n_warm_up=n_warm_up,
        )


async def _warm_up(stubs: Sequence[Stub], requests: Iterator[bytes], load: Load) -> int:
    """Make a few calls before the clock runs, and check the last; return how many."""
    n_calls = 0
    for _ in range(_WARM_UP_ROUNDS):
        paired = zip(islice(requests, load.n_callers), cycle(stubs), strict=False)
        responses = await asyncio.gather(*(stub(request) for request, stub in paired))
        n_calls += len(responses)
        check_response(load.workload.method, responses[-1])
    return n_calls


async def _keep_calling(
    stub: Stub, requests: Iterator[bytes], ends_at: float, latencies: "array[float]"
) -> None:
    now = time.perf_counter
    for request in requests:
        began = now()
        if began >= ends_at:
            return
        await stub(request)
        latencies.append(now() - began)

"""Parallel work that reports its progress and stops soon after it is cancelled."""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing.sharedctypes import Synchronized
from typing import Final, TypeAlias, TypeVar

ResultT = TypeVar("ResultT")
OnRounds: TypeAlias = Callable[[int], None]
"""Called with the number of rounds played since the last call."""

Work: TypeAlias = Callable[[OnRounds], ResultT]
"""Picklable function that reports its progress and returns a result."""

_REPORT_SECONDS: Final = 0.1
_CALLED_OFF: Final = -(2**62)


def run_all(works: Sequence[Work[ResultT]], n_processes: int, on_rounds: OnRounds) -> list[ResultT]:
    """Run all works, and return their results in order.

    Args:
        works: Functions to run.
        n_processes: Number of processes; 1 runs in this process.
        on_rounds: Called from time to time, at most ten times a second.

    Raises:
        BrokenProcessPool: A process was killed.
    """
    if min(n_processes, len(works)) == 1:
        return [_throttled(work, on_rounds) for work in works]
    context = multiprocessing.get_context("spawn")  # a fork would copy locks held by other threads
    counter: Synchronized[int] = context.Value("q", 0)
    with ProcessPoolExecutor(min(n_processes, len(works)), context, _Counter.attach, (counter,)) as pool:
        try:
            futures = [pool.submit(_throttled, work, _Counter.add) for work in works]
            for n_rounds in _progress(futures, counter):
                on_rounds(n_rounds)
            return [future.result() for future in futures]
        except BaseException:
            counter.value = _CALLED_OFF  # otherwise leaving the pool would wait for running works
            pool.shutdown(cancel_futures=True)
            raise


def _throttled(work: Work[ResultT], on_rounds: OnRounds) -> ResultT:
    """Run a work that reports every few microseconds, and pass its reports on ten times a second."""
    waiting, report_at = 0, 0.0

    def report(n_rounds: int) -> None:
        nonlocal waiting, report_at
        waiting += n_rounds
        if time.monotonic() >= report_at:
            on_rounds(waiting)
            waiting, report_at = 0, time.monotonic() + _REPORT_SECONDS

    result = work(report)
    on_rounds(waiting)
    return result


def _progress(futures: Sequence[Future[ResultT]], counter: "Synchronized[int]") -> Iterator[int]:
    """Yield the number of rounds played since the last yield, until all works are done or one failed."""
    waiting, seen = set(futures), 0
    while waiting:
        done, waiting = wait(waiting, _REPORT_SECONDS, FIRST_COMPLETED)
        for future in done:
            future.result()
        played = counter.value
        yield played - seen
        seen = played


class _Counter:
    """A process's access to the shared number of rounds."""

    shared: "Synchronized[int] | None" = None

    @classmethod
    def attach(cls, counter: "Synchronized[int]") -> None:
        """Set the shared counter; called once in each process."""
        cls.shared = counter

    @classmethod
    def add(cls, n_rounds: int) -> None:
        """Add rounds; raise KeyboardInterrupt if the work was cancelled."""
        if cls.shared is None:
            raise RuntimeError("no counter attached: this process was not started by run_all")
        with cls.shared.get_lock():
            if cls.shared.value < 0:
                raise KeyboardInterrupt
            cls.shared.value += n_rounds

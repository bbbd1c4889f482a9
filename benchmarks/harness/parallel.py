"""Work on several cores, with progress reports and a prompt end when it is interrupted."""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing.sharedctypes import Synchronized
from typing import Final, TypeAlias, TypeVar

ResultT = TypeVar("ResultT")
OnProgress: TypeAlias = Callable[[int], None]
"""Called with how many more steps are done."""

Work: TypeAlias = Callable[[OnProgress], ResultT]
"""A piece of work that reports its progress; it is pickled for other processes."""

_REPORT_SECONDS: Final = 0.1
_CALLED_OFF: Final = -(2**62)


def run_all(works: Sequence[Work[ResultT]], n_processes: int, on_progress: OnProgress) -> list[ResultT]:
    """Do all the work and return the results, in order.

    Args:
        works: The pieces of work.
        n_processes: The most processes to use; with 1 this process does it all.
        on_progress: Called about ten times a second.

    Raises:
        BrokenProcessPool: A process was killed.
    """
    if min(n_processes, len(works)) == 1:
        return [_throttled(work, on_progress) for work in works]
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of threads it leaves behind
    counter: Synchronized[int] = context.Value("q", 0)
    with ProcessPoolExecutor(min(n_processes, len(works)), context, _Counter.attach, (counter,)) as pool:
        try:
            futures = [pool.submit(_throttled, work, _Counter.add) for work in works]
            for n_steps in _progress(futures, counter):
                on_progress(n_steps)
            return [future.result() for future in futures]
        except BaseException:
            counter.value = _CALLED_OFF  # otherwise leaving the pool would wait for running works
            pool.shutdown(cancel_futures=True)
            raise


def _throttled(work: Work[ResultT], on_progress: OnProgress) -> ResultT:
    """Do work that reports every few microseconds, and pass its reports on ten times a second."""
    waiting, report_at = 0, 0.0

    def report(n_steps: int) -> None:
        nonlocal waiting, report_at
        waiting += n_steps
        if time.monotonic() >= report_at:
            on_progress(waiting)
            waiting, report_at = 0, time.monotonic() + _REPORT_SECONDS

    result = work(report)
    on_progress(waiting)
    return result


def _progress(futures: Sequence[Future[ResultT]], counter: "Synchronized[int]") -> Iterator[int]:
    """Yield how many more steps are done, now and then, until all are done or a future fails."""
    waiting, seen = set(futures), 0
    while waiting:
        done, waiting = wait(waiting, _REPORT_SECONDS, FIRST_COMPLETED)
        for future in done:
            future.result()
        n_done = counter.value
        yield n_done - seen
        seen = n_done


class _Counter:
    """A process's access to the number of steps that all of them have done."""

    shared: "Synchronized[int] | None" = None

    @classmethod
    def attach(cls, counter: "Synchronized[int]") -> None:
        """Initialize a process of the pool."""
        cls.shared = counter

    @classmethod
    def add(cls, n_steps: int) -> None:
        """Add steps; raise KeyboardInterrupt if the work was interrupted."""
        if cls.shared is None:
            raise RuntimeError("no counter attached: this process was not started by run_all")
        with cls.shared.get_lock():
            if cls.shared.value < 0:
                raise KeyboardInterrupt
            cls.shared.value += n_steps

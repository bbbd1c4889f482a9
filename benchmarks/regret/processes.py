"""Work on several cores that reports how far it is, and ends soon when it is called off."""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing.sharedctypes import Synchronized
from typing import Final, TypeAlias, TypeVar

ResultT = TypeVar("ResultT")
OnRounds: TypeAlias = Callable[[int], None]
"""Called with how many more rounds were played."""

Work: TypeAlias = Callable[[OnRounds], ResultT]
"""Something to do that says how far it is; other processes get it pickled."""

_REPORT_SECONDS: Final = 0.1
_CALLED_OFF: Final = -(2**62)


def run_all(works: Sequence[Work[ResultT]], n_processes: int, on_rounds: OnRounds) -> list[ResultT]:
    """Does all of it, and returns what came of each, in order.

    Args:
        works: What is to be done.
        n_processes: How many processes do it; 1: this one.
        on_rounds: Called now and then.

    Raises:
        BrokenProcessPool: A process was killed.
    """
    if min(n_processes, len(works)) == 1:
        return [_throttled(work, on_rounds) for work in works]
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of threads it leaves behind
    counter: Synchronized[int] = context.Value("q", 0)
    with ProcessPoolExecutor(min(n_processes, len(works)), context, _Counter.attach, (counter,)) as pool:
        try:
            futures = [pool.submit(_throttled, work, _Counter.add) for work in works]
            for n_rounds in _progress(futures, counter):
                on_rounds(n_rounds)
            return [future.result() for future in futures]
        except BaseException:
            counter.value = _CALLED_OFF  # or leaving would wait for the work under way
            pool.shutdown(cancel_futures=True)
            raise


def _throttled(work: Work[ResultT], on_rounds: OnRounds) -> ResultT:
    """Does a work that reports every few microseconds, and reports ten times a second."""
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
    """How many more rounds were played, now and then, until all is done or one failed."""
    waiting, seen = set(futures), 0
    while waiting:
        done, waiting = wait(waiting, _REPORT_SECONDS, FIRST_COMPLETED)
        for future in done:
            future.result()
        played = counter.value
        yield played - seen
        seen = played


class _Counter:
    """A process's access to the number of rounds that all of them have played."""

    shared: "Synchronized[int] | None" = None

    @classmethod
    def attach(cls, counter: "Synchronized[int]") -> None:
        """Called once in each process."""
        cls.shared = counter

    @classmethod
    def add(cls, n_rounds: int) -> None:
        """Adds rounds; KeyboardInterrupt if the work was called off."""
        if cls.shared is None:
            raise RuntimeError("this process was not started to count")
        with cls.shared.get_lock():
            if cls.shared.value < 0:
                raise KeyboardInterrupt
            cls.shared.value += n_rounds

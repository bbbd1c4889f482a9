"""One process or several: `--workers N` is a parent that answers no calls, and N processes that share a port.

The parent holds the port without listening, starts the workers, replaces those that die, passes on stop
signals, and waits for all workers to drain. A worker that loses its parent stops, as after SIGTERM.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Final

import structlog

from server.addresses import with_port
from server.app.errors import StartupError, fast_lane_errors, startup_errors
from server.app.log_setup import set_up_logs
from server.app.process import Placement, print_address, serve_here, stop_signals
from server.app.shared_port import reserved_places
from server.environment import doubtful_variables
from server.listening.places import Place
from server.settings import Settings

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 10.0
_LONG_LIFE: Final = 10.0
"""A worker that served for this many seconds is replaced at once; others after ever longer pauses."""

_MOST_FAILURES: Final = 5
"""After this many replacements in a row that can't start, the server gives up unless other workers run."""

_LAST_SECONDS: Final = 30.0
"""Seconds that a worker gets after its drain before it is killed, for a slow commit."""

log = structlog.get_logger()


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT, in the configured number of processes, and return the exit code.

    Raises:
        StartupError: The service can't start.
    """
    set_up_logs(settings.log_level)
    for problem in doubtful_variables(os.environ, is_server=True):
        log.warning("environment.doubtful", problem=problem)
    if settings.workers == 1:
        return serve_here(settings)
    with startup_errors(settings), reserved_places(settings.listen) as places, ExitStack() as stack:
        update = {"listen": with_port(settings.listen, places[0].port)}
        fast_places: tuple[Place, ...] | None = None
        if settings.fast_listen is not None:
            with fast_lane_errors(settings):
                fast_places = stack.enter_context(reserved_places(settings.fast_listen))
            update["fast_listen"] = with_port(settings.fast_listen, fast_places[0].port)
        return _Supervisor(settings.model_copy(update=update), _Held(places, fast_places)).run()


@dataclass(frozen=True, slots=True)
class _Held:
    """The places that the parent holds for its workers; `fast` is None without a fast lane."""

    places: tuple[Place, ...]
    fast: tuple[Place, ...] | None


@dataclass(frozen=True, slots=True)
class _Address:
    """Sent by a worker: its addresses, and whether it serves there yet."""

    text: str
    fast: str | None
    is_serving: bool

    def print(self) -> None:
        """Print them for the operator."""
        print_address(self.text, fast=self.fast, is_serving=self.is_serving)


@dataclass(frozen=True, slots=True)
class _Failure:
    """Sent by a worker that can't start."""

    text: str
    exit_code: int


@dataclass(slots=True)
class _Worker:
    """One run of a worker.

    Attributes:
        process: The child process.
        pipe: Receives its messages; closing it makes the child stop.
        started_at: On the monotonic clock.
        address: The address that it sent last; None before it listens.
        failure: Why it can't start; None if it did not say.
    """

    process: SpawnProcess
    pipe: Connection
    started_at: float
    address: _Address | None = None
    failure: _Failure | None = None

    def listen(self) -> None:
        """Read the messages that it has sent."""
        try:
            while self.pipe.poll():
                match self.pipe.recv():
                    case _Address() as address:
                        self.address = address
                    case _Failure() as failure:
                        self.failure = failure
        except (EOFError, OSError):
            return


class _Supervisor:
    """The parent of the workers.

    Args:
        settings: Include the port that they share.
        held: Where they listen.
    """

    def __init__(self, settings: Settings, held: _Held) -> None:
        self._settings = settings
        self._held = held
        self._workers: dict[int, _Worker] = {}
        self._due: dict[int, float] = dict.fromkeys(range(1, settings.workers + 1), 0.0)
        self._pauses = dict.fromkeys(self._due, _FIRST_PAUSE)
        self._n_failures = 0
        self._has_served = False
        self._has_announced_waiting = False
        self._is_stopping = False
        self._wake, self._waker = os.pipe()

    def run(self) -> int:
        """Supervise until stopped; return the worst exit code of the workers.

        Raises:
            StartupError: A worker can't start.
        """
        for number in stop_signals():
            signal.signal(number, self._note_signal)
        try:
            while not self._is_stopping:
                self._start_due()
                self._wait()
                self._check_workers()
        except StartupError:
            self._stop()
            raise
        exit_code = self._stop()
        log.info("server.stopped", exit_code=exit_code)
        return exit_code

    def _note_signal(self, _number: int, _frame: object) -> None:
        self._is_stopping = True
        os.write(self._waker, b".")

    def _start_due(self) -> None:
        now = time.monotonic()
        for number in [number for number, due_at in self._due.items() if due_at <= now]:
            del self._due[number]
            self._workers[number] = worker = _start(self._settings, number, self._held)
            log.info("worker.started", worker=number, pid=worker.process.pid)

    def _wait(self) -> None:
        """Wait until a worker sends something or ends, a signal arrives, or a worker is due to start."""
        news: list[Connection | int] = [self._wake]
        for worker in self._workers.values():
            news += (worker.pipe, worker.process.sentinel)
        timeout = max(min(self._due.values()) - time.monotonic(), 0.0) if self._due else None
        wait(news, timeout)

    def _check_workers(self) -> None:
        for number, worker in list(self._workers.items()):
            is_over = not worker.process.is_alive()
            worker.listen()
            if is_over and not self._is_stopping:
                self._replace(number, worker)
        addresses = [worker.address for worker in self._workers.values()]
        if not self._due and all(address is not None for address in addresses):
            self._announce([address for address in addresses if address is not None])

    def _announce(self, addresses: list[_Address]) -> None:
        """Announce once that all workers listen, and once that all serve."""
        is_serving = all(address.is_serving for address in addresses)
        first = replace(addresses[0], is_serving=is_serving)
        if is_serving:
            self._n_failures = 0
        if is_serving and not self._has_served:
            self._has_served = True
            first.print()
            log.info("server.serving", address=first.text, workers=len(addresses))
            if first.fast is not None:
                log.info("fast_lane.serving", address=first.fast, workers=len(addresses))
        elif not is_serving and not self._has_served and not self._has_announced_waiting:
            self._has_announced_waiting = True
            first.print()

    def _replace(self, number: int, worker: _Worker) -> None:
        """Plan a replacement for a worker that has died; StartupError to give up."""
        del self._workers[number]
        worker.pipe.close()
        code = worker.process.exitcode or 0
        if worker.address is None:
            self._n_failures += code >= 0  # a killed worker might have started
            if self._is_hopeless and worker.failure is not None:
                raise StartupError(worker.failure.text, worker.failure.exit_code)
            if self._is_hopeless:
                raise StartupError(f"worker {number} ended with {code} before it served")
        has_lived = worker.address is not None and time.monotonic() - worker.started_at > _LONG_LIFE
        pause = _FIRST_PAUSE if has_lived else self._pauses[number]
        self._pauses[number] = min(2 * pause, _LONGEST_PAUSE)
        self._due[number] = time.monotonic() + pause
        reason = "" if worker.failure is None else worker.failure.text
        log.error("worker.died", worker=number, exit_code=code, reason=reason, restart_seconds=pause)

    @property
    def _is_hopeless(self) -> bool:
        """True if workers that can't start end the server: not as long as others run."""
        has_begun = self._has_served or self._has_announced_waiting
        has_others = any(worker.address is not None for worker in self._workers.values())
        return not has_begun or (self._n_failures >= _MOST_FAILURES and not has_others)

    def _stop(self) -> int:
        """End every worker; return the worst exit code, with signals as in shells (128 + number)."""
        settings = self._settings
        give_up_at = time.monotonic() + settings.drain_delay_seconds + settings.drain_seconds + _LAST_SECONDS
        for worker in self._workers.values():
            worker.process.terminate()
        codes = [0]
        for number, worker in self._workers.items():
            worker.process.join(max(give_up_at - time.monotonic(), 0.0))
            if worker.process.is_alive():
                log.error("worker.killed", worker=number, reason="it did not stop in time")
                worker.process.kill()
                worker.process.join()
            code = worker.process.exitcode or 0
            codes.append(code if code >= 0 else 128 - code)
        return max(codes)


def _start(settings: Settings, number: int, held: _Held) -> _Worker:
    context = multiprocessing.get_context("spawn")
    parent_end, child_end = context.Pipe()
    if settings.metrics_listen is not None:
        host, _, port = settings.metrics_listen.rpartition(":")
        own = f"{host}:{int(port) + number - 1 if int(port) else 0}"
        settings = settings.model_copy(update={"metrics_listen": own})
    process = context.Process(target=_work, args=(settings, number, held, child_end), name=f"worker-{number}")
    _leave_deleted_folder()
    resource_tracker.ensure_running()  # otherwise the first start does it, and unblocks the signals
    with _signals_held():
        process.start()
    child_end.close()
    return _Worker(process, parent_end, time.monotonic())


def _leave_deleted_folder() -> None:
    """Leave a working directory that was deleted, as with an old release: no process can start in one."""
    try:
        Path.cwd()
    except FileNotFoundError:
        os.chdir("/")


@contextmanager
def _signals_held() -> Iterator[None]:
    """Block the stop signals: a child starts with them blocked, and unblocks them when it is ready."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _work(settings: Settings, number: int, held: _Held, pipe: Connection) -> None:
    """Run a worker from start to exit."""

    def announce(address: str, *, fast: str | None, is_serving: bool) -> None:
        with suppress(OSError):  # without a parent it stops anyway
            pipe.send(_Address(address, fast, is_serving))

    placement = Placement(
        announce=announce, number=number, places=held.places, fast_places=held.fast, end=pipe.fileno()
    )
    try:
        code = serve_here(settings, placement)
    except StartupError as error:
        with suppress(OSError):
            pipe.send(_Failure(str(error), error.exit_code))
        code = error.exit_code
    raise SystemExit(code)

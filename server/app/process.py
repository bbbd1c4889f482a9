"""One process of the server: starts the application, keeps it running, and stops it in order."""

import asyncio
import gc
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import structlog
import uvloop

from server.addresses import with_port
from server.app.access import LOOK_SECONDS
from server.app.application import Application
from server.app.errors import StartupError, startup_errors
from server.app.log_setup import set_up_logs
from server.app.process_limits import require_address_space, room_for_connections
from server.app.prometheus import serve_metrics
from server.listening.errors import ListenError
from server.listening.places import Place
from server.services.background import ended_runs
from server.services.experiments.allocator import load_mathematics
from server.services.runtime.async_store import Thread
from server.settings import Settings
from server.standard_streams import take_failure
from server.store.contract import Store
from server.store.errors import StoreError
from server.store.opening import find_store

_GC_THRESHOLDS: Final = (50_000, 20, 100)
"""Calls leave no reference cycles, so Python need not look for them every few calls."""

_BROKEN_EXIT: Final = 70
"""Exit code after a failed write to stable storage: EX_SOFTWARE, so that a supervisor restarts the server."""

log = structlog.get_logger()


def print_address(address: str, *, is_serving: bool) -> None:
    """Print the address of the server, and whether it serves yet; log it if that can't be printed."""
    doing = "serving" if is_serving else "waiting for its database"
    sys.stdout.write(f"bandit-server is {doing} at {address}\n")
    sys.stdout.flush()
    if reason := take_failure():
        log.warning("address.not_printed", address=address, error=reason)


def stop_signals() -> set[signal.Signals]:
    """Return the signals that stop a server; SIGHUP only if it is not ignored, as it is under nohup."""
    ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
    return {signal.SIGTERM, signal.SIGINT, signal.SIGHUP} - ignored


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The place of a process among those of its server.

    Attributes:
        announce: Called with the address, and whether it serves yet; called again once it does.
        number: From 1 if several processes share the port, else None; number 1 writes the server's files.
        places: Where to listen, if the parent holds it; None to take the places of the address.
        end: A file descriptor that becomes readable when the process should stop; None if only signals do
            that.
    """

    announce: Callable[..., None] = print_address
    number: int | None = None
    places: tuple[Place, ...] | None = None
    end: int | None = None


ALONE: Final = Placement()


def serve_here(settings: Settings, placement: Placement = ALONE) -> int:
    """Serve in this process until a signal stops it, and return the exit code.

    Raises:
        StartupError: The service can't start.
    """
    require_address_space()
    room_for_connections(
        settings.max_connections
    )  # first, since anything that opens a file would fail with an unclear error
    set_up_logs(settings.log_level, worker=placement.number)
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    with startup_errors(settings), ExitStack() as stack:
        store = find_store(settings.database)
        stack.callback(store.close)
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        return runner.run(_serve_on(settings, store, placement))


async def _serve_on(settings: Settings, store: Store, placement: Placement) -> int:
    """Serve from a store. The application is created here, since gRPC belongs to the loop it starts in."""
    return await _Service(settings, store, placement).run()


class _Service:
    """One run of the service on a store that need not be reachable yet."""

    def __init__(self, settings: Settings, store: Store, placement: Placement) -> None:
        self._settings = settings
        self._placement = placement
        self._exit_code = 0
        self._failure: StoreError | None = None
        self._address = ""
        self._stopping = asyncio.Event()
        self._application = Application(settings, store, number=placement.number, on_broken=self._stop_broken)
        self._services = self._application.services

    async def run(self) -> int:
        """Serve until stopped; return the exit code."""
        self._handle_signals()
        can_answer = await self._begin()
        commits = asyncio.create_task(self._services.queue.run())
        chores = self._start_chores()
        await self._start(can_answer=can_answer)
        chores += self._start_late_chores(has_answered=can_answer)
        await self._stopping.wait()
        await self._drain()
        for chore in chores:
            chore.cancel()
        await asyncio.gather(*chores, return_exceptions=True)
        await self._services.inquiries.end()
        await self._services.epochs.end()
        await self._services.sync.end()
        self._services.queue.close()
        await commits
        await self._flush_counts()
        await self._application.standby.save(is_last=True)
        self._services.store.close()
        if self._failure is not None:
            raise self._failure
        log.info("server.stopped", exit_code=self._exit_code)
        return self._exit_code

    def _start_chores(self) -> "list[asyncio.Task[None]]":
        """Start the tasks that must run before the first call."""
        return [
            asyncio.create_task(self._services.sync.poll(self._settings.poll_seconds)),
            asyncio.create_task(self._services.sync.allocate(self._settings.epoch_interval_seconds)),
            asyncio.create_task(
                self._services.sync.repeat(self._application.standby.save, self._settings.snapshot_seconds)
            ),
            asyncio.create_task(self._services.sync.repeat(self._application.access.look, LOOK_SECONDS)),
        ]

    def _start_late_chores(self, *, has_answered: bool) -> "list[asyncio.Task[None]]":
        """Start the tasks that can wait until the server has announced its address."""
        chores = [asyncio.create_task(self._services.store.run(Thread.COMPUTE, lambda _: load_mathematics()))]
        if not self._application.standby.is_connected:
            chores.append(asyncio.create_task(self._connect(has_answered=has_answered)))
        chores.append(
            asyncio.create_task(
                self._services.sync.repeat(self._services.reaper.run_once, ended_runs.LOOK_SECONDS)
            )
        )
        if self._settings.purge:
            seconds = self._settings.purge_interval_seconds
            chores.append(
                asyncio.create_task(self._services.sync.repeat(self._services.purger.run_once, seconds))
            )
        return chores

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in stop_signals():
            loop.add_signal_handler(number, self._stopping.set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stop_signals())  # the parent blocked them
        if self._placement.end is not None:
            loop.add_reader(self._placement.end, self._stopping.set)

    async def _begin(self) -> bool:
        """Connect to the store or do without; return whether calls can be answered."""
        try:
            return await self._application.standby.begin()
        except StoreError:
            self._services.store.close()
            raise

    async def _connect(self, *, has_answered: bool) -> None:
        """Connect to the store that could not be reached at the start."""
        try:
            await self._application.standby.connect()
        except StoreError as error:
            self._failure = error
            self._stopping.set()
            return
        log.info("standby.over")
        if not has_answered and not self._stopping.is_set():
            await self._application.rpc.say_serving()
            self._announce(can_answer=True)

    def _announce(self, *, can_answer: bool) -> None:
        self._placement.announce(self._address, is_serving=can_answer)
        log.info("server.serving" if can_answer else "server.waiting", address=self._address)

    async def _start(self, *, can_answer: bool) -> None:
        if self._settings.metrics_listen is not None:
            try:
                port = serve_metrics(
                    self._settings.metrics_listen, self._application.rpc, self._application.collector
                )
            except ListenError as error:
                text = f"can't serve metrics at {error.address}: {error.reason}"
                raise StartupError(text) from error
            log.info("metrics.serving", port=port)
        port = await self._application.rpc.start(
            self._settings.listen,
            self._application.access.credentials,
            is_serving=can_answer,
            places=self._placement.places,
        )
        self._application.access.log_access()
        self._address = with_port(self._settings.listen, port)
        self._announce(can_answer=can_answer)

    async def _drain(self) -> None:
        """Give clients time to find another server, and calls in flight time to finish."""
        log.info("server.draining")
        await self._application.rpc.say_not_serving()
        if self._exit_code == 0:
            await asyncio.sleep(self._settings.drain_delay_seconds)
        await self._application.rpc.stop(self._settings.drain_seconds if self._exit_code == 0 else 0.0)

    async def _flush_counts(self) -> None:
        try:
            await self._services.sync.end_run()
        except StoreError as error:
            log.warning("counts.lost", error=str(error))

    def _stop_broken(self) -> None:
        """Stop after a failed write to stable storage: no later write can be trusted."""
        if self._exit_code == 0:
            log.critical("store.broken", advice="check the disk, then start again")
            self._exit_code = _BROKEN_EXIT
            self._stopping.set()

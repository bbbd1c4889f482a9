"""One process of the server: starts the application, keeps it running, and stops it in order."""

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import structlog
import uvloop

from server.addresses import with_port
from server.app.access import LOOK_SECONDS
from server.app.application import Application
from server.app.errors import StartupError, fast_lane_errors, startup_errors
from server.app.log_setup import set_up_logs
from server.app.metrics.prometheus import serve_metrics
from server.app.process_limits import connections_of, require_address_space
from server.listening.errors import ListenError
from server.listening.places import Place
from server.rpc.fast_lane.port import FastPort
from server.services.background import ended_runs
from server.services.experiments.allocator import load_mathematics
from server.services.launch.lease import BEAT_SECONDS
from server.services.runtime.async_store import Thread
from server.services.webhooks.dispatcher import LOOK_SECONDS as WEBHOOK_SECONDS
from server.settings import Settings
from server.standard_streams import take_failure
from server.store.contract import Store
from server.store.errors import StoreError
from server.store.opening import find_store

_GC_THRESHOLDS: Final = (5_000, 2, 6_600)
"""A look for reference cycles holds every thread. The young are looked at in small portions: 15,000 of them
take some 1 ms, where 50,000 took up to 20 ms. All objects are looked at after 100 million new ones, since
calls leave no cycles."""

_SWITCH_SECONDS: Final = 0.0005
"""How long a thread at work keeps the interpreter while the event loop waits for it, at each wake-up.

Beside epochs that are computed, the loop waited for other threads 1.7 ms at the 99.9th percentile with
Python's 5 ms, and 0.8 ms with this. What a Choose costs did not differ by more than the noise.
"""

_BROKEN_EXIT: Final = 70
"""Exit code after a failed write to stable storage: EX_SOFTWARE, so that a supervisor restarts the server."""

_BROKEN_GRACE_SECONDS: Final = 0.5
"""Time for the callers of the failed write to read that it failed: gRPC would cancel answers on their way."""

log = structlog.get_logger()


def print_address(address: str, *, fast: str | None, is_serving: bool) -> None:
    """Print the addresses of the server, and whether it serves yet; log it if that can't be printed.

    Args:
        address: That of every RPC.
        fast: That of the fast lane; None without one.
        is_serving: Whether calls can be answered.
    """
    doing = "serving" if is_serving else "waiting for its database"
    lines = [f"bandit-server is {doing} at {address}\n"]
    if fast is not None:
        what = "serving its" if is_serving else "waiting for its database with its"
        lines.append(f"bandit-server is {what} fast lane at {fast}\n")
    sys.stdout.write("".join(lines))
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
        announce: Called with the addresses, and whether it serves yet; called again once it does.
        number: From 1 if several processes share the port, else None; number 1 writes the server's files.
        places: Where to listen, if the parent holds it; None to take the places of the address.
        fast_places: The same for the fast lane.
        end: A file descriptor that becomes readable when the process should stop; None if only signals do
            that.
    """

    announce: Callable[..., None] = print_address
    number: int | None = None
    places: tuple[Place, ...] | None = None
    fast_places: tuple[Place, ...] | None = None
    end: int | None = None


ALONE: Final = Placement()


def serve_here(settings: Settings, placement: Placement = ALONE) -> int:
    """Serve in this process until a signal stops it, and return the exit code.

    Raises:
        StartupError: The service can't start.
    """
    require_address_space()
    connections_of(settings)  # first, since anything that opens a file would fail with an unclear error
    set_up_logs(settings.log_level, worker=placement.number)
    set_up_interpreter()
    with startup_errors(settings), ExitStack() as stack:
        store = find_store(settings.database)
        stack.callback(store.close)
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        return runner.run(_serve_on(settings, store, placement))


def set_up_interpreter() -> None:
    """Let other threads and Python's collector hold the event loop as little as they can."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


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
        self._fast_address: str | None = None
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
        await self._application.webhooks.dispatcher.end()
        await self._services.inquiries.end()
        await self._services.epochs.end()
        await self._services.sync.end()
        self._services.queue.close()
        await commits
        await self._services.lease.release()
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
            asyncio.create_task(
                self._services.sync.repeat(self._services.events.look, self._settings.poll_seconds)
            ),
        ]

    def _start_late_chores(self, *, has_answered: bool) -> "list[asyncio.Task[None]]":
        """Start the tasks that can wait until the server has announced its address."""
        chores = [asyncio.create_task(self._services.store.run(Thread.COMPUTE, lambda _: load_mathematics()))]
        if not self._application.standby.is_connected:
            chores.append(asyncio.create_task(self._connect(has_answered=has_answered)))
        services = self._services
        steps: list[tuple[Callable[[], Awaitable[None]], float]] = [
            (services.reaper.run_once, ended_runs.LOOK_SECONDS),
            (services.lease.run_once, BEAT_SECONDS),
            (services.controller.run_once, self._settings.guardrail_seconds),
            (self._application.webhooks.look, WEBHOOK_SECONDS),
        ]
        if self._settings.purge:
            steps.append((services.purger.run_once, self._settings.purge_interval_seconds))
        chores += [asyncio.create_task(services.sync.repeat(step, seconds)) for step, seconds in steps]
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
        self._placement.announce(self._address, fast=self._fast_address, is_serving=can_answer)
        log.info("server.serving" if can_answer else "server.waiting", address=self._address)
        if self._fast_address is None:
            return
        if can_answer:
            log.info("fast_lane.serving", address=self._fast_address)
        else:
            log.info("fast_lane.waiting", address=self._fast_address)

    async def _start(self, *, can_answer: bool) -> None:
        """Take all addresses, and serve at them; none is left if one can't be taken."""
        application = self._application
        if self._settings.metrics_listen is not None:
            self._serve_metrics(self._settings.metrics_listen)
        with ExitStack() as stack:
            if application.fast_port is not None:
                self._open_fast_port(application.fast_port)
                stack.callback(application.fast_port.give_up)
            port = await application.rpc.start(
                self._settings.listen,
                application.access.credentials,
                is_serving=can_answer,
                places=self._placement.places,
            )
            stack.pop_all()
        if application.fast_port is not None:
            application.fast_port.start()
        application.access.log_access()
        self._address = with_port(self._settings.listen, port)
        self._announce(can_answer=can_answer)

    def _serve_metrics(self, address: str) -> None:
        application = self._application
        try:
            port = serve_metrics(address, application.rpc, application.collector, application.fast_port)
        except ListenError as error:
            text = f"can't serve metrics at {error.address}: {error.reason}"
            raise StartupError(text) from error
        log.info("metrics.serving", port=port)

    def _open_fast_port(self, fast_port: FastPort) -> None:
        with fast_lane_errors(self._settings):
            address = self._settings.fast_listen or ""
            self._fast_address = fast_port.open(address, self._placement.fast_places)

    async def _drain(self) -> None:
        """Give clients time to find another server, and calls in flight time to finish."""
        log.info("server.draining")
        await self._application.rpc.say_not_serving()
        if self._exit_code == 0:
            await asyncio.sleep(self._settings.drain_delay_seconds)
        grace_seconds = self._settings.drain_seconds
        if self._exit_code != 0:
            grace_seconds = min(grace_seconds, _BROKEN_GRACE_SECONDS)
        await self._application.rpc.stop(grace_seconds, beside=self._application.fast_port)

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

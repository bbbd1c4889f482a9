"""The composition root: builds the service from its parts, runs it, and takes it down in order."""

import asyncio
import gc
import secrets
import signal
import sys
from datetime import timedelta
from typing import Final

import structlog
import uvloop

from bandit.decision import Signer
from server.app.errors import StartupError, startup_errors
from server.app.logs import set_up_logs
from server.app.monitoring import ServiceCollector, serve_metrics
from server.rpc.bandit_service import BanditService
from server.rpc.experiment_service import ExperimentService
from server.rpc.server import RpcServer
from server.services.allocating import Allocator, load_mathematics
from server.services.choosing import Chooser
from server.services.clock import Clock
from server.services.counting import DecisionCounter
from server.services.experiments import Experiments
from server.services.ledger import Ledger
from server.services.reporting import Reporter
from server.services.reward_queue import RewardQueue
from server.services.snapshot import Snapshot
from server.services.upkeep import Upkeep
from server.services.workers import Workers
from server.services.writer import Writer
from server.settings import Settings, split_address
from server.store.errors import StoreError
from server.store.interface import Store
from server.store.records import KeyRing
from server.store.sql import open_store

_SECRET_BYTES: Final = 32
_GC_THRESHOLDS: Final = (50_000, 20, 100)
"""Calls leave no cycles behind, so Python need not look for them every few calls."""

_BROKEN_EXIT: Final = 70
"""Exit code after a failed write to stable storage: EX_SOFTWARE, so that a supervisor starts anew."""

log = structlog.get_logger()


def serve(settings: Settings) -> int:
    """Serves until SIGTERM or SIGINT, and returns the exit code.

    Raises:
        StartupError: The service can't start.
    """
    set_up_logs(settings.log_level)
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    with startup_errors():
        store = open_store(settings.database, may_migrate=settings.migrate)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(_serve_on(settings, store))
        finally:
            store.close()


async def _serve_on(settings: Settings, store: Store) -> int:
    """Serves from an open store. The parts are made here, since gRPC belongs to the loop it is made in."""
    return await _Service(settings, store).run()


class _Service:
    """One run of the service on an open store."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._exit_code = 0
        self._stopping = asyncio.Event()
        clock = Clock()
        lag = timedelta(seconds=settings.lag_seconds)
        incarnation = secrets.token_bytes(16)
        writer = Writer(incarnation, store.claim_slot(incarnation, clock.now()))
        keys = store.adopt_keys(KeyRing({1: secrets.token_bytes(_SECRET_BYTES)}, 1))
        signer = Signer(keys.secrets, keys.signing_key)
        self._workers = workers = Workers()
        snapshot = Snapshot(clock)
        counter = DecisionCounter(writer)
        allocator = Allocator(store, workers, snapshot, clock, lag=lag, threshold=settings.epoch_threshold)
        self._upkeep = upkeep = Upkeep(
            store, workers, snapshot, counter, writer, allocator, clock, on_broken=self._stop_broken
        )
        self._queue = RewardQueue(
            store,
            workers,
            writer,
            clock,
            max_rows=settings.reward_queue_rows,
            max_bytes=settings.reward_queue_bytes,
            on_recorded=allocator.mark_grown,
            on_broken=self._stop_broken,
        )
        chooser = Chooser(
            snapshot,
            signer,
            counter,
            clock,
            lag_seconds=settings.lag_seconds,
            max_staleness_seconds=settings.max_staleness_seconds,
        )
        ledger = Ledger(
            snapshot,
            signer,
            self._queue,
            clock,
            refresh=upkeep.refresh,
            read_nonces=lambda experiment: workers.read(store.read_nonces, experiment),
        )
        self._rpc = RpcServer(
            BanditService(chooser, ledger, snapshot, upkeep.refresh),
            ExperimentService(
                Experiments(
                    store, workers, snapshot, allocator, clock, lag=lag, convergence=settings.convergence
                ),
                Reporter(store, workers, clock, lag=lag, flush=upkeep.flush),
            ),
            clock,
            max_calls=settings.max_concurrent_calls,
            has_reflection=settings.reflection,
        )
        self._collector = ServiceCollector(
            snapshot, counter, self._queue, allocator, upkeep, settings.convergence, lambda: store.wal_bytes
        )

    async def run(self) -> int:
        """Serves until told to stop; returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        await self._upkeep.refresh()
        commits = asyncio.create_task(self._queue.run())
        chores = [
            asyncio.create_task(self._upkeep.poll(self._settings.poll_seconds)),
            asyncio.create_task(self._upkeep.allocate(self._settings.epoch_interval_seconds)),
        ]
        await self._start()
        chores.append(asyncio.create_task(self._workers.compute(load_mathematics)))
        await self._stopping.wait()
        await self._drain()
        for chore in chores:
            chore.cancel()
        await asyncio.gather(*chores, return_exceptions=True)
        self._queue.close()
        await commits
        await self._flush_counts()
        self._workers.close()
        log.info("server.stopped", exit_code=self._exit_code)
        return self._exit_code

    async def _start(self) -> None:
        if self._settings.metrics_listen is not None:
            try:
                port = serve_metrics(self._settings.metrics_listen, self._rpc.measurements, self._collector)
            except OSError as error:
                text = f"can't serve metrics at {self._settings.metrics_listen}: {error.strerror}"
                raise StartupError(text) from error
            log.info("metrics.serving", port=port)
        port = await self._rpc.start(self._settings.listen)
        host, _ = split_address(self._settings.listen)
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        sys.stdout.write(f"bandit-server is serving at {where}\n")
        sys.stdout.flush()
        log.info("server.serving", address=where)

    async def _drain(self) -> None:
        """Lets clients look away, and calls in flight finish."""
        log.info("server.draining")
        await self._rpc.say_not_serving()
        if self._exit_code == 0:
            await asyncio.sleep(self._settings.drain_delay_seconds)
        await self._rpc.stop(self._settings.drain_seconds if self._exit_code == 0 else 0.0)

    async def _flush_counts(self) -> None:
        try:
            await self._upkeep.flush()
        except StoreError as error:
            log.warning("counts.lost", error=str(error))

    def _stop_broken(self) -> None:
        """After a failed write to stable storage nothing that a later one says can be trusted."""
        if self._exit_code == 0:
            log.critical("store.broken", advice="check the disk, then start again")
            self._exit_code = _BROKEN_EXIT
            self._stopping.set()

"""A real server in this process, on a clock that is moved: weeks of a launch take minutes.

Calls go through gRPC over a socket. What the server does by itself, on a thread's or a task's own time, is
done once for each move of the clock.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import grpc
from typing_extensions import override

from bandit.v1 import bandit_pb2_grpc, experiment_pb2_grpc, launch_pb2_grpc
from server.app.application import Application
from server.services.runtime.clock import Clock
from server.settings import Settings
from server.store.contract import Store
from server.store.opening import find_store

START: Final = datetime(2026, 3, 2, tzinfo=UTC)
"""A Monday."""

_TICKS: Final = 3
"""The most ticks of time that a look at a launch counts, so that a step of the clock counts in full."""

_ALLOCATION_SECONDS: Final = 60.0


class SimulatedClock(Clock):
    """The clocks of a machine, which stand still until they are moved, both by as much."""

    def __init__(self) -> None:
        self._now = START
        self._seconds = 1_000.0
        self.monotonic = lambda: self._seconds

    @override
    def time_ms(self) -> int:
        return int(self._now.timestamp() * 1_000)

    @override
    def now(self) -> datetime:
        return self._now

    def advance(self, time: timedelta) -> None:
        """Let time pass."""
        self._now += time
        self._seconds += time.total_seconds()


class SimulatedServer:
    """A server whose time passes when it is told to.

    Args:
        application: The server.
        clock: Its host's clocks.
        channel: Leads to it.

    Attributes:
        services: Everything between its wire and its database.
        bandit: Stub of the data plane.
        experiments: Stub of the control plane.
        launches: Stub of launches.
    """

    def __init__(self, application: Application, clock: SimulatedClock, channel: grpc.aio.Channel) -> None:
        self._clock = clock
        self.services = application.services
        self.bandit = bandit_pb2_grpc.BanditServiceStub(channel)
        self.experiments = experiment_pb2_grpc.ExperimentServiceStub(channel)
        self.launches = launch_pb2_grpc.LaunchServiceStub(channel)

    @property
    def now(self) -> datetime:
        """The time."""
        return self._clock.now()

    async def advance(self, time: timedelta) -> None:
        """Let time pass, and let the server do once what it does all the time."""
        self._clock.advance(time)
        services = self.services
        await services.sync.poll_once()
        await services.allocator.run_once(_ALLOCATION_SECONDS)
        await services.lease.run_once()
        await services.controller.run_once()


@asynccontextmanager
async def simulated_server(folder: Path, *, step: timedelta, seed: int) -> AsyncIterator[SimulatedServer]:
    """Start a server on a new database, and stop it at the end.

    Args:
        folder: Where the database is put.
        step: How far the clock will be moved at a time.
        seed: Of the server's draws: the same story is told again.
    """
    looks = step.total_seconds() / _TICKS
    database = f"sqlite:///{folder / 'bandit.db'}"
    settings = Settings(database=database, listen="127.0.0.1:0", guardrail_seconds=min(looks, 5.0))
    settings = settings.model_copy(update={"gate_seconds": looks})
    store, clock = find_store(database), SimulatedClock()
    application = Application(settings, store, number=None, on_broken=_fail, host=clock)
    application.services.chooser._generator.seed(seed)  # noqa: SLF001 - no server is told its draws
    await application.standby.begin()
    commits = asyncio.create_task(application.services.queue.run())
    port = await application.rpc.start(settings.listen)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield SimulatedServer(application, clock, channel)
    finally:
        await _stop(application, store, commits)


async def _stop(application: Application, store: Store, commits: "asyncio.Task[None]") -> None:
    services = application.services
    await application.rpc.stop(0.0)  # its clock stands still: there is no time to wait for
    await services.inquiries.end()
    await services.epochs.end()
    await services.sync.end()
    services.queue.close()
    await commits
    await services.lease.release()
    await services.sync.end_run()
    services.store.close()
    store.close()


def _fail() -> None:
    raise RuntimeError("the server says that its database is broken")

"""A server that acts whenever it holds the lease: `python -m tests.support.lease_holder URL NAME EXPERIMENT`.

It stores a revision of the experiment every 50 ms, under its own name. On SIGUSR1 it freezes itself before
the transaction of its next change, and on SIGUSR2 inside of it, right after the fence was passed.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any, Final

import structlog
from sqlalchemy import event

from server.app.log_setup import set_up_logs
from server.app.wiring import Services
from server.services.launch.lease import BEAT_SECONDS
from server.services.runtime.async_store import AsyncStore
from server.services.runtime.clock import Clock
from server.settings import Settings
from server.store.errors import LeaseLostError, StoreError
from server.store.opening import open_store
from tests.store.builders import engines_of

_ACT_SECONDS: Final = 0.05

log = structlog.get_logger()


class Freezer:
    """Stops this process at a place, once it was told to."""

    def __init__(self) -> None:
        self._is_wanted = {"before": False, "inside": False}

    def want(self, place: str) -> None:
        """Freeze when the place is passed next."""
        self._is_wanted[place] = True

    def pass_by(self, place: str) -> None:
        """Freeze here if that is wanted."""
        if self._is_wanted[place]:
            self._is_wanted[place] = False
            log.info("frozen", place=place)
            os.kill(os.getpid(), signal.SIGSTOP)

    def note_statement(self, *arguments: object) -> None:
        """Look whether a statement was the fence."""
        if "FOR SHARE" in str(arguments[2]):
            self.pass_by("inside")


async def act(services: Services, name: str, experiment: str, freezer: Freezer) -> None:
    """Change the experiment as often as the lease allows, forever."""
    while True:
        await asyncio.sleep(_ACT_SECONDS)
        lease = services.lease.held()
        if lease is None:
            continue
        try:
            before = await services.store.find_experiment(experiment)
            assert before is not None
            freezer.pass_by("before")
            await services.store.change_experiment(before, before, caller=name, fence=lease)
        except LeaseLostError as error:
            log.warning("action.refused", token=error.token)
        except StoreError as error:
            log.warning("action.failed", error=str(error), kind=type(error).__name__)


async def main(url: str, name: str, experiment: str) -> None:
    """Keep the lease, and act under it, until SIGTERM."""
    store = open_store(url)
    freezer = Freezer()
    event.listen(engines_of(store)[0], "after_cursor_execute", freezer.note_statement)
    services = Services(Settings(database=url), AsyncStore(store), Clock(), None, on_broken=sys.exit)
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, freezer.want, "before")
    loop.add_signal_handler(signal.SIGUSR2, freezer.want, "inside")
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    chores: list[Coroutine[Any, Any, None]] = [
        services.sync.repeat(services.lease.run_once, BEAT_SECONDS),
        act(services, name, experiment, freezer),
    ]
    tasks = [asyncio.create_task(chore) for chore in chores]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await stopping.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await services.lease.release()
    services.store.close()
    store.close()


if __name__ == "__main__":
    set_up_logs("info")
    asyncio.run(main(*sys.argv[1:]))

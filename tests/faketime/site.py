"""Servers on one database, whose wall clocks are set while they run; and what must hold afterwards."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks.harness.faked_clock import PROGRAM, FakedClock, clear_away
from server.app import maintenance
from server.settings import Settings
from tests.support import ledger, postgresql
from tests.support.process import ServerProcess, eventually
from tests.support.wire import Wire

EVERYWHERE: Final = (
    "SQLite: the server",
    "PostgreSQL: a server",
    "PostgreSQL: the database",
    "PostgreSQL: all",
)
"""Whose clock may lie."""


def wrong_by(**times: timedelta) -> pytest.MarkDecorator:
    """Runs a test with the first wrong time wherever a clock may lie, and with the others on SQLite."""
    (first, *others) = times.items()
    cases = [(site, *first) for site in EVERYWHERE] + [(EVERYWHERE[0], *other) for other in others]
    params = [pytest.param(site, off, id=f"{site}, {name}") for site, name, off in cases]
    return pytest.mark.parametrize(("site", "off"), params, indirect=["site"])


FLAGS: Final = (
    *("--poll-seconds", "0.2", "--lag-seconds", "0.5", "--drain-seconds", "1"),
    *("--epoch-interval-seconds", "0.05", "--purge-interval-seconds", "0.1"),
)
"""Chores come often, so that a moment under a wrong clock has many of each."""


@dataclass(slots=True)
class Site:
    """Servers on one database.

    Attributes:
        folder: Where their logs go.
        url: The database.
        clock: That of the servers that may lie.
        lying: The clocks that are set.
        servers: Those started, in order.
    """

    folder: Path
    url: str
    clock: FakedClock
    lying: Sequence[FakedClock]
    servers: list[ServerProcess] = field(default_factory=list)
    _wires: list[Wire] = field(default_factory=list)

    def set_off(self, by: timedelta) -> None:
        """Sets the lying clocks ahead or back."""
        for clock in self.lying:
            clock.set_off(by)

    def set_to_1970(self) -> None:
        """Sets the lying clocks to where a host without a battery begins."""
        for clock in self.lying:
            clock.set_to_1970()

    def set_right(self) -> None:
        """Sets the lying clocks to the true time."""
        for clock in self.lying:
            clock.set_right()

    def start(self, *flags: str, is_right: bool = False) -> Wire:
        """Starts a server, whose clock never lies if `is_right`; returns a channel to it."""
        file = self.folder / (f"server-{len(self.servers)}.db" if "postgresql" in self.url else "bandit.db")
        server = ServerProcess.start(
            file,
            *("--database", self.url, *FLAGS, *flags),
            program=("server",) if is_right else (PROGRAM,),
            environment={} if is_right else self.clock.environment,
        )
        self.servers.append(server)
        self._wires.append(Wire(server.address))
        return self._wires[-1]

    def stop(self) -> None:
        """Stops every server as a supervisor would; each must end with 0."""
        running = [server for server in self.servers if server.process.poll() is None]
        for server in running:
            server.process.terminate()
        assert [server.wait() for server in running] == [0] * len(running)

    @contextmanager
    def serving(self, *flags: str, is_right: bool = False) -> Iterator[Wire]:
        """One server, for the block."""
        yield self.start(*flags, is_right=is_right)
        self.stop()

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a statement, asked beside the servers."""
        if self.url.startswith("postgresql"):
            return postgresql.query(self.url, statement)
        return ledger.query(self.folder / "bandit.db", statement)

    def take_down(self) -> None:
        """Ends what still runs, whatever state it is in."""
        for wire in self._wires:
            wire.close()
        for server in self.servers:
            if server.process.poll() is None:
                server.kill()
        clear_away(server.process.pid for server in self.servers)

    def require_sound(self) -> None:
        """No server logged a failure, and the sums are the fold of the log; if there was one."""
        if not self.servers:
            return
        events = [event for log in {server.log for server in self.servers} for event in _events(log)]
        assert [event for event in events if event["level"] in {"error", "critical"}] == []
        report = maintenance.verify(Settings(database=self.url), lambda _done, _total: None)
        assert report.is_clean, report.differences


def lasting(seconds: float) -> None:
    """Waits for as long as a fault is to last."""
    over_at = time.monotonic() + seconds
    eventually(lambda: time.monotonic() > over_at)


def _events(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]

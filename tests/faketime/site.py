"""Servers on one database whose wall clocks tests set, and checks that must pass afterwards."""

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
"""The databases, and the processes whose clocks are wrong."""


def wrong_by(**times: timedelta) -> pytest.MarkDecorator:
    """Run a test with the first wrong time at every site, and with the others on SQLite only."""
    (first, *others) = times.items()
    cases = [(site, *first) for site in EVERYWHERE] + [(EVERYWHERE[0], *other) for other in others]
    params = [pytest.param(site, off, id=f"{site}, {name}") for site, name, off in cases]
    return pytest.mark.parametrize(("site", "off"), params, indirect=["site"])


FLAGS: Final = (
    *("--poll-seconds", "0.2", "--lag-seconds", "0.5", "--drain-seconds", "1"),
    *("--epoch-interval-seconds", "0.05", "--purge-interval-seconds", "0.1"),
)
"""Background jobs run often, so that many of each fall into a short time under a wrong clock."""


@dataclass(slots=True)
class Site:
    """Servers on one database.

    Attributes:
        folder: Folder of their logs.
        url: URL of the database.
        clock: Clock of the servers whose time may be wrong.
        lying: The clocks that are set.
        servers: The started servers, in order.
    """

    folder: Path
    url: str
    clock: FakedClock
    lying: Sequence[FakedClock]
    servers: list[ServerProcess] = field(default_factory=list)
    _wires: list[Wire] = field(default_factory=list)

    def set_off(self, by: timedelta) -> None:
        """Set the lying clocks ahead or back."""
        for clock in self.lying:
            clock.set_off(by)

    def set_to_1970(self) -> None:
        """Set the lying clocks to the time at which a host without a battery starts."""
        for clock in self.lying:
            clock.set_to_1970()

    def set_right(self) -> None:
        """Set the lying clocks to the true time."""
        for clock in self.lying:
            clock.set_right()

    def start(self, *flags: str, is_right: bool = False) -> Wire:
        """Start a server, whose clock is always right if `is_right`, and return a channel to it."""
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
        """Stop every server as a supervisor would; each must exit with 0."""
        running = [server for server in self.servers if server.process.poll() is None]
        for server in running:
            server.process.terminate()
        assert [server.wait() for server in running] == [0] * len(running)

    @contextmanager
    def serving(self, *flags: str, is_right: bool = False) -> Iterator[Wire]:
        """Run one server during the block."""
        yield self.start(*flags, is_right=is_right)
        self.stop()

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a statement, run over a separate connection."""
        if self.url.startswith("postgresql"):
            return postgresql.query(self.url, statement)
        return ledger.query(self.folder / "bandit.db", statement)

    def take_down(self) -> None:
        """Kill all servers that still run."""
        for wire in self._wires:
            wire.close()
        for server in self.servers:
            if server.process.poll() is None:
                server.kill()
        clear_away(server.process.pid for server in self.servers)

    def require_sound(self) -> None:
        """Check that no server logged a failure and the sums are the fold of the log, if any server ran."""
        if not self.servers:
            return
        events = [event for log in {server.log for server in self.servers} for event in _events(log)]
        assert [event for event in events if event["level"] in {"error", "critical"}] == []
        report = maintenance.verify(Settings(database=self.url), lambda _done, _total: None)
        assert report.is_clean, report.differences


def lasting(seconds: float) -> None:
    """Wait for the duration of a fault."""
    over_at = time.monotonic() + seconds
    eventually(lambda: time.monotonic() > over_at)


def _events(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]

"""Servers that may be killed, frozen, cut off from their database, and restarted on their port."""

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness.faked_clock import PROGRAM, FakedClock, clear_away
from benchmarks.harness.processes import (
    SERVE,
    ChildError,
    free_port,
    last_words,
    resident_mib,
    start,
    wait,
)


@dataclass(slots=True)
class Replica:
    """One server, across restarts.

    Attributes:
        folder: Its working directory, where its log goes.
        database: The URL that it is started with.
        flags: Additional flags of `bandit-server serve`.
        clock: Its wall clock; None for that of this machine.
        port: Where it listens, the same after each restart.
        process: Its process, while it runs.
    """

    folder: Path
    database: str
    flags: tuple[str, ...] = ()
    clock: FakedClock | None = None
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[str] | None" = None

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and return once it prints that it serves."""
        where = ("--listen", self.address, "--database", self.database, "--log-level", "warning")
        program = SERVE if self.clock is None else ("-m", PROGRAM, "serve")
        faked = {} if self.clock is None else self.clock.environment
        arguments = (*program, *where, *self.flags)
        self.process, line = start(arguments, self.folder, self._log, faked, in_own_session=True)
        if "is serving at" not in line:
            raise ChildError(f"the server at {self.address} does not serve: {line}")

    def restart(self) -> None:
        """Kill it, and start it again."""
        self.signal(signal.SIGKILL)
        self.wait()
        self.start()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        if self.process is not None:
            self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; return the exit code, that of a kill if it does not end within 60 s."""
        if self.process is None:
            return 0
        try:
            return wait(self.process)
        finally:
            clear_away([self.process.pid])
            self.process = None

    def take_down(self) -> None:
        """Kill it, whatever state it is in."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.wait()

    def resident_mib(self) -> float:
        """Its resident memory, in MiB; 0 while it does not run."""
        with suppress(OSError, StopIteration, AttributeError):
            return resident_mib(self.process.pid)  # type: ignore[union-attr]
        return 0.0

    def n_descriptors(self) -> int:
        """The number of its open files and sockets; 0 while it does not run."""
        with suppress(OSError, AttributeError):
            return len(os.listdir(f"/proc/{self.process.pid}/fd"))  # type: ignore[union-attr]  # noqa: PTH208 - no Paths
        return 0

    def last_words(self) -> str:
        """The end of its log."""
        return last_words(self._log)

    @property
    def _log(self) -> Path:
        return self.folder / f"server-{self.port}.log"

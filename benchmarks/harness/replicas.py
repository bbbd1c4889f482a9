"""Servers that may be killed, frozen, cut off from their database, and started again where they were."""

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.harness.faked_clock import PROGRAM, FakedClock, clear_away
from benchmarks.harness.processes import SERVE, ChildError, clean_environment, free_port

_START_SECONDS: Final = 90.0
_STOP_SECONDS: Final = 60.0


@dataclass(slots=True)
class Replica:
    """One server, over its lives.

    Attributes:
        folder: Its working directory, where its log goes.
        database: The URL that it is started with.
        flags: Of `bandit-server serve`, in addition.
        clock: Its wall clock; None for that of this machine.
        port: Where it listens, the same in every life.
        process: It, while it runs.
    """

    folder: Path
    database: str
    flags: tuple[str, ...] = ()
    clock: FakedClock | None = None
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it, and returns once it says that it serves."""
        where = ("--listen", self.address, "--database", self.database, "--log-level", "warning")
        program = SERVE if self.clock is None else ("-m", PROGRAM, "serve")
        faked = {} if self.clock is None else self.clock.environment
        with (self.folder / f"server-{self.port}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *program, *where, *self.flags],
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self.folder,
                env=dict(clean_environment()) | faked,
                start_new_session=True,
            )
        if self.process.stdout is None or not select.select([self.process.stdout], [], [], _START_SECONDS)[0]:
            raise ChildError(f"the server at {self.address} did not start in time")
        if b"is serving at" not in self.process.stdout.readline():
            raise ChildError(f"the server at {self.address} did not start: {self.last_words()}")

    def restart(self) -> None:
        """Kills it, and starts it."""
        self.signal(signal.SIGKILL)
        self.wait()
        self.start()

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        if self.process is not None:
            self.process.send_signal(number)

    def wait(self) -> int:
        """Waits for its end; returns the exit code, and that of a kill if it does not end."""
        if self.process is None:
            return 0
        try:
            return self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()
            clear_away([self.process.pid])
            self.process = None

    def take_down(self) -> None:
        """Ends it, whatever state it is in."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.wait()

    def resident_mib(self) -> float:
        """Its resident memory, in MiB; 0 while it does not run."""
        with suppress(OSError, StopIteration, AttributeError):
            status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")  # type: ignore[union-attr]
            return next(int(li.split()[1]) for li in status.splitlines() if li.startswith("VmRSS:")) / 1024
        return 0.0

    def n_descriptors(self) -> int:
        """How many files and sockets it has open; 0 while it does not run."""
        with suppress(OSError, AttributeError):
            return len(os.listdir(f"/proc/{self.process.pid}/fd"))  # type: ignore[union-attr]  # noqa: PTH208 - no Paths
        return 0

    def last_words(self) -> str:
        """The end of its log."""
        path = self.folder / f"server-{self.port}.log"
        return " | ".join(path.read_text(errors="replace").splitlines()[-3:]) or "it wrote no log"

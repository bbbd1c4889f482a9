"""Fixtures of servers that keep the snapshot and keys needed to start without PostgreSQL."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.process import ServerProcess

FAST = ("--poll-seconds", "0.1", "--lag-seconds", "2", "--drain-seconds", "2")

StartOn = Callable[..., ServerProcess]


@pytest.fixture
def keeping(tmp_path: Path) -> tuple[str, ...]:
    """Return the flags of a server that keeps snapshot and keys in the test's folder."""
    files = ("--snapshot", str(tmp_path / "snapshot"), "--keys", str(tmp_path / "keys"))
    return (*files, "--snapshot-seconds", "0.1")


@pytest.fixture
def start_on(tmp_path: Path) -> Iterator[StartOn]:
    """Start servers on a database by its URL; those left running must exit with 0."""
    started: list[ServerProcess] = []

    def start(url: str, *flags: str, port: int = 0, program: str = "server") -> ServerProcess:
        file = tmp_path / f"server-{len(started)}.db"
        started.append(
            ServerProcess.start(file, "--database", url, *FAST, *flags, port=port, program=(program,))
        )
        return started[-1]

    yield start
    exit_codes = [server.terminate() for server in started if server.process.poll() is None]
    assert set(exit_codes) <= {0}

"""Real processes that share a lease: whatever becomes of the holder, another acts soon, and it no more."""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from benchmarks.harness.processes import REPOSITORY, start
from benchmarks.harness.tcp_proxy import TcpProxy
from server.store.opening import open_store
from tests.store.builders import run
from tests.support.postgresql import PostgresqlProcess
from tests.support.process import eventually

BOUND_SECONDS: Final = 25.0
EXPERIMENT: Final = "ranker"
REVISION: Final = 2
"""The experiment's revision before anybody acts."""

AT_ONCE_SECONDS: Final = 8.0
"""A released lease is taken at the next look, 2 s later; a silent one is not before 10 s have passed."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that acts whenever it holds the lease.

    Attributes:
        name: Under which it acts.
        process: It.
        log: The file of its log.
    """

    name: str
    process: "subprocess.Popen[str]"
    log: Path

    def events(self, *names: str) -> list[dict[str, Any]]:
        """Return the events of these names in its log."""
        found = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [each for each in found if each["event"] in names]

    def is_stopped(self) -> bool:
        """Return whether the whole process is stopped."""
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def freeze(self, number: int) -> None:
        """Send the signal that freezes it, at a place of its choice or of ours, and wait for that."""
        self.process.send_signal(number)
        eventually(self.is_stopped)

    def thaw(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)


class Group:
    """Processes on one database, and what they did to its experiment."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self._folder = folder
        self._connection = psycopg.connect(url.replace("+psycopg", ""), autocommit=True)
        self.holders: list[Holder] = []

    def start(self, name: str, url: str | None = None) -> Holder:
        """Start a process, which may reach the database by another way."""
        log = self._folder / f"{name}.log"
        program = ("-m", "tests.support.lease_holder", url or self.url, name, EXPERIMENT)
        process, _ = start(program, self._folder, log, {"PYTHONPATH": str(REPOSITORY)})
        self.holders.append(Holder(name, process, log))
        return self.holders[-1]

    def actors(self) -> list[str]:
        """Return who changed the experiment, in order; fail if a change was lost or doubled."""
        changes = "SELECT caller, (SELECT revision FROM experiments) FROM audit WHERE action = 'update'"
        rows = self._connection.execute(f"{changes} ORDER BY number").fetchall()
        assert all(revision == REVISION + len(rows) for _, revision in rows)
        return [str(caller) for caller, _ in rows]

    def wait_for(self, holder: Holder, seconds: float = 60.0) -> None:
        """Wait until a process has acted."""
        eventually(lambda: holder.name in self.actors(), seconds=seconds)

    def end(self) -> None:
        """Kill what is left."""
        self._connection.close()
        for holder in self.holders:
            holder.process.kill()
            holder.process.communicate()


@pytest.fixture
def group(url: str, tmp_path: Path) -> Iterator[Group]:
    """A database with an experiment, on which no process runs yet."""
    with closing(open_store(url)) as store:
        run(store, EXPERIMENT)
    found = Group(url, tmp_path)
    yield found
    found.end()


def started(group: Group, first_url: str | None = None) -> tuple[Holder, Holder]:
    """Start a process that holds the lease and acts, and one that waits for it."""
    first = group.start("first", first_url)
    group.wait_for(first)
    return first, group.start("second")


def assert_handed_over(group: Group) -> None:
    """Fail unless both processes acted, and the first never after the second."""
    actors = group.actors()
    assert actors == sorted(actors)
    assert set(actors) == {"first", "second"}


def test_a_killed_holder_is_replaced(group: Group) -> None:
    """After a kill another server acts within 25 s."""
    first, second = started(group)
    first.process.kill()
    group.wait_for(second, BOUND_SECONDS)
    assert_handed_over(group)


def test_a_stopped_holder_hands_over(group: Group) -> None:
    """After SIGTERM another server acts at its next look, long before it would have taken over."""
    first, second = started(group)
    eventually(lambda: len(group.actors()) > 1)
    first.process.terminate()
    assert first.process.wait(60) == 0
    group.wait_for(second, AT_ONCE_SECONDS)
    assert first.events("lease.released")
    assert_handed_over(group)


@pytest.mark.parametrize(
    ("number", "outcomes"),
    [
        (signal.SIGSTOP, ()),
        (signal.SIGUSR1, ("action.refused",)),
        (signal.SIGUSR2, ("action.failed",)),
    ],
    ids=["anywhere", "before the transaction", "inside the transaction"],
)
def test_a_frozen_holder_is_replaced(group: Group, number: int, outcomes: tuple[str, ...]) -> None:
    """Wherever a holder is frozen, another server acts within 25 s; what it was about to do is refused."""
    first, second = started(group)
    first.freeze(number)
    group.wait_for(second, BOUND_SECONDS)
    first.thaw()
    eventually(lambda: first.events("lease.lost"))
    assert {each["event"] for each in first.events("action.refused", "action.failed")} >= set(outcomes)
    n_actions = len(group.actors())
    eventually(lambda: len(group.actors()) > n_actions + 10)
    assert_handed_over(group)


def cut_anywhere(proxy: TcpProxy, _: Holder) -> None:
    """Cut the cable of a process now."""
    proxy.cut()


def cut_inside(proxy: TcpProxy, holder: Holder) -> None:
    """Cut the cable of a process while it is in the transaction of a change."""
    holder.freeze(signal.SIGUSR2)
    proxy.cut()
    holder.thaw()


@pytest.mark.parametrize("cut", [cut_anywhere, cut_inside], ids=["anywhere", "inside the transaction"])
def test_a_holder_that_is_cut_off_is_replaced(
    group: Group, postgresql: PostgresqlProcess, cut: Callable[[TcpProxy, Holder], None]
) -> None:
    """Without its database a holder stops by itself, and another server acts within 25 s.

    Once the cable is mended the former holder finds out, and changes nothing more.
    """
    with TcpProxy(postgresql.port) as proxy:
        first, second = started(group, group.url.replace(f":{postgresql.port}/", f":{proxy.port}/"))
        cut(proxy, first)
        group.wait_for(second, BOUND_SECONDS)
        assert first.events("lease.late")
        proxy.mend()
        eventually(lambda: first.events("lease.lost"))
        n_actions = len(group.actors())
        eventually(lambda: len(group.actors()) > n_actions + 10)
        assert first.events("action.failed")
        assert_handed_over(group)

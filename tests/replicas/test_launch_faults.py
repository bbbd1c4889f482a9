"""Servers that act for a launch are killed, frozen and cut off, at any point: its story stays the same."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import dropwhile
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bandit.v1 import bandit_pb2
from benchmarks.harness.processes import free_port
from benchmarks.harness.tcp_proxy import TcpProxy
from server.store.opening import open_store
from server.store.records import ExperimentRecord
from tests.support.launch_story import (
    BAD,
    CHAMPION,
    GOOD,
    LAUNCH_FLAGS,
    MAX_STALENESS,
    POINTS,
    ROLLED_BACK,
    STORY,
    Story,
    Told,
    Traffic,
    ending,
    launched,
)
from tests.support.postgresql import PostgresqlProcess, query
from tests.support.process import ServerProcess, eventually
from tests.support.wire import Wire

N_SERVERS: Final = 3
BOUND_SECONDS: Final = 25.0
"""Within this time another server acts for launches."""

FLAGS: Final = (
    *LAUNCH_FLAGS,
    "--poll-seconds",
    "0.2",
    "--epoch-interval-seconds",
    "0.2",
    "--drain-seconds",
    "2",
)
FREEZING: Final = ("tests.support.faults.serve_freezing",)

few = settings(
    max_examples=2,
    phases=(Phase.generate,),  # a run takes half a minute: a failure is shown as it was found
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


@dataclass(slots=True)
class Replica:
    """A server that reaches its database by a cable of its own."""

    process: ServerProcess
    proxy: TcpProxy
    wire: Wire
    flags: tuple[str, ...]

    def is_stopped(self) -> bool:
        """Return whether the whole process is stopped."""
        stat = Path(f"/proc/{self.process.process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    def start_again(self) -> None:
        """Start a killed server again, at the same address."""
        old = self.process
        self.process = ServerProcess.start(old.database, *self.flags, port=old.port, program=FREEZING)


@dataclass(slots=True)
class Cluster:
    """Three servers on one database, of which one acts for launches."""

    url: str
    replicas: list[Replica] = field(default_factory=list)

    def token(self) -> int:
        """Return the token of the lease, which grows with each change of hands."""
        ((token,),) = query(self.url, "SELECT token FROM leases WHERE holder IS NOT NULL")
        return int(token)

    def holder(self) -> int:
        """Return which server holds the lease."""
        ((holder,),) = eventually(
            lambda: query(self.url, "SELECT holder FROM leases WHERE holder IS NOT NULL")
        )
        found = [
            index
            for index, replica in enumerate(self.replicas)
            if any(e["event"] == "lease.taken" and e["holder"] == holder for e in replica.process.events())
        ]
        assert len(found) == 1
        return found[0]

    def await_takeover(self, token: int) -> None:
        """Wait until another server than the one with this token acts."""
        eventually(lambda: self.token() > token, seconds=BOUND_SECONDS)

    def n_revisions(self) -> int:
        """Return how many revisions of experiments there are."""
        ((count,),) = query(self.url, "SELECT count(*) FROM configurations")
        return int(count)

    @property
    def wires(self) -> list[Wire]:
        """Return a channel to each server."""
        return [replica.wire for replica in self.replicas]

    def find(self, name: str) -> ExperimentRecord:
        """Return an experiment as the database has it."""
        with closing(open_store(self.url)) as store:
            found = store.find_experiment(name)
        assert found is not None
        return found


@pytest.fixture(scope="module")
def cluster(postgresql: PostgresqlProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three servers, all alive again after each fault."""
    folder = tmp_path_factory.mktemp("launches")
    found = Cluster(postgresql.create_database())
    with ExitStack() as stack:
        for number in range(N_SERVERS):
            proxy = stack.enter_context(TcpProxy(postgresql.port))
            url = found.url.replace(f":{postgresql.port}/", f":{proxy.port}/")
            flags = ("--database", url, *FLAGS)
            process = ServerProcess.start(folder / f"{number}.db", *flags, port=free_port(), program=FREEZING)
            wire = Wire(process.address)
            stack.callback(wire.close)
            found.replicas.append(Replica(process, proxy, wire, flags))
        try:
            yield found
        finally:
            for replica in found.replicas:
                replica.process.kill()


Fault = Callable[[Cluster, Replica, int, float, Callable[[], None]], None]
"""Does something to the server with the lease's token, and mends it; the callable is called in between."""


def kill(cluster: Cluster, victim: Replica, token: int, _: float, check: Callable[[], None]) -> None:
    """Kill it; it comes back once another acts."""
    victim.process.kill()
    cluster.await_takeover(token)
    check()
    victim.start_again()


def freeze_briefly(_: Cluster, victim: Replica, __: int, seconds: float, check: Callable[[], None]) -> None:
    """Freeze it for less than others wait."""
    victim.process.signal(signal.SIGSTOP)
    time.sleep(2 + 4 * seconds)  # the duration of the fault
    check()
    victim.process.signal(signal.SIGCONT)


def freeze(cluster: Cluster, victim: Replica, token: int, _: float, check: Callable[[], None]) -> None:
    """Freeze it until another acts."""
    victim.process.signal(signal.SIGSTOP)
    cluster.await_takeover(token)
    check()
    victim.process.signal(signal.SIGCONT)


def freeze_before(cluster: Cluster, victim: Replica, token: int, _: float, check: Callable[[], None]) -> None:
    """Freeze it between its next decision to act and the action, until another acts."""
    freeze_at(signal.SIGUSR1, cluster, victim, token, check)


def freeze_inside(cluster: Cluster, victim: Replica, token: int, _: float, check: Callable[[], None]) -> None:
    """Freeze it in the transaction of its next action, until another acts."""
    freeze_at(signal.SIGUSR2, cluster, victim, token, check)


def freeze_at(
    place: signal.Signals, cluster: Cluster, victim: Replica, token: int, check: Callable[[], None]
) -> None:
    """Freeze it at one of the places that it knows; what it was about to do is done by another meanwhile."""
    victim.process.signal(place)
    eventually(victim.is_stopped)
    n_revisions = cluster.n_revisions()
    check()
    cluster.await_takeover(token)
    eventually(lambda: cluster.n_revisions() > n_revisions)
    victim.process.signal(signal.SIGCONT)


def cut_off(cluster: Cluster, victim: Replica, token: int, _: float, check: Callable[[], None]) -> None:
    """Cut it off from the database until another acts."""
    victim.proxy.cut()
    cluster.await_takeover(token)
    check()
    victim.proxy.mend()


Planned = tuple[int, Fault, float]
"""After how much has happened a fault comes, which one, and how much of a second later."""


def some(*kinds: Fault) -> st.SearchStrategy[list[Planned]]:
    """Return a strategy of these faults, in any order and at any points."""
    points = st.permutations(POINTS).map(lambda found: sorted(found[: len(kinds)]))
    fractions = st.lists(st.floats(0, 1), min_size=len(kinds), max_size=len(kinds))
    parts = st.tuples(points, st.permutations(kinds), fractions)
    return parts.map(lambda drawn: list(zip(*drawn, strict=True)))


@dataclass(frozen=True, slots=True)
class Played:
    """A launch that is over.

    Attributes:
        told: What happened.
        ending: The experiment as it is left.
    """

    told: list[Told]
    ending: ExperimentRecord


def begin(cluster: Cluster) -> str:
    """Start a launch, and wait until every server serves it; return its name."""
    declared = launched()
    first, *_ = cluster.wires
    first.create(declared)
    first.start(declared.name)
    for wire in cluster.wires:
        eventually(partial(wire.choose, declared.name), until=is_drawn)
    return declared.name


def is_drawn(answer: bandit_pb2.ChooseResponse) -> bool:
    """Return whether an answer was drawn from the shares."""
    return answer.reason == bandit_pb2.REASON_POLICY


def is_fresh(answer: bandit_pb2.ChooseResponse) -> bool:
    """Return whether the launch lets a server answer from a snapshot of this age."""
    return answer.snapshot_age.ToTimedelta() <= timedelta(seconds=MAX_STALENESS)


def play(cluster: Cluster, planned: list[Planned]) -> Played:
    """Let a launch run from its start to its end, among faults at the servers that act for it."""
    name = begin(cluster)
    traffic = Traffic(name, cluster.wires)
    story = Story(traffic, cluster.wires)
    with traffic.flowing():
        for point, fault, fraction in planned:
            story.await_told(point)
            time.sleep(fraction)  # the fault comes at any moment after the event
            holder, token = cluster.holder(), cluster.token()
            others = [index for index in range(N_SERVERS) if index != holder]
            goes_on = partial(traffic.await_work, others, BOUND_SECONDS)
            traffic.ailing.add(holder)
            fault(cluster, cluster.replicas[holder], token, fraction, goes_on)
            traffic.await_work([holder], BOUND_SECONDS)
            traffic.ailing.clear()
        happened = story.await_end()
    assert traffic.failed == []
    record = cluster.find(name)
    logged = "SELECT DISTINCT decision FROM rewards WHERE experiment = %s"
    assert traffic.acked <= {bytes(decision) for (decision,) in query(cluster.url, logged, [record.number])}
    return Played(happened, ending(record))


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster) -> Played:
    """A launch without faults."""
    return play(cluster, [])


def test_without_faults_the_story_is_known(undisturbed: Played) -> None:
    """One challenger is rolled back; the other becomes champion, and then the winner."""
    assert undisturbed.told == list(STORY)
    assert undisturbed.ending.winner == GOOD


@pytest.mark.parametrize(
    "kinds",
    [(freeze_before, cut_off, freeze_briefly), (freeze_inside, kill, freeze)],
    ids=["before an action", "inside an action"],
)
@few
@given(data=st.data())
def test_faults_change_nothing(
    cluster: Cluster, undisturbed: Played, kinds: tuple[Fault, ...], data: st.DataObject
) -> None:
    """Whatever becomes of the server that acts, another acts within 25 s, and nothing happens otherwise.

    Meanwhile the other servers choose and take rewards, and no acknowledged reward is lost.
    """
    planned = data.draw(some(*kinds), "faults")
    assert play(cluster, planned) == undisturbed


def test_a_server_that_is_cut_off_soon_serves_the_champion_only(cluster: Cluster) -> None:
    """It goes on with an arm that was rolled back for no longer than the launch's own staleness."""
    name = begin(cluster)
    holder = cluster.holder()
    cut = next(index for index in range(N_SERVERS) if index != holder)
    victim = cluster.replicas[cut]
    eventually(partial(victim.wire.choose, name), until=lambda answer: answer.arm == BAD)
    others = [wire for index, wire in enumerate(cluster.wires) if index != cut]
    traffic = Traffic(name, others)
    victim.proxy.cut()
    answers: list[bandit_pb2.ChooseResponse] = []

    def ask() -> bandit_pb2.ChooseResponse:
        answers.append(victim.wire.choose(name))
        return answers[-1]

    with traffic.flowing():
        Story(traffic, others).await_told(ROLLED_BACK)
        eventually(ask, until=lambda answer: answer.reason == bandit_pb2.REASON_STALE)
        for _ in range(50):
            ask()
    _, *late = dropwhile(is_fresh, answers)  # the age in an answer is measured after the choice
    assert {(each.arm, each.reason) for each in late} == {(CHAMPION, bandit_pb2.REASON_STALE)}
    assert len(late) >= 50
    victim.proxy.mend()
    eventually(ask, until=is_drawn)
    assert BAD not in {ask().arm for _ in range(50)}
    cluster.wires[holder].conclude(name, CHAMPION)

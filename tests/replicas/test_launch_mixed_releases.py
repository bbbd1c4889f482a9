"""A server of the previous release that was frozen while a launch began: it serves, and undoes nothing."""

import signal
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

import grpc
import pytest

from bandit.launch.state import Launch
from bandit.v1 import bandit_pb2, launch_pb2, launch_pb2_grpc
from server.store.opening import open_store
from server.store.tables.writers import EXPIRY
from tests.conftest import Connect
from tests.replicas.conftest import FLAGS
from tests.support.launch_story import BAD, CHAMPION, GOOD, LAUNCH_FLAGS, launched
from tests.support.old_server import OldRelease
from tests.support.postgresql import PostgresqlProcess, query
from tests.support.process import ServerProcess, eventually
from tests.support.wire import CALL_SECONDS, Wire

UNITS: Final = tuple(f"u{number}" for number in range(100))
RECORDED: Final = bandit_pb2.OUTCOME_RESULT_RECORDED
DUPLICATE: Final = bandit_pb2.OUTCOME_RESULT_DUPLICATE


@pytest.fixture
def old(tmp_path: Path) -> OldRelease:
    """The previous release."""
    release = OldRelease(tmp_path)
    release.require(tmp_path)
    return release


@pytest.fixture
def servers() -> Iterator[list[ServerProcess]]:
    """The servers, one of them of the previous release; those left running are stopped at the end."""
    started: list[ServerProcess] = []
    yield started
    for server in started:
        if server.process.poll() is None:
            server.kill()


def has_created(wire: Wire, name: str) -> bool:
    """Return whether a launch could be declared: PostgreSQL ends a frozen server's transaction after 10 s."""
    declared = launched()
    declared.name = name
    try:
        wire.create(declared)
    except grpc.RpcError:
        return False
    return True


def arms_of(wire: Wire, name: str) -> list[tuple[str, float]]:
    """Return the arm and propensity of each unit."""
    answers = [wire.choose(name, unit=unit) for unit in UNITS]
    return [(answer.arm, answer.propensity) for answer in answers]


def are_alike(wires: list[Wire], name: str) -> bool:
    """Return whether all servers serve the same shares."""
    first, *others = [arms_of(wire, name) for wire in wires]
    return all(other == first for other in others)


def launch_of(url: str, name: str) -> Launch:
    """Return a launch as the database has it."""
    with closing(open_store(url)) as store:
        found = store.find_experiment(name)
    assert found is not None
    assert found.launch is not None
    return found.launch


def test_an_old_server_that_wakes_up_undoes_no_stage(
    old: OldRelease,
    servers: list[ServerProcess],
    postgresql: PostgresqlProcess,
    tmp_path: Path,
    connect: Connect,
) -> None:
    """It serves each stage's shares, its decisions are rewarded anywhere, and it can't change the launch."""
    url = postgresql.create_database()
    flags = ("--database", url, *FLAGS)
    servers.append(old.start(tmp_path / "before.db", *flags))
    servers.append(ServerProcess.start(tmp_path / "after.db", *flags, *LAUNCH_FLAGS))
    before, after = wires = [connect(server) for server in servers]
    verbs = launch_pb2_grpc.LaunchServiceStub(after.channel)
    plain, name = after.running(), "launched"
    eventually(lambda: before.choose(plain).reason == bandit_pb2.REASON_POLICY)

    servers[0].signal(signal.SIGSTOP)
    query(url, "UPDATE writers SET seen_at = seen_at - %s", [EXPIRY.total_seconds() * 1e6])
    eventually(partial(has_created, after, name))
    after.start(name)
    servers[0].signal(signal.SIGCONT)

    eventually(lambda: before.choose(name).reason == bandit_pb2.REASON_POLICY)
    eventually(partial(are_alike, wires, name))
    assert {arm for arm, _ in arms_of(before, name)} == {CHAMPION, GOOD, BAD}
    for wire, other in (wires, wires[::-1]):
        decision = wire.choose(name).decision_id
        assert wire.reward(decision, {"error": 0.0}) == {"error": RECORDED}
        assert other.reward(decision, {"error": 0.0}) == {"error": DUPLICATE}

    stood = launch_of(url, name)
    for change in (partial(before.pause, name), partial(before.conclude, name, GOOD)):
        with pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
            change()
    assert launch_of(url, name) == stood

    verb = launch_pb2.LaunchVerb(name=name, arm=BAD, reason="a person saw harm")
    request = launch_pb2.RollBackLaunchRequest(verb=verb)
    verbs.RollBackLaunch(request, timeout=CALL_SECONDS)
    eventually(partial(are_alike, wires, name))
    assert {arm for arm, _ in arms_of(before, name)} == {CHAMPION, GOOD}
    assert before.choose(name, eligible_arms=[BAD]).reason == bandit_pb2.REASON_NO_ELIGIBLE_ARM
    arms = launch_of(url, name).arms
    assert (arms[GOOD], arms[BAD].state) == (stood.arms[GOOD], "rolled_back")
    assert [server.terminate() for server in servers] == [0, 0]

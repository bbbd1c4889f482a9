"""Launches beside servers of the previous release, which know none."""

import signal
from pathlib import Path

import pytest

from bandit.v1 import bandit_pb2
from bandit.v1.launch_pb2 import LAUNCH_STAGE_KIND_BANDIT, LaunchPlan, LaunchStage
from server.store.tables.experiments import LAUNCH
from tests.conftest import Connect
from tests.replicas.conftest import FLAGS
from tests.replicas.mixed import forget_beats, has_failed, last_revisions, works
from tests.support.old_server import OldRelease
from tests.support.postgresql import PostgresqlProcess, query
from tests.support.process import ServerProcess, eventually
from tests.support.refusals import refused
from tests.support.wire import experiment


def test_launches_wait_until_no_old_server_is_live(
    old: OldRelease,
    servers: list[ServerProcess],
    postgresql: PostgresqlProcess,
    tmp_path: Path,
    connect: Connect,
) -> None:
    """A launch is stored neither by create nor by update while a server that would lose it is live.

    The refusal names that server and changes nothing. One that was frozen meanwhile, and wakes up, serves no
    arm that waits, and neither changes the launch nor starts again.
    """
    url = postgresql.create_database()
    flags = ("--database", url, *FLAGS)
    servers.append(old.start(tmp_path / "before.db", *flags))
    servers.append(ServerProcess.start(tmp_path / "after.db", *flags))
    before, after = map(connect, servers)
    plan = LaunchPlan(stages=[LaunchStage(kind=LAUNCH_STAGE_KIND_BANDIT)])
    plain = after.running()
    eventually(lambda: before.choose(plain).reason == bandit_pb2.REASON_POLICY)
    launched = experiment(launch=plan)
    calls = [
        lambda: after.create(launched),
        lambda: after.update(experiment(name=plain, launch=plan), "launch"),
    ]
    stood = last_revisions(url)
    for call in calls:
        refusal = refused(call)
        assert refusal.reason == "OLDER_SERVERS"
        assert "launches need release 0.3.0" in refusal.message
        assert "0.2.0 or older in slot " in refusal.message
    assert last_revisions(url) == stood
    works([before, after], plain)

    servers[0].signal(signal.SIGSTOP)
    forget_beats(url)
    for call in calls:
        eventually(lambda call=call: not has_failed(call))  # type: ignore[misc]
    assert query(url, "SELECT oldest_code FROM compatibility") == [(LAUNCH.schema,)]
    after.start(launched.name)
    servers[0].signal(signal.SIGCONT)
    eventually(lambda: before.choose(launched.name).reason == bandit_pb2.REASON_POLICY)
    for wire in (before, after):
        assert {wire.choose(launched.name, unit=f"u{number}").arm for number in range(50)} == {"a"}
        assert wire.choose(launched.name, eligible_arms=["b"]).arm == "a"
    works([before, after], launched.name)
    stood = last_revisions(url)
    with pytest.raises(Exception, match="UNAVAILABLE"):
        before.pause(launched.name)
    assert last_revisions(url) == stood
    refused_start = old.run("serve", "--listen", "127.0.0.1:0", *flags, folder=tmp_path)
    assert refused_start.returncode == 1
    assert f"needs code of schema {LAUNCH.schema} or later" in refused_start.stderr
    assert [server.terminate() for server in servers] == [0, 0]

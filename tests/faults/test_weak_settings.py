"""Settings of PostgreSQL that change under a running server: acknowledged rewards stay safe."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import grpc

from bandit.v1 import bandit_pb2
from server.app import maintenance
from server.settings import Settings
from tests.replicas.conftest import running_replicas
from tests.support.ledger import decision_of
from tests.support.postgresql import PostgresqlProcess, query
from tests.support.process import eventually
from tests.support.refusals import refused
from tests.support.wire import Wire

N_REWARDS: Final = 200


def reload_with(url: str, setting: str) -> None:
    """Change a setting of the whole server, as an operator does, and wait until it is in force."""
    name, _, value = setting.partition("=")
    query(url, f"ALTER SYSTEM SET {name} = '{value}'")
    query(url, "SELECT pg_reload_conf()")
    eventually(lambda: query(url, f"SHOW {name}") == [(value,)])


@contextmanager
def rewarded_server(url: str, folder: Path) -> Iterator[tuple[Wire, str]]:
    """A server whose connections are all open, and an experiment on it."""
    with running_replicas(url, folder, "--metrics-listen", "127.0.0.1:0") as start:
        wire = Wire(start(1)[0].address)
        name = wire.running()
        wire.reward(wire.choose(name).decision_id, {"click": 1})
        yield wire, name
        wire.close()


def test_a_reload_takes_no_durability_away(own_postgresql: PostgresqlProcess, tmp_path: Path) -> None:
    """With synchronous_commit turned off by a reload, no acknowledged reward is lost when PostgreSQL dies.

    Only commits that wait for it write its log out, so that any other commit would be lost. The
    server goes on afterwards, with connections that it makes under the weaker setting.
    """
    url = own_postgresql.create_database()
    with rewarded_server(url, tmp_path) as (wire, name):
        reload_with(url, "wal_writer_delay=10s")
        reload_with(url, "synchronous_commit=off")
        ids = [wire.choose(name).decision_id for _ in range(N_REWARDS)]
        for decision_id in ids:
            wire.reward(decision_id, {"click": 1})
        own_postgresql.kill()
        own_postgresql.start()
        logged = {bytes(decision) for (decision,) in query(url, "SELECT decision FROM rewards")}
        assert set(map(decision_of, ids)) <= logged
        more = [wire.choose(name).decision_id for _ in range(N_REWARDS)]

        def is_back() -> bool:
            try:
                wire.reward(more[0], {"click": 1})
            except grpc.RpcError:
                return False
            return True

        eventually(is_back)
        for decision_id in more:
            wire.reward(decision_id, {"click": 1})
        own_postgresql.kill()
        own_postgresql.start()
        logged = {bytes(decision) for (decision,) in query(url, "SELECT decision FROM rewards")}
        assert set(map(decision_of, more)) <= logged
        query(url, "ALTER SYSTEM RESET synchronous_commit")
        query(url, "SELECT pg_reload_conf()")
    report = maintenance.verify(Settings(database=url), lambda _done, _total: None)
    assert report.is_clean, report.differences


def test_nothing_is_acknowledged_while_fsync_is_off(
    own_postgresql: PostgresqlProcess, tmp_path: Path
) -> None:
    """With fsync turned off by a reload, Reward is UNAVAILABLE with the reason, until it is on again.

    Choose goes on, and its decisions are confirmed: the database can be read.
    """
    url = own_postgresql.create_database()
    with running_replicas(url, tmp_path, "--metrics-listen", "127.0.0.1:0", "--lag-seconds", "2") as start:
        (server,) = start(1)
        wire = Wire(server.address)
        name = wire.running()
        wire.reward(wire.choose(name).decision_id, {"click": 1})
        reload_with(url, "fsync=off")
        decision_id = wire.choose(name).decision_id
        refusal = refused(lambda: wire.reward(decision_id, {"click": 1}))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORAGE_UNSAFE")
        assert "fsync is off" in refusal.message
        assert refusal.retry_seconds
        (n_logged,) = query(url, "SELECT count(*) FROM rewards")[0]
        assert n_logged == 1
        eventually(lambda: server.sample("bandit_store_up") == 0)
        (away,) = [event for event in server.events() if event["event"] == "store.away"]
        assert "fsync is off" in away["error"]
        age = wire.choose(name).snapshot_age.ToTimedelta().total_seconds()
        assert age < 2
        reload_with(url, "fsync=on")
        eventually(lambda: server.sample("bandit_store_up") == 1)
        assert wire.reward(decision_id, {"click": 1}) == {"click": bandit_pb2.OUTCOME_RESULT_RECORDED}
        assert wire.n_decisions(name)["unconfirmed"] == 0
        wire.close()

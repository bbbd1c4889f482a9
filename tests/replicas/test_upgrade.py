"""A rolling upgrade: servers keep serving while a newer one migrates, and can be restarted."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from server.store.opening import open_store
from tests.conftest import Connect
from tests.replicas.conftest import FLAGS, N_REPLICAS, running_replicas
from tests.store.builders import facts_of
from tests.store.frozen.freeze import FOLDER
from tests.support.next_schema import NEXT
from tests.support.postgresql import PostgresqlProcess, query
from tests.support.process import ServerProcess, run_command
from tests.support.wire import Wire

REPLICA = ("serve", "--listen", "127.0.0.1:0", *FLAGS)


@pytest.fixture
def old_url(postgresql: PostgresqlProcess) -> str:
    """The URL of a database as servers of the released version left it."""
    url = postgresql.create_database()
    query(url, (FOLDER / "0002.postgresql.sql").read_text())
    return url


def works(wire: Wire) -> str:
    """Create an experiment, ask and reward; each call must succeed."""
    name = wire.running()
    decision_id = wire.choose(name).decision_id
    assert set(wire.reward(decision_id, {"click": 1})) == {"click"}
    assert wire.n_outcomes(name) == 1
    return name


def troubles_of(servers: Sequence[ServerProcess]) -> set[str]:
    """Return the names of the warnings and errors that servers logged."""
    levels = {"error", "critical", "warning"}
    return {event["event"] for server in servers for event in server.events() if event["level"] in levels}


def test_a_rolling_upgrade(old_url: str, tmp_path: Path, connect: Connect) -> None:
    """Four servers migrate an old schema to this one at once, and serve while a next one is added.

    Servers of this version go on during the next version's migration and after it, and one that is restarted
    comes up. Once a schema requires newer code, a restart is refused with that reason.
    """
    with running_replicas(old_url, tmp_path) as start:
        servers = start(N_REPLICAS)
        wires = [connect(server) for server in servers]
        assert {wire.choose("concluded").arm for wire in wires} == {"challenger"}
        names = [works(wires[0]), works(wires[1])]
        with closing(open_store(old_url, schema=NEXT)) as newer:
            for wire in wires:
                assert wire.choose(names[0]).arm
            names += [works(wires[2]), works(wires[3])]
            assert newer.find_experiment(names[-1]) is not None
            assert servers[0].terminate() == 0
            (again,) = start(1)
            names.append(works(connect(again)))
            assert [wires[1].n_outcomes(name) for name in names] == [1] * len(names)
            facts_of(newer)
        assert query(old_url, "SELECT version_num FROM alembic_version") == [("9001",)]
        assert troubles_of(servers) == set()
        query(old_url, "UPDATE compatibility SET oldest_code = '9001'")
        done = run_command(*REPLICA, "--database", old_url, folder=tmp_path)
        assert done.returncode == 1
        assert "the database has schema 9001, which needs code of schema 9001 or later" in done.stderr
        assert wires[1].choose(names[0]).arm
    assert troubles_of(servers) <= {"server.outdated"}

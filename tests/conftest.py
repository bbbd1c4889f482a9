"""Fixtures of all tests: no setting from outside, and real servers that must end well."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.postgresql import PostgresqlProcess
from tests.support.process import ServerProcess, serving
from tests.support.wire import Wire

StartServer = Callable[..., ServerProcess]
Connect = Callable[[ServerProcess], Wire]

# A busy machine is no failure, and what passed passes again; `--hypothesis-profile=exploring` tries anew.
settings.register_profile("exploring", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", settings.get_profile("exploring"), derandomize=True)
settings.load_profile("repeatable")

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # the many servers and commands need not each compile anew


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the machine that runs the tests say nothing here."""
    for variable in [name for name in os.environ if name.upper().startswith("BANDIT_")]:
        monkeypatch.delenv(variable)


@pytest.fixture(scope="session")
def shared_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for every test that can share it.

    Whatever they sent it, at the end it stops with 0, its log is one JSON object a line and holds no
    failure of its own, and its facts are the fold of its ledger.
    """
    with serving(tmp_path_factory.mktemp("server") / "bandit.db") as server:
        yield server
    assert [event for event in server.events() if event["level"] in {"error", "critical"}] == []


@pytest.fixture(scope="session")
def shared_wire(shared_process: ServerProcess) -> Iterator[Wire]:
    """A channel to the server that tests share."""
    wire = Wire(shared_process.address)
    yield wire
    wire.close()


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers of the test's own, on `bandit.db` in its folder; those left running must stop with 0."""
    started: list[ServerProcess] = []

    def start(*flags: str, port: int = 0, program: Sequence[str] = ("server",)) -> ServerProcess:
        started.append(ServerProcess.start(tmp_path / "bandit.db", *flags, port=port, program=program))
        return started[-1]

    yield start
    exit_codes = [server.terminate() for server in started if server.process.poll() is None]
    assert set(exit_codes) <= {0}


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Opens channels that are closed at the end."""
    wires: list[Wire] = []

    def open_wire(server: ServerProcess) -> Wire:
        wires.append(Wire(server.address))
        return wires[-1]

    yield open_wire
    for wire in wires:
        wire.close()


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresqlProcess]:
    """One PostgreSQL for every test that can share it; no transaction of theirs may end in a deadlock."""
    server = PostgresqlProcess(tmp_path_factory.mktemp("postgresql"))
    yield server
    server.stop(signal.SIGQUIT)  # at once: a checkpoint of a hundred databases would take long
    assert "deadlock detected" not in server.log


@pytest.fixture(params=["postgresql", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'bandit.db'}"
    postgresql = request.getfixturevalue("postgresql")
    assert isinstance(postgresql, PostgresqlProcess)
    return postgresql.create_database()


@pytest.fixture
def own_postgresql(tmp_path: Path) -> Iterator[PostgresqlProcess]:
    """A PostgreSQL of the test's own, which it may kill."""
    server = PostgresqlProcess(tmp_path / "postgresql")
    yield server
    server.stop(signal.SIGQUIT)

"""Fixtures of all tests: a scrubbed environment, and real servers that must exit cleanly."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

from tests.support.postgresql import PostgresqlProcess
from tests.support.process import FAST_LANE, LISTENERS, WITH_FAST_LANE, ServerProcess, serving
from tests.support.wire import Wire

StartServer = Callable[..., ServerProcess]
Connect = Callable[[ServerProcess], Wire]

# No deadlines, as machines are busy, and fixed examples; `--hypothesis-profile=exploring` tries new ones.
settings.register_profile("exploring", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", settings.get_profile("exploring"), derandomize=True)
settings.load_profile("repeatable")

SLOW: Final = (
    "acceptance",  # epochs close and drains end in real time
    "bandit/client/processes",  # programs start, fork and end
    "bandit/client/streams/test_stream_service.py",  # servers drain, die, and end old connections
    "bandit/client/test_guardrails.py",  # windows end in real time
    "benchmarks/launch",  # each benchmark runs once, scaled down
    "benchmarks/outage",
    "benchmarks/regret",
    "benchmarks/throughput",
    "benchmarks/validity",
    "cli/commands/test_clock.py",  # servers start on both databases
    "cli/experiment_file/test_hostile_files.py",  # huge files, and anything that Hypothesis finds
    "cli/test_output.py",  # every command in every situation, and several servers
    "docs/test_off_policy.py",  # real traffic for seconds
    "docs/test_readme.py",
    "faults",  # servers and databases are killed, flooded and cut off
    "foreign",  # programs in other languages are built
    "listening",  # many servers start
    "packaging",  # wheels are built and installed
    "replicas",  # several servers start, among them the previous release
    "rpc/test_giving_up.py",  # deadlines pass
    "rpc/test_keepalive.py",  # pings are ten seconds apart
    "rpc/test_quotas.py",  # thousands of experiments and arms
    "security",  # servers start with keys, certificates and tokens that change
    "services/launch",  # launches from stage to stage, and leases on a real PostgreSQL
    "services/whole",  # long random histories on a real PostgreSQL
    "standby",  # outages last for seconds
    "store/columns/test_exact_sums.py",  # long random histories
    "store/maintenance",  # several servers start
    "store/test_ledger_model.py",
)
"""Folders and files of tests that take longer than `pytest -m "not slow"` may, and why."""

LONG: Final = (
    "acceptance/test_names_of_models.py",  # every command and page with every name
    "benchmarks/outage",  # the database is away for as long as it takes to be noticed
    "cli/commands/test_clock.py",
    "cli/test_output.py",  # every command in every situation
    "faults/fast_lane",  # peers stall until they are cut off
    "faults/test_floods.py",
    "faults/test_four_replicas.py",
    "faults/test_kill.py",
    "faults/test_kill_launch.py",  # launches run from their start to their end
    "faults/test_kill_purging.py",
    "faults/test_kill_reporter.py",
    "faults/test_kill_workers.py",
    "faults/test_postgresql_dies.py",
    "faults/test_weak_settings.py",
    "listening/test_unix_sockets.py",
    "packaging/test_wheel.py",  # an environment is made from nothing
    "replicas/test_launch_faults.py",  # silent holders are waited for, again and again
    "replicas/test_launch_mixed_releases.py",  # the previous release runs beside this one
    "replicas/test_leases.py",  # a silent holder is waited for
    "replicas/test_mixed_launches.py",  # the previous release is installed and runs beside this one
    "replicas/test_mixed_releases.py",  # the same
    "replicas/test_upgrade.py",
    "rpc/test_keepalive.py",  # pings are ten seconds apart
    "standby/test_start.py",
    "standby/test_workers.py",
)
"""Those of them that would take a suite of ten minutes beyond its time: a step of their own in `.ci/run`."""

DATABASES: Final = frozenset({"postgresql", "own_postgresql"})
"""Fixtures, and a parameter of others, that start a PostgreSQL."""

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else every server and command compiles again


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in a job that a script runs in the background: programs that tests start would ignore it, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)  # `-p no:xdist` leaves nothing to call it
def pytest_xdist_auto_num_workers() -> int:
    """Return how many tests `-n auto` runs at once: more than there are cores, since many only wait."""
    return (os.cpu_count() or 1) + 2


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Mark the tests below `SLOW`, those that use a real PostgreSQL, and those below `LONG`.

    What is slow is long on the second of two listeners.
    """
    slow, long = ([Path(__file__).parent / path for path in paths] for paths in (SLOW, LONG))
    for item in items:
        uses = {
            item.name.rpartition("[")[2].rstrip("]").partition("-")[0],
            *getattr(item, "fixturenames", ()),
        }
        if uses & DATABASES or any(item.path.is_relative_to(path) for path in slow):
            item.add_marker(pytest.mark.slow)
        is_repeated = _listener_of(item) == FAST_LANE and item.get_closest_marker("slow")
        if is_repeated or any(item.path.is_relative_to(path) for path in long):
            item.add_marker(pytest.mark.long)


def _listener_of(item: pytest.Item) -> object:
    """Return the listener of a test that runs on each."""
    return item.callspec.params.get("listener") if hasattr(item, "callspec") else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests marked `both_listeners` on each listener."""
    if "listener" in metafunc.fixturenames and metafunc.definition.get_closest_marker("both_listeners"):
        metafunc.parametrize("listener", LISTENERS, indirect=True, scope="session")


@pytest.fixture(scope="session")
def listener(request: pytest.FixtureRequest) -> str:
    """The listener that a test's calls of the data plane and health go to: grpcio's, unless it is marked."""
    found: str = getattr(request, "param", LISTENERS[0])
    return found


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the settings of the machine that runs the tests."""
    for variable in [name for name in os.environ if name.upper().startswith("BANDIT_")]:
        monkeypatch.delenv(variable)


@pytest.fixture(scope="session")
def shared_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Start one server for every test that can share it.

    Whatever tests sent it, at the end it exits with 0, its log has one JSON object per line and no failure of
    the server, and its facts are the fold of its log.
    """
    with serving(tmp_path_factory.mktemp("server") / "bandit.db", *WITH_FAST_LANE) as server:
        yield server
    assert [event for event in server.events() if event["level"] in {"error", "critical"}] == []


@pytest.fixture(scope="session")
def shared_wire(shared_process: ServerProcess, listener: str) -> Iterator[Wire]:
    """Open a channel to the server that tests share."""
    wire = Wire.to(shared_process, listener)
    yield wire
    wire.close()


@pytest.fixture
def start_server(tmp_path: Path, listener: str) -> Iterator[StartServer]:
    """Start separate servers on `bandit.db` in the test's folder; those left running must exit with 0."""
    started: list[ServerProcess] = []

    def start(*flags: str, port: int = 0, program: Sequence[str] = ("server",)) -> ServerProcess:
        if listener == FAST_LANE:
            flags = (*WITH_FAST_LANE, *flags)
        started.append(ServerProcess.start(tmp_path / "bandit.db", *flags, port=port, program=program))
        return started[-1]

    yield start
    exit_codes = [server.terminate() for server in started if server.process.poll() is None]
    for server in started:
        server.wait()  # it closes the output of those that ended before, too
    assert set(exit_codes) <= {0}


@pytest.fixture
def connect(listener: str) -> Iterator[Connect]:
    """Open channels that are closed at the end."""
    wires: list[Wire] = []

    def open_wire(server: ServerProcess) -> Wire:
        wires.append(Wire.to(server, listener))
        return wires[-1]

    yield open_wire
    for wire in wires:
        wire.close()


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresqlProcess]:
    """Start one PostgreSQL for every test that can share it; none of their transactions may deadlock."""
    server = PostgresqlProcess(tmp_path_factory.mktemp("postgresql"))
    yield server
    server.stop(signal.SIGQUIT)  # a checkpoint of a hundred databases would take long
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
    """Start a separate PostgreSQL, which the test may kill."""
    server = PostgresqlProcess(tmp_path / "postgresql")
    yield server
    server.stop(signal.SIGQUIT)

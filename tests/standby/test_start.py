"""Starts while PostgreSQL is unreachable: from a snapshot, or waiting, until it is back."""

import base64
import os
import signal
import stat
import time
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

from bandit.decision_id import Basis
from bandit.v1 import bandit_pb2
from benchmarks.harness.processes import free_port
from server.app import maintenance
from server.app.application import Application
from server.services.signing_keys.file import read_keys, write_keys
from server.services.signing_keys.rotation import fresh_ring
from server.services.snapshot.file import SnapshotFileError, read_snapshot, write_snapshot
from server.settings import Settings
from server.store.opening import find_store
from server.store.records import KeyRing
from tests.conftest import Connect
from tests.standby.conftest import StartOn
from tests.support.postgresql import PostgresqlProcess
from tests.support.process import ServerProcess, eventually, run_command
from tests.support.refusals import refused
from tests.support.wire import Wire

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNITS = [f"u{number}" for number in range(20)]
NOBODY = "postgresql+psycopg://postgres@127.0.0.1:{port}/bandit"


def events(server: ServerProcess) -> list[str]:
    """Return the names of the events that a server logged."""
    return [event["event"] for event in server.events()]


def basis_of(decision_id: str) -> Basis:
    """Return the basis in a decision id."""
    return Basis(base64.urlsafe_b64decode(decision_id)[33])


def arms_of(wire: Wire, name: str) -> list[tuple[str, float]]:
    """Return arm and propensity of some units."""
    return [(choice.arm, choice.propensity) for choice in (wire.choose(name, unit=unit) for unit in UNITS)]


def keep_one(
    postgresql: PostgresqlProcess, start_on: StartOn, connect: Connect, keeping: tuple[str, ...]
) -> tuple[str, str, list[tuple[str, float]]]:
    """Run an experiment, stop server and database, and return the URL, the name and the units' arms."""
    url = postgresql.create_database()
    server = start_on(url, *keeping)
    wire = connect(server)
    name = wire.running()
    arms = arms_of(wire, name)
    assert server.terminate() == 0
    postgresql.stop(signal.SIGQUIT)
    return url, name, arms


def test_a_server_starts_from_its_snapshot_and_recovers_with_the_database(
    own_postgresql: PostgresqlProcess, start_on: StartOn, connect: Connect, keeping: tuple[str, ...]
) -> None:
    """Without its database it serves every unit the same arm, and reports the age of its snapshot.

    Decisions are unconfirmed, Reward returns UNAVAILABLE with a retry delay, and nothing is NOT_FOUND. When
    the database is back, the same process records and counts rewards of those decisions and serves normally.
    """
    url, name, arms = keep_one(own_postgresql, start_on, connect, keeping)
    server = start_on(url, *keeping)
    wire = connect(server)
    assert wire.health_of("") == SERVING
    assert arms_of(wire, name) == arms
    choice = wire.choose(name)
    assert choice.reason == bandit_pb2.REASON_POLICY
    assert basis_of(choice.decision_id) is Basis.UNCONFIRMED
    assert choice.snapshot_age.ToTimedelta().total_seconds() >= 2
    for call in (
        lambda: wire.reward(choice.decision_id, {"click": 1}),
        lambda: wire.reward(choice.decision_id[::-1], {"click": 1}),
        lambda: wire.choose("not-in-the-snapshot"),
        lambda: wire.get(name),
    ):
        refusal = refused(call)
        assert refusal.code is grpc.StatusCode.UNAVAILABLE
        assert refusal.retry_seconds
    questions = [bandit_pb2.ChooseRequest(experiment=each) for each in (name, "not-in-the-snapshot")]
    known, unknown = wire.batch_choose(*questions)
    assert known.choice.arm in {"a", "b"}
    assert unknown.error.code == grpc.StatusCode.UNAVAILABLE.value[0]

    own_postgresql.start()
    eventually(lambda: "standby.over" in events(server))
    assert basis_of(wire.choose(name).decision_id) is Basis.POLICY
    assert wire.reward(choice.decision_id, {"click": 1}) == {"click": bandit_pb2.OUTCOME_RESULT_RECORDED}
    assert refused(lambda: wire.choose("never-there")).code is grpc.StatusCode.NOT_FOUND
    assert eventually(lambda: wire.n_decisions(name)["unconfirmed"]) == len(UNITS) + 2
    assert wire.running()
    assert events(server).count("standby.serving") == 1
    assert events(server).count("store.back") == 1
    assert server.terminate() == 0
    report = maintenance.verify(Settings(database=url), lambda _done, _total: None)
    assert (report.is_clean, report.n_outcomes) == (True, 1)


def test_a_snapshot_past_max_staleness_gives_the_champion(
    own_postgresql: PostgresqlProcess, start_on: StartOn, connect: Connect, keeping: tuple[str, ...]
) -> None:
    """The server's downtime counts towards the age: the champion answers, marked as stale."""
    url, name, _ = keep_one(own_postgresql, start_on, connect, keeping)
    wire = connect(start_on(url, *keeping, "--max-staleness-seconds", "2.05"))
    answers = [eventually(lambda: wire.choose(name), until=lambda c: c.reason == bandit_pb2.REASON_STALE)]
    answers += [wire.choose(name, unit=unit) for unit in UNITS]
    assert {(c.arm, c.propensity, c.reason) for c in answers} == {("a", 1.0, bandit_pb2.REASON_STALE)}


def is_whole(path: Path, ring: KeyRing) -> bool:
    """True if a server can start from the snapshot."""
    try:
        return bool(read_snapshot(path, ring).live)
    except SnapshotFileError:
        return False


def test_a_damaged_snapshot_is_ignored_and_the_server_waits(
    own_postgresql: PostgresqlProcess,
    start_on: StartOn,
    connect: Connect,
    keeping: tuple[str, ...],
    tmp_path: Path,
) -> None:
    """It warns, is not ready and answers UNAVAILABLE; with the database it serves, and rewrites the file."""
    url, name, arms = keep_one(own_postgresql, start_on, connect, keeping)
    snapshot = tmp_path / "snapshot"
    whole = snapshot.read_bytes()
    snapshot.write_bytes(whole[:-10])
    server = start_on(url, *keeping)
    wire = connect(server)
    assert wire.health_of("") == wire.health_of("bandit.v1.BanditService") == NOT_SERVING
    for call in (lambda: wire.choose(name), lambda: wire.reward("A" * 80, {"click": 1})):
        assert refused(call).code is grpc.StatusCode.UNAVAILABLE
    (warning,) = [event for event in server.events() if event["event"] == "snapshot.ignored"]
    assert (warning["level"], warning["reason"]) == ("warning", f"{snapshot} is damaged")
    own_postgresql.start()
    eventually(lambda: wire.health_of(""), until=lambda status: status == SERVING)
    assert arms_of(wire, name) == arms
    ring = read_keys(Path(keeping[keeping.index("--keys") + 1]))
    eventually(lambda: is_whole(snapshot, ring))
    assert server.process.stdout is not None
    assert server.process.stdout.readline() == f"bandit-server is serving at {server.address}\n"


def test_a_server_without_a_snapshot_waits_for_its_database_and_stops_on_sigterm(
    start_on: StartOn, connect: Connect
) -> None:
    """It logs that, is not ready, refuses single and batched calls, shows metrics, and exits with 0."""
    server = start_on(NOBODY.format(port=free_port()), "--metrics-listen", "127.0.0.1:0")
    wire = connect(server)
    assert wire.health_of("") == NOT_SERVING
    assert refused(lambda: wire.choose("any")).code is grpc.StatusCode.UNAVAILABLE
    (answer,) = wire.batch_choose(bandit_pb2.ChooseRequest(experiment="any"))
    assert answer.error.code == grpc.StatusCode.UNAVAILABLE.value[0]
    assert "bandit_store_up 0.0" in server.scrape()
    assert "standby.waiting" in events(server)
    assert "server.serving" not in events(server)
    assert server.terminate() == 0


def test_a_snapshot_of_another_deployment_is_dropped_when_the_database_is_there(
    own_postgresql: PostgresqlProcess, start_on: StartOn, connect: Connect, keeping: tuple[str, ...]
) -> None:
    """Keys that differ are logged as an error; the database wins, and nothing foreign is counted."""
    _, name, _ = keep_one(own_postgresql, start_on, connect, keeping)
    own_postgresql.start()
    other = own_postgresql.create_database()
    first = start_on(other)
    wire = connect(first)
    others = wire.running()
    assert first.terminate() == 0
    own_postgresql.stop(signal.SIGQUIT)
    server = start_on(other, *keeping)
    wire = connect(server)
    foreign = wire.choose(name)
    own_postgresql.start()
    eventually(lambda: "standby.over" in events(server))
    assert refused(lambda: wire.choose(name)).code is grpc.StatusCode.NOT_FOUND
    assert "snapshot.foreign" in events(server)
    assert refused(lambda: wire.reward(foreign.decision_id, {"click": 1})).reason == "DECISION_ID_INVALID"
    decision = wire.choose(others).decision_id
    assert wire.reward(decision, {"click": 1}) == {"click": bandit_pb2.OUTCOME_RESULT_RECORDED}
    assert set(wire.n_decisions(others).values()) <= {0, 1}


@pytest.mark.parametrize(
    ("mistake", "text"),
    [("nobody@", "check user, password and its name"), ("/none", "check user, password and its name")],
)
def test_a_wrong_database_is_an_error_at_once(
    postgresql: PostgresqlProcess, keeping: tuple[str, ...], tmp_path: Path, mistake: str, text: str
) -> None:
    """A user or database that PostgreSQL does not know ends the start with one line, even with a snapshot."""
    url = postgresql.create_database()
    wrong = url.replace("postgres@", mistake) if mistake.endswith("@") else url.rpartition("/")[0] + mistake
    done = run_command("serve", "--listen", "127.0.0.1:0", "--database", wrong, *keeping, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: the database refuses the connection")
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_the_files_are_private_to_their_owner(
    postgresql: PostgresqlProcess, start_on: StartOn, keeping: tuple[str, ...], tmp_path: Path
) -> None:
    """Only the owner can read keys and snapshot; keys that others can read cause a warning."""
    url = postgresql.create_database()
    server = start_on(url, *keeping)
    keys, snapshot = tmp_path / "keys", tmp_path / "snapshot"
    eventually(snapshot.exists)
    assert "keys.ignored" not in events(server)
    assert [stat.S_IMODE(file.stat().st_mode) for file in (keys, snapshot)] == [0o600, 0o600]
    assert server.terminate() == 0
    keys.chmod(0o644)
    again = start_on(url, *keeping)
    assert "keys.open_to_others" in events(again)
    assert again.terminate() == 0
    assert [path.name for path in tmp_path.glob("*.new")] == []


async def test_keys_that_could_not_be_written_are_written_later(tmp_path: Path) -> None:
    """Keys that change while the folder is missing, as on a full disk, are written once that is possible."""
    folder = tmp_path / "later"
    url = NOBODY.format(port=1)
    settings = Settings(database=url, snapshot=folder / "snapshot", keys=folder / "keys")
    store = find_store(url)
    application = Application(settings, store, number=None, on_broken=lambda: None)
    ring = fresh_ring()
    application.standby.take_keys(ring)
    folder.mkdir()
    await application.standby.save()
    assert read_keys(folder / "keys") == ring
    application.services.store.close()
    store.close()


@pytest.mark.parametrize(("ahead_ms", "is_stale"), [(1_000, False), (3_600_000, True)])
async def test_a_snapshot_from_the_future_does_not_count_as_fresh(
    tmp_path: Path, ahead_ms: int, *, is_stale: bool
) -> None:
    """Its age is unknown, so the champion answers; clocks may differ by the lag."""
    url = NOBODY.format(port=1)
    settings = Settings(database=url, snapshot=tmp_path / "snapshot", keys=tmp_path / "keys")
    ring = fresh_ring()
    write_keys(tmp_path / "keys", ring)
    write_snapshot(tmp_path / "snapshot", (), time.time_ns() // 1_000_000 + ahead_ms, ring)
    store = find_store(url)
    application = Application(settings, store, number=None, on_broken=lambda: None)
    assert await application.standby.begin()
    assert (application.services.snapshot.age_seconds >= settings.max_staleness_seconds) is is_stale
    await application.services.sync.end()
    application.services.store.close()
    store.close()


async def test_no_snapshot_is_written_before_the_first_load(tmp_path: Path) -> None:
    """Between receiving the keys and the first load, no snapshot is written."""
    url = NOBODY.format(port=1)
    settings = Settings(database=url, snapshot=tmp_path / "snapshot", keys=tmp_path / "keys")
    store = find_store(url)
    application = Application(settings, store, number=None, on_broken=lambda: None)
    application.standby.take_keys(fresh_ring())
    await application.standby.save()
    await application.standby.save(is_last=True)
    assert os.listdir(tmp_path) == ["keys"]  # noqa: PTH208 - ruff reports pathlib as blocking
    application.services.store.close()
    store.close()

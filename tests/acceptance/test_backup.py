"""Backups: a copy of a database in use is consistent, and open decisions survive a restore."""

import re
import signal
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner

from bandit.v1 import bandit_pb2
from benchmarks.harness.processes import clean_environment
from server.app import StartupError, maintenance
from server.cli.main import cli
from server.settings import Settings
from server.store.opening import open_store
from tests.conftest import Connect, StartServer
from tests.store.builders import reward, silently
from tests.support.ledger import decision_of, logged_decisions, query
from tests.support.process import ServerProcess, command, eventually, refused_start
from tests.support.refusals import call_of
from tests.support.wire import Wire, metric

RECORDED = bandit_pb2.OUTCOME_RESULT_RECORDED
DUPLICATE = bandit_pb2.OUTCOME_RESULT_DUPLICATE
PADDING_BYTES = 60_000_000


class Reporter(threading.Thread):
    """Chooses and rewards in a loop until it is stopped.

    Attributes:
        acked: Decisions whose reward was acknowledged, in order.
    """

    def __init__(self, wire: Wire, name: str) -> None:
        super().__init__()
        self._wire = wire
        self._name = name
        self.is_over = threading.Event()
        self.acked: list[bytes] = []

    def run(self) -> None:
        """Choose and reward until stopped."""
        while not self.is_over.is_set():
            choice = self._wire.choose(self._name)
            self._wire.reward(choice.decision_id, {"click": len(self.acked) % 2})
            self.acked.append(decision_of(choice.decision_id))


@contextmanager
def load(wire: Wire, name: str) -> Iterator[Reporter]:
    """Run a reporter during the block."""
    reporter = Reporter(wire, name)
    reporter.start()
    try:
        eventually(lambda: len(reporter.acked) > 100)
        yield reporter
        n_acked = len(reporter.acked)
        eventually(lambda: len(reporter.acked) > n_acked)
    finally:
        reporter.is_over.set()
        reporter.join()


def settings_of(file: Path) -> Settings:
    """Return settings with this database."""
    return Settings(database=f"sqlite:///{file}")


def back_up(file: Path, target: Path, *, may_replace: bool = False) -> None:
    """Copy a database in use, and check that progress reaches the end."""
    steps: list[tuple[int, int]] = []
    made = maintenance.back_up(
        settings_of(file), target, lambda *step: steps.append(step), may_replace=may_replace
    )
    assert made.n_bytes == target.stat().st_size
    assert steps[-1][0] == steps[-1][1] > 0


def verify(file: Path) -> Sequence[str]:
    """Return the notes of `verify`, which must find no differences."""
    report = maintenance.verify(settings_of(file), silently)
    assert report.is_clean, report.differences
    return report.notes


def test_a_copy_under_load_is_restored(start_server: StartServer, connect: Connect, tmp_path: Path) -> None:
    """Rewards acknowledged before the copy are in it and count once; open decisions can be rewarded.

    Rewards acknowledged after the copy are not in it, and can be posted again. Rewards for decisions of
    epochs that are missing in the copy, and whose numbers are used again, are kept separately.
    """
    server = start_server("--epoch-interval-seconds", "0.05")
    wire = connect(server)
    name = wire.running(metrics=[metric("click"), metric("buy")])
    kept_open, known = wire.choose(name), wire.choose(name)
    wire.reward(known.decision_id, {"click": 1})
    copy = tmp_path / "copy.db"
    with load(wire, name) as reporter:
        acked_before = set(reporter.acked)
        back_up(server.database, copy)
    assert acked_before <= logged_decisions(copy)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    last_copied = max(number for (number,) in query(copy, "SELECT number FROM epochs"))
    after = wire.choose(name)
    wire.reward(after.decision_id, {"click": 0})
    lost = decide_beyond(wire, name, last_copied)
    assert server.terminate() == 0

    server.database.unlink()
    for suffix in ("-wal", "-shm"):
        Path(f"{server.database}{suffix}").unlink(missing_ok=True)
    copy.rename(server.database)
    assert not verify(server.database)
    restored = start_server("--epoch-interval-seconds", "0.05")
    wire = connect(restored)
    assert wire.reward(known.decision_id, {"click": 1}) == {"click": DUPLICATE}
    assert wire.reward(kept_open.decision_id, {"click": 1}) == {"click": RECORDED}
    decide_beyond(wire, name, last_copied)
    assert wire.reward(lost.decision_id, {"click": 1}) == {"click": RECORDED}
    assert restored.terminate() == 0
    assert any("kept apart" in note for note in verify(restored.database))
    apart = query(restored.database, "SELECT decision FROM rewards WHERE is_apart")
    assert (decision_of(lost.decision_id),) in apart
    assert (decision_of(kept_open.decision_id),) not in apart


def decide_beyond(wire: Wire, name: str, epoch: int) -> bandit_pb2.ChooseResponse:
    """Reward decisions until an epoch beyond `epoch` + 1 begins; return a decision of it."""

    def decide() -> bandit_pb2.ChooseResponse:
        choice = wire.choose(name)
        if choice.epoch <= epoch + 1:
            wire.reward(choice.decision_id, {"click": choice.arm == "b"})
        return choice

    return eventually(decide, until=lambda choice: choice.epoch > epoch + 1)


def test_a_copy_next_to_the_log_of_the_replaced_database_is_refused(
    start_server: StartServer, connect: Connect, tmp_path: Path
) -> None:
    """Start and verify refuse a copy next to the replaced database's log, and name the files to delete.

    SQLite would replay that log into the copy, and rewards acknowledged before the copy would be lost
    silently. After the log is deleted, they are there.
    """
    server = start_server()
    wire = connect(server)
    name = wire.running()
    before = rewarded(wire, name, 300)
    copy = tmp_path / "copy.db"
    back_up(server.database, copy)
    rewarded(wire, name, 300)
    server.kill()
    log = Path(f"{server.database}-wal")
    assert log.stat().st_size > 0
    copy.rename(server.database)
    text = f"{log} belongs to a database that {server.database} has replaced"
    assert refused_start(server.url, tmp_path).startswith(f"error: {text}")
    with pytest.raises(StartupError, match=re.escape(text)):
        verify(server.database)
    with pytest.raises(StartupError, match=re.escape(text)):
        back_up(server.database, copy)
    log.unlink()
    Path(f"{server.database}-shm").unlink()
    assert not verify(server.database)
    assert start_server().terminate() == 0
    assert logged_decisions(server.database) == before


def test_an_interrupted_copy_leaves_the_old_file(
    start_server: StartServer, connect: Connect, tmp_path: Path
) -> None:
    """A backup ended by a signal replaces nothing, rewards continue, and the next one removes leftovers."""
    server = start_server()
    with closing(sqlite3.connect(server.database)) as connection:  # padding, so that the copy takes a while
        connection.execute("CREATE TABLE padding (zeros BLOB)")
        connection.execute("INSERT INTO padding VALUES (zeroblob(?))", [PADDING_BYTES])
        connection.commit()
    wire = connect(server)
    name = wire.running()
    folder = tmp_path / "copies"
    folder.mkdir()
    copy = folder / "copy.db"
    copy.write_text("precious")
    with load(wire, name) as reporter:
        for number, n_left in ((signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGKILL, 1)):
            end_backup(server, copy, number)
            assert copy.read_text() == "precious"
            assert len(list(folder.glob(".*"))) == n_left
        acked = set(reporter.acked)
        back_up(server.database, copy, may_replace=True)
    assert list(folder.iterdir()) == [copy]
    assert not verify(copy)
    assert acked <= logged_decisions(copy)
    assert server.terminate() == 0
    assert set(reporter.acked) <= logged_decisions(server.database)
    assert not verify(server.database)


def end_backup(server: ServerProcess, copy: Path, number: int) -> None:
    """Start a backup, and end it by a signal as soon as it has written something."""
    known = set(copy.parent.glob(".*"))
    # A shell ignores SIGINT in what it runs in the background, and what is ignored is inherited.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    backup = subprocess.Popen(
        command("backup", "--database", server.url, "--force", str(copy)),
        env=clean_environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, before)
    while backup.poll() is None:
        if any(draft.stat().st_size > 0 for draft in set(copy.parent.glob(f".{copy.name}.*")) - known):
            break
    backup.send_signal(number)
    _, errors = backup.communicate(timeout=60)
    assert backup.returncode != 0, "the backup finished before the signal"
    assert "Traceback" not in errors


def rewarded(wire: Wire, name: str, n_decisions: int) -> set[bytes]:
    """Make and reward decisions, ten per commit, and return their ids."""
    results = wire.batch_choose(*[bandit_pb2.ChooseRequest(experiment=name)] * n_decisions)
    ids = [result.choice.decision_id for result in results]
    rewards = [bandit_pb2.RewardRequest(decision_id=each, outcomes={"click": 1}) for each in ids]
    for start in range(0, n_decisions, 10):
        wire.batch_reward(*rewards[start : start + 10])
    return {decision_of(decision_id) for decision_id in ids}


def replace(server: ServerProcess) -> None:
    """Put a copy in place of the database, as in a restore."""
    copy = server.database.with_name("copy.db")
    back_up(server.database, copy)
    copy.rename(server.database)


def delete(server: ServerProcess) -> None:
    """Delete the database."""
    server.database.unlink()


def delete_log(server: ServerProcess) -> None:
    """Delete the write-ahead log, which has the newest commits."""
    Path(f"{server.database}-wal").unlink()


@pytest.mark.parametrize("change", [replace, delete, delete_log])
def test_a_server_whose_files_are_removed_acknowledges_no_more_rewards(
    start_server: StartServer, connect: Connect, change: Callable[[ServerProcess], None]
) -> None:
    """It acknowledges no more rewards, whose commits would be lost with the files, and exits with 70."""
    server = start_server()
    wire = connect(server)
    name = wire.running()
    first, second = wire.choose(name), wire.choose(name)
    wire.reward(first.decision_id, {"click": 1})
    change(server)
    with pytest.raises(grpc.RpcError) as caught:
        wire.reward(second.decision_id, {"click": 1})
    assert call_of(caught.value).code() is grpc.StatusCode.UNAVAILABLE
    assert server.wait() == 70
    assert "while the server used it" in server.log.read_text()


def test_an_existing_file_is_replaced_only_by_force(shared_process: ServerProcess, tmp_path: Path) -> None:
    """Without --force it stays unchanged and nothing is left behind; with it, the whole file is replaced."""
    database, target = shared_process.database, tmp_path / "there.db"
    target.write_text("precious")
    with pytest.raises(StartupError, match=r"there\.db is there already: name another file, or .* --force$"):
        back_up(database, target)
    assert target.read_text() == "precious"
    back_up(database, target, may_replace=True)
    verify(target)
    with pytest.raises(StartupError, match="is the database itself"):
        back_up(target, target, may_replace=True)
    with pytest.raises(StartupError, match=r"can't write \S*/none/copy\.db: there is no folder \S*/none$"):
        back_up(database, tmp_path / "none" / "copy.db")
    log = Path(f"{database}-wal")
    with pytest.raises(StartupError, match=r"belongs to the database: name another file$"):
        back_up(database, log, may_replace=True)
    with pytest.raises(StartupError, match=r"can't write .*: File name too long$"):
        back_up(database, tmp_path / ("n" * 300), may_replace=True)
    assert [file.name for file in tmp_path.iterdir()] == ["there.db"]


def test_foreign_and_damaged_databases_are_not_copied(tmp_path: Path) -> None:
    """Missing, foreign and damaged databases are refused with their name, and no copy is left."""
    damaged = damaged_database(tmp_path)
    other, text = tmp_path / "other.db", tmp_path / "text.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    text.write_text("no database at all, " * 100)
    target = tmp_path / "copy.db"
    for file, cause in (
        (tmp_path / "none.db", "there is no database .*none.db"),
        (other, "the file is not a database of this service"),
        (text, "the file is not a database of this service"),
        (damaged, "the database is damaged"),
    ):
        with pytest.raises(StartupError, match=f"^{cause}"):
            back_up(file, target)
        assert not target.exists()
    assert list(tmp_path.glob(".*")) == []


def test_verify_reports_a_damaged_database(tmp_path: Path) -> None:
    """SQLite's integrity check and the unreadable log appear as differences, without an error."""
    report = maintenance.verify(settings_of(damaged_database(tmp_path)), silently)
    assert not report.is_clean
    assert report.differences[0].startswith("the database's own check: ")
    assert report.differences[-1].startswith("the log can't be compared with the facts: ")


def damaged_database(folder: Path) -> Path:
    """A database whose reward log has lost a page."""
    file = folder / "damaged.db"
    with closing(open_store(f"sqlite:///{file}")) as store:
        store.record_rewards([reward() for _ in range(2_000)], 0)
    ((root,),) = query(file, "SELECT rootpage FROM sqlite_master WHERE name = 'rewards'")
    raw = bytearray(file.read_bytes())
    raw[(root - 1) * 4096 : root * 4096] = b"\xa5" * 4096
    file.write_bytes(raw)
    return file


def test_the_command_prints_what_it_copied(shared_process: ServerProcess, tmp_path: Path) -> None:
    """The command prints what it copied; for PostgreSQL, the pg_dump command without the password."""
    arguments = ["backup", "--database", shared_process.url, str(tmp_path / "copy.db")]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    assert re.fullmatch(r"copied: .*copy\.db, \d+\.\d MB, [\d,]+ outcomes? in the log\n", done.stdout)
    assert CliRunner().invoke(cli, arguments).exit_code == 1
    assert CliRunner().invoke(cli, [*arguments, "--force"]).exit_code == 0
    url = "postgresql+psycopg://bandit:secret@db.example.org:5432/bandit"
    done = CliRunner().invoke(cli, ["backup", "--database", url, "copy.db"])
    assert done.exit_code == 1
    command = "pg_dump --format=custom --file=FILE 'postgresql://bandit@db.example.org:5432/bandit'"
    assert command in done.stderr
    assert "secret" not in done.stderr

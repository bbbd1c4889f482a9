"""kill -9 in the middle of a purge: the ledger adds up all the time, and the next start goes on."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from bandit.decision_id import new_id
from server.app import maintenance
from server.settings import Settings
from server.store.opening import open_store
from server.store.records import ExperimentRecord, State
from tests.bandit.builders import make_epoch
from tests.conftest import Connect, StartServer
from tests.store.builders import create, reward, silently
from tests.support.process import eventually

N_OLD: Final = 24_000
N_YOUNG: Final = 500
YEAR: Final = timedelta(days=365)
FLAGS: Final = (
    *("--purge-interval-seconds", "0.05", "--metrics-listen", "127.0.0.1:0", "--poll-seconds", "0.05"),
    *("--clock-settle-seconds", "0.1", "--trust-clock-after-seconds", "0"),
)


def fill(url: str) -> ExperimentRecord:
    """Make an experiment that ran for a year: an old epoch with many rewards, and one in force with a few."""
    began_at = datetime.now(UTC) - YEAR
    with closing(open_store(url)) as store:
        draft = create(store)
        running = replace(draft, state=State.RUNNING, started_at=began_at, updated_at=began_at)
        record = store.change_experiment(draft, running, make_epoch(1, began_at, experiment=draft.number))
        second = make_epoch(2, began_at + YEAR / 2, experiment=record.number, revision=record.revision)
        assert store.add_epoch(second) == second
        for epoch, at, n_rewards in ((1, began_at, N_OLD), (2, datetime.now(UTC), N_YOUNG)):
            at_ms = int(at.timestamp() * 1000)
            store.record_rewards(
                [
                    reward(new_id(at_ms, n), n % 2, experiment=record.number, epoch=epoch, arm=n % 2)
                    for n in range(n_rewards)
                ],
                0,
            )
        return record


def n_logged(file: Path) -> int:
    """Return the number of rows in the log, read next to the server."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM rewards").fetchone()[0])


def verified(file: Path) -> str:
    """Return the notes of `verify`, which must find all clean."""
    report = maintenance.verify(Settings(database=f"sqlite:///{file}"), silently)
    assert (report.is_clean, report.n_outcomes) == (True, N_OLD + N_YOUNG)
    return "\n".join(report.notes)


def test_kill_9_in_the_middle_of_a_purge(start_server: StartServer, connect: Connect, tmp_path: Path) -> None:
    """Killed between two transactions of a purge, it leaves an exact ledger; restarted, it finishes."""
    file = tmp_path / "bandit.db"
    record = fill(f"sqlite:///{file}")
    server = start_server(*FLAGS)
    eventually(lambda: n_logged(file) < N_OLD + N_YOUNG)
    server.kill()
    left = n_logged(file)
    assert N_YOUNG < left < N_OLD + N_YOUNG, "it was not killed in the middle"
    assert f"{N_OLD + N_YOUNG - left:,} outcomes are in sealed sums" in verified(file)
    server = start_server(*FLAGS)
    before = connect(server).report(record.name).arms
    eventually(lambda: n_logged(file) == N_YOUNG, seconds=60)
    assert sum(arm.metrics[0].outcomes for arm in connect(server).report(record.name).arms) == sum(
        arm.metrics[0].outcomes for arm in before
    )
    eventually(lambda: server.sample("bandit_purged_rows_total") == left - N_YOUNG)
    assert server.terminate() == 0
    assert "sealed epochs: ranker 1 to 1" in verified(file)


def test_copies_of_a_database_that_is_purged(start_server: StartServer, tmp_path: Path) -> None:
    """Each copy is of one moment of the purge: its ledger adds up, and no row is doubled or missing."""
    file = tmp_path / "bandit.db"
    fill(f"sqlite:///{file}")
    server = start_server(*FLAGS)
    eventually(lambda: n_logged(file) < N_OLD + N_YOUNG)
    copies: list[Path] = []
    while n_logged(file) > N_YOUNG:
        copies.append(tmp_path / f"copy-{len(copies)}.db")
        maintenance.back_up(Settings(database=server.url), copies[-1], silently, may_replace=False)
    assert server.terminate() == 0
    assert N_YOUNG < n_logged(copies[0]) < N_OLD + N_YOUNG, "it was not copied in the middle"
    for copy in copies:
        assert verified(copy)


def test_a_log_that_is_to_be_kept_is_kept(start_server: StartServer, tmp_path: Path) -> None:
    """With --no-purge the log is kept for ever."""
    file = tmp_path / "bandit.db"
    fill(f"sqlite:///{file}")
    server = start_server("--no-purge", "--purge-interval-seconds", "0.05", "--metrics-listen", "127.0.0.1:0")
    for _ in range(10):  # each with a flush and a look at the store
        server.sample("bandit_purged_rows_total")
    assert server.terminate() == 0
    assert n_logged(file) == N_OLD + N_YOUNG

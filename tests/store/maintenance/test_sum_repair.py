"""Sums that SQLite made inexact: refused at a start, found by `verify`, and repaired from the log."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bandit.decision_id import Basis
from server.services.verification import rebuild, verify
from server.store.errors import SchemaError
from server.store.opening import open_reader, open_store
from server.store.records import SealedEpochs
from server.store.sql_store import SqlStore
from tests.bandit.builders import START
from tests.store.builders import create, facts_of, reward, silently, sums_of
from tests.store.frozen.freeze import FOLDER
from tests.support.process import refused_start, run_command

OVERFLOWING = "UPDATE {table} SET squares = squares + 9223372036854775807 WHERE epoch = {epoch} AND arm = 0"
REFUSAL = (
    "the table {table} holds sums that are no longer whole numbers, since they outgrew 64 bits under an "
    "older version: to recount, stop the server and run `bandit-server rebuild`"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The database file."""
    return tmp_path / "bandit.db"


@pytest.fixture
def database(file: Path) -> Iterator[sqlite3.Connection]:
    """Return the file, as another program would open it."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        yield connection


def open_anyway(file: Path) -> SqlStore:
    """Open the store as `rebuild` opens it."""
    return open_store(f"sqlite:///{file}", may_migrate=False, may_be_inexact=True)


def fill(file: Path) -> None:
    """Fill two epochs of two arms, the first of them sealed and purged except for a fallback."""
    with closing(open_store(f"sqlite:///{file}")) as store:
        create(store)
        store.record_rewards(
            [reward(quanta=n, epoch=epoch, arm=n % 2) for n in range(1, 9) for epoch in (1, 2)], 0
        )
        store.record_rewards([reward(quanta=5, basis=Basis.FALLBACK)], 1)
        store.seal([SealedEpochs(1, 1, 1, START, bytes(16))], START)
        assert store.settle_seals() or store.settle_seals()
        store.purge(bytes(16), b"\xff" * 16, 100)
        assert store.summarise_seals().n_outcomes == 8


def overflow(database: sqlite3.Connection, table: str, epoch: int) -> None:
    """Add to a sum as version 0.2 did, until SQLite made a floating-point number of it."""
    database.execute(OVERFLOWING.format(table=table, epoch=epoch))
    kinds = database.execute(f"SELECT DISTINCT typeof(squares) FROM {table} ORDER BY 1")  # noqa: S608
    assert kinds.fetchall() == [("integer",), ("real",)]


@pytest.mark.parametrize("table", ["outcome_facts", "sealed_facts"])
def test_a_server_refuses_sums_that_are_not_whole_numbers(
    file: Path, database: sqlite3.Connection, table: str
) -> None:
    """A server, and a store opened for reading, refuse in one line that names the repair."""
    fill(file)
    overflow(database, table, 1)
    expected = REFUSAL.format(table=table)
    assert refused_start(f"sqlite:///{file}", file.parent).endswith(expected)
    with pytest.raises(SchemaError) as caught:
        open_reader(f"sqlite:///{file}")
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("table", "epoch"), [("outcome_facts", 2), ("outcome_facts", 1), ("sealed_facts", 1)]
)
def test_a_rebuild_repairs_inexact_sums(
    file: Path, database: sqlite3.Connection, table: str, epoch: int
) -> None:
    """A rebuild restores sums from log, sealed sums and facts, any of which follows from the others."""
    fill(file)
    with closing(open_anyway(file)) as store:
        right = sums_of(store)
    overflow(database, table, epoch)
    database_setting = ("--database", f"sqlite:///{file}")
    found = run_command("verify", *database_setting, folder=file.parent)
    assert found.returncode == 1
    assert f"{table} holds sums that are no longer whole numbers" in found.stderr
    assert "run `bandit-server rebuild`" in found.stderr
    mended = run_command("rebuild", *database_setting, folder=file.parent)
    assert (mended.returncode, "note" in mended.stdout) == (0, False), mended.stderr
    with closing(open_store(f"sqlite:///{file}")) as store:
        assert sums_of(store) == right
        assert verify(store, silently).is_clean


def test_what_can_not_be_repaired_is_reported(file: Path, database: sqlite3.Connection) -> None:
    """If sealed sums and facts are both rounded and outcomes purged, a rebuild names the sums and errors."""
    fill(file)
    overflow(database, "outcome_facts", 1)
    overflow(database, "sealed_facts", 1)
    with closing(open_anyway(file)) as store:
        notes = rebuild(store, silently).notes
    (note,) = notes
    assert note == (
        "experiment 1, epoch 1, arm 0, policy, metric 0: its sums stay rounded to 53 bits; the outcomes were "
        "purged from the log"
    )
    with closing(open_store(f"sqlite:///{file}")) as store:
        assert verify(store, silently).is_clean
        n_outcomes = {key: tally.n for key, tally in facts_of(store).items()}
    assert sum(n_outcomes.values()) == 17


def test_a_migration_repairs_inexact_sums(file: Path, database: sqlite3.Connection) -> None:
    """A database that an older version left with such sums opens with the right ones."""
    database.executescript((FOLDER / "0002.sqlite.sql").read_text())
    with closing(open_store(f"sqlite:///{file}")) as store:
        right = sums_of(store)
    file.unlink()
    with closing(sqlite3.connect(file)) as old:
        old.executescript((FOLDER / "0002.sqlite.sql").read_text())
    with closing(sqlite3.connect(file, isolation_level=None)) as old:
        overflow(old, "outcome_facts", 2)
    with closing(open_store(f"sqlite:///{file}")) as store:
        assert sums_of(store) == right
        assert verify(store, silently).is_clean

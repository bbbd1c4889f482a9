"""What only the SQLite store promises: one owner per file, durable commits, and clear errors."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from server.store.errors import (
    RowRefusedError,
    SchemaError,
    StoreBrokenError,
    StoreError,
    StoreFullError,
    StoreInUseError,
    StorePlaceError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from server.store.opening import open_reader, open_store
from server.store.sql_store import SqlStore
from tests.store.builders import (
    DUPLICATE,
    RECORDED,
    create,
    engines_of,
    facts_of,
    key_of,
    reward,
    silently,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The database file."""
    return tmp_path / "bandit.db"


@pytest.fixture
def url(file: Path) -> str:
    """The database's URL."""
    return f"sqlite:///{file}"


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    """A store on the file."""
    with closing(open_store(url)) as opened:
        yield opened


def pragma(store: SqlStore, name: str) -> object:
    """Return a setting of the writer's connection."""
    with store._dialect.writing() as connection:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()


def test_a_commit_is_on_disk_when_it_returns(store: SqlStore) -> None:
    """The writer's connection keeps a write-ahead log and syncs it with every commit."""
    assert pragma(store, "journal_mode") == "wal"
    assert pragma(store, "synchronous") == 2


def test_the_settings_hold_for_every_connection_of_the_writer(store: SqlStore) -> None:
    """A connection that replaces a lost one has the same settings."""
    engines_of(store)[0].dispose()
    test_a_commit_is_on_disk_when_it_returns(store)


def test_writing_takes_the_write_lock_at_its_start(store: SqlStore, file: Path) -> None:
    """A writing transaction holds the lock from its first moment, so that nothing read in it is stale."""
    is_locked = pytest.raises(sqlite3.OperationalError, match="locked")
    with store._dialect.writing(), closing(sqlite3.connect(file, timeout=0)) as other, is_locked:
        other.execute("BEGIN IMMEDIATE")


def test_reading_does_not_wait_for_a_writer(store: SqlStore) -> None:
    """While a transaction writes, readers see the last commit."""
    first = create(store, "a")
    with store._dialect.writing() as connection:
        connection.execute(text("UPDATE experiments SET name = 'b'"))
        assert store.find_experiment("a") == first
        assert store.find_experiment("b") is None
    assert store.find_experiment("a") is None


def test_a_reader_beside_the_owner_sees_what_is_committed(store: SqlStore, url: str) -> None:
    """A reader opened next to the owner sees what the owner has written, and later writes too."""
    entry = reward()
    store.record_rewards([entry], 0)
    with closing(open_reader(url)) as reader:
        assert reader.compare_ledger(silently) == store.compare_ledger(silently)
        store.record_rewards([reward()], 0)
        assert facts_of(reader)[key_of(entry)].n == 2


_HOLD = """
import sys, time
from server.store.opening import open_store
store = open_store(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(url: str) -> "subprocess.Popen[str]":
    """Start another process that opens the store, and holds it until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def test_a_second_process_is_refused(url: str, holder: "subprocess.Popen[str]") -> None:
    """A store open in another process is refused with its process id, until it ends in any way."""
    try:
        with pytest.raises(StoreInUseError) as caught:
            open_store(url)
        assert f"in use by another bandit-server (process {holder.pid})" in str(caught.value)
        assert "name another file with --database" in str(caught.value)
    finally:
        holder.kill()
        holder.communicate()
    with closing(open_store(url)) as store:
        assert store.load_changes(None).live == ()


def test_a_second_owner_in_the_same_process_is_refused(store: SqlStore, url: str) -> None:
    """A store that is open is refused to its own process as well, also by another path to it."""
    with pytest.raises(StoreInUseError):
        open_store(url)
    file = Path(url.removeprefix("sqlite:///"))
    link = file.with_name("link.db")
    link.symlink_to(file)
    with pytest.raises(StoreInUseError):
        open_store(f"sqlite:///{link}")
    assert store.load_changes(None).live == ()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused(url: str) -> None:
    """A database in memory is refused: it ends with the process, and each connection would have its own."""
    with pytest.raises(StoreUnavailableError, match="keeps its state in a file: name one"):
        open_store(url)


def test_another_database_is_refused() -> None:
    """The URL of an unknown database is refused with the database's name, and without its password."""
    with pytest.raises(StoreUnavailableError, match="not in mysql") as caught:
        open_store("mysql://user:secret@host/name")
    assert "secret" not in str(caught.value)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The error for a folder that does not exist names it, and the file that could not be made there."""
    with pytest.raises(StorePlaceError, match=r"can't create .*none/bandit.db: there is no folder .*none$"):
        open_store(f"sqlite:///{tmp_path / 'none' / 'bandit.db'}")


def test_a_reader_makes_no_database(tmp_path: Path) -> None:
    """Opening a missing file for reading is refused, and leaves nothing behind."""
    with pytest.raises(StoreUnavailableError, match="there is no database"):
        open_reader(f"sqlite:///{tmp_path / 'bandit.db'}")
    assert list(tmp_path.iterdir()) == []


def set_pragma(store: SqlStore, setting: str) -> None:
    """Change a setting of the writer's connection, outside a transaction."""
    with closing(engines_of(store)[0].raw_connection()) as connection:
        connection.cursor().execute(f"PRAGMA {setting}")


def assert_recovers(store: SqlStore, error: type[StoreError], cause: str, cure: str) -> None:
    """Assert that a reward fails and is not stored, and that it is recorded once when the cause is gone."""
    before = reward(quanta=3)
    assert store.record_rewards([before], 0) == [RECORDED]
    set_pragma(store, cause)
    entries = [reward(quanta=1) for _ in range(3000)]
    with pytest.raises(error) as caught:
        store.record_rewards(entries, 0)
    assert type(caught.value) is error
    assert "SQL" not in str(caught.value)
    assert "bandit.db" not in str(caught.value)
    set_pragma(store, cure)
    assert store.record_rewards([before], 0) == [DUPLICATE]
    assert store.record_rewards(entries, 0) == [RECORDED] * len(entries)
    assert facts_of(store)[key_of(before)].n == 3001


def test_a_full_disk_stores_nothing_and_recovers(store: SqlStore) -> None:
    """Without room a batch is refused whole; with room again the same batch is recorded."""
    n_pages = pragma(store, "page_count")
    assert_recovers(store, StoreFullError, f"max_page_count={n_pages}", "max_page_count=1000000")


def test_a_read_only_database_stores_nothing_and_recovers(store: SqlStore) -> None:
    """A read-only database refuses the batch; once it takes writes again, the batch is recorded."""
    assert_recovers(store, StoreReadOnlyError, "query_only=ON", "query_only=OFF")


def test_a_locked_database_is_unavailable_and_recovers(store: SqlStore, file: Path) -> None:
    """While another process holds the write lock, writes are refused; afterwards the call is recorded."""
    set_pragma(store, "busy_timeout=1")
    entry = reward()
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="another program has locked the database"):
            store.record_rewards([entry], 0)
        assert store.load_changes(None).live == ()
        other.execute("ROLLBACK")
    assert store.record_rewards([entry], 0) == [RECORDED]


def test_a_damaged_file_is_broken(url: str, file: Path) -> None:
    """An overwritten page is found by the check, and reading it raises that the file is damaged."""
    with closing(open_store(url)) as store:
        store.record_rewards([reward() for _ in range(2000)], 0)
    raw = bytearray(file.read_bytes())
    raw[-4096:] = b"\xa5" * 4096
    file.write_bytes(raw)
    with closing(open_reader(url)) as store:
        assert store.check_integrity() != []
        with pytest.raises(StoreBrokenError, match="the database is damaged"):
            store.compare_ledger(silently)


def test_a_constraint_is_a_refused_row(store: SqlStore) -> None:
    """A value that breaks a constraint of the schema is reported as the row's error, not the database's."""
    with pytest.raises(RowRefusedError), store._dialect.writing() as connection:
        connection.execute(text("INSERT INTO writers (slot) VALUES (5)"))


def test_a_file_that_is_not_a_database_is_refused(url: str, file: Path) -> None:
    """Another kind of file is refused by owner and reader, and stays as it was."""
    content = b"user,score\n" * 1000
    file.write_bytes(content)
    for open_it in (open_store, open_reader):
        with pytest.raises(SchemaError, match="the file is not a database of this service"):
            open_it(url)
    assert file.read_bytes() == content


def test_a_new_database_is_private_to_its_owner(file: Path, store: SqlStore) -> None:
    """File and log hold the keys that sign decisions: no other user of the machine can read them."""
    create(store, "demo")
    files = [file, file.with_name("bandit.db-wal"), file.with_name("bandit.db-shm")]
    assert [path.stat().st_mode & 0o777 for path in files] == [0o600] * 3


def test_a_database_keeps_the_mode_it_was_given(url: str, file: Path) -> None:
    """If an operator opens it to a group, for a backup or an analyst, the next start keeps that."""
    open_store(url).close()
    file.chmod(0o640)
    open_store(url).close()
    assert file.stat().st_mode & 0o777 == 0o640


def test_a_file_that_cannot_be_opened_differs_from_an_unreachable_one(url: str, file: Path) -> None:
    """A folder in the file's place, or another user's file, is a mistake that the operator has to mend."""
    file.mkdir()
    with pytest.raises(StorePlaceError, match="is a folder, and must be a file: name one in it"):
        open_reader(url)


@pytest.mark.parametrize("is_replaced", [True, False])
def test_a_file_that_is_replaced_takes_nothing(tmp_path: Path, *, is_replaced: bool) -> None:
    """Once the file is replaced or gone, no commit is acknowledged: it would be in no file."""
    file = tmp_path / "bandit.db"
    with closing(open_store(f"sqlite:///{file}")) as store:
        assert store.record_rewards([reward()], 0) == [RECORDED]
        file.rename(tmp_path / "before.db")
        if is_replaced:
            file.write_bytes((tmp_path / "before.db").read_bytes())
        with pytest.raises(StoreBrokenError, match="replaced" if is_replaced else "deleted"):
            store.record_rewards([reward()], 0)

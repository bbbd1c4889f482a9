"""The schema: the migrations build what the code works with, and any other database is refused."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect

import server.store
from server.store.errors import SchemaError, StoreError
from server.store.opening import open_reader, open_store
from server.store.tables.schema import HEAD, metadata
from tests.store.builders import RECORDED, create, facts_of, reward
from tests.support.next_schema import NEXT

MIGRATIONS = Path(server.store.__file__).parent / "migrations"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The database file."""
    return tmp_path / "bandit.db"


@pytest.fixture
def url(file: Path) -> str:
    """The database's URL."""
    return f"sqlite:///{file}"


@pytest.fixture
def database(file: Path) -> Iterator[sqlite3.Connection]:
    """Return the file, as another program would open it."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        yield connection


def statements(file: Path) -> dict[str, str]:
    """Return table or index mapped to the statement that created it."""
    with closing(sqlite3.connect(file)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        return {name: " ".join(sql.split()) for name, sql in rows if name != "alembic_version"}


def test_the_migrations_build_the_tables_of_the_code(url: str, tmp_path: Path) -> None:
    """An upgraded database has, to the letter, the tables and indexes that `schema.py` declares."""
    open_store(url).close()
    declared = tmp_path / "declared.db"
    engine = create_engine(f"sqlite:///{declared}")
    metadata.create_all(engine)
    engine.dispose()
    migrated = statements(tmp_path / "bandit.db")
    assert set(migrated) >= {"experiments", "rewards", "ix_experiments_version"}
    assert migrated == statements(declared)


def test_alembic_finds_no_difference(url: str) -> None:
    """Alembic would generate an empty migration."""
    with closing(open_store(url)) as store, store._dialect.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


@pytest.mark.parametrize(
    ("table", "primary_key"),
    [
        ("configurations", ["experiment", "revision"]),
        ("epochs", ["experiment", "segment", "number"]),
        ("decision_facts", ["experiment", "epoch", "segment", "arm", "basis", "slot"]),
        ("outcome_facts", ["experiment", "epoch", "segment", "arm", "basis", "metric", "slot"]),
        ("rewards", ["decision", "metric"]),
    ],
)
def test_a_table_is_its_primary_key(url: str, file: Path, table: str, primary_key: list[str]) -> None:
    """The large tables are clustered by their key: WITHOUT ROWID, key columns first and in its order."""
    with closing(open_store(url)) as store, store._dialect.reading() as connection:
        found = inspect(connection)
        assert found.get_pk_constraint(table)["constrained_columns"] == primary_key
        columns = [column["name"] for column in found.get_columns(table)]
    assert columns[: len(primary_key)] == primary_key
    assert statements(file)[table].endswith("WITHOUT ROWID")


def test_numbers_of_experiments_are_not_used_again_by_the_schema(url: str, file: Path) -> None:
    """The number of an experiment is AUTOINCREMENT: not even the last one is used again."""
    open_store(url).close()
    assert "AUTOINCREMENT" in statements(file)["experiments"]


def test_head_is_the_newest_migration() -> None:
    """There is one line of migrations, and the code names its newest."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_an_opened_database_is_at_head(url: str, database: sqlite3.Connection) -> None:
    """Opening migrates an empty database to the newest schema, and opening again changes nothing."""
    with closing(open_store(url)) as store:
        record = create(store)
    for may_migrate in (True, False):
        with closing(open_store(url, may_migrate=may_migrate)) as store:
            assert store.find_experiment("ranker") == record
    assert database.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]


def test_an_empty_database_is_refused_without_permission_to_migrate(
    url: str, database: sqlite3.Connection
) -> None:
    """Without migrating, an empty database is refused, and stays empty."""
    with pytest.raises(SchemaError) as caught:
        open_store(url, may_migrate=False)
    assert str(caught.value) == (
        f"the database has schema none, this version works with {HEAD}: "
        "start a server of this version, without --no-migrate, to migrate it"
    )
    assert database.execute("SELECT name FROM sqlite_master").fetchall() == []


def test_an_older_database_is_refused_without_permission_to_migrate(
    url: str, database: sqlite3.Connection
) -> None:
    """Without migrating, a database of another revision is refused with both revisions."""
    open_store(url).close()
    database.execute("UPDATE alembic_version SET version_num = '0000'")
    with pytest.raises(SchemaError, match=f"has schema 0000, this version works with {HEAD}"):
        open_store(url, may_migrate=False)


def test_a_newer_database_is_refused(url: str, database: sqlite3.Connection) -> None:
    """A database of a revision that this version does not know is refused, and the error names the remedy."""
    open_store(url).close()
    database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.execute("UPDATE compatibility SET oldest_code = '9998'")
    before = list(database.iterdump())
    for may_migrate in (True, False):
        with pytest.raises(SchemaError) as caught:
            open_store(url, may_migrate=may_migrate)
        assert str(caught.value) == (
            "the database has schema 9999, which needs code of schema 9998 or later, and this version is of "
            f"{HEAD}: use a newer version, or restore a backup from before it"
        )
    assert list(database.iterdump()) == before
    with pytest.raises(SchemaError, match="9999"):
        open_reader(url)


def test_a_newer_database_that_allows_it_is_opened(url: str, database: sqlite3.Connection) -> None:
    """A newer schema that allows this version's code is opened by owner and reader, and left as it is."""
    with closing(open_store(url)) as store:
        record = create(store)
    database.execute("UPDATE alembic_version SET version_num = '9999'")
    for may_migrate in (True, False):
        with closing(open_store(url, may_migrate=may_migrate)) as store:
            assert store.find_experiment("ranker") == record
    with closing(open_reader(url)) as reader:
        assert reader.check_integrity() == []
    assert database.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]


def test_a_next_schema_serves_this_version(url: str) -> None:
    """A file that a next release has migrated by additions is opened by this one, which goes on with it."""
    with closing(open_store(url)) as store:
        store.record_rewards([reward()], 0)
    with closing(open_store(url, schema=NEXT)) as newer:
        record = create(newer)
    with closing(open_store(url)) as store:
        assert store.find_experiment("ranker") == record
        assert create(store, "next").number > record.number
        assert store.record_rewards([reward()], 0) == [RECORDED]
        assert facts_of(store)
    open_store(url, may_migrate=False, schema=NEXT).close()


def test_every_migration_names_the_oldest_code_for_its_schema() -> None:
    """Each migration from the first that could names the oldest code that may run, none newer than itself."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    for script in ScriptDirectory.from_config(config).walk_revisions():
        if script.revision >= "0004":
            assert "0004" <= script.module.compatible_from <= script.revision


def test_a_revision_that_never_was_is_refused(url: str, database: sqlite3.Connection) -> None:
    """An older revision that no migration made is refused, and not migrated."""
    open_store(url).close()
    database.execute("UPDATE alembic_version SET version_num = '0000'")
    with pytest.raises(SchemaError, match="has schema 0000, which no version of this service ever had"):
        open_store(url)


def test_a_foreign_database_is_refused(url: str, database: sqlite3.Connection) -> None:
    """A database of another program, with some of the same tables, is refused and stays as it was."""
    database.execute("CREATE TABLE songs (title TEXT)")
    before = list(database.iterdump())
    for may_migrate in (True, False):
        with pytest.raises(SchemaError, match=r"holds other tables \(songs\) and no bandit schema"):
            open_store(url, may_migrate=may_migrate)
    with pytest.raises(SchemaError, match="songs"):
        open_reader(url)
    assert list(database.iterdump()) == before


def test_a_refused_database_can_be_opened_by_others(url: str, database: sqlite3.Connection) -> None:
    """A store that refused to open holds neither its lock nor a connection."""
    database.execute("CREATE TABLE songs (title TEXT)")
    for _ in range(2):
        with pytest.raises(SchemaError):
            open_store(url)
    database.execute("DROP TABLE songs")
    open_store(url).close()


def test_a_migration_that_fails_leaves_nothing(url: str, database: sqlite3.Connection) -> None:
    """A migration is one transaction: if one of its statements fails, none takes effect."""
    database.execute("CREATE VIEW rewards AS SELECT 1 AS decision")
    with pytest.raises(StoreError):
        open_store(url)
    assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("rewards",)]

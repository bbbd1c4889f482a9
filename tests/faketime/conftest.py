"""Real servers and a real PostgreSQL whose wall clocks lie, by libfaketime, which must be installed."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks.harness.faked_clock import FakedClock
from tests.faketime.site import Site
from tests.support.postgresql import PostgresqlProcess


class _Database(NamedTuple):
    """A PostgreSQL, and its clock."""

    process: PostgresqlProcess
    clock: FakedClock


@pytest.fixture(scope="session")
def faked_postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Database]:
    """One PostgreSQL under a clock that each test must leave right."""
    folder = tmp_path_factory.mktemp("faked-postgresql")
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)  # started by root it runs as somebody else, who reads the clock's file
    clock = FakedClock(folder / "clock")
    process = PostgresqlProcess(folder / "postgresql", clock)
    yield _Database(process, clock)
    process.kill()


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """Servers on one database; the parameter says whose clock lies, as `DATABASE: LIARS`."""
    database, liars = request.param.split(": ")
    clock = FakedClock(tmp_path / "clock")
    if database == "SQLite":
        opened = Site(tmp_path, f"sqlite:///{tmp_path}/bandit.db", clock, [clock])
    else:
        process, of_database = request.getfixturevalue("faked_postgresql")
        lying = {"a server": [clock], "the database": [of_database], "all": [clock, of_database]}[liars]
        opened = Site(tmp_path, process.create_database(), clock, lying)
    try:
        yield opened
    finally:
        opened.set_right()
        opened.take_down()
    opened.require_sound()

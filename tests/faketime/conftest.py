"""Fixtures of real servers and PostgreSQL with wrong wall clocks, by libfaketime, which must be installed."""

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
    """Start one PostgreSQL under a fake clock, which each test must set right again."""
    folder = tmp_path_factory.mktemp("faked-postgresql")
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)  # if root starts it, it runs as another user, who reads the clock's file
    clock = FakedClock(folder / "clock")
    process = PostgresqlProcess(folder / "postgresql", clock)
    yield _Database(process, clock)
    process.kill()


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """Make a site; the parameter `DATABASE: WRONG` names the database and the wrong clocks."""
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

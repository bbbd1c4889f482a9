"""Databases of every released schema open, and go on: nothing is lost, and no number changes.

`tests/store/frozen/freeze.py` made the files, and makes the next ones.
"""

import json
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from bandit.decision_id import Signer
from server.services.verification import verify
from server.store.contract import Store
from server.store.errors import SchemaError
from server.store.opening import open_store
from server.store.records import KeyRing, OutcomeEntry, RewardEntry, State
from server.store.sql_store import SqlStore
from server.store.tables.schema import HEAD
from tests.store.builders import DUPLICATE, RECORDED, facts_of, reward, silently
from tests.store.frozen.freeze import FOLDER, KEYS, NAMES, fill, reports
from tests.support.postgresql import PostgresqlProcess, query

FROZEN: Final = ("0002",)
"""Revisions of released schemas."""


@pytest.fixture(params=FROZEN)
def revision(request: pytest.FixtureRequest) -> str:
    """One released schema."""
    return str(request.param)


@pytest.fixture(params=("postgresql", "sqlite"))
def url(request: pytest.FixtureRequest, revision: str, tmp_path: Path) -> str:
    """The URL of a database of that schema, as a server of that version left it."""
    text = (FOLDER / f"{revision}.{request.param}.sql").read_text()
    if request.param == "sqlite":
        with closing(sqlite3.connect(tmp_path / "bandit.db")) as connection:
            connection.executescript(text)
        return f"sqlite:///{tmp_path / 'bandit.db'}"
    postgresql = request.getfixturevalue("postgresql")
    assert isinstance(postgresql, PostgresqlProcess)
    database = postgresql.create_database()
    query(database, text)
    return database


@pytest.fixture
def expected(revision: str) -> dict[str, Any]:
    """The reports of that schema's version on its content."""
    return dict(json.loads((FOLDER / f"{revision}.json").read_text()))


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    """The database, opened and thereby migrated."""
    with closing(open_store(url)) as opened:
        yield opened


def entry_of(decision_id: str, quanta: int) -> RewardEntry:
    """Return an outcome of a decision that was signed by the frozen version."""
    decision = Signer(KEYS.secrets, KEYS.signing_key).read(decision_id)
    terms = decision.terms
    return RewardEntry(
        decision=decision.id,
        experiment=terms.experiment,
        epoch=terms.epoch,
        segment=terms.segment,
        arm=terms.arm,
        basis=terms.basis,
        outcomes=(OutcomeEntry(0, quanta, is_late=False),),
        revision=1,
        received_ms=decision.decided_ms + 900,
    )


def test_a_report_is_what_it_was(store: Store, expected: dict[str, Any]) -> None:
    """States, epochs, shares, decisions, means and beliefs are equal to nine digits."""
    assert_equal(reports(store), expected["reports"])
    states = {record.name: record.state for record in store.list_experiments("", 10)}
    assert states == {name: State(name) for name in (*NAMES, "draft")}


def test_the_ledger_is_exact_and_goes_on(store: Store, expected: dict[str, Any]) -> None:
    """`verify` is clean, known outcomes are duplicates, new ones add, and keys read old decisions."""
    assert store.adopt_keys(KeyRing({9: b"another key of sixteen bytes or so"}, 9)) == KEYS
    report = verify(store, silently)
    assert report.is_clean, report.differences
    assert report.n_outcomes == len(NAMES) * 3 * (40 - 1) * 2
    before = facts_of(store)
    known = [entry_of(decision_id, 1) for decision_id in expected["decision_ids"]]
    assert store.record_rewards(known, 0) == [DUPLICATE] * len(known)
    new = [reward(experiment=entry.experiment, epoch=entry.epoch) for entry in known]
    assert store.record_rewards(new, 0) == [RECORDED] * len(new)
    assert facts_of(store) != before
    assert verify(store, silently).is_clean


def test_an_old_database_is_migrated_only_if_it_may_be(url: str, revision: str) -> None:
    """Without permission it is refused with both revisions; once migrated, it opens without permission."""
    with pytest.raises(SchemaError, match=f"has schema {revision}, this version works with {HEAD}"):
        open_store(url, may_migrate=False)
    open_store(url).close()
    open_store(url, may_migrate=False).close()


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_many_open_an_old_database_at_once(url: str, expected: dict[str, Any]) -> None:
    """Servers that start together on an old database all find it migrated, once."""
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(open_store, [url] * 4))
    for store in stores:
        assert_equal(reports(store), expected["reports"])
        store.close()


def test_the_next_files_can_be_made(tmp_path: Path) -> None:
    """The code that fills a database to be frozen still runs, and `verify` passes on it."""
    with closing(open_store(f"sqlite:///{tmp_path / 'bandit.db'}")) as store:
        assert fill(store)
        assert verify(store, silently).is_clean


def assert_equal(found: object, expected: object, path: str = "") -> None:
    """Fail at the first value that differs; numbers may differ in the tenth digit."""
    if isinstance(expected, dict):
        assert isinstance(found, dict)
        assert found.keys() == expected.keys(), path
        for key, value in expected.items():
            assert_equal(found[key], value, f"{path}.{key}")
    elif isinstance(expected, list):
        assert isinstance(found, list)
        for index, value in enumerate(expected):
            assert_equal(found[index], value, f"{path}[{index}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12), path
    else:
        assert found == expected, path

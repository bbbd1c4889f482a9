"""The soak's comparison of ledgers: exact ones pass, and each kind of damage is found."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.soak.check import LedgerComparison, check
from benchmarks.soak.clients import Books
from server.store.opening import open_store
from server.store.records import RewardEntry
from tests.store.builders import reward, run

NAME = "soak"


@pytest.fixture
def database(tmp_path: Path) -> str:
    """The URL of a database."""
    return f"sqlite:///{tmp_path / 'bandit.db'}"


@pytest.fixture
def books(database: str) -> Books:
    """What clients know that had twenty rewards recorded, and every fifth revised."""
    books = Books()
    with closing(open_store(database)) as store:
        number = run(store, NAME).number
        for each in range(20):
            entry = reward(experiment=number, quanta=each % 2)
            store.record_rewards([entry], 0)
            note(books, entry)
            if each % 5 == 0:
                revised = reward(entry.decision, 1 - each % 2, 1, experiment=number)
                store.record_rewards([revised], 0)
                note(books, revised)
    return books


def note(books: Books, entry: RewardEntry) -> None:
    """Record a reward as sent and acknowledged."""
    books.sent.setdefault(entry.decision, []).append(entry.outcomes[0].quanta)
    books.acked[entry.decision] += 1


def test_an_exact_ledger_is_clean(database: str, books: Books) -> None:
    """With an exact ledger, nothing is lost, doubled or unknown."""
    comparison = check(database, books, NAME, n_expired=0)
    assert comparison.is_clean
    assert (comparison.n_logged, books.n_acked) == (20, 24)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("DELETE FROM rewards WHERE decision = ?", lambda seen: seen.n_lost == 1),
        (
            "UPDATE rewards SET quanta = 1 - quanta WHERE decision = ?",
            lambda seen: seen.n_lost == 1,
        ),
        (
            "UPDATE outcome_facts SET n = n + 1 WHERE ? IS NOT NULL",
            lambda seen: seen.n_doubled == 1,
        ),
        (
            "UPDATE rewards SET decision = zeroblob(16) WHERE decision = ?",
            lambda seen: seen.n_unknown == 1,
        ),
    ],
    ids=["a reward is gone", "a revision is gone", "a sum counts one twice", "a stranger is in the log"],
)
def test_a_damaged_ledger_is_found(
    database: str, books: Books, damage: str, found: Callable[[LedgerComparison], bool]
) -> None:
    """Each kind of damage is counted as what it is, and the result is not clean."""
    harm(database, damage, next(iter(books.sent)))
    comparison = check(database, books, NAME, n_expired=0)
    assert found(comparison)
    assert not comparison.is_clean


def test_a_seal_on_decisions_of_today_is_found(database: str, books: Books) -> None:
    """The log has all its rows, but open decisions would be refused, and the result is not clean."""
    seal = (
        "INSERT INTO seals (experiment, segment, epoch, before, sealed_at, n_apart) VALUES (1, 0, 1, ?, 0, 0)"
    )
    harm(database, seal, bytes(16))
    (wrong,) = check(database, books, NAME, n_expired=0).wrong
    assert "are sealed" in wrong


def test_a_purge_that_did_not_happen_is_found(database: str, books: Books) -> None:
    """Old rows that should have been purged, and were not, make the result unclean."""
    comparison = check(database, books, NAME, n_expired=5)
    assert (comparison.n_purged, comparison.is_clean) == (0, False)
    assert comparison.wrong == ("0 outcomes were purged instead of 5",)


def harm(database: str, damage: str, parameter: bytes) -> None:
    """Change the database behind the service's back."""
    with closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute(damage, [parameter])

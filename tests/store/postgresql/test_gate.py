"""The gate on PostgreSQL: the first use of a feature waits for no long transaction; later ones lock none."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from bandit.launch.moves import begun
from bandit.metric import Metric, RelativeMargin
from server.store.errors import OlderServersError, StoreUnavailableError
from server.store.opening import open_store
from server.store.records import State
from server.store.sql_store import SqlStore
from server.store.tables.experiments import FEATURE, LAUNCH, NEW_KEYS
from tests.bandit.builders import CLICKS, HOUR, START, declare
from tests.bandit.launch.launches import PLAN, declare_launch, occasion
from tests.store.builders import create, epoch_of
from tests.support.postgresql import PostgresqlProcess, query


@pytest.fixture
def url(postgresql: PostgresqlProcess) -> str:
    """An empty database."""
    return postgresql.create_database()


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    """A store on it."""
    with closing(open_store(url)) as opened:
        yield opened


def test_the_first_new_name_does_not_wait_for_a_dump(url: str, store: SqlStore) -> None:
    """While another transaction reads the epochs the name is refused, and names of before are not."""
    new = declare("new", arms=["openai/gpt-4.1", "resnet_50"])
    with closing(psycopg.connect(url.replace("+psycopg", ""))) as dump:
        dump.execute("SELECT * FROM epochs")
        with pytest.raises(StoreUnavailableError):
            store.create_experiment(new, START)
        assert store.find_experiment("new") is None
        create(store)
    record = store.create_experiment(new, START)
    assert query(url, "SELECT oldest_code FROM compatibility") == [(FEATURE.schema,)]
    assert store.find_experiment("new") == record


@pytest.mark.parametrize("changes", [{"is_signal": True}, {"worse_by": RelativeMargin(0.1)}])
def test_a_new_key_inside_a_metric_passes_the_gate(
    url: str, store: SqlStore, changes: dict[str, Any]
) -> None:
    """It is created or changed to only where the gate can be shut; metrics of before need no gate."""
    plain = create(store, "plain")
    assert query(url, "SELECT oldest_code FROM compatibility") != [(NEW_KEYS.schema,)]
    error = Metric(name="error", window=HOUR, **changes)
    new = declare("new", metrics=[CLICKS, error])
    changed = replace(plain, experiment=replace(plain.experiment, metrics=(CLICKS, error)))
    with closing(psycopg.connect(url.replace("+psycopg", ""))) as dump:
        dump.execute("SELECT * FROM epochs")
        with pytest.raises(StoreUnavailableError):
            store.create_experiment(new, START)
        with pytest.raises(StoreUnavailableError):
            store.change_experiment(plain, changed)
    assert store.change_experiment(plain, changed).experiment.metrics[1] == error
    assert query(url, "SELECT oldest_code FROM compatibility") == [(NEW_KEYS.schema,)]


def test_new_names_after_the_first_lock_nothing(url: str, store: SqlStore) -> None:
    """Once the feature is in use, a transaction that reads the epochs holds no new name up."""
    store.create_experiment(declare("first", arms=["A", "a"]), START)
    with closing(psycopg.connect(url.replace("+psycopg", ""))) as dump:
        dump.execute("SELECT * FROM epochs")
        record = store.create_experiment(declare("second", arms=["p95.latency", "-"]), START)
    assert store.find_experiment("second") == record


def test_a_metric_of_shadows_passes_the_gate(url: str, store: SqlStore) -> None:
    """Its key is one that code of before fails on, so that no such code may be started any more."""
    store.create_experiment(declare("plain"), START)
    assert query(url, "SELECT oldest_code FROM compatibility") != [(NEW_KEYS.schema,)]
    store.create_experiment(declare("compared", metrics=[Metric(name="error", is_shadow=True)]), START)
    assert query(url, "SELECT oldest_code FROM compatibility") == [(NEW_KEYS.schema,)]


def test_the_first_launch_passes_the_gate(url: str, store: SqlStore) -> None:
    """Declared with plain names, in a new experiment or a later revision, it shuts the gate to older code."""
    plain = create(store)
    assert query(url, "SELECT oldest_code FROM compatibility") != [(LAUNCH.schema,)]
    running = replace(
        plain, state=State.RUNNING, started_at=START, experiment=replace(plain.experiment, launch=PLAN)
    )
    launched = replace(running, launch=begun(running.experiment, occasion(), is_started=True).launch)
    stored = store.change_experiment(plain, launched, epoch_of(plain, 1))
    assert query(url, "SELECT oldest_code FROM compatibility") == [(LAUNCH.schema,)]
    assert store.find_experiment(plain.name) == stored
    assert stored.launch == launched.launch


def test_the_first_launch_does_not_wait_for_a_dump(url: str, store: SqlStore) -> None:
    """While another transaction reads the epochs a launch is refused, and nothing of it is stored."""
    with closing(psycopg.connect(url.replace("+psycopg", ""))) as dump:
        dump.execute("SELECT * FROM epochs")
        with pytest.raises(StoreUnavailableError):
            store.create_experiment(declare_launch(), START)
        assert store.find_experiment("ranker") is None
    record = store.create_experiment(declare_launch(), START)
    assert store.find_experiment("ranker") == record


@pytest.mark.parametrize("is_update", [False, True])
def test_a_launch_is_refused_beside_an_older_server(url: str, store: SqlStore, *, is_update: bool) -> None:
    """The refusal names the launch and the server; nothing is stored, and without the server it passes."""
    plain = create(store, "plain")
    store.claim_slot(b"older-----------", START)
    query(url, "UPDATE writers SET code = '0.2.0'")

    def declare_one() -> object:
        if not is_update:
            return store.create_experiment(declare_launch(), START)
        after = replace(plain, experiment=replace(plain.experiment, launch=PLAN))
        return store.change_experiment(plain, after, None)

    with pytest.raises(OlderServersError, match=r"launches need release 0\.3\.0") as caught:
        declare_one()
    assert caught.value.servers[0].startswith("0.2.0 in slot ")
    assert store.find_experiment("plain") == plain
    assert store.find_experiment("ranker") is None
    query(url, "UPDATE writers SET code = '0.3.0'")
    declare_one()
    assert query(url, "SELECT oldest_code FROM compatibility") == [(LAUNCH.schema,)]

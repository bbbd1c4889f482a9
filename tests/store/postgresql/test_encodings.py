"""Texts in databases that are not of UTF-8: what a store takes it returns, in any encoding."""

import uuid
from contextlib import closing
from dataclasses import replace

import psycopg
import pytest

from bandit.experiment import Arm, JsonValue
from server.store.opening import open_store
from tests.bandit.builders import START, declare
from tests.support.postgresql import PostgresqlProcess

TEXTS = (
    "Zo\u00eb",
    "\U0001f469\u200d\U0001f680",
    "\u0645\u06cc\u200c\u062e",
    "\u5c71\u7530\u3000\u592a\u90ce",
)
DEEP: dict[str, JsonValue] = {"nul \0": {"\u202e": ["\x1b[31m", "\u2028", {"": [[[["\U0010ffff"]]]]}]}}


def create_database(postgresql: PostgresqlProcess, encoding: str) -> str:
    """Create an empty database of an encoding, and return its URL."""
    server, _, _ = postgresql.create_database().rpartition("/")
    name = f"of_{encoding.lower()}_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(f"{server}/postgres".replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        )
    return f"{server}/{name}"


@pytest.mark.parametrize("encoding", ["UTF8", "LATIN1", "SQL_ASCII"])
@pytest.mark.parametrize("client", ["UTF8", "LATIN1"])
def test_any_text_is_kept_in_any_encoding(
    postgresql: PostgresqlProcess, encoding: str, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Descriptions, URIs and payloads come back as they were, whatever encoding the environment names."""
    monkeypatch.setenv("PGCLIENTENCODING", client)
    arms = [Arm(id=f"arm-{n}", model_uri=text, payload={text: DEEP}) for n, text in enumerate(TEXTS)]
    experiment = replace(declare(arms=arms), description="\n".join(TEXTS))
    with closing(open_store(create_database(postgresql, encoding))) as store:
        created = store.create_experiment(experiment, START)
        assert store.find_experiment(experiment.name) == created
        assert created.experiment == experiment
        (entry, *_) = store.list_audit_entries(None, 10)
        assert entry.experiment == experiment.name

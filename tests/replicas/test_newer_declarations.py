"""Declarations of a newer release: how this release treats an experiment that it can read only in part."""

import json
from pathlib import Path
from typing import Any

import grpc
import pytest

from bandit.v1 import bandit_pb2
from tests.conftest import Connect
from tests.replicas.conftest import running_replicas
from tests.support.postgresql import PostgresqlProcess, query
from tests.support.process import ServerProcess, eventually


def declare_newer(url: str, name: str, change: dict[str, Any]) -> None:
    """Store a revision of an experiment as a newer release would, with more in its document."""
    ((text,),) = query(url, "SELECT document FROM experiments WHERE name = %s", [name])
    document = json.loads(str(text))
    for key, value in change.items():
        place = document[key] if isinstance(document[key], dict) else document[key][0]
        place.update(value)
    query(
        url,
        "UPDATE experiments SET document = %s, revision = revision + 1, "
        "version = pg_current_xact_id()::text::bigint WHERE name = %s",
        [json.dumps(document), name],
    )


def events(server: ServerProcess, event: str) -> list[Any]:
    """Return the experiments for which a server logged an event."""
    return [each["experiment"] for each in server.events() if each["event"] == event]


def test_the_champion_answers_for_an_experiment_that_is_known_in_part(
    postgresql: PostgresqlProcess, tmp_path: Path, connect: Connect
) -> None:
    """Its decisions are no evidence; it takes rewards and is not changed here; other experiments go on.

    Neither a key inside an arm nor a metric of an unknown kind stops the poll, and a server that is started
    on such declarations serves.
    """
    url = postgresql.create_database()
    with running_replicas(url, tmp_path) as start:
        (server,) = start(1)
        wire = connect(server)
        partly, unreadable, plain = (wire.running() for _ in range(3))
        earlier = {name: wire.choose(name).decision_id for name in (partly, unreadable)}
        declare_newer(url, partly, {"arms": {"weight": 2.0}})
        declare_newer(url, unreadable, {"metrics": {"kind": "vector"}})
        for name in (partly, unreadable):
            eventually(lambda name=name: wire.choose(name).reason == bandit_pb2.REASON_STALE)  # type: ignore[misc]
            assert {wire.choose(name, unit=f"u{number}").arm for number in range(50)} == {"a"}
            assert wire.reward(earlier[name], {"click": 1.0}) == {"click": bandit_pb2.OUTCOME_RESULT_RECORDED}
        with pytest.raises(grpc.RpcError) as caught:
            wire.pause(partly)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "arms[0].weight" in str(caught.value.details())
        wire.pause(plain)
        assert wire.choose(plain).reason == bandit_pb2.REASON_PAUSED
        assert {each.name for each in wire.list_page().experiments} == {partly, plain}

        (again,) = start(1)
        late = connect(again)
        assert late.choose(partly).reason == bandit_pb2.REASON_STALE
        assert late.choose(plain).reason == bandit_pb2.REASON_PAUSED
        assert late.choose(late.running()).reason == bandit_pb2.REASON_POLICY
        for each in (server, again):
            assert events(each, "experiment.not_understood") == [partly]
            assert events(each, "experiment.unreadable") == [unreadable]

"""Rewards on the fast lane whose caller gives up: they are stored once, and keep their place until then."""

import struct
from collections.abc import Iterator
from contextlib import closing
from typing import Final

import grpc
import pytest

from bandit.v1 import bandit_pb2
from tests.conftest import Connect
from tests.rpc.raw_http2 import DATA, END_STREAM, RST_STREAM, RawConnection
from tests.support.ledger import commits_held_up, decision_of, query
from tests.support.process import FAST_LANE, WITH_FAST_LANE, ServerProcess, eventually, serving
from tests.support.refusals import refused
from tests.support.wire import Wire

REWARD: Final = "/bandit.v1.BanditService/Reward"
LABELS: Final = {
    "grpc_type": "unary",
    "grpc_service": "bandit.v1.BanditService",
    "grpc_method": "Reward",
}
CANCEL: Final = struct.pack(">I", 8)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Start a server with few places, whose commits can be blocked."""
    flags = ("--metrics-listen", "127.0.0.1:0", "--max-concurrent-calls", "2", *WITH_FAST_LANE)
    with serving(tmp_path_factory.mktemp("given-up") / "bandit.db", *flags) as server:
        yield server


@pytest.fixture
def wire(server: ServerProcess, connect: Connect) -> Wire:
    """Open a channel to it."""
    return connect(server)


def click(decision_id: str) -> bandit_pb2.RewardRequest:
    """Return the request of a click."""
    return bandit_pb2.RewardRequest(decision_id=decision_id, outcomes={"click": 1})


def n_cancelled(server: ServerProcess) -> float:
    """Return the number of Reward calls that were given up."""
    return server.sample("grpc_server_handled_total", **LABELS, grpc_code="Canceled")


def in_flight(server: ServerProcess) -> float:
    """Return the number of Reward calls in flight."""
    return server.sample("grpc_server_in_flight", **LABELS)


def n_stored(server: ServerProcess, decision_id: str) -> int:
    """Return how many outcomes of a decision the ledger has."""
    ((count,),) = query(
        server.database, "SELECT count(*) FROM rewards WHERE decision = ?", [decision_of(decision_id)]
    )
    return int(count)


def test_a_call_past_its_deadline_keeps_its_place_until_the_commit(server: ServerProcess, wire: Wire) -> None:
    """Its caller gets DEADLINE_EXCEEDED at once, others are refused meanwhile, and the reward is stored once.

    Else a caller with short deadlines could have any amount of work done at a time.
    """
    name = wire.running()
    ids = [wire.choose(name).decision_id for _ in range(3)]
    with commits_held_up(server.database):
        calls = [wire.bandit.Reward.future(click(decision_id), timeout=0.3) for decision_id in ids[:2]]
        for call in calls:
            with pytest.raises(grpc.RpcError):
                call.result()
            assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert in_flight(server) == 2
        assert refused(lambda: wire.reward(ids[2], {"click": 1})).reason == "OVERLOADED"
    eventually(lambda: in_flight(server) == 0)
    assert [n_stored(server, decision_id) for decision_id in ids] == [1, 1, 0]
    for decision_id in ids[:2]:
        assert wire.reward(decision_id, {"click": 1}) == {"click": bandit_pb2.OUTCOME_RESULT_DUPLICATE}
    assert [n_stored(server, decision_id) for decision_id in ids] == [1, 1, 0]


def test_the_server_itself_ends_a_call_at_its_deadline(server: ServerProcess, wire: Wire) -> None:
    """A client that sends a deadline and does not watch it is answered when it passes."""
    decision_id = wire.choose(wire.running()).decision_id
    with (
        closing(RawConnection.open(server.port_of(FAST_LANE))) as connection,
        commits_held_up(server.database),
    ):
        connection.begin(1, REWARD, ("grpc-timeout", "300m"))
        connection.send_message(1, click(decision_id).SerializeToString())
        connection.send(DATA, END_STREAM, 1, b"")
        assert b"grpc-status\x014" in connection.answer(1)
    eventually(lambda: n_stored(server, decision_id) == 1)


def test_a_reset_drops_the_answer_and_not_the_reward(server: ServerProcess, wire: Wire) -> None:
    """A reward whose stream is reset is committed, has its place until then, and counts once if repeated."""
    name = wire.running()
    decision_id = wire.choose(name).decision_id
    eventually(lambda: in_flight(server) == 0)
    n_before = n_cancelled(server)
    with closing(RawConnection.open(server.port_of(FAST_LANE))) as connection:
        with commits_held_up(server.database):
            connection.begin(1, REWARD)
            connection.send_message(1, click(decision_id).SerializeToString())
            connection.send(DATA, END_STREAM, 1, b"")
            eventually(lambda: in_flight(server) == 1)
            connection.send(RST_STREAM, 0, 1, CANCEL)
            again = wire.bandit.Reward.future(click(decision_id))
            eventually(lambda: in_flight(server) == 2)
        (result,) = again.result().results.values()
    assert result == bandit_pb2.OUTCOME_RESULT_DUPLICATE
    assert n_stored(server, decision_id) == 1
    eventually(lambda: wire.n_outcomes(name) == 1)
    assert eventually(lambda: n_cancelled(server) - n_before) == 1


def test_calls_that_are_refused_at_their_headers_are_counted(server: ServerProcess, wire: Wire) -> None:
    """Metadata beyond the limit has a reason of its own, and a metric."""
    labels = {"reason": "headers_too_large"}
    n_before = server.sample("bandit_fast_lane_calls_refused_total", **labels)
    request = bandit_pb2.ChooseRequest(experiment="none")
    metadata = tuple((f"x-{number}", "v" * 1_000) for number in range(20))
    refusal = refused(lambda: wire.bandit.Choose(request, metadata=metadata))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "METADATA_TOO_LARGE")
    assert server.sample("bandit_fast_lane_calls_refused_total", **labels) == n_before + 1

"""A flood of rewards while no commit succeeds: refused for now, in bounded memory, and exact later."""

from collections.abc import Iterable
from typing import Final

import grpc

from bandit.v1 import bandit_pb2
from tests.conftest import Connect, StartServer
from tests.support.ledger import (
    commits_held_up,
    decision_of,
    integrity,
    logged_decisions,
)
from tests.support.observing import MIB, observe
from tests.support.process import eventually, verify
from tests.support.refusals import call_of, refusal_of
from tests.support.wire import Wire

QUEUE_ROWS: Final = 200
N_DECISIONS: Final = 400
LEAST_ROUNDS: Final = 5
MOST_ROUNDS: Final = 50
CALM_P50_SECONDS: Final = 0.1
GROWTH: Final = 32 * MIB


def request_of(decision_id: str) -> bandit_pb2.RewardRequest:
    """Return a click."""
    return bandit_pb2.RewardRequest(decision_id=decision_id, outcomes={"click": 1})


def flood(wire: Wire, ids: list[str]) -> list[grpc.RpcError]:
    """Post every reward over and over, each call giving up soon; return how the calls failed.

    On a busy machine many calls give up before the server reads them: it goes on until more were refused than
    there are rewards.
    """
    errors: list[grpc.RpcError] = []
    for n_rounds in range(1, MOST_ROUNDS + 1):
        calls = [wire.bandit.Reward.future(request_of(decision_id), timeout=0.4) for decision_id in ids]
        found = [call.exception() for call in calls]
        errors += [error for error in found if isinstance(error, grpc.RpcError)]
        assert len(errors) % len(ids) == 0, "a reward was acknowledged although no commit went through"
        if n_rounds >= LEAST_ROUNDS and len(refused_for_now(errors)) > len(ids):
            break
    return errors


def refused_for_now(errors: Iterable[grpc.RpcError]) -> list[grpc.RpcError]:
    """Return the errors that say that the queue is full."""
    return [error for error in errors if call_of(error).code() is grpc.StatusCode.RESOURCE_EXHAUSTED]


def test_a_flood_of_rewards_is_refused_for_now(start_server: StartServer, connect: Connect) -> None:
    """While commits are held up, what the queue can't hold is RESOURCE_EXHAUSTED, with delay and pushback.

    None is acknowledged, memory stays flat, and Choose is as fast as ever. What waited in the queue for
    callers that gave up is committed afterwards, and their retries are duplicates: every reward counts once.
    """
    server = start_server("--reward-queue-rows", str(QUEUE_ROWS), "--metrics-listen", "127.0.0.1:0")
    wire = connect(server)
    name = wire.running()
    asked = [bandit_pb2.ChooseRequest(experiment=name)] * N_DECISIONS
    ids = [result.choice.decision_id for result in wire.batch_choose(*asked)]
    errors: list[grpc.RpcError] = []
    with commits_held_up(server.database):
        observed = observe(server, wire, name, lambda: errors.extend(flood(wire, ids)))
        assert server.sample("bandit_reward_queue_rows") <= QUEUE_ROWS
    assert observed.grown_bytes < GROWTH
    assert observed.p50_seconds < CALM_P50_SECONDS
    codes = {call_of(error).code() for error in errors}
    assert codes <= {
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNAVAILABLE,
    }
    refusals = [refusal_of(error) for error in refused_for_now(errors)]
    assert len(refusals) > N_DECISIONS
    assert {refusal.reason for refusal in refusals} == {"OVERLOADED"}
    assert all(refusal.retry_seconds and refusal.retry_seconds <= 1 for refusal in refusals)

    eventually(lambda: server.sample("bandit_reward_queue_rows") == 0)
    n_doubtful = len(logged_decisions(server.database))
    assert n_doubtful > 0, "nothing was in doubt: the test saw nothing"
    results = [wire.reward(decision_id, {"click": 1})["click"] for decision_id in ids]
    assert results.count(bandit_pb2.OUTCOME_RESULT_DUPLICATE) == n_doubtful
    assert results.count(bandit_pb2.OUTCOME_RESULT_RECORDED) == N_DECISIONS - n_doubtful
    assert server.terminate() == 0
    assert logged_decisions(server.database) == set(map(decision_of, ids))
    assert integrity(server.database) == ["ok"]
    verify(server.database)

"""Callers that give up, and too many callers: no reward is lost, counted twice, or half stored."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

import grpc
import pytest

from bandit.v1 import bandit_pb2
from tests.conftest import Connect, StartServer
from tests.support.ledger import commits_held_up
from tests.support.process import WITH_FAST_LANE, ServerProcess, eventually, serving, verify
from tests.support.refusals import call_of, refusal_of, refused
from tests.support.wire import Wire

pytestmark = pytest.mark.both_listeners
RECORDED: Final = bandit_pb2.OUTCOME_RESULT_RECORDED
DUPLICATE: Final = bandit_pb2.OUTCOME_RESULT_DUPLICATE
REWARD_LABELS: Final = {
    "grpc_type": "unary",
    "grpc_service": "bandit.v1.BanditService",
    "grpc_method": "Reward",
}


def ask(name: str, wire: Wire, n: int) -> list[str]:
    """Make `n` decisions, and return their ids."""
    results = wire.batch_choose(*[bandit_pb2.ChooseRequest(experiment=name)] * n)
    return [result.choice.decision_id for result in results]


def reward_request(decision_id: str) -> bandit_pb2.RewardRequest:
    """Return the request of a click."""
    return bandit_pb2.RewardRequest(decision_id=decision_id, outcomes={"click": 1})


def by_deadline(wire: Wire, decision_id: str) -> grpc.StatusCode:
    """Post a reward with a deadline that passes before its commit."""
    with pytest.raises(grpc.RpcError) as caught:
        wire.bandit.Reward(reward_request(decision_id), timeout=0.3)
    return call_of(caught.value).code()


def by_hand(wire: Wire, decision_id: str) -> grpc.StatusCode:
    """Post a reward, and cancel the call when the server has it."""
    call = wire.bandit.Reward.future(reward_request(decision_id))
    with pytest.raises(grpc.FutureTimeoutError):
        call.result(timeout=0.3)
    call.cancel()
    return call.code()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Start a server whose commits can be blocked."""
    flags = ("--metrics-listen", "127.0.0.1:0", *WITH_FAST_LANE)
    with serving(tmp_path_factory.mktemp("held-up") / "bandit.db", *flags) as server:
        yield server


@pytest.mark.parametrize(
    ("give_up", "code"),
    [(by_deadline, grpc.StatusCode.DEADLINE_EXCEEDED), (by_hand, grpc.StatusCode.CANCELLED)],
)
def test_a_caller_that_gives_up_can_ask_again(
    server: ServerProcess,
    connect: Connect,
    give_up: Callable[[Wire, str], grpc.StatusCode],
    code: grpc.StatusCode,
) -> None:
    """The queued reward is still committed, the retry is a duplicate, and it counts once."""
    wire = connect(server)
    name = wire.running()
    (decision_id,) = ask(name, wire, 1)
    n_before = server.sample("grpc_server_handled_total", **REWARD_LABELS, grpc_code="Canceled")
    with commits_held_up(server.database):
        assert give_up(wire, decision_id) is code
    assert eventually(lambda: wire.n_outcomes(name)) == 1
    assert wire.reward(decision_id, {"click": 1}) == {"click": DUPLICATE}
    assert wire.n_outcomes(name) == 1
    n_after = server.sample("grpc_server_handled_total", **REWARD_LABELS, grpc_code="Canceled")
    assert n_after == n_before + 1
    assert server.sample("grpc_server_in_flight", **REWARD_LABELS) == 0
    assert server.sample("bandit_reward_queue_rows") == 0


@pytest.mark.parametrize("flag", ["--reward-queue-rows", "--max-concurrent-calls"])
def test_too_many_rewards_are_refused_for_now(start_server: StartServer, connect: Connect, flag: str) -> None:
    """They get RESOURCE_EXHAUSTED with a delay, and are not stored, so that the retry is recorded."""
    server = start_server(flag, "5")
    wire = connect(server)
    name = wire.running()
    ids = ask(name, wire, 60)
    calls = [wire.bandit.Reward.future(reward_request(decision_id), timeout=20) for decision_id in ids]
    errors = [call.exception() for call in calls]
    refusals = [refusal_of(error) for error in errors if error is not None]
    taken = [error for error in errors if error is None]
    assert refusals
    assert taken
    assert {(each.code, each.reason) for each in refusals} == {
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    }
    assert all(each.retry_seconds and 0 < each.retry_seconds <= 1 for each in refusals)
    assert wire.n_outcomes(name) == len(taken)
    again = [wire.reward(decision_id, {"click": 1})["click"] for decision_id in ids]
    assert Counter(again) == {DUPLICATE: len(taken), RECORDED: len(refusals)}
    assert server.terminate() == 0
    verify(server.database)


def test_choose_continues_when_the_store_does_not(server: ServerProcess, connect: Connect) -> None:
    """While the database is locked, Reward gets UNAVAILABLE within seconds, and Choose answers.

    Afterwards, retries of refused rewards are stored, and the decisions made meanwhile are counted once.
    """
    wire = connect(server)
    name = wire.running()
    ids = ask(name, wire, 10)
    with commits_held_up(server.database):
        refusal = refused(lambda: wire.reward(ids[0], {"click": 1}))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")
        assert refusal.retry_seconds
        meanwhile = ask(name, wire, 50)
    assert wire.n_outcomes(name) == 0
    assert {wire.reward(each, {"click": 1})["click"] for each in [*ids, *meanwhile]} == {RECORDED}
    counted = eventually(lambda: wire.n_decisions(name), until=lambda n: sum(n.values()) >= 60)
    assert sum(counted.values()) == 60
    (failed,) = [event for event in server.events() if event["event"] == "reward.commit_failed"]
    assert (failed["level"], failed["error"]) == ("warning", "StoreUnavailableError")
    assert "exception" not in failed  # an outage is not a defect, and needs no traceback

"""Batches keep their order, one bad item fails alone, and only what may still succeed is sent again."""

import time

import grpc
import pytest

from bandit.client import (
    Choice,
    Fallback,
    FieldViolation,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    OutcomeResult,
    Question,
    Reward,
    RewardResult,
    UnavailableError,
)
from bandit.v1 import bandit_pb2
from tests.bandit.client.peer import AnyClient, ClientFactory, Peer, Script, answer, fail, settle

QUESTIONS = [Question(experiment=f"e{n}", unit=f"u{n}", fallback=Fallback(f"f{n}")) for n in range(3)]
REWARDS = [Reward(f"d{n}", {"click": float(n)}) for n in range(3)]


def chosen(arm: str) -> bandit_pb2.BatchChooseResult:
    """Return an answer with a choice."""
    return bandit_pb2.BatchChooseResult(choice=bandit_pb2.ChooseResponse(arm=arm))


def not_chosen(code: grpc.StatusCode) -> bandit_pb2.BatchChooseResult:
    """Return an answer with an error instead of a choice."""
    return bandit_pb2.BatchChooseResult(error=status(code))


def recorded() -> bandit_pb2.BatchRewardResult:
    """Return the result of a recorded reward."""
    response = bandit_pb2.RewardResponse(results={"click": bandit_pb2.OUTCOME_RESULT_RECORDED})
    return bandit_pb2.BatchRewardResult(reward=response)


def not_recorded(code: grpc.StatusCode) -> bandit_pb2.BatchRewardResult:
    """Return the result of a failed reward."""
    return bandit_pb2.BatchRewardResult(error=status(code))


def status(code: grpc.StatusCode) -> bandit_pb2.Status:
    """Return an error of a batch."""
    violation = bandit_pb2.FieldViolation(field="unit", description="too long")
    return bandit_pb2.Status(code=code.value[0], message="no", reason="BECAUSE", field_violations=[violation])


def decisions(request: bytes) -> list[str]:
    """Return the decisions of a BatchReward request."""
    return [each.decision_id for each in bandit_pb2.BatchRewardRequest.FromString(request).requests]


async def test_choices_keep_their_order(client: AnyClient, script: Script) -> None:
    """The first question gets the first answer, and so on."""
    script.on("BatchChoose", answer(bandit_pb2.BatchChooseResponse(results=[chosen(a) for a in "abc"])))
    choices = await settle(client.batch_choose(QUESTIONS))
    assert [choice.arm for choice in choices] == ["a", "b", "c"]
    [sent] = script.requests("BatchChoose")
    assert [each.unit for each in bandit_pb2.BatchChooseRequest.FromString(sent).requests] == [
        "u0",
        "u1",
        "u2",
    ]


async def test_one_question_fails_alone(client: AnyClient, script: Script) -> None:
    """A refused question gets its own fallback with the cause, and the others their answers."""
    results = [chosen("a"), not_chosen(grpc.StatusCode.NOT_FOUND), chosen("c")]
    script.on("BatchChoose", answer(bandit_pb2.BatchChooseResponse(results=results)))
    choices = await settle(client.batch_choose(QUESTIONS))
    assert [choice.arm for choice in choices] == ["a", "f1", "c"]
    cause = choices[1].fallback_cause
    assert isinstance(cause, NotFoundError)
    assert str(cause) == "NOT_FOUND (BECAUSE): no"
    assert cause.field_violations == (FieldViolation("unit", "too long"),)


async def test_unencodable_question_fails_alone(client: AnyClient, script: Script) -> None:
    """A question that can't be encoded gets its fallback and is not sent."""
    results = [chosen("a"), chosen("c")]
    script.on("BatchChoose", answer(bandit_pb2.BatchChooseResponse(results=results)))
    bad = Question(experiment="e1", unit="\ud800", fallback=Fallback("f1"))
    choices = await settle(client.batch_choose([QUESTIONS[0], bad, QUESTIONS[2]]))
    assert [choice.arm for choice in choices] == ["a", "f1", "c"]
    assert isinstance(choices[1].fallback_cause, InvalidArgumentError)


async def test_failed_call_is_a_fallback_for_each(client: AnyClient, script: Script) -> None:
    """When the whole call fails, each question gets its own fallback."""
    script.on("BatchChoose", fail(grpc.StatusCode.UNAVAILABLE))
    choices = await settle(client.batch_choose(QUESTIONS))
    assert [choice.arm for choice in choices] == ["f0", "f1", "f2"]
    assert len(script.received) == 1


@pytest.mark.parametrize("n_results", [0, 2, 4])
async def test_wrong_number_of_choices(client: AnyClient, script: Script, n_results: int) -> None:
    """With a wrong number of answers, none is guessed at: each question gets its fallback."""
    results = [chosen("a")] * n_results
    script.on("BatchChoose", answer(bandit_pb2.BatchChooseResponse(results=results)))
    choices = await settle(client.batch_choose(QUESTIONS))
    assert [choice.arm for choice in choices] == ["f0", "f1", "f2"]
    assert isinstance(choices[0].fallback_cause, InternalError)


async def test_empty_choice(client: AnyClient, script: Script) -> None:
    """A result without a choice or an error, or without an arm, gives the fallback."""
    results = [bandit_pb2.BatchChooseResult(), chosen(""), chosen("c")]
    script.on("BatchChoose", answer(bandit_pb2.BatchChooseResponse(results=results)))
    choices = await settle(client.batch_choose(QUESTIONS))
    assert [choice.arm for choice in choices] == ["f0", "f1", "c"]


async def test_slow_batch(new_client: ClientFactory, peer: Peer) -> None:
    """A batch that is not answered by its deadline gets fallbacks."""
    peer.script.on("BatchChoose", peer.script.hang)
    client = new_client(peer.target, batch_choose_timeout=0.05)
    began = time.monotonic()
    choices = await settle(client.batch_choose(QUESTIONS))
    assert time.monotonic() - began < 2.0
    assert all(isinstance(choice.fallback_cause, UnavailableError) for choice in choices)


async def test_batches_have_a_limit(client: AnyClient, script: Script) -> None:
    """More than 1,000 items are refused before any call; 1,000 are sent."""
    results = [chosen("a")] * 1000
    script.on("BatchChoose", answer(bandit_pb2.BatchChooseResponse(results=results)))
    with pytest.raises(ValueError, match="at most 1,000 items, got 1,001"):
        await settle(client.batch_choose(QUESTIONS[:1] * 1001))
    with pytest.raises(ValueError, match="at most 1,000 items, got 1,001"):
        await settle(client.batch_reward(REWARDS[:1] * 1001))
    assert script.received == []
    assert len(await settle(client.batch_choose(QUESTIONS[:1] * 1000))) == 1000


async def test_an_empty_batch_is_not_sent(client: AnyClient, script: Script) -> None:
    """An empty batch has an empty answer and makes no call."""
    assert await settle(client.batch_choose([])) == []
    assert await settle(client.batch_reward([])) == []
    assert script.received == []


async def test_wrong_types_are_refused(client: AnyClient, script: Script) -> None:
    """One argument of a wrong type refuses the whole batch before any call."""
    question = Question(experiment="e", unit=7, fallback=Fallback("v0"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"questions\[\d\].unit must be a str, got 7"):
        await settle(client.batch_choose([*QUESTIONS, question]))
    question = Question(experiment="e", fallback="v0")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="fallback"):
        await settle(client.batch_choose([*QUESTIONS, question]))
    reward = Reward("d", {"click": "yes"})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="outcomes"):
        await settle(client.batch_reward([*REWARDS, reward]))
    assert script.received == []


async def test_only_what_may_succeed_is_repeated(client: AnyClient, script: Script) -> None:
    """Recorded and refused rewards are sent once, the others again until they are settled."""
    exhausted = grpc.StatusCode.RESOURCE_EXHAUSTED
    first = [recorded(), not_recorded(exhausted), not_recorded(grpc.StatusCode.NOT_FOUND)]
    script.on(
        "BatchReward",
        answer(bandit_pb2.BatchRewardResponse(results=first)),
        fail(grpc.StatusCode.UNAVAILABLE),
        answer(bandit_pb2.BatchRewardResponse(results=[not_recorded(exhausted)])),
        answer(bandit_pb2.BatchRewardResponse(results=[recorded()])),
    )
    results = await settle(client.batch_reward(REWARDS))
    done = RewardResult({"click": OutcomeResult.RECORDED})
    assert results[:2] == [done, done]
    assert isinstance(results[2], NotFoundError)
    sent = script.requests("BatchReward")
    assert [decisions(each) for each in sent] == [["d0", "d1", "d2"], ["d1"], ["d1"], ["d1"]]
    assert len(set(sent[1:])) == 1


async def test_fallbacks_are_not_sent(client: AnyClient, script: Script) -> None:
    """The reward of a fallback gets its result without a call."""
    script.on("BatchReward", answer(bandit_pb2.BatchRewardResponse(results=[recorded(), recorded()])))
    fallback = Reward(Choice(arm="v0"), {"click": 1.0})
    results = await settle(client.batch_reward([REWARDS[0], fallback, REWARDS[2]]))
    assert [isinstance(each, RewardResult) and each.is_fallback for each in results] == [False, True, False]
    assert decisions(script.requests("BatchReward")[0]) == ["d0", "d2"]


async def test_unencodable_reward_fails_alone(client: AnyClient, script: Script) -> None:
    """A reward that can't be encoded gets its error, and the others are sent."""
    script.on("BatchReward", answer(bandit_pb2.BatchRewardResponse(results=[recorded()])))
    results = await settle(client.batch_reward([Reward("\ud800", {}), REWARDS[0]]))
    assert isinstance(results[0], InvalidArgumentError)
    assert isinstance(results[1], RewardResult)


async def test_results_survive_a_failing_service(client: AnyClient, script: Script) -> None:
    """What was recorded before the service went down is returned with the errors of the rest."""
    first = [recorded(), not_recorded(grpc.StatusCode.UNAVAILABLE), recorded()]
    script.on(
        "BatchReward",
        answer(bandit_pb2.BatchRewardResponse(results=first)),
        fail(grpc.StatusCode.UNAVAILABLE, "away"),
    )
    results = await settle(client.batch_reward(REWARDS, timeout=0.3))
    assert [type(each) for each in results] == [RewardResult, UnavailableError, RewardResult]
    assert len(script.received) > 2


async def test_final_failure_of_the_call(client: AnyClient, script: Script) -> None:
    """A permanent failure is the error of each reward, after one attempt."""
    script.on("BatchReward", fail(grpc.StatusCode.UNAUTHENTICATED, "who are you"))
    results = await settle(client.batch_reward(REWARDS))
    assert [str(each) for each in results] == ["UNAUTHENTICATED: who are you"] * 3
    assert len(script.received) == 1


@pytest.mark.parametrize("n_results", [0, 2, 4])
async def test_wrong_number_of_results(client: AnyClient, script: Script, n_results: int) -> None:
    """With a wrong number of results, each reward gets an InternalError."""
    script.on("BatchReward", answer(bandit_pb2.BatchRewardResponse(results=[recorded()] * n_results)))
    results = await settle(client.batch_reward(REWARDS))
    assert [type(each) for each in results] == [InternalError] * 3


async def test_pushback_of_an_item(client: AnyClient, script: Script) -> None:
    """A batch waits for the item that asks for the longest wait, and gives up if that ends too late."""
    short, long = (not_recorded(grpc.StatusCode.RESOURCE_EXHAUSTED) for _ in range(2))
    short.error.retry_delay.FromMilliseconds(1)
    long.error.retry_delay.FromSeconds(60)
    script.on("BatchReward", answer(bandit_pb2.BatchRewardResponse(results=[recorded(), short, long])))
    results = await settle(client.batch_reward(REWARDS))
    assert [type(each) for each in results] == [RewardResult, UnavailableError, UnavailableError]
    assert len(script.received) == 1


async def test_pushback_of_an_item_is_honoured(client: AnyClient, script: Script) -> None:
    """An item that asks for a delay is not sent before it has passed."""
    item = not_recorded(grpc.StatusCode.RESOURCE_EXHAUSTED)
    item.error.retry_delay.FromMilliseconds(150)
    script.on(
        "BatchReward",
        answer(bandit_pb2.BatchRewardResponse(results=[item])),
        answer(bandit_pb2.BatchRewardResponse(results=[recorded()])),
    )
    began = time.monotonic()
    assert [type(each) for each in await settle(client.batch_reward(REWARDS[:1]))] == [RewardResult]
    assert time.monotonic() - began >= 0.15


async def test_unknown_status(client: AnyClient, script: Script) -> None:
    """A status number that gRPC does not have is an InternalError."""
    result = bandit_pb2.BatchRewardResult(error=bandit_pb2.Status(code=99))
    script.on("BatchReward", answer(bandit_pb2.BatchRewardResponse(results=[result] * 3)))
    results = await settle(client.batch_reward(REWARDS))
    assert isinstance(results[0], InternalError)

"""A reward is repeated until it is known to be recorded, and each attempt is the same."""

import asyncio
import re
import socket
import time

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2, status_pb2

from bandit.client import (
    AlreadyExistsError,
    CallError,
    Choice,
    FieldViolation,
    InternalError,
    InvalidArgumentError,
    OutcomeResult,
    Reason,
    RetryPolicy,
    Reward,
    ShadowDecision,
    UnavailableError,
)
from bandit.client.errors import CODE_TO_ERROR
from bandit.client.messages import reward_result
from bandit.v1 import bandit_pb2
from tests.bandit.client.peer import (
    AnyClient,
    ClientFactory,
    Peer,
    Script,
    answer,
    answer_bytes,
    fail,
    in_background,
    settle,
)

CHOICE = Choice(arm="v1", decision_id="signed")
RECORDED = bandit_pb2.RewardResponse(results={"click": bandit_pb2.OUTCOME_RESULT_RECORDED})
PASSING_CODES = [
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE,
]
FINAL_CODES = [
    code for code in grpc.StatusCode if code is not grpc.StatusCode.OK and code not in PASSING_CODES
]


def pushback(milliseconds: str) -> tuple[tuple[str, str], ...]:
    """Return the trailing metadata by which a server asks for a delay."""
    return (("grpc-retry-pushback-ms", milliseconds),)


async def test_reward_is_sent(client: AnyClient, script: Script) -> None:
    """The decision, the outcomes and the revision reach the service."""
    script.on("Reward", answer(RECORDED))
    await settle(client.reward(CHOICE, {"click": 1.0, "price": 2}, revision=3))
    [sent] = script.requests("Reward")
    assert bandit_pb2.RewardRequest.FromString(sent) == bandit_pb2.RewardRequest(
        decision_id="signed", outcomes={"click": 1.0, "price": 2.0}, revision=3
    )


async def test_what_an_arm_saw_in_shadow_is_rewarded_like_a_choice(client: AnyClient, script: Script) -> None:
    """Under its own decision: outcomes that come after the block of `mirror`."""
    script.on("Reward", answer(RECORDED))
    await settle(client.reward(ShadowDecision(arm="v3", decision_id="of v3"), {"click": 1.0}))
    [sent] = script.requests("Reward")
    assert bandit_pb2.RewardRequest.FromString(sent).decision_id == "of v3"


async def test_result_is_typed(client: AnyClient, script: Script) -> None:
    """The result holds what became of each outcome."""
    script.on("Reward", answer(RECORDED))
    result = await settle(client.reward("signed", {"click": 1.0}))
    assert result.metric_to_result == {"click": OutcomeResult.RECORDED}
    assert not result.is_fallback


@pytest.mark.parametrize("name", bandit_pb2.OutcomeResult.keys()[1:])
def test_every_outcome_result_is_known(name: str) -> None:
    """Each result on the wire is an OutcomeResult of the same name."""
    response = bandit_pb2.RewardResponse(results={"click": bandit_pb2.OutcomeResult.Value(name)})
    assert f"OUTCOME_RESULT_{reward_result(response).metric_to_result['click'].name}" == name


@pytest.mark.parametrize("code", PASSING_CODES)
async def test_passing_failures_are_repeated(
    client: AnyClient, script: Script, code: grpc.StatusCode
) -> None:
    """After a transient failure, the same bytes are sent until they are recorded."""
    script.on("Reward", fail(code), fail(code), fail(code), answer(RECORDED))
    outcomes = {f"metric-{number}": float(number) for number in range(20)}
    result = await settle(client.reward(CHOICE, outcomes))
    assert result.metric_to_result == {"click": OutcomeResult.RECORDED}
    sent = script.requests("Reward")
    assert len(sent) == 4
    assert len(set(sent)) == 1


@pytest.mark.parametrize("code", FINAL_CODES)
async def test_final_failures_are_raised(client: AnyClient, script: Script, code: grpc.StatusCode) -> None:
    """A permanent failure raises its error after one attempt."""
    script.on("Reward", fail(code, "no", metadata=(("bandit-reason", "BECAUSE"),)))
    with pytest.raises(CallError) as raised:
        await settle(client.reward(CHOICE, {"click": 1.0}))
    assert type(raised.value) is CODE_TO_ERROR.get(code, InternalError)
    assert (raised.value.code, raised.value.message, raised.value.reason) == (code, "no", "BECAUSE")
    assert isinstance(raised.value.__cause__, grpc.RpcError)
    assert len(script.received) == 1


async def test_pushback_is_honoured(client: AnyClient, script: Script) -> None:
    """A server that asks for a delay is not called before it has passed."""
    exhausted = grpc.StatusCode.RESOURCE_EXHAUSTED
    script.on("Reward", fail(exhausted, metadata=pushback("150")), answer(RECORDED))
    began = time.monotonic()
    await settle(client.reward(CHOICE, {"click": 1.0}))
    assert time.monotonic() - began >= 0.15


@pytest.mark.parametrize("milliseconds", ["-1", "soon"])
async def test_pushback_may_forbid(client: AnyClient, script: Script, milliseconds: str) -> None:
    """A negative or unreadable pushback forbids the retry, as in gRPC's proposal A6."""
    script.on("Reward", fail(grpc.StatusCode.UNAVAILABLE, metadata=pushback(milliseconds)))
    with pytest.raises(UnavailableError):
        await settle(client.reward(CHOICE, {"click": 1.0}))
    assert len(script.received) == 1


async def test_pushback_beyond_the_deadline(client: AnyClient, script: Script) -> None:
    """If a server asks for more time than there is, there is no second call and the caller does not wait."""
    script.on("Reward", fail(grpc.StatusCode.UNAVAILABLE, metadata=pushback("60000")))
    began = time.monotonic()
    with pytest.raises(UnavailableError) as raised:
        await settle(client.reward(CHOICE, {"click": 1.0}, timeout=5.0))
    assert time.monotonic() - began < 5.0
    assert raised.value.retry_delay is not None
    assert raised.value.retry_delay.total_seconds() == 60


async def test_deadline_bounds_all_attempts(client: AnyClient, script: Script) -> None:
    """A service that stays down raises UnavailableError by the deadline, with the number of attempts."""
    script.on("Reward", fail(grpc.StatusCode.UNAVAILABLE, "away"))
    began = time.monotonic()
    with pytest.raises(UnavailableError) as raised:
        await settle(client.reward(CHOICE, {"click": 1.0}, timeout=0.5))
    assert time.monotonic() - began < 2.0
    assert len(script.received) > 1
    [note] = raised.value.__notes__
    assert re.fullmatch(r"given up after \d+ attempts", note)


async def test_slow_attempt_is_repeated(new_client: ClientFactory, peer: Peer) -> None:
    """An attempt without an answer ends after its own deadline, and the next may succeed."""
    peer.script.on("Reward", peer.script.hang, answer(RECORDED))
    client = new_client(peer.target, retry=RetryPolicy(attempt_timeout=0.2, initial_backoff=0.001))
    await settle(client.reward(CHOICE, {"click": 1.0}))
    first, second = peer.script.requests("Reward")
    assert first == second


async def test_lost_answer_is_repeated(client: AnyClient, peer: Peer) -> None:
    """If a connection breaks while the service works, nothing is lost: the reward is sent again."""
    peer.script.on("Reward", peer.script.hang, answer(RECORDED))
    call = asyncio.ensure_future(in_background(lambda: client.reward(CHOICE, {"click": 1.0})))
    await asyncio.to_thread(peer.script.has_come.wait)
    peer.stop()
    peer.start()
    assert (await call).metric_to_result == {"click": OutcomeResult.RECORDED}
    first, second = peer.script.requests("Reward")
    assert first == second


async def test_service_that_comes_late(client: AnyClient, peer: Peer) -> None:
    """A reward that is posted while the service is down is recorded when it comes back."""
    peer.script.on("Reward", answer(RECORDED))
    peer.stop()
    with socket.create_server(("127.0.0.1", peer.port)) as listener:
        call = asyncio.ensure_future(in_background(lambda: client.reward(CHOICE, {"click": 1.0})))
        connection, _ = await asyncio.to_thread(listener.accept)
        connection.close()
    peer.start()
    assert (await call).metric_to_result == {"click": OutcomeResult.RECORDED}


@pytest.mark.parametrize("decision", [Choice(arm="v0", reason=Reason.FALLBACK), ""], ids=["choice", "id"])
async def test_fallback_is_not_rewarded(client: AnyClient, script: Script, decision: Choice | str) -> None:
    """The reward of a fallback is not sent, and its result shows that."""
    result = await settle(client.reward(decision, {"click": 1.0, "price": 2.0}))
    assert result.is_fallback
    assert result.metric_to_result == {"click": OutcomeResult.FALLBACK, "price": OutcomeResult.FALLBACK}
    assert script.received == []


async def test_violations_are_read(client: AnyClient, script: Script) -> None:
    """The field violations of google.rpc.BadRequest arrive without the google.rpc types."""
    violation = error_details_pb2.BadRequest.FieldViolation(
        field='outcomes["click"]', description="2.0 is not in [0, 1]"
    )
    details = []
    for message in (
        error_details_pb2.ErrorInfo(reason="BAD_OUTCOME", domain="bandit.v1"),
        error_details_pb2.BadRequest(field_violations=[violation]),
    ):
        packed = Any()
        packed.Pack(message)
        details.append(packed)
    status = status_pb2.Status(code=3, message="bad outcome", details=details)
    metadata = (("grpc-status-details-bin", status.SerializeToString()),)
    script.on("Reward", fail(grpc.StatusCode.INVALID_ARGUMENT, "bad outcome", metadata=metadata))
    with pytest.raises(InvalidArgumentError) as raised:
        await settle(client.reward(CHOICE, {"click": 2.0}))
    assert raised.value.field_violations == (FieldViolation('outcomes["click"]', "2.0 is not in [0, 1]"),)


@pytest.mark.parametrize("details", [b"\xff\xff", b"\x1a\x03\xff\xff\xff", b"\x18\x01"])
async def test_unreadable_details_are_passed_over(client: AnyClient, script: Script, details: bytes) -> None:
    """Details that can't be read leave the error as it is."""
    metadata = (("grpc-status-details-bin", details),)
    script.on("Reward", fail(grpc.StatusCode.ALREADY_EXISTS, "stands", metadata=metadata))
    with pytest.raises(AlreadyExistsError, match="stands") as raised:
        await settle(client.reward(CHOICE, {"click": 1.0}))
    assert raised.value.field_violations == ()


async def test_malformed_answer(client: AnyClient, script: Script) -> None:
    """An answer that can't be read raises InternalError."""
    script.on("Reward", answer_bytes(b"\xff"))
    with pytest.raises(InternalError):
        await settle(client.reward(CHOICE, {"click": 1.0}))


async def test_unencodable_decision(client: AnyClient, script: Script) -> None:
    """A decision id that can't be encoded raises InvalidArgumentError before any call."""
    with pytest.raises(InvalidArgumentError):
        await settle(client.reward("\ud800", {"click": 1.0}))
    assert script.received == []


async def test_closed_client(client: AnyClient, script: Script) -> None:
    """A closed client refuses the reward at once, since repeating would not help."""
    await settle(client.close())
    with pytest.raises(UnavailableError, match="closed"):
        await settle(client.reward(CHOICE, {"click": 1.0}))
    assert script.received == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"decision": None},
        {"decision": 7},
        {"outcomes": {"click": "yes"}},
        {"outcomes": 1.0},
        {"revision": 1.5},
    ],
    ids=str,
)
async def test_wrong_type_is_refused(client: AnyClient, script: Script, wrong: dict[str, str]) -> None:
    """An argument of a wrong type raises TypeError before any call."""
    arguments: dict[str, str] = {"decision": CHOICE, "outcomes": {"click": 1.0}, **wrong}  # type: ignore[dict-item]
    with pytest.raises(TypeError, match=next(iter(wrong))):
        await settle(client.reward(**arguments))  # type: ignore[arg-type]
    assert script.received == []


async def test_a_call_that_is_too_large_is_not_sent_again(client: AnyClient, script: Script) -> None:
    """A call above gRPC's size limit gets the status of overload, but is not repeated, which can't help."""
    script.on("Reward", fail(grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max"))
    outcomes = {f"metric-{number:060}": 1.0 for number in range(20_000)}
    with pytest.raises(
        InvalidArgumentError, match=r"the request has 1,6\d\d,\d{3} bytes; a call holds at most"
    ):
        await settle(client.reward(CHOICE, outcomes))
    script.on("BatchReward", fail(grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max"))
    [result] = await settle(client.batch_reward([Reward(CHOICE, outcomes)]))
    assert isinstance(result, InvalidArgumentError)
    assert len(script.received) == 2


async def test_the_reason_of_the_service_outlives_the_deadline(new_client: ClientFactory, peer: Peer) -> None:
    """If time runs out after the service named the problem, the error is the service's."""
    away = fail(grpc.StatusCode.UNAVAILABLE, "the store is away", metadata=(("bandit-reason", "AWAY"),))
    script = peer.script
    script.on("Reward", away, script.hang)
    script.on("BatchReward", away, script.hang)
    client = new_client(peer.target, retry=RetryPolicy(timeout=0.5, initial_backoff=0.01))
    with pytest.raises(UnavailableError, match="the store is away") as raised:
        await settle(client.reward(CHOICE, {"click": 1.0}))
    assert raised.value.reason == "AWAY"
    [result] = await settle(client.batch_reward([Reward(CHOICE, {"click": 1.0})]))
    assert isinstance(result, UnavailableError)
    assert result.reason == "AWAY"


async def test_a_number_beyond_floats_is_a_bad_value(client: AnyClient) -> None:
    """A number that no float can represent is a bad value, like every value that the service would refuse."""
    with pytest.raises(InvalidArgumentError):
        await settle(client.reward(CHOICE, {"click": 10**400}))

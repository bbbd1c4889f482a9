"""Clients of four languages get the same answers from both listeners."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import starmap
from typing import Final, NamedTuple

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2

from bandit.v1 import bandit_pb2
from tests.foreign.calls import Call, Outcome, path_of
from tests.foreign.site import Site
from tests.foreign.toolchains import Client

_CHUNK: Final = 50_000  # a million answers at once would take gigabytes
_HEALTH: Final = path_of("Check", health.SERVICE_NAME)
_ANSWERS: Final[dict[str, type[Message]]] = {
    "Choose": bandit_pb2.ChooseResponse,
    "BatchChoose": bandit_pb2.BatchChooseResponse,
    "ChooseStream": bandit_pb2.ChooseStreamResponse,
    "Reward": bandit_pb2.RewardResponse,
    "BatchReward": bandit_pb2.BatchRewardResponse,
    "Check": health_pb2.HealthCheckResponse,
}


class Seen(NamedTuple):
    """What both listeners must agree on: an outcome without what differs from call to call.

    Attributes:
        code: Number of the status.
        message: Text of the status.
        trailers: Details of the status.
        answers: The messages received, without decision ids and ages.
    """

    code: int
    message: str
    trailers: dict[str, bytes]
    answers: list[Message]

    @classmethod
    def of(cls, call: Call, outcome: Outcome) -> "Seen":
        """Return what was seen of a call."""
        kind = _ANSWERS[call.path.rpartition("/")[2]] if outcome.responses else Message
        answers = [kind.FromString(response) for response in outcome.responses]
        for answer in answers:
            for choice in _choices_of(answer):
                assert choice.decision_id
                choice.ClearField("decision_id")
                choice.ClearField("snapshot_age")
        return cls(outcome.code, outcome.message, outcome.trailers, answers)


def _choices_of(answer: Message) -> list[bandit_pb2.ChooseResponse]:
    match answer:
        case bandit_pb2.ChooseResponse():
            return [answer]
        case bandit_pb2.ChooseStreamResponse():
            return [answer.choice] if answer.HasField("choice") else []
        case bandit_pb2.BatchChooseResponse():
            return [result.choice for result in answer.results if result.HasField("choice")]
        case _:
            return []


def test_a_unit_gets_the_same_arm(site: Site, client: Client, n_calls: int) -> None:
    """Every unit gets the same arm, propensity and payload, also compressed and with any deadline."""
    arms: set[str] = set()
    for first in range(0, n_calls, _CHUNK):
        calls = site.choices(range(first, min(first + _CHUNK, n_calls)))
        answers = _both(site, client, calls)
        assert {seen.code for seen in answers} == {0}
        arms |= {choice.arm for seen in answers for answer in seen.answers for choice in _choices_of(answer)}
    assert arms == {"a", "b", "c"}


def test_every_method_answers_alike(site: Site, client: Client) -> None:
    """Batches, streams, restricted choices and health have the same answers, item by item."""
    calls = list(site.good_calls())
    answers = _both(site, client, calls)
    assert [seen.code for seen in answers] == [0] * len(calls)
    assert [len(seen.answers) for seen in answers] == [len(call.requests) for call in calls]


def test_bad_input_is_refused_alike(site: Site, client: Client) -> None:
    """Each refusal has the same code, text and details."""
    expected, calls = zip(*site.bad_calls(), strict=True)
    answers = _both(site, client, calls)
    assert [seen.code for seen in answers] == [code.value[0] for code in expected]
    bare = {call.path for call, seen in zip(calls, answers, strict=True) if not seen.trailers}
    assert bare == {path_of("Refuse"), path_of("Choose", "bandit.v2.BanditService"), _HEALTH}


def test_a_message_beyond_all_limits_is_refused(site: Site, client: Client) -> None:
    """A message larger than any method takes ends its own call alone, on both listeners."""
    code = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    calls = [Call(path=path_of("BatchChoose"), requests=[bytes(size)]) for size in (2 << 20, 3 << 20)]
    for address in site.listeners:
        outcomes = client.make(address, [*calls, *site.choices(range(3))])
        assert [outcome.code for outcome in outcomes] == [code, code, 0, 0, 0]


def test_a_rate_binds_on_both(site: Site, client: Client) -> None:
    """A caller beyond its rate is refused by either listener, with the same reason and a delay."""
    call = Call(path=path_of("Choose"), requests=[b""], authorization=site.bearer("slow"))
    client.make(site.server.address, [call])
    for address in site.listeners:
        (outcome,) = client.make(address, [call])
        assert outcome.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        assert outcome.trailers["bandit-reason"] == b"RATE_LIMITED"
        delay_ms = int(outcome.trailers["grpc-retry-pushback-ms"])
        status = status_pb2.Status.FromString(outcome.trailers["grpc-status-details-bin"])
        retry = error_details_pb2.RetryInfo()
        assert any(detail.Unpack(retry) for detail in status.details)
        assert retry.retry_delay.ToMilliseconds() == delay_ms > 0


def test_a_passed_deadline_ends_no_other_call(site: Site, client: Client) -> None:
    """A call with next to no time ends as DEADLINE_EXCEEDED, or in time, and later calls are answered.

    Clients round a deadline up, to a millisecond in grpcio's case, in which a server can answer.
    """
    soon = [replace(call, timeout_us=1) for call in site.choices(range(20))]
    late = grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
    for address in site.listeners:
        outcomes = client.make(address, soon + site.choices(range(20)))
        codes = [outcome.code for outcome in outcomes]
        assert set(codes[:20]) <= {late, 0}
        assert codes[20:] == [0] * 20


def test_rewards_are_recorded_alike(site: Site, client: Client) -> None:
    """Rewards through either listener are recorded, and their repeats through the other are duplicates."""
    listeners = site.listeners
    for first, other in (listeners, listeners[::-1]):
        calls = site.rewards(100)
        for address, result in ((first, "RECORDED"), (other, "DUPLICATE")):
            *singles, batch = starmap(Seen.of, zip(calls, client.make(address, calls), strict=True))
            wanted = {"click": bandit_pb2.OutcomeResult.Value(f"OUTCOME_RESULT_{result}")}
            assert [_results(seen.answers) for seen in singles] == [[wanted]] * 100
            (answer,) = batch.answers
            assert isinstance(answer, bandit_pb2.BatchRewardResponse)
            *rewards, refused = answer.results
            assert _results([item.reward for item in rewards]) == [wanted] * 100
            assert refused.error.reason == "DECISION_ID_INVALID"


def _results(answers: Sequence[Message]) -> list[dict[str, int]]:
    assert all(isinstance(answer, bandit_pb2.RewardResponse) for answer in answers)
    return [dict(answer.results) for answer in answers if isinstance(answer, bandit_pb2.RewardResponse)]


def _both(site: Site, client: Client, calls: Sequence[Call]) -> list[Seen]:
    """Return what both listeners answered; fail if they do not agree."""
    default, fast = (
        list(starmap(Seen.of, zip(calls, client.make(address, calls), strict=True)))
        for address in site.listeners
    )
    differing = [
        (call, one, other) for call, one, other in zip(calls, default, fast, strict=True) if one != other
    ]
    told = [
        f"{call.line[:60]}…: {one.code} {one.message!r}, {other.code} {other.message!r}"
        for call, one, other in differing[:3]
    ]
    assert differing[:3] == [], "\n".join(told)
    return fast

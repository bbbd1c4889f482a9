"""What `choose` sends, and how it reads an answer."""

import inspect
from datetime import timedelta

import pytest

from bandit.client import AsyncBanditClient, BanditClient, Choice, Fallback, Reason
from bandit.client.messages import choice
from bandit.v1 import bandit_pb2
from tests.bandit.client.peer import AnyClient, Peer, Script, answer, settle


def response(**fields: str | int) -> bandit_pb2.ChooseResponse:
    """Return an answer with a payload of every kind of value."""
    message = bandit_pb2.ChooseResponse(
        arm="v2",
        decision_id="signed",
        propensity=0.25,
        reason=bandit_pb2.REASON_WARM_UP,
        epoch=7,
        model_uri="s3://m",
    )
    message.payload.update(
        {"n": 3, "on": True, "name": "x", "none": None, "list": [1, {"deep": []}], "map": {"a": 1}}
    )
    message.snapshot_age.FromMilliseconds(1500)
    for name, value in fields.items():
        setattr(message, name, value)
    return message


async def test_answer_is_a_choice(client: AnyClient, script: Script, fallback: Fallback) -> None:
    """Every field of the service's answer arrives in the choice."""
    script.on("Choose", answer(response()))
    chosen = await settle(client.choose("ranker", fallback=fallback))
    assert chosen == Choice(
        arm="v2",
        decision_id="signed",
        propensity=0.25,
        reason=Reason.WARM_UP,
        model_uri="s3://m",
        epoch=7,
        snapshot_age=timedelta(seconds=1.5),
        payload_source=response().payload,
    )
    assert not chosen.is_fallback


async def test_question_is_sent(client: AnyClient, script: Script, fallback: Fallback) -> None:
    """Every argument of choose reaches the service."""
    script.on("Choose", answer(response()))
    await settle(
        client.choose(
            "team/ranker",
            fallback=fallback,
            unit="user-1",
            attributes={"country": "it"},
            eligible_arms=("v1", "v2"),
            previous=Choice(arm="v1", decision_id="earlier"),
        )
    )
    [sent] = script.requests("Choose")
    assert bandit_pb2.ChooseRequest.FromString(sent) == bandit_pb2.ChooseRequest(
        experiment="team/ranker",
        unit="user-1",
        attributes={"country": "it"},
        eligible_arms=["v1", "v2"],
        previous_decision_id="earlier",
    )


async def test_previous_fallback_pins_nothing(client: AnyClient, script: Script, fallback: Fallback) -> None:
    """A fallback passed back as the previous choice is not a decision, and a new one is asked for."""
    script.on("Choose", answer(response()))
    await settle(
        client.choose("ranker", fallback=fallback, previous=Choice(arm="v0", reason=Reason.FALLBACK))
    )
    assert script.requests("Choose") == [bandit_pb2.ChooseRequest(experiment="ranker").SerializeToString()]


async def test_previous_may_be_its_id(client: AnyClient, script: Script, fallback: Fallback) -> None:
    """The previous decision may be given by its stored id."""
    script.on("Choose", answer(response()))
    await settle(client.choose("ranker", fallback=fallback, previous="earlier"))
    sent = bandit_pb2.ChooseRequest.FromString(script.requests("Choose")[0])
    assert sent.previous_decision_id == "earlier"


def test_payload_is_a_plain_dict() -> None:
    """The payload is made of dict, list, str, float, bool and None alone."""
    assert choice(response()).payload == {
        "n": 3.0,
        "on": True,
        "name": "x",
        "none": None,
        "list": [1.0, {"deep": []}],
        "map": {"a": 1.0},
    }


def test_payload_is_converted_once() -> None:
    """Every reading of a payload returns the same dict, so that it is converted only once."""
    chosen = choice(response())
    assert chosen.payload is chosen.payload


def test_a_missing_payload_is_an_empty_dict() -> None:
    """An arm without a payload has an empty one."""
    assert choice(bandit_pb2.ChooseResponse(arm="v1")).payload == {}


@pytest.mark.parametrize("name", bandit_pb2.Reason.keys()[1:])
def test_every_reason_is_known(name: str) -> None:
    """Each reason on the wire is a Reason of the same name."""
    chosen = choice(response(reason=bandit_pb2.Reason.Value(name)))
    assert f"REASON_{chosen.reason.name}" == name


def test_newer_reason_is_unrecognized() -> None:
    """An unknown reason does not raise."""
    assert choice(response(reason=99)).reason is Reason.UNRECOGNIZED


@pytest.mark.parametrize("kind", [BanditClient, AsyncBanditClient])
def test_default_deadline_is_50_ms(kind: type[AnyClient]) -> None:
    """By default a client waits 50 ms for an answer."""
    assert inspect.signature(kind).parameters["choose_timeout"].default == 0.05


async def test_deadline_is_sent(client: AnyClient, script: Script, fallback: Fallback) -> None:
    """The service sees the deadline of the call, and need not work beyond it."""
    script.on("Choose", answer(response()))
    await settle(client.choose("ranker", fallback=fallback, timeout=7.0))
    assert 0 < script.received[0].time_remaining <= 7.0 * 1.01  # gRPC rounds up to three digits


@pytest.mark.parametrize(
    "wrong",
    [
        {"experiment": None},
        {"experiment": b"ranker"},
        {"unit": 7},
        {"attributes": {"age": 7}},
        {"eligible_arms": "v1"},
        {"eligible_arms": [1]},
        {"previous": 7},
        {"fallback": "v0"},
        {"fallback": None},
    ],
    ids=str,
)
async def test_wrong_type_is_refused(
    client: AnyClient, script: Script, peer: Peer, fallback: Fallback, wrong: dict[str, str]
) -> None:
    """An argument of a wrong type raises TypeError before any call: it is a bug in the program."""
    script.on("Choose", answer(response()))
    arguments: dict[str, str] = {"experiment": "ranker", "fallback": fallback, **wrong}  # type: ignore[dict-item]
    with pytest.raises(TypeError, match=next(iter(wrong))):
        await settle(client.choose(**arguments))  # type: ignore[arg-type]
    assert peer.script.received == []


@pytest.mark.parametrize(("arm", "error"), [("", ValueError), (None, TypeError), (7, TypeError)])
def test_fallback_needs_an_arm(arm: str, error: type[Exception]) -> None:
    """A fallback without an arm is refused when it is made."""
    with pytest.raises(error, match="arm"):
        Fallback(arm)


def test_fallback_payload_is_a_mapping() -> None:
    """A fallback's payload has the shape of an arm's."""
    with pytest.raises(TypeError, match="payload"):
        Fallback("v0", [1])  # type: ignore[arg-type]

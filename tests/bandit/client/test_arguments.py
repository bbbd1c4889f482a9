"""What is wrong with an argument is said: its name, its value and type, and what is wanted."""

import decimal
import enum
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.client import (
    BanditClient,
    Choice,
    Fallback,
    InvalidArgumentError,
    Question,
    RetryPolicy,
    Reward,
    ShadowDecision,
    Tls,
)
from bandit.client.blocking.launches import VerbArguments
from bandit.v1 import bandit_pb2, experiment_pb2
from bandit.wrong_types import shown, wrong_type
from tests.bandit.client.peer import AnyClient, Script, answer, collect, settle

V0 = Fallback("v0")
SECRET = "abcdef"  # noqa: S105 - of these tests alone
ANSWER = bandit_pb2.ChooseResponse(arm="v1", decision_id="signed")
RECORDED = bandit_pb2.RewardResponse(results={"click": bandit_pb2.OUTCOME_RESULT_RECORDED})
Call = Callable[[Any], Any]


class NoRepr:
    """A value that can't be shown."""

    def __repr__(self) -> str:
        raise RuntimeError


class Country(str, enum.Enum):  # noqa: UP042 - the older way, which people have
    """A str that is an enum."""

    ITALY = "it"


CHOOSE: list[tuple[dict[str, object], str]] = [
    ({"experiment": None}, "experiment must be a str, got None (NoneType)"),
    ({"unit": 42}, "unit must be a str, got 42 (int)"),
    ({"attributes": {"plan": "pro", "age": 42}}, 'attributes["age"] must be a str, got 42 (int)'),
    ({"attributes": {7: "x"}}, "a key of attributes must be a str, got 7 (int)"),
    ({"attributes": {"a": None}}, 'attributes["a"] must be a str, got None (NoneType)'),
    (
        {"attributes": "plan"},
        "attributes must be a mapping, each key a str and each value a str, got 'plan' (str)",
    ),
    (
        {"attributes": {"plan"}},
        "attributes must be a mapping, each key a str and each value a str, got {'plan'} (set)",
    ),
    ({"eligible_arms": "v1"}, "eligible_arms must be a collection of arm ids, or None, got 'v1' (str)"),
    ({"eligible_arms": ["v1", 2]}, "eligible_arms[1] must be a str, got 2 (int)"),
    ({"eligible_arms": 2}, "eligible_arms must be a collection, each a str, got 2 (int)"),
    ({"previous": 3.5}, "previous must be a Choice, a decision id or None, got 3.5 (float)"),
    ({"fallback": "v0"}, "fallback must be a Fallback, got 'v0' (str)"),
    ({"timeout": "5"}, "timeout must be a number of seconds, got '5' (str)"),
    ({"unit": NoRepr()}, "unit must be a str, got <NoRepr instance at 0x"),
]
REWARD: list[tuple[dict[str, object], str]] = [
    ({"outcomes": {"a": 1.0, "click": "1"}}, "outcomes[\"click\"] must be a number, got '1' (str)"),
    ({"outcomes": {"click": None}}, 'outcomes["click"] must be a number, got None (NoneType)'),
    ({"outcomes": {"click": np.array([1.0])}}, 'outcomes["click"] must be a number, got array([1.])'),
    ({"outcomes": {"cl\nick": 1j}}, 'outcomes["cl\\nick"] must be a number, got 1j (complex)'),
    ({"outcomes": {3: 1.0}}, "a key of outcomes must be a str, got 3 (int)"),
    ({"outcomes": ["click"]}, "outcomes must be a mapping, each key a str and each value a number"),
    ({"outcomes": None}, "outcomes must be a mapping of metrics to numbers, got None (NoneType)"),
    ({"outcomes": "click"}, "outcomes must be a mapping of metrics to numbers, got 'click' (str)"),
    ({"decision": None}, "decision must be a Choice, a ShadowDecision or a decision id, got None (NoneType)"),
    (
        {"decision": b"signed"},
        "decision must be a Choice, a ShadowDecision or a decision id, got b'signed' (bytes)",
    ),
    ({"revision": 1.0}, "revision must be an int, got 1.0 (float)"),
    ({"timeout": None, "revision": "1"}, "revision must be an int, got '1' (str)"),
]
CALLS: list[tuple[Call, str]] = [
    (lambda c: c.batch_choose(iter(())), "questions must be a list, each a Question, got "),
    (lambda c: c.batch_choose([("ranker", V0)]), "questions[0] must be a Question, got ('ranker', "),
    (lambda c: c.batch_reward({"d": 1}), "rewards[0] must be a Reward, got 'd' (str)"),
    (lambda c: c.batch_reward(5), "rewards must be a list, each a Reward, got 5 (int)"),
    (
        lambda c: c.choose("x", fallback=V0, eligible_arms=iter(["v1", 2])),
        "eligible_arms must be a collection, each a str, got <list_iterator object at ",
    ),
    (
        lambda c: c.reward("d", zip(["click"], ["1"], strict=True)),
        "outcomes must be a mapping, each key a str and each value a number, got <zip object at ",
    ),
    (
        lambda c: c.experiments.report("x", metrics=iter(["click", 2])),
        "metrics must be a collection, each a str, got <list_iterator object at ",
    ),
    (lambda c: c.experiments.get(None), "name must be a str, got None (NoneType)"),
    (lambda c: c.experiments.conclude("x", winner=None), "winner must be a str, got None (NoneType)"),
    (lambda c: c.experiments.create(None), "experiment must be a message Experiment or a dict of its fields"),
    (lambda c: c.admin.revoke_decision_key(None), "key must be an int, got None (NoneType)"),
    (lambda c: c.experiments.get(5), "name must be a str, got 5 (int)"),
    (lambda c: c.experiments.get("x", timeout="1"), "timeout must be a number of seconds, got '1' (str)"),
    (lambda c: c.experiments.create("ranker"), "experiment must be a message Experiment or a dict"),
    (
        lambda c: c.experiments.create({"name": "x", "arms": [{"id": "a"}, {"id": 5}]}),
        "experiment.arms[1].id must be a str, got 5 (int)",
    ),
    (lambda c: c.experiments.create({"nam": "x"}), "experiment.nam is not a field of Experiment"),
    (lambda c: c.experiments.create(experiment_pb2.Arm(id="v1")), "got id: "),
    (lambda c: c.experiments.start("x", etag=3), "etag must be a str, got 3 (int)"),
    (lambda c: c.experiments.conclude("x", winner=["v1"]), "winner must be a str, got ['v1'] (list)"),
    (
        lambda c: c.experiments.update(experiment_pb2.Experiment(), update_mask="name"),
        "update_mask must be a collection of field names, got 'name' (str)",
    ),
    (
        lambda c: c.experiments.update(experiment_pb2.Experiment(), update_mask=[1]),
        "update_mask[0] must be a str, got 1 (int)",
    ),
    (lambda c: c.experiments.report("x", metrics="click"), "metrics must be a collection of names, got"),
    (lambda c: c.experiments.report("x", splits={"v1": 1}), "splits must be a collection, each a mapping"),
    (lambda c: c.experiments.report("x", splits=[{"v1": "1"}]), 'splits[0]["v1"] must be a number, got'),
    (lambda c: c.experiments.report("x", lift="0.1"), "lift must be a number, got '0.1' (str)"),
    (lambda c: collect(c.experiments.list(page_size="9")), "page_size must be an int, got '9' (str)"),
    (lambda c: c.admin.revoke_decision_key("1"), "key must be an int, got '1' (str)"),
    (lambda c: collect(c.admin.list_audit_entries(experiment=1)), "experiment must be a str, got 1 (int)"),
    (lambda c: c.serve("x", fallback=V0, longest_ms="9"), "longest_ms must be a number of milliseconds"),
]
CONSTRUCTORS: list[tuple[Callable[..., object], dict[str, Any], str]] = [
    (BanditClient, {"target": 50051}, "target must be "),
    (
        BanditClient,
        {"choose_timeout": "0.05"},
        "choose_timeout must be a number of seconds, got '0.05' (str)",
    ),
    (BanditClient, {"experiment_timeout": None}, "experiment_timeout must be a number of seconds, got None"),
    (BanditClient, {"retry": 3}, "retry must be a RetryPolicy or None, got 3 (int)"),
    (BanditClient, {"tls": "ca.pem"}, "tls must be a Tls or None, got 'ca.pem' (str)"),
    (BanditClient, {"credentials": SECRET}, "credentials must be channel credentials or None, got str"),
    (BanditClient, {"token": SECRET.encode()}, "token must be a str, a path or None, got bytes"),
    (BanditClient, {"options": [("grpc.x", None)]}, "options[0] must be a pair of a str and a str or an int"),
    (
        BanditClient,
        {"options": [("grpc.x", 2**40)]},
        "options[0] must be a pair of a str and a str or an int",
    ),
    (BanditClient, {"options": "grpc.x"}, "options must be a sequence of pairs"),
    (BanditClient, {"on_event": 3}, "on_event must be a function that is not async, or None, got 3 (int)"),
    (RetryPolicy, {"timeout": "10"}, "timeout must be a number of seconds, got '10' (str)"),
    (Tls, {"ca": SECRET.encode()}, "ca must be the path of a PEM file, or None, got bytes"),
    (Tls, {"certificate": "c.pem", "key": 5}, "key must be the path of a PEM file, or None, got int"),
    (Fallback, {"arm": 7}, "a fallback's arm must be a str, got 7 (int)"),
    (Fallback, {"arm": "v0", "payload": [1]}, "a fallback's payload must be a mapping, got [1] (list)"),
]


@pytest.mark.parametrize(("wrong", "text"), CHOOSE)
async def test_wrong_argument_of_choose(
    client: AnyClient, script: Script, wrong: dict[str, object], text: str
) -> None:
    """Choose names the one argument that is wrong and makes no call; so does a question of a batch."""
    arguments: dict[str, Any] = {"experiment": "ranker", "fallback": V0, **wrong}
    with pytest.raises(TypeError, match=re.escape(text)):
        await settle(client.choose(**arguments))
    if "timeout" not in wrong:
        questions = [Question(experiment="ranker", fallback=V0), Question(**arguments)]
        path = text.replace("a key of ", "a key of questions[1].", 1)
        path = path if path != text else f"questions[1].{text}"
        with pytest.raises(TypeError, match=re.escape(path)):
            await settle(client.batch_choose(questions))
    assert script.received == []


@pytest.mark.parametrize(("wrong", "text"), REWARD)
async def test_wrong_argument_of_reward(
    client: AnyClient, script: Script, wrong: dict[str, object], text: str
) -> None:
    """Reward names the one argument that is wrong and makes no call; so does a reward of a batch."""
    arguments: dict[str, Any] = {"decision": "signed", "outcomes": {"click": 1.0}, **wrong}
    with pytest.raises(TypeError, match=re.escape(text)):
        await settle(client.reward(**arguments))
    arguments.pop("timeout", None)
    path = text.replace("a key of ", "a key of rewards[0].", 1)
    path = path if path != text else f"rewards[0].{text}"
    with pytest.raises(TypeError, match=re.escape(path)):
        await settle(client.batch_reward([Reward(**arguments)]))
    assert script.received == []


@pytest.mark.parametrize(("call", "text"), CALLS)
async def test_wrong_argument_of_any_call(client: AnyClient, script: Script, call: Call, text: str) -> None:
    """Every other call names what is wrong with its arguments, too, before anything is sent."""
    with pytest.raises(TypeError, match=re.escape(text)):
        await settle(call(client))
    assert script.received == []


@pytest.mark.parametrize(("make", "wrong", "text"), CONSTRUCTORS)
def test_wrong_argument_of_a_constructor(
    make: Callable[..., object], wrong: dict[str, Any], text: str
) -> None:
    """A client, a policy and a value refuse a wrong type when they are made, and never show a secret."""
    with pytest.raises(TypeError, match=re.escape(text)) as raised:
        make(**wrong)
    assert SECRET not in str(raised.value)


def test_coroutine_function_as_a_hook() -> None:
    """A hook that would have to be awaited is refused: nobody would."""

    async def hook(_event: object) -> None: ...

    with pytest.raises(TypeError, match="on_event must be a function that is not async"):
        BanditClient(on_event=hook)


def test_text_of_a_key_in_place_of_its_path() -> None:
    """A private key given as text is refused without a word of it; opening it as a file would show it."""
    text = f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n"
    with pytest.raises(ValueError, match="key must be the path of a PEM file, and is its text") as raised:
        Tls(certificate="c.pem", key=text)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "field", "rule"),
    [
        ({"unit": "\ud800"}, "unit", "UTF-8"),
        ({"unit": b"\xff"}, "unit", "UTF-8"),
        ({"attributes": {"plan": "\udfff"}}, 'attributes["plan"]', "UTF-8"),
        ({"eligible_arms": ["v1", "\ud800"]}, "eligible_arms[1]", "UTF-8"),
        ({"timeout": float("nan")}, "timeout", "it must be a finite number of seconds"),
        ({"timeout": float("inf")}, "timeout", "it must be a finite number of seconds"),
    ],
    ids=str,
)
async def test_value_that_can_not_be_sent(
    client: AnyClient, script: Script, arguments: dict[str, Any], field: str, rule: str
) -> None:
    """What may come from a user gives the fallback, and the cause names the field and the rule."""
    chosen = await settle(client.choose("ranker", fallback=V0, **arguments))
    cause = chosen.fallback_cause
    assert isinstance(cause, InvalidArgumentError)
    [violation] = cause.field_violations
    assert violation.field == field
    assert rule in violation.description
    assert cause.message == f"{field}: {violation.description}"
    assert script.received == []


@pytest.mark.parametrize(
    ("arguments", "field", "rule"),
    [
        ({"outcomes": {"a": 1, "click": 10**400}}, 'outcomes["click"]', "too large for a float"),
        ({"outcomes": {"click": 10**9999}}, 'outcomes["click"]', "too large for a float"),
        ({"outcomes": {"click": decimal.Decimal("sNaN")}}, 'outcomes["click"]', "NaN"),
        ({"revision": -1}, "revision", "it must be in [0, 4294967295]"),
        ({"revision": 2**32}, "revision", "it must be in [0, 4294967295]"),
        ({"decision": "\ud800"}, "decision", "UTF-8"),
        ({"timeout": float("nan")}, "timeout", "it must be a finite number of seconds"),
    ],
)
async def test_outcome_that_can_not_be_sent(
    client: AnyClient, script: Script, arguments: dict[str, Any], field: str, rule: str
) -> None:
    """Reward raises what the service would have answered, with the field."""
    arguments = {"decision": "signed", "outcomes": {"click": 1.0}, **arguments}
    with pytest.raises(InvalidArgumentError) as raised:
        await settle(client.reward(**arguments))
    [violation] = raised.value.field_violations
    assert violation.field == field
    assert rule in violation.description
    assert script.received == []


@pytest.mark.parametrize(
    "value",
    [1, True, 1.0, np.float32(1), np.float64(1), np.int64(1), np.bool_(1), decimal.Decimal(1)],
    ids=lambda value: type(value).__name__,
)
async def test_numbers_of_all_kinds_are_taken(client: AnyClient, script: Script, value: float) -> None:
    """An outcome may be any number that converts itself to a float."""
    script.on("Reward", answer(RECORDED))
    await settle(client.reward("signed", {"click": value}))
    [sent] = script.requests("Reward")
    assert bandit_pb2.RewardRequest.FromString(sent).outcomes == {"click": 1.0}


@pytest.mark.parametrize("text", ["it", Country.ITALY, np.str_("it"), b"it"], ids=lambda v: type(v).__name__)
async def test_text_of_all_kinds_is_taken(client: AnyClient, script: Script, text: str) -> None:
    """A unit or an attribute may be any subclass of str, such as an enum, or UTF-8 bytes."""
    script.on("Choose", answer(ANSWER))
    await settle(client.choose("ranker", unit=text, attributes={"country": text}, fallback=V0))
    [sent] = script.requests("Choose")
    request = bandit_pb2.ChooseRequest.FromString(sent)
    assert request.unit == "it"
    assert dict(request.attributes) == {"country": "it"}


@pytest.mark.parametrize("seconds", [5, np.float32(5), decimal.Decimal(5), 1e300])
async def test_durations_of_all_kinds_are_taken(client: AnyClient, script: Script, seconds: float) -> None:
    """A timeout may be any finite number, also one that is longer than gRPC can count."""
    script.on("Choose", answer(ANSWER))
    chosen = await settle(client.choose("ranker", fallback=V0, timeout=seconds))
    assert not chosen.is_fallback


@given(st.one_of(st.text(), st.binary(), st.integers(), st.lists(st.text()), st.floats()))
def test_shown_values_are_one_line_of_ascii(value: object) -> None:
    """Whatever a value is, a message shows it in one short line that any terminal can write."""
    text = shown(value)
    assert text.isascii()
    assert text.isprintable()
    assert len(text) <= 80
    assert "\n" not in str(wrong_type("unit", value, "a str"))


def public_functions() -> Iterator[tuple[str, list[str]]]:
    """Every public call of the client with its parameters."""
    for source in ("client", "experiments", "admin"):
        module = __import__(f"bandit.client.blocking.{source}", fromlist=["_"])
        for kind in vars(module).values():
            if inspect.isclass(kind) and kind.__module__ == module.__name__:
                for name, function in inspect.getmembers(kind, inspect.isfunction):
                    if not name.startswith("_"):
                        parameters = dict.fromkeys(list(inspect.signature(function).parameters)[1:])
                        if "arguments" in parameters:  # those of a verb of launches
                            del parameters["arguments"]
                            parameters |= dict.fromkeys(VerbArguments.__annotations__)
                        yield f"{source}.{name}", list(parameters)


async def test_no_obscure_error(client: AnyClient, script: Script) -> None:
    """An argument that is a plain object is named by every public call, whichever of its arguments it is."""
    plain = object()
    good: dict[str, Any] = {"fallback": V0, "decision": "d", "outcomes": {}, "name": "x", "winner": "v1"}
    good |= {"experiment": "x", "key": 1, "questions": [], "rewards": []}
    good |= {"reason": "why", "shadow": ShadowDecision(arm="v2", decision_id="d")}
    for call, parameters in public_functions():
        if call == "client.close":
            continue
        of, _, name = call.partition(".")
        holder = client if of == "client" else getattr(client, of)
        for wrong in parameters:
            if call == "client.serve" and wrong != "longest_ms":
                continue  # looked at by choose, where the block begins
            if wrong == "timeout" and call.startswith("client.batch_choose"):
                continue  # of an empty batch, which makes no call
            arguments = {key: value for key, value in good.items() if key in parameters}
            if call in {"experiments.create", "experiments.update"}:
                arguments["experiment"] = experiment_pb2.Experiment()
            arguments[wrong] = plain
            with pytest.raises(TypeError, match=f"{wrong} must be ") as raised:
                await outcome(getattr(holder, name), arguments)
            assert "(object)" in str(raised.value)
    assert script.received == []


async def outcome(call: Callable[..., Any], arguments: dict[str, Any]) -> object:
    """Return what a call of either client returns, or all that it yields."""
    result = call(**arguments)
    if hasattr(result, "__aiter__") or inspect.isgenerator(result):
        return await collect(result)
    return await settle(result)


def test_paths_are_paths(tmp_path: Path) -> None:
    """A token and certificates may be given as str or Path."""
    (tmp_path / "token").write_text("abc")
    BanditClient(token=tmp_path / "token").close()
    assert Tls(ca=tmp_path / "ca.pem") == Tls(ca=tmp_path / "ca.pem")


async def test_previous_choice_of_a_fallback(client: AnyClient, script: Script) -> None:
    """A choice is taken as a previous one, whatever it is."""
    script.on("Choose", answer(ANSWER))
    chosen = await settle(client.choose("ranker", fallback=V0, previous=Choice(arm="v0")))
    assert chosen.arm == "v1"

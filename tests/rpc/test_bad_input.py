"""Valid messages with bad values on the data plane get a clear status, and nothing is stored."""

import json
import math
import re
from collections.abc import Iterator
from functools import partial
from importlib import resources

import grpc
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bandit.decision_id import NO_UNIT, Basis, DecisionTerms, Signer, new_id
from bandit.v1 import bandit_pb2, experiment_pb2
from bandit.validation import is_experiment_name
from tests.support.process import ServerProcess, eventually
from tests.support.refusals import INNARDS, Refusal, refused, require_safe_text
from tests.support.wire import Wire, metric

pytestmark = pytest.mark.both_listeners
HOSTILE = [
    pytest.param("a\0b", id="NUL"),
    pytest.param("a\r\nb", id="CR LF"),
    pytest.param('a\n{"event": "forged"}', id="a line of a log"),
    pytest.param("\x1b[31mred\x1b[0m", id="ANSI"),
    pytest.param("\u202egnp.exe", id="bidi"),
    pytest.param("\u2066a\u2069", id="bidi isolates"),
    pytest.param("a\u0085b\u2028c", id="other line ends"),
    pytest.param("'; DROP TABLE rewards; --", id="SQL"),
    pytest.param("../../etc/passwd", id="a path"),
    pytest.param("%s%n{0}${jndi:x}", id="formats"),
    pytest.param("A" * 60_000, id="60,000 letters"),
    pytest.param("\U0001f600" * 300, id="300 faces"),
]
SOME_EXAMPLES = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=300).filter(lambda text: INNARDS.search(text) is None)
"""Any text that protobuf can carry, except texts that look like a leak of internals when quoted back."""


@pytest.fixture(scope="module")
def name(shared_wire: Wire) -> str:
    """Start an experiment with a binary, a real-valued and a count metric."""
    real = metric("spend", kind=experiment_pb2.METRIC_KIND_REAL, minimum=-5, maximum=5)
    count = metric("items", kind=experiment_pb2.METRIC_KIND_COUNT, maximum=10)
    return shared_wire.running(metrics=[metric("click"), real, count])


@pytest.fixture
def untouched(wire: Wire, name: str) -> Iterator[None]:
    """Check that the test stored no outcome."""
    before = wire.n_outcomes(name)
    yield
    assert wire.n_outcomes(name) == before


@pytest.fixture(scope="module", autouse=True)
def _one_line_an_event(shared_process: ServerProcess) -> Iterator[None]:
    """Check that the log has one JSON object per line, and none forged by these tests."""
    yield
    assert "forged" not in {event["event"] for event in shared_process.events()}


REFUSED = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
WHITE = re.compile("[ \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")


def is_good_value(value: str) -> bool:
    """True if the text is a valid value of an attribute."""
    return len(value) <= 256 and REFUSED.search(value) is None


def is_good_unit(unit: str) -> bool:
    """True if the text is a valid unit, or empty for a call without a unit."""
    return is_good_value(unit) and WHITE.fullmatch(unit) is None


@SOME_EXAMPLES
@given(unit=TEXTS)
def test_a_unit_keeps_the_rule_or_is_refused(shared_wire: Wire, name: str, unit: str) -> None:
    """A unit has up to 256 code points, no control among them, and not only white space."""
    if is_good_unit(unit):
        assert shared_wire.choose(name, unit=unit).arm in {"a", "b"}
    else:
        refusal = refused(lambda: shared_wire.choose(name, unit=unit))
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
        assert set(refusal.violations) == {"unit"}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_unit_is_refused_by_its_rule(wire: Wire, name: str, text: str) -> None:
    """The refusal has the escaped value and the rule; texts that only look hostile are valid units."""
    if is_good_unit(text):
        assert wire.choose(name, unit=text).arm
        return
    refusal = refused(lambda: wire.choose(name, unit=text))
    assert refusal.reason == "INVALID_INPUT"
    assert re.search(
        r"U\+(00|20).. at position \d+ is .*, which a unit may not contain|points: a unit has 1 to 256",
        refusal.violations["unit"],
    )


@pytest.mark.parametrize(
    ("unit", "fault"),
    [
        ("abc\u202ed", "U+202E at position 4 is a bidirectional control, which a unit may not contain"),
        ("user-1\n", "U+000A at position 7 is a control character, which a unit may not contain"),
        ("\U0001f600\x9f", "U+009F at position 2 is a control character, which a unit may not contain"),
        (
            " ",
            "only white space, such as U+0020: a unit needs another character too",
        ),
        (
            "\u3000\u00a0",
            "only white space, such as U+3000: a unit needs another character too",
        ),
        ("\U0001f600" * 257, "257 code points: a unit has 1 to 256"),
    ],
)
def test_a_refused_unit_is_explained(wire: Wire, name: str, unit: str, fault: str) -> None:
    """The refusal names the code point and its position, and holds no character of the unit."""
    assert refused(lambda: wire.choose(name, unit=unit)).violations == {"unit": fault}


def test_every_unit_of_the_shipped_vectors_is_answered(wire: Wire, name: str) -> None:
    """Units of any script get an arm, the same each time; what the file says is refused is refused."""
    vectors = json.loads(resources.files("bandit").joinpath("text_vectors.json").read_text("utf-8"))
    for case in vectors["units_accepted"]:
        first, second = (wire.choose(name, unit=case["text"]) for _ in range(2))
        assert (first.arm, first.reason) == (second.arm, bandit_pb2.REASON_POLICY), case["what"]
    for case in vectors["units_refused"]:
        if case["text"]:
            assert "unit" in refused(lambda: wire.choose(name, unit=case["text"])).violations, case["what"]  # noqa: B023


@SOME_EXAMPLES
@given(text=TEXTS)
def test_an_experiment_has_a_name_or_is_refused(shared_wire: Wire, text: str) -> None:
    """A name that does not match the pattern gets INVALID_ARGUMENT; an unknown name gets NOT_FOUND."""
    refusal = refused(lambda: shared_wire.choose(text))
    if is_experiment_name(text):
        assert refusal.code is grpc.StatusCode.NOT_FOUND
    else:
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
        assert set(refusal.violations) == {"experiment"}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_experiment_name_is_refused(wire: Wire, text: str) -> None:
    """Both services refuse it; methods that only look it up return NOT_FOUND."""
    assert "[a-z0-9-]{1,63}" in refused(lambda: wire.choose(text)).violations["experiment"]
    for call in (wire.get, wire.start, wire.pause, wire.delete, wire.report):
        refusal = refused(partial(call, text))
        assert refusal.code is grpc.StatusCode.NOT_FOUND


@SOME_EXAMPLES
@given(key=TEXTS, value=TEXTS)
def test_attributes_keep_the_rule_or_are_refused(shared_wire: Wire, name: str, key: str, value: str) -> None:
    """Keys have 1 to 63 and values up to 256 code points, no control among them; a key is not blank."""
    is_good = 1 <= len(key) <= 63 and is_good_unit(key) and is_good_value(value)
    if is_good:
        assert shared_wire.choose(name, attributes={key: value}).arm
    else:
        refusal = refused(lambda: shared_wire.choose(name, attributes={key: value}))
        (field,) = refusal.violations
        assert field.startswith("attributes[")


def test_too_many_attributes_are_refused(wire: Wire, name: str) -> None:
    """32 attributes are accepted, and 33 are not."""
    assert wire.choose(name, attributes={f"k{i}": "v" for i in range(32)}).arm
    refusal = refused(lambda: wire.choose(name, attributes={f"k{i}": "v" for i in range(33)}))
    assert refusal.violations == {"attributes": "33 entries; at most 32"}


@SOME_EXAMPLES
@given(arms=st.lists(TEXTS, min_size=1, max_size=5))
def test_unknown_eligible_arms_leave_the_champion(shared_wire: Wire, name: str, arms: list[str]) -> None:
    """Eligible arms that the experiment does not have are ignored, whatever their names."""
    assume(not {"a", "b"} & set(arms))
    choice = shared_wire.choose(name, eligible_arms=arms)
    assert (choice.arm, choice.reason, choice.propensity) == ("a", bandit_pb2.REASON_NO_ELIGIBLE_ARM, 1.0)
    assert shared_wire.choose(name, eligible_arms=[*arms, "b"]).arm == "b"


def test_too_many_eligible_arms_are_refused(wire: Wire, name: str) -> None:
    """1,000 eligible arms are accepted, and 1,001 are not."""
    assert wire.choose(name, eligible_arms=["b"] * 1_000).arm == "b"
    refusal = refused(lambda: wire.choose(name, eligible_arms=["b"] * 1_001))
    assert refusal.violations == {"eligible_arms": "1001 arms; there may be at most 1000"}


@SOME_EXAMPLES
@given(text=TEXTS)
def test_an_invalid_previous_decision_is_ignored(shared_wire: Wire, name: str, text: str) -> None:
    """Choose answers as if no previous decision was sent."""
    choice = shared_wire.choose(name, previous_decision_id=text)
    assert choice.reason == bandit_pb2.REASON_POLICY
    assert choice.decision_id != text


def test_an_unknown_experiment_is_not_found(wire: Wire) -> None:
    """An unknown experiment gets NOT_FOUND, with its name."""
    refusal = refused(lambda: wire.choose("team-z/no-such-one"))
    assert refusal == Refusal(
        code=grpc.StatusCode.NOT_FOUND,
        message="there is no experiment 'team-z/no-such-one'",
        reason="EXPERIMENT_NOT_FOUND",
        violations={},
        retry_seconds=None,
    )


# Rewards: invalid values, metrics and decisions.

FORGED = "DECISION_ID_INVALID"


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("metric_name", ["click", "spend", "items"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e308, -1e308])
def test_a_value_that_is_not_a_number_is_refused(
    wire: Wire, name: str, metric_name: str, value: float
) -> None:
    """NaN, infinities and 1e308 get INVALID_ARGUMENT on every kind of metric, and nothing is stored."""
    decision_id = wire.choose(name).decision_id
    refusal = refused(lambda: wire.reward(decision_id, {metric_name: value}))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.violations.keys() == {f"outcomes['{metric_name}']"}


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("metric_name", "value", "rule"),
    [
        ("click", 0.5, "it must be 0 or 1"),
        ("click", 2.0, "it must be in [0, 1]"),
        ("spend", 5.000001, "it must be in [-5, 5]"),
        ("items", 1.5, "it must be a whole number"),
        ("items", -1.0, "it must be in [0, 10]"),
        ("items", 11.0, "it must be in [0, 10]"),
    ],
)
def test_a_value_outside_its_metric_is_refused(
    wire: Wire, name: str, metric_name: str, value: float, rule: str
) -> None:
    """The refusal has the field, the value and the rule."""
    decision_id = wire.choose(name).decision_id
    refusal = refused(lambda: wire.reward(decision_id, {metric_name: value}))
    assert refusal.violations == {f"outcomes['{metric_name}']": f"{value!r}: {rule}"}


@pytest.mark.parametrize("value", [-0.0, 5e-324, -5e-324, 2.2e-308])
@pytest.mark.parametrize("metric_name", ["click", "spend", "items"])
def test_tiny_values_are_zero(wire: Wire, name: str, metric_name: str, value: float) -> None:
    """-0.0 and subnormal numbers are recorded as 0, so that posting 0 again is a duplicate."""
    decision_id = wire.choose(name).decision_id
    assert wire.reward(decision_id, {metric_name: value}) == {metric_name: bandit_pb2.OUTCOME_RESULT_RECORDED}
    assert wire.reward(decision_id, {metric_name: 0.0}) == {metric_name: bandit_pb2.OUTCOME_RESULT_DUPLICATE}


def test_a_reward_is_all_or_nothing(wire: Wire, name: str) -> None:
    """If one value is bad, the good one in the same reward is not stored either."""
    decision_id = wire.choose(name).decision_id
    refusal = refused(lambda: wire.reward(decision_id, {"click": 1, "spend": 99, "items": -1}))
    assert refusal.violations.keys() == {"outcomes['spend']", "outcomes['items']"}
    assert wire.reward(decision_id, {"click": 0}) == {"click": bandit_pb2.OUTCOME_RESULT_RECORDED}


@SOME_EXAMPLES
@given(metric_name=TEXTS)
def test_a_metric_that_is_not_declared_is_refused(shared_wire: Wire, name: str, metric_name: str) -> None:
    """A metric that is not declared is refused, whatever its name."""
    assume(metric_name not in {"click", "spend", "items"})
    decision_id = shared_wire.choose(name).decision_id
    refusal = refused(lambda: shared_wire.reward(decision_id, {metric_name: 1.0}))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(refusal.violations.values()) == [f"experiment '{name}' has no such metric"]


@pytest.mark.usefixtures("untouched")
def test_a_reward_needs_an_outcome(wire: Wire, name: str) -> None:
    """A reward with 0 or more than 64 outcomes gets INVALID_ARGUMENT."""
    decision_id = wire.choose(name).decision_id
    assert refused(lambda: wire.reward(decision_id, {})).violations == {
        "outcomes": "0 entries; there must be 1 to 64"
    }
    many = {f"m{number}": 1.0 for number in range(65)}
    assert refused(lambda: wire.reward(decision_id, many)).code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.usefixtures("untouched")
@SOME_EXAMPLES
@given(text=TEXTS)
def test_an_invalid_decision_id_is_refused(shared_wire: Wire, text: str) -> None:
    """Any text that is not a decision id is refused with the same message."""
    refusal = refused(lambda: shared_wire.reward(text, {"click": 1}))
    assert (refusal.reason, refusal.message) == (FORGED, "decision_id: was not issued by this service")


@pytest.mark.usefixtures("untouched")
def test_every_flipped_bit_is_found(wire: Wire, name: str) -> None:
    """A decision id with any character changed is refused like any forgery."""
    decision_id = wire.choose(name, unit="u").decision_id
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    flipped = [
        decision_id[:position] + alphabet[alphabet.index(character) ^ bit] + decision_id[position + 1 :]
        for position, character in enumerate(decision_id)
        for bit in (1, 32)
    ]
    requests = [bandit_pb2.RewardRequest(decision_id=text, outcomes={"click": 1}) for text in flipped]
    assert {result.error.reason for result in wire.batch_reward(*requests)} == {FORGED}


@pytest.mark.usefixtures("untouched")
def test_a_cut_or_padded_decision_id_is_refused(wire: Wire, name: str) -> None:
    """Only the exact text of a decision id is accepted, and no other spelling of it."""
    text = wire.choose(name).decision_id
    spellings = [
        *(text[:end] for end in range(0, len(text), 7)),
        text + "A",
        text + "=",
        f" {text}",
        f"{text}\n",
    ]
    spellings.append(text.replace("-", "+").replace("_", "/") + "====")
    requests = [bandit_pb2.RewardRequest(decision_id=each, outcomes={"click": 1}) for each in spellings]
    assert {result.error.reason for result in wire.batch_reward(*requests)} == {FORGED}


@pytest.mark.usefixtures("untouched")
def test_a_decision_of_another_deployment_is_refused(wire: Wire, name: str) -> None:
    """A valid id signed with another key gets the same error as a forgery."""
    terms = DecisionTerms(
        experiment=1, epoch=1, nonce=0, segment=0, arm=0, basis=Basis.POLICY, propensity=0.5
    )
    elsewhere = Signer({1: bytes(32)}, 1).sign(new_id(1_700_000_000_000, 7), terms.pack(), NO_UNIT)
    assert len(elsewhere) == len(wire.choose(name).decision_id)
    refusal = refused(lambda: wire.reward(elsewhere, {"click": 1}))
    assert (refusal.reason, refusal.message) == (FORGED, "decision_id: was not issued by this service")


# Batches.


@pytest.mark.parametrize("n_requests", [0, 1_001])
def test_a_batch_has_one_to_a_thousand_requests(wire: Wire, n_requests: int) -> None:
    """An empty batch, or one request too many, is refused as a whole."""
    rule = {"requests": f"{n_requests} requests; there must be 1 to 1000"}
    chooses = [bandit_pb2.ChooseRequest(experiment="x")] * n_requests
    rewards = [bandit_pb2.RewardRequest(decision_id="x")] * n_requests
    assert refused(lambda: wire.batch_choose(*chooses)).violations == rule
    assert refused(lambda: wire.batch_reward(*rewards)).violations == rule


@pytest.mark.parametrize("text", HOSTILE)
def test_errors_in_a_batch_are_as_clear_as_errors_of_calls(wire: Wire, name: str, text: str) -> None:
    """A result in a batch has the code, reason, text and violations of the single call."""
    alone = refused(lambda: wire.choose(text))
    first, second = wire.batch_choose(
        bandit_pb2.ChooseRequest(experiment=text),
        bandit_pb2.ChooseRequest(experiment=name),
    )
    assert second.choice.arm
    assert first.error.code == alone.code.value[0]
    assert (first.error.message, first.error.reason) == (alone.message, alone.reason)
    assert {v.field: v.description for v in first.error.field_violations} == alone.violations
    require_safe_text(first.error.message)


# Only answered calls are counted.


def test_a_refused_choose_is_not_a_decision(wire: Wire) -> None:
    """A refused Choose does not count as a decision."""
    name = wire.running()
    for unit in ("\0", "ok", "x" * 257, "", "\n"):
        wire.batch_choose(bandit_pb2.ChooseRequest(experiment=name, unit=unit))
    expected = {"policy": 2, "restricted": 0, "fallback": 0, "unconfirmed": 0}
    assert eventually(lambda: wire.n_decisions(name), until=lambda n: sum(n.values()) >= 2) == expected

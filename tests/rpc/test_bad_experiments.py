"""Invalid experiments are refused with the value and the rule, before anything is stored."""

from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct

from bandit.v1 import experiment_pb2
from tests.support.refusals import refused
from tests.support.wire import Wire, experiment, metric

INVALID = grpc.StatusCode.INVALID_ARGUMENT
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
REAL = experiment_pb2.METRIC_KIND_REAL
COUNT = experiment_pb2.METRIC_KIND_COUNT
SIGNAL = experiment_pb2.METRIC_ROLE_SIGNAL
HOUR = Duration(seconds=3_600)


def arm(arm_id: str, **fields: Any) -> experiment_pb2.Arm:
    """Return an arm."""
    return experiment_pb2.Arm(id=arm_id, **fields)


def payload(value: Any) -> Struct:
    """Return a payload with one entry."""
    struct = Struct()
    struct.update({"x": value})
    return struct


def limits(**fields: Any) -> dict[str, Any]:
    """Return a change of the limits only."""
    return {"limits": experiment_pb2.Limits(**fields)}


def split(**weights: float) -> dict[str, Any]:
    """Return a change to a static split."""
    return {"policy": experiment_pb2.Policy(static_split=experiment_pb2.StaticSplit(weights=weights))}


def greedy(epsilon: float, decay: float = 0.0) -> dict[str, Any]:
    """Return a change to epsilon-greedy."""
    policy = experiment_pb2.EpsilonGreedy(epsilon=epsilon, decay_observations=decay)
    return {"policy": experiment_pb2.Policy(epsilon_greedy=policy)}


def beta(alpha: float, beta: float) -> experiment_pb2.Prior:
    """Return a beta prior."""
    return experiment_pb2.Prior(beta=experiment_pb2.BetaPrior(alpha=alpha, beta=beta))


def click(**fields: Any) -> dict[str, Any]:
    """Return a change of the only metric."""
    return {"metrics": [metric("click", **fields)]}


BETA = beta(1, 1)
GAMMA = experiment_pb2.Prior(gamma=experiment_pb2.GammaPrior(shape=1, rate=1))
NAN = float("nan")
INF = float("inf")
NEWER_KIND = b"\xa2\x06\x00"  # an empty message in field 100, which no release has
POLICY_RULE = "must be one of thompson_sampling, epsilon_greedy, static_split"


@pytest.mark.parametrize(
    ("changes", "field", "rule"),
    [
        ({"name": ""}, "name", "'' must match [a-z0-9-]{1,63}"),
        ({"name": "Ranker"}, "name", "'Ranker' must match"),
        ({"name": "a/b/c"}, "name", "'a/b/c' must match"),
        ({"name": "a" * 64}, "name", "must match [a-z0-9-]{1,63}"),
        ({"name": "a\nb"}, "name", r"'a\nb' must match"),
        ({"name": "a\n"}, "name", r"'a\n' must match"),
        ({"name": "\u202ea"}, "name", r"'\u202ea' must match"),
        ({"description": "d" * 1_001}, "description", "1001 code points: a description has 0 to 1000"),
        ({"description": "one\x1b[2J"}, "description", "U+001B at position 4 is a control character"),
        ({"description": "\u2066a"}, "description", "U+2066 at position 1 is a bidirectional control"),
        ({"arms": []}, "arms", "0 arms; there must be 1 to 1000"),
        ({"arms": [arm(f"a{i}") for i in range(1_001)]}, "arms", "1001 arms; there must be 1 to 1000"),
        ({"arms": [arm("a"), arm("V 2")]}, "arms[1].id", "'V 2': ' ' (U+0020) at position 2 is not allowed"),
        ({"arms": [arm("a"), arm("a\r")]}, "arms[1].id", r"'a\r': U+000D at position 2 is not allowed"),
        ({"arms": [arm("a"), arm("\u0661")]}, "arms[1].id", r"'\u0661': U+0661 at position 1 is not allowed"),
        ({"arms": [arm("a"), arm("b/")]}, "arms[1].id", "'b/': '/' (U+002F) at the end is not allowed"),
        ({"arms": [arm("a"), arm("..")]}, "arms[1].id", "'..': '.' (U+002E) at the start is not allowed"),
        ({"arms": [arm("a"), arm("")]}, "arms[1].id", "'': 0 characters: a name has 1 to 128 ASCII letters"),
        ({"arms": [arm("a"), arm("b" * 129)]}, "arms[1].id", "129 characters: a name has 1 to 128"),
        ({"arms": [arm("a"), arm("b"), arm("a")]}, "arms[2].id", "'a' appears more than once"),
        ({"arms": [arm("a", model_uri="x" * 2_049)]}, "arms[0].model_uri", "a model URI has 0 to 2048"),
        ({"arms": [arm("a", model_uri="s3://\x1b[0m")]}, "arms[0].model_uri", "U+001B at position 6"),
        ({"arms": [arm("a", digest="d" * 257)]}, "arms[0].digest", "a digest has 0 to 256"),
        ({"arms": [arm("a", payload=payload("y" * 16_384))]}, "arms[0].payload", "at most 16384"),
        ({"arms": [arm("a", payload=payload(NAN))]}, "arms[0].payload", "numbers must be finite"),
        ({"arms": [arm("a", payload=payload([{"y": INF}]))]}, "arms[0].payload", "numbers must be finite"),
        ({"champion": "c"}, "champion", "'c' is not one of the arms"),
        ({"champion": ""}, "champion", "'' is not one of the arms"),
        ({"metrics": []}, "metrics", "0 metrics; there must be 1 to 64"),
        ({"metrics": [metric(f"m{i}") for i in range(65)]}, "metrics", "65 metrics; there must be 1 to 64"),
        ({"metrics": [metric("click"), metric("click")]}, "metrics[1].name", "more than once"),
        ({"metrics": [metric("click"), metric("no way")]}, "metrics[1].name", "'no way': ' ' (U+0020)"),
        ({"reward_metric": "buy"}, "reward_metric", "'buy' is not one of the metrics"),
        ({"reward_metric": ""}, "reward_metric", "'' is not one of the metrics"),
        (click(guardrail=True), "reward_metric", "guardrail"),
        (click(guardrail=True, role=SIGNAL), "metrics[0].role", "signal contradicts guardrail = true"),
        (click(role=99), "metrics[0].role", "must be guardrail or signal"),
        (click(role=SIGNAL, window=HOUR), "reward_metric", "'click' is a signal, which does not steer"),
        (click(worse_by=experiment_pb2.Margin()), "metrics[0].worse_by", "one of relative, absolute"),
        (click(worse_by=experiment_pb2.Margin(relative=0.1)), "metrics[0].worse_by", "needs a role"),
        (click(kind=0), "metrics[0].kind", "must be binary, real or count"),
        (click(kind=99), "metrics[0].kind", "must be binary, real or count"),
        (click(direction=99), "metrics[0].direction", "must be maximize or minimize"),
        (click(minimum=-1, maximum=1), "metrics[0].maximum", "[0, 1]"),
        (click(kind=REAL), "metrics[0].maximum", "must be finite and not empty"),
        (click(kind=REAL, minimum=2, maximum=1), "metrics[0].maximum", "must be finite and not empty"),
        (click(kind=REAL, maximum=INF), "metrics[0].maximum", "must be finite"),
        (click(kind=REAL, maximum=NAN), "metrics[0].maximum", "must be finite"),
        (click(kind=COUNT, maximum=1.5), "metrics[0].maximum", "whole numbers"),
        (click(kind=COUNT, maximum=2e6), "metrics[0].maximum", "1048576"),
        (click(window=Duration(seconds=0)), "metrics[0].window", "more than zero"),
        (click(window=Duration(seconds=-1)), "metrics[0].window", "more than zero"),
        (click(window=Duration(seconds=91 * 86_400)), "metrics[0].window", "at most 90 days"),
        (click(window=Duration(seconds=2**62)), "metrics[0].window", "duration"),
        (click(default_value=0), "metrics[0].default_value", "needs a window"),
        (click(default_value=0.5, window=Duration(seconds=1)), "metrics[0].default_value", "0 or 1"),
        (click(prior=GAMMA), "metrics[0].prior", "binary"),
        (click(kind=COUNT, maximum=5, prior=BETA), "metrics[0].prior", "count"),
        (click(prior=beta(0, 1)), "metrics[0].prior.beta", "alpha"),
        (click(prior=beta(1, NAN)), "metrics[0].prior.beta", "nan"),
        ({"policy": experiment_pb2.Policy()}, "policy", POLICY_RULE),
        ({"policy": experiment_pb2.Policy.FromString(NEWER_KIND)}, "policy", POLICY_RULE),
        (
            click(prior=experiment_pb2.Prior.FromString(NEWER_KIND)),
            "metrics[0].prior",
            "must be one of beta,",
        ),
        (greedy(1.5), "policy.epsilon_greedy", "epsilon must be in [0, 1], got 1.5"),
        (greedy(NAN), "policy.epsilon_greedy", "epsilon must be in [0, 1]"),
        (greedy(0.1, -1), "policy.epsilon_greedy", "decay_observations must be positive"),
        (split(a=0), "policy.static_split.weights", "more than zero"),
        (
            limits(minimum_shares={"openai/gpt-4.1": 0.1}),
            'limits.minimum_shares["openai/gpt-4.1"]',
            "'openai/gpt-4.1' is not one of the arms",
        ),
        (split(c=1), 'policy.static_split.weights["c"]', "'c' is not one of the arms"),
        (split(a=1, b=-1), 'policy.static_split.weights["b"]', "at least 0"),
        (split(a=1, b=NAN), 'policy.static_split.weights["b"]', "finite"),
        (limits(minimum_share=0.6), "limits", "minimum shares sum to 1.2"),
        (limits(minimum_share=-0.1), "limits", "must be in [0, 1]"),
        (limits(minimum_share=NAN), "limits", "must be in [0, 1]"),
        (limits(minimum_shares={"c": 0.1}), 'limits.minimum_shares["c"]', "'c' is not one of the arms"),
        (limits(maximum_share=0.4), "limits", "must be at least 0.5"),
        (limits(minimum_share=0.3, maximum_share=0.0), "limits", "must be in (0, 1]"),
        (limits(minimum_shares={"a": 0.7}, maximum_share=0.6), "limits", "must not exceed"),
        (limits(maximum_step_per_hour=0.0), "limits", "positive"),
        (limits(maximum_step_per_hour=1.5), "limits.maximum_step_per_hour", "at most 1"),
        (limits(warm_up_decisions=9), "limits.warm_up_duration", "required"),
        ({"half_life": Duration(seconds=0)}, "half_life", "more than zero"),
        ({"lookback": Duration(seconds=-5)}, "lookback", "more than zero"),
        ({"max_decision_age": Duration(seconds=401 * 86_400)}, "max_decision_age", "at most 400 days"),
        ({"max_decision_age": Duration(seconds=0)}, "max_decision_age", "at least"),
        ({"salt": "abc"}, "salt", "32 hexadecimal digits"),
        ({"salt": "g" * 32}, "salt", "hexadecimal"),
    ],
)
def test_a_broken_rule_is_named(wire: Wire, changes: dict[str, Any], field: str, rule: str) -> None:
    """It gets INVALID_ARGUMENT with field, value and rule, and the experiment does not exist afterwards."""
    declared = experiment(**changes)
    refusal = refused(lambda: wire.create(declared))
    assert refusal.code is INVALID
    assert rule in refusal.violations[field]
    assert refused(lambda: wire.get(declared.name)).code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    "key",
    ["\0", "a\r\nb", "\x1b[2J", "\u202e", "'; DROP TABLE experiments; --", "x" * 300, "\U0001f600" * 300],
)
def test_hostile_keys_are_shown_escaped(wire: Wire, key: str) -> None:
    """Keys of maps come from clients and are escaped, also in the path of a field."""
    refused(lambda: wire.create(experiment(**limits(minimum_shares={key: 0.1}))))
    policy = experiment_pb2.Policy(static_split=experiment_pb2.StaticSplit(weights={key: 1.0}))
    refused(lambda: wire.create(experiment(policy=policy)))


def test_every_broken_rule_is_reported_at_once(wire: Wire) -> None:
    """One answer has all violations."""
    refusal = refused(lambda: wire.create(experiment(name="A", champion="c", reward_metric="z")))
    assert refusal.violations.keys() == {"name", "champion", "reward_metric"}


def test_a_thousand_broken_rules_fit_into_one_answer(wire: Wire) -> None:
    """As many are listed as fit into a client's limit on trailers; the text has the number of others."""
    arms = [arm(f"NO {i}") for i in range(1_000)]
    refusal = refused(lambda: wire.create(experiment(arms=arms)))
    assert refusal.code is INVALID
    assert refusal.violations["arms[0].id"].startswith("'NO 0': ' ' (U+0020) at position 3 is not allowed: ")
    n_more = 1_000 + 1 - len(refusal.violations)  # the champion is not one of the arms, either
    assert refusal.message.endswith(f"; and {n_more} more")
    assert refusal.violations.keys() >= {f"arms[{i}].id" for i in range(10)}


def test_a_thousand_arms_are_accepted(wire: Wire) -> None:
    """An experiment may have exactly the stated maximum of arms."""
    arms = [arm(f"a{i}") for i in range(1_000)]
    assert len(wire.create(experiment(arms=arms, champion="a0")).arms) == 1_000


def test_names_are_never_used_again(wire: Wire) -> None:
    """The name of an existing or deleted experiment gets ALREADY_EXISTS."""
    declared = experiment()
    wire.create(declared)
    for _ in range(2):
        refusal = refused(lambda: wire.create(declared))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "EXPERIMENT_EXISTS")
        if _ == 0:
            wire.delete(declared.name)


def test_a_draft_makes_no_decisions(wire: Wire) -> None:
    """On a draft, Choose, GetReport, Pause and Conclude get FAILED_PRECONDITION."""
    name = wire.create(experiment()).name
    for call in (wire.choose, wire.report):
        refusal = refused(partial(call, name))
        assert (refusal.code, refusal.reason) == (PRECONDITION, "EXPERIMENT_NOT_STARTED")
    assert refused(lambda: wire.pause(name)).reason == "STATE_DOES_NOT_ALLOW"
    assert refused(lambda: wire.conclude(name, "a")).reason == "STATE_DOES_NOT_ALLOW"
    assert wire.get(name).state == experiment_pb2.STATE_DRAFT


def test_a_winner_is_one_of_the_arms(wire: Wire) -> None:
    """Any other winner gets INVALID_ARGUMENT, and the experiment continues."""
    name = wire.running()
    for winner in ("c", "", "a\n"):
        refusal = refused(partial(wire.conclude, name, winner))
        assert refusal.violations.keys() == {"winner"}
    assert wire.get(name).state == experiment_pb2.STATE_RUNNING


def test_a_concluded_experiment_is_final(wire: Wire) -> None:
    """It can't be started, paused, changed, or given another winner."""
    name = wire.running()
    wire.conclude(name, "b")
    calls: list[Callable[[], object]] = [
        lambda: wire.start(name),
        lambda: wire.pause(name),
        lambda: wire.update(experiment(name=name, description="x"), "description"),
        lambda: wire.conclude(name, "a"),
    ]
    for call in calls:
        refusal = refused(call)
        assert (refusal.code, refusal.reason) == (PRECONDITION, "STATE_DOES_NOT_ALLOW")
    assert wire.conclude(name, "b").winner == "b"


def test_a_running_experiment_is_not_deleted(wire: Wire) -> None:
    """A running experiment can't be deleted until it is paused."""
    name = wire.running()
    assert refused(lambda: wire.delete(name)).code is PRECONDITION
    wire.pause(name)
    wire.delete(name)
    for call in (wire.get, wire.start, wire.report, wire.choose, wire.delete):
        refusal = refused(partial(call, name))
        assert refusal.code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    "etag", ["r1", "r99", "x", "r", "r01", "r-1", "r\uff11", "r" + "9" * 5_000, "\0", "r2\n"]
)
def test_a_change_to_another_version_is_aborted(wire: Wire, etag: str) -> None:
    """An etag that is old, of the future, or of no version gets ABORTED, and nothing changes."""
    name = wire.running()
    assert wire.get(name).etag == "r2"
    requests: list[Callable[[], object]] = [
        lambda: wire.update(experiment(name=name, etag=etag, description="x"), "description"),
        lambda: wire.experiments.StartExperiment(
            experiment_pb2.StartExperimentRequest(name=name, etag=etag), timeout=20
        ),
        lambda: wire.experiments.PauseExperiment(
            experiment_pb2.PauseExperimentRequest(name=name, etag=etag), timeout=20
        ),
        lambda: wire.experiments.ConcludeExperiment(
            experiment_pb2.ConcludeExperimentRequest(name=name, winner="a", etag=etag), timeout=20
        ),
        lambda: wire.experiments.DeleteExperiment(
            experiment_pb2.DeleteExperimentRequest(name=name, etag=etag), timeout=20
        ),
    ]
    for request in requests:
        refusal = refused(request)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "EXPERIMENT_CHANGED")
    assert wire.get(name).etag == "r2"


@pytest.mark.parametrize(
    ("path", "changes", "field"),
    [
        ("arms", {"arms": [arm("a", model_uri="new"), arm("b")]}, "arms[0].model_uri"),
        ("arms", {"arms": [arm("a", digest="new"), arm("b")]}, "arms[0].digest"),
        ("arms", {"arms": [arm("a", payload=payload(1)), arm("b")]}, "arms[0].payload"),
        ("metrics", click(kind=COUNT, maximum=1), "metrics[0].kind"),
        ("metrics", click(direction=experiment_pb2.DIRECTION_MINIMIZE), "metrics[0].direction"),
        (
            "metrics",
            {"metrics": [metric("click"), metric("spend", kind=REAL, maximum=2)]},
            "metrics[1].maximum",
        ),
        ("salt", {"salt": "0" * 32}, "salt"),
    ],
)
def test_recorded_definitions_can_not_change(
    wire: Wire, path: str, changes: dict[str, Any], field: str
) -> None:
    """After the start, an arm's model, a metric's kind, direction and range, and the salt can't change."""
    metrics = [metric("click"), metric("spend", kind=REAL, maximum=1)]
    declared = experiment(metrics=metrics)
    wire.create(declared)
    changed = experiment(**{"name": declared.name, "metrics": metrics} | changes)
    wire.update(changed, path, validate_only=True)  # a draft may change
    wire.start(declared.name)
    before = wire.get(declared.name)
    refusal = refused(lambda: wire.update(changed, path))
    assert any(field in violated for violated in refusal.violations), refusal
    assert wire.get(declared.name) == before


def test_a_dropped_arm_or_metric_does_not_come_back(wire: Wire) -> None:
    """Ids are never used again, as the new arm or metric could be another one."""
    name = wire.running(metrics=[metric("click"), metric("buy")])
    wire.update(experiment(name=name, arms=[arm("a")]), "arms")
    wire.update(experiment(name=name), "metrics")
    refusal = refused(lambda: wire.update(experiment(name=name), "arms"))
    assert "dropped" in refusal.violations["arms[1].id"]
    changed = experiment(name=name, metrics=[metric("click"), metric("buy")])
    assert "dropped" in refused(lambda: wire.update(changed, "metrics")).violations["metrics[1].name"]


@pytest.mark.parametrize(
    "path",
    ["", "name", "state", "etag", "winner", "epoch", "create_time", "arms.payload", "nope", "*", "a\0"],
)
def test_a_mask_names_fields_that_can_change(wire: Wire, path: str) -> None:
    """Output-only, immutable, nested and unknown fields are refused, and so is * among others."""
    name = wire.running()
    refusal = refused(lambda: wire.update(experiment(name=name, description="new"), "description", path))
    assert refusal.violations.keys() == {"update_mask"}
    assert wire.get(name).description == ""


@pytest.mark.parametrize("token", ["é", "!", "Zm9v*", "/w==", "_w==", "a", "\0", "x" * 10_001])
def test_a_page_token_comes_from_a_page(wire: Wire, token: str) -> None:
    """Any other token gets INVALID_ARGUMENT."""
    assert refused(lambda: wire.list_page(page_token=token)).violations.keys() == {"page_token"}


def test_sizes_of_answers_are_not_negative(wire: Wire) -> None:
    """A negative page size or number of epochs, and an unknown state, get INVALID_ARGUMENT."""
    assert refused(lambda: wire.list_page(page_size=-1)).violations.keys() == {"page_size"}
    assert refused(lambda: wire.list_page(state=99)).violations.keys() == {"state"}
    name = wire.running()
    assert refused(lambda: wire.report(name, -1)).violations.keys() == {"max_epochs"}


def test_a_refused_change_changes_nothing(wire: Wire) -> None:
    """It changes neither the stored experiment nor the answers of Choose."""
    name = wire.running(limits=experiment_pb2.Limits(minimum_share=0.3))
    before = wire.get(name)
    refused(lambda: wire.update(experiment(name=name, **limits(minimum_share=0.7)), "limits"))
    refused(lambda: wire.update(experiment(name=name, champion="z"), "champion"))
    refused(lambda: wire.update(experiment(name=name, arms=[]), "arms"))
    assert wire.get(name) == before
    assert wire.choose(name).epoch == before.epoch.number

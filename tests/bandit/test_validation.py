"""Rules of a declaration, each broken once: the message has the field's path, the value and the rule."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from math import inf, nan

import pytest

from bandit.experiment import Arm, Experiment
from bandit.limits import Limits
from bandit.metric import Metric, MetricKind
from bandit.policies import WeightedSplit
from bandit.posteriors.priors import BetaPrior, GammaPrior, NormalInverseGammaPrior
from bandit.validation import InvalidExperimentError, Violation, is_experiment_name, require_valid, shown
from tests.bandit.builders import CLICKS, HOUR, SPEND, declare

VALID = declare()
DAY = timedelta(days=1)


def violations_of(experiment: Experiment) -> tuple[Violation, ...]:
    """Return the rules that an experiment breaks; empty if it is valid."""
    try:
        require_valid(experiment)
    except InvalidExperimentError as error:
        return error.violations
    return ()


def with_metric(metric: Metric) -> Experiment:
    """Return an experiment whose second metric is this one."""
    return declare(metrics=[CLICKS, metric])


def with_arm(arm: Arm) -> Experiment:
    """Return an experiment whose second arm is this one."""
    return declare(arms=[Arm(id="champion"), arm])


def real(low: float, high: float) -> Experiment:
    """Return an experiment whose second metric has this range."""
    return with_metric(Metric(name="x", kind=MetricKind.REAL, minimum=low, maximum=high))


def count(low: float, high: float) -> Experiment:
    """Return an experiment whose second metric counts in this range."""
    return with_metric(Metric(name="x", kind=MetricKind.COUNT, minimum=low, maximum=high))


def with_prior(
    mean: float = 50.0, pseudo_observations: float = 1.0, shape: float = 1.0, scale: float = 1.0
) -> Experiment:
    """Return an experiment whose second metric, in [0, 100], has this prior."""
    prior = NormalInverseGammaPrior(mean, pseudo_observations, shape, scale)
    return with_metric(replace(SPEND, prior=prior))


def weigh(weights: Mapping[str, float]) -> Experiment:
    """Return an experiment split by these weights."""
    return declare(policy=WeightedSplit(weights=weights))


def limit(limits: Limits) -> Experiment:
    """Return an experiment of two arms within these limits."""
    return declare(limits=limits)


BROKEN: Mapping[str, tuple[Callable[[], Experiment], str, str]] = {
    "name of the wrong letters": (lambda: declare("Ranker"), "name", "'Ranker' must match [a-z0-9-]{1,63}"),
    "name too long": (lambda: declare("r" * 64), "name", "'" + "r" * 64 + "' must match"),
    "no name": (lambda: declare(""), "name", "'' must match"),
    "two namespaces": (lambda: declare("a/b/c"), "name", "'a/b/c' must match"),
    "name with a line break": (lambda: declare("ranker\n"), "name", r"'ranker\n' must match"),
    "name with an escape": (lambda: declare("a\x1b[31m"), "name", r"'a\x1b[31m' must match"),
    "name of other digits": (lambda: declare("\u0661"), "name", r"'\u0661' must match"),
    "long description": (
        lambda: replace(VALID, description="d" * 1001),
        "description",
        "1001 code points: a description has 0 to 1000",
    ),
    "short salt": (lambda: replace(VALID, salt=bytes(15)), "salt", "must have 32 hexadecimal digits"),
    "no arms": (lambda: replace(VALID, arms=()), "arms", "0 arms; there must be 1 to 1000"),
    "too many arms": (
        lambda: declare(arms=[f"arm-{number}" for number in range(1001)]),
        "arms",
        "1001 arms; there must be 1 to 1000",
    ),
    "arm of the wrong letters": (
        lambda: declare(arms=["a", "V 2"]),
        "arms[1].id",
        "'V 2': ' ' (U+0020) at position 2 is not allowed: a name has 1 to 128 ASCII letters and digits",
    ),
    "the same arm twice": (
        lambda: declare(arms=["a", "b", "a"]),
        "arms[2].id",
        "'a' appears more than once",
    ),
    "unprintable model uri": (
        lambda: with_arm(Arm(id="b", model_uri="s3://x\r\n")),
        "arms[1].model_uri",
        "U+000D at position 7 is a control character, which a model URI may not contain",
    ),
    "long model uri": (
        lambda: with_arm(Arm(id="b", model_uri="u" * 2049)),
        "arms[1].model_uri",
        "2049 code points: a model URI has 0 to 2048",
    ),
    "long digest": (
        lambda: with_arm(Arm(id="b", digest="d" * 257)),
        "arms[1].digest",
        "257 code points: a digest has 0 to 256",
    ),
    "digest with bidi marks": (
        lambda: with_arm(Arm(id="b", digest="sha\u202e")),
        "arms[1].digest",
        "U+202E at position 4 is a bidirectional control, which a digest may not contain",
    ),
    "large payload": (
        lambda: with_arm(Arm(id="b", payload={"x": "y" * 16384})),
        "arms[1].payload",
        "16393 bytes as JSON; there may be at most 16384",
    ),
    "no metrics": (
        lambda: replace(VALID, metrics=()),
        "metrics",
        "0 metrics; there must be 1 to 64",
    ),
    "too many metrics": (
        lambda: declare(metrics=[Metric(name=f"m-{number}") for number in range(65)]),
        "metrics",
        "65 metrics; there must be 1 to 64",
    ),
    "metric of the wrong letters": (
        lambda: with_metric(Metric(name="Click Rate")),
        "metrics[1].name",
        "'Click Rate': ' ' (U+0020) at position 6 is not allowed",
    ),
    "the same metric twice": (
        lambda: declare(metrics=[CLICKS, CLICKS]),
        "metrics[1].name",
        "'clicks' appears more than once",
    ),
    "empty range": (lambda: real(3, 3), "metrics[1].maximum", "[3, 3] must be finite and not empty"),
    "reversed range": (lambda: real(4, 3), "metrics[1].maximum", "[4, 3] must be finite and not empty"),
    "infinite range": (lambda: real(0, inf), "metrics[1].maximum", "[0, inf] must be finite"),
    "range that is no number": (lambda: real(nan, 1), "metrics[1].maximum", "[nan, 1] must be finite"),
    "range too wide": (
        lambda: real(0, 1e101),
        "metrics[1].maximum",
        "[0, 1e+101] must be within 1e+100 of 0",
    ),
    "range too narrow": (lambda: real(0, 1e-101), "metrics[1].maximum", "[0, 1e-101] is too narrow"),
    "range too narrow for its place": (
        lambda: real(1e9, 1e9 + 1e-2),
        "metrics[1].maximum",
        "[1000000000.0, 1000000000.01] is too narrow",
    ),
    "binary range": (
        lambda: with_metric(Metric(name="x", maximum=2.0)),
        "metrics[1].maximum",
        "a binary metric has the range [0, 1], got [0, 2]",
    ),
    "count below zero": (
        lambda: count(-1, 5),
        "metrics[1].maximum",
        "whole numbers within [0, 1048576], got [-1, 5]",
    ),
    "count too large": (lambda: count(0, 2**21), "metrics[1].maximum", "got [0, 2097152]"),
    "count of halves": (lambda: count(0, 2.5), "metrics[1].maximum", "got [0, 2.5]"),
    "no window at all": (
        lambda: with_metric(replace(SPEND, window=timedelta())),
        "metrics[1].window",
        "0:00:00 must be more than zero and at most 90 days",
    ),
    "window too long": (
        lambda: replace(with_metric(replace(SPEND, window=91 * DAY)), max_decision_age=100 * DAY),
        "metrics[1].window",
        "91 days, 0:00:00 must be more than zero and at most 90 days",
    ),
    "default without a window": (
        lambda: with_metric(replace(SPEND, default_value=0.0)),
        "metrics[1].default_value",
        "needs a window",
    ),
    "default outside the range": (
        lambda: with_metric(replace(SPEND, window=HOUR, default_value=101.0)),
        "metrics[1].default_value",
        "101: it must be in [0, 100]",
    ),
    "default that is no number": (
        lambda: with_metric(replace(SPEND, window=HOUR, default_value=nan)),
        "metrics[1].default_value",
        "nan: it must be finite",
    ),
    "prior of another kind": (
        lambda: with_metric(replace(SPEND, prior=BetaPrior())),
        "metrics[1].prior",
        "a real metric takes a normal-inverse-gamma prior, not beta",
    ),
    "prior worth almost nothing": (
        lambda: with_metric(Metric(name="x", prior=BetaPrior(1e-7, 1.0))),
        "metrics[1].prior.alpha",
        "1e-07 must be in [1e-06, 1e+09]",
    ),
    "prior worth too much": (
        lambda: with_metric(Metric(name="x", kind=MetricKind.COUNT, prior=GammaPrior(1.0, 1e10))),
        "metrics[1].prior.rate",
        "1e+10 must be in [1e-06, 1e+09]",
    ),
    "prior mean outside the range": (
        lambda: with_prior(mean=101.0),
        "metrics[1].prior.mean",
        "101 must be in [0, 100]",
    ),
    "prior too heavy-tailed": (
        lambda: with_prior(shape=0.05),
        "metrics[1].prior.shape",
        "0.05 must be in [0.1, 1e+09]",
    ),
    "prior too wide": (
        lambda: with_prior(scale=1e17),
        "metrics[1].prior.scale",
        "1e+17 must be in [1e-08, 1e+16]",
    ),
    "unknown champion": (lambda: replace(VALID, champion="x"), "champion", "'x' is not one of the arms"),
    "unknown reward metric": (
        lambda: replace(VALID, reward_metric="x"),
        "reward_metric",
        "'x' is not one of the metrics",
    ),
    "guardrail as reward": (
        lambda: declare(metrics=[Metric(name="errors", is_guardrail=True)]),
        "reward_metric",
        "'errors' is a guardrail, which does not steer",
    ),
    "minimum share of a stranger": (
        lambda: limit(Limits(minimum_shares={"x": 0.1})),
        'limits.minimum_shares["x"]',
        "'x' is not one of the arms",
    ),
    "weight of a stranger": (
        lambda: weigh({"champion": 1.0, "x": 1.0}),
        'policy.static_split.weights["x"]',
        "'x' is not one of the arms",
    ),
    "negative weight": (
        lambda: weigh({"champion": 1.0, "challenger": -0.5}),
        'policy.static_split.weights["challenger"]',
        "-0.5 must be finite and at least 0",
    ),
    "infinite weight": (
        lambda: weigh({"champion": inf}),
        'policy.static_split.weights["champion"]',
        "inf must be finite",
    ),
    "no weight": (
        lambda: weigh({"champion": 0.0}),
        "policy.static_split.weights",
        "the sum of the weights must be more than zero",
    ),
    "no half-life": (lambda: declare(half_life=timedelta()), "half_life", "0:00:00 must be more than zero"),
    "endless half-life": (
        lambda: declare(half_life=timedelta.max),
        "half_life",
        "999999999 days, 23:59:59.999999 must be more than zero and at most 3650 days",
    ),
    "negative lookback": (lambda: declare(lookback=-DAY), "lookback", "-1 day, 0:00:00 must be more"),
    "endless lookback": (lambda: declare(lookback=3651 * DAY), "lookback", "at most 3650 days"),
    "endless warm-up": (
        lambda: limit(Limits(warm_up_duration=3_650_000 * DAY)),
        "limits.warm_up_duration",
        "3650000 days, 0:00:00 must be more than zero and at most 3650 days",
    ),
    "decisions that expire within a window": (
        lambda: replace(with_metric(replace(SPEND, window=2 * DAY)), max_decision_age=DAY),
        "max_decision_age",
        "1 day, 0:00:00 must be at least the longest window (2 days, 0:00:00) and at most 400 days",
    ),
    "decisions that expire at once": (
        lambda: replace(VALID, max_decision_age=timedelta()),
        "max_decision_age",
        "0:00:00 must be at least",
    ),
    "decisions that never expire": (
        lambda: replace(VALID, max_decision_age=401 * DAY),
        "max_decision_age",
        "401 days, 0:00:00 must be at least",
    ),
    "minimum share of 1": (
        lambda: declare(arms=["a"], limits=Limits(minimum_share=1.0)),
        "limits.minimum_share",
        "1 must be below 1",
    ),
    "step above 1": (
        lambda: limit(Limits(maximum_step_per_hour=1.5)),
        "limits.maximum_step_per_hour",
        "1.5 must be at most 1",
    ),
    "warm-up without an end": (
        lambda: limit(Limits(warm_up_decisions=10)),
        "limits.warm_up_duration",
        "is required with warm_up_decisions",
    ),
    "floors above 1": (
        lambda: limit(Limits(minimum_share=0.6)),
        "limits",
        "minimum shares sum to 1.2 over 2 eligible arms",
    ),
    "caps below 1": (
        lambda: limit(Limits(maximum_share=0.4)),
        "limits",
        "2 eligible arms with at most 0.4 each sum to less than 1",
    ),
    "floor above the cap": (
        lambda: limit(Limits(minimum_shares={"champion": 0.7}, maximum_share=0.6)),
        "limits",
        "the minimum share of arm 'champion' is 0.7",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_rule_is_named(case: str) -> None:
    """A declaration that breaks a rule is refused with the field's path, its value and the rule."""
    make, field, fragment = BROKEN[case]
    found = dict(violations_of(make()))
    assert field in found
    assert fragment in found[field]
    assert "\n" not in found[field]
    assert "\x1b" not in found[field]


@pytest.mark.parametrize(
    "case",
    [name for name in BROKEN if name not in {"no arms", "no metrics", "infinite weight"}],
)
def test_one_broken_rule_is_one_violation(case: str) -> None:
    """A single fault is reported once, not as a cascade of others."""
    assert len(violations_of(BROKEN[case][0]())) == 1


def test_all_broken_rules_are_reported_together() -> None:
    """A declaration with many faults is refused with all of them in one message."""
    broken = replace(VALID, name="X", champion="x", half_life=timedelta(), salt=b"")
    with pytest.raises(InvalidExperimentError) as caught:
        require_valid(broken)
    assert [violation.field for violation in caught.value.violations] == [
        "name",
        "salt",
        "champion",
        "half_life",
    ]
    assert str(caught.value).count(";") == 3


@pytest.mark.parametrize(
    "experiment",
    [
        VALID,
        declare("team-a/ranker"),
        declare("r" * 63),
        declare(arms=["only"]),
        declare(arms=[f"arm-{number}" for number in range(1000)]),
        real(-1e100, 1e100),
        real(0, 1e-100),
        real(1.7e9, 1.7e9 + 1),
        count(1, 2**20),
        replace(with_metric(replace(SPEND, window=90 * DAY, default_value=100.0)), max_decision_age=90 * DAY),
        with_metric(replace(SPEND, clip=True, window=HOUR, default_value=101.0)),
        with_prior(),
        weigh({"challenger": 1e-9}),
        limit(Limits(minimum_share=0.5)),
        limit(Limits(maximum_share=0.5)),
        limit(Limits(warm_up_duration=HOUR)),
        declare(half_life=timedelta(microseconds=1), lookback=3650 * DAY),
        replace(VALID, max_decision_age=400 * DAY),
        with_arm(Arm(id="b", payload={"x": "y" * 16375})),
    ],
    ids=range(19),
)
def test_the_edges_are_valid(experiment: Experiment) -> None:
    """Values at the edge of a rule are accepted."""
    assert violations_of(experiment) == ()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a", True), ("a/b", True), ("/b", False), ("a/", False), ("a//b", False), ("a b", False), ("ä", False)],
)
def test_experiment_names(name: str, *, expected: bool) -> None:
    """A name may follow one namespace, and both match the same pattern."""
    assert is_experiment_name(name) is expected


def test_shown_escapes_and_cuts() -> None:
    """A client's text in a message is escaped, in quotes and cut at 80 characters."""
    assert shown("a\x1b\n\u202e'") == '"a\\x1b\\n\\u202e\'"'
    assert shown("x" * 81) == "'" + "x" * 80 + "...'"

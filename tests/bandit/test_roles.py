"""Rules of roles and margins, each broken once: the message has the field's path, the value and the rule."""

from collections.abc import Callable
from dataclasses import replace
from math import nan

import pytest

from bandit.experiment import Experiment
from bandit.metric import AbsoluteMargin, Direction, Metric, MetricKind, RelativeMargin, Role
from bandit.validation import InvalidExperimentError, require_valid
from tests.bandit.builders import CLICKS, HOUR, declare


def watch(**changes: object) -> Experiment:
    """Return an experiment whose second metric is one of errors within an hour, with these changes."""
    errors = Metric(name="errors", direction=Direction.MINIMIZE, window=HOUR)
    return declare(metrics=[CLICKS, replace(errors, **changes)])  # type: ignore[arg-type]


BROKEN: dict[str, tuple[Callable[[], Experiment], str, str]] = {
    "signal as reward": (
        lambda: declare(metrics=[Metric(name="errors", is_signal=True, window=HOUR)]),
        "reward_metric",
        "'errors' is a signal, which does not steer",
    ),
    "guardrail and signal at once": (
        lambda: watch(is_guardrail=True, is_signal=True),
        "metrics[1].role",
        "is both a guardrail and a signal; a metric has one role",
    ),
    "margin without a role": (
        lambda: watch(worse_by=RelativeMargin(0.1)),
        "metrics[1].worse_by",
        "needs a role: only a guardrail or a signal is allowed to be worse",
    ),
    "no margin at all": (
        lambda: watch(is_guardrail=True, worse_by=RelativeMargin(0.0)),
        "metrics[1].worse_by.relative",
        "0 must be more than 0 and at most 10",
    ),
    "margin that allows anything": (
        lambda: watch(is_guardrail=True, worse_by=RelativeMargin(10.5)),
        "metrics[1].worse_by.relative",
        "10.5 must be more than 0 and at most 10",
    ),
    "margin that is no number": (
        lambda: watch(is_guardrail=True, worse_by=RelativeMargin(nan)),
        "metrics[1].worse_by.relative",
        "nan must be more than 0",
    ),
    "margin below nothing": (
        lambda: watch(is_guardrail=True, worse_by=RelativeMargin(1.0), direction=Direction.MAXIMIZE),
        "metrics[1].worse_by.relative",
        "1 must be more than 0 and below 1, since more is better",
    ),
    "signal that could not be let go": (
        lambda: watch(is_signal=True, worse_by=RelativeMargin(0.5), direction=Direction.MAXIMIZE),
        "metrics[1].worse_by.relative",
        "0.5 must be more than 0 and below 0.5",
    ),
    "margin beyond the range": (
        lambda: watch(is_guardrail=True, worse_by=AbsoluteMargin(1.0)),
        "metrics[1].worse_by.absolute",
        "1 must be more than 0 and below 1, the width of the range",
    ),
    "signal's margin beyond half the range": (
        lambda: watch(is_signal=True, worse_by=AbsoluteMargin(0.5)),
        "metrics[1].worse_by.absolute",
        "0.5 must be more than 0 and below 0.5, half the width of the range",
    ),
    "part of what may be negative": (
        lambda: watch(is_guardrail=True, worse_by=RelativeMargin(0.1), kind=MetricKind.REAL, minimum=-1.0),
        "metrics[1].worse_by",
        "values may be negative: use an absolute margin, worse_by = { absolute = ... }",
    ),
    "signal without a margin on what may be negative": (
        lambda: watch(is_signal=True, kind=MetricKind.REAL, minimum=-1.0),
        "metrics[1].worse_by",
        "values may be negative: use an absolute margin",
    ),
    "signal without a window": (
        lambda: watch(is_signal=True, kind=MetricKind.REAL, window=None),
        "metrics[1].window",
        "needs a window: only yes/no events of which fewer are better count before it has closed",
    ),
    "absolute margin without a window": (
        lambda: watch(is_guardrail=True, worse_by=AbsoluteMargin(0.1), window=None),
        "metrics[1].worse_by",
        "needs a window",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_rule_is_named_once(case: str) -> None:
    """A role or margin that has no test is refused with the field's path, its value and what is allowed."""
    make, field, fragment = BROKEN[case]
    with pytest.raises(InvalidExperimentError) as caught:
        require_valid(make())
    (violation,) = caught.value.violations
    assert violation.field == field
    assert fragment in violation.description


@pytest.mark.parametrize(
    "experiment",
    [
        watch(is_signal=True, window=None),
        watch(is_guardrail=True, worse_by=RelativeMargin(10.0), window=None),
        watch(is_guardrail=True, kind=MetricKind.REAL, minimum=-1.0, window=None),
        watch(is_signal=True, worse_by=AbsoluteMargin(0.9), kind=MetricKind.REAL, minimum=-1.0),
    ],
    ids=range(4),
)
def test_the_edges_are_valid(experiment: Experiment) -> None:
    """Events of which fewer are better need no window, and the widest margins have a test."""
    require_valid(experiment)


@pytest.mark.parametrize("margin", [0.1, "0.1", {"relative": 0.1}, RelativeMargin("0.1")])  # type: ignore[arg-type]
def test_a_margin_has_a_type(margin: object) -> None:
    """A bare number could be either margin, so it is a TypeError that names the field."""
    with pytest.raises(TypeError, match=r"^metrics\[1\]\.worse_by must be a"):
        require_valid(watch(is_guardrail=True, worse_by=margin))


def test_a_metric_has_at_most_one_role() -> None:
    """The role follows from the two attributes; only yes/no events of a role count early."""
    error = Metric(name="error", direction=Direction.MINIMIZE)
    guardrail, signal = replace(error, is_guardrail=True), replace(error, is_signal=True)
    assert [each.role for each in (error, guardrail, signal)] == [None, Role.GUARDRAIL, Role.SIGNAL]
    assert [each.is_harmful_event for each in (error, guardrail, signal)] == [False, True, True]
    absolute = replace(guardrail, worse_by=AbsoluteMargin(0.1))
    assert [each.counts_early for each in (error, guardrail, signal, absolute)] == [False, True, True, False]
    assert not replace(guardrail, direction=Direction.MAXIMIZE).counts_early

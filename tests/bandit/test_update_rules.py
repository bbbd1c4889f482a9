"""Changes that would falsify what was recorded of a started experiment: each is refused with its field."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from bandit.experiment import Arm, Experiment, PriorFrom
from bandit.launch.plan import LaunchPlan, Mode
from bandit.limits import Limits
from bandit.metric import AbsoluteMargin, Metric, MetricKind, RelativeMargin
from bandit.policies import WeightedSplit
from bandit.update_rules import require_compatible, require_numbers_left
from bandit.validation import InvalidExperimentError
from tests.bandit.builders import HOUR, declare
from tests.bandit.launch.launches import BANDIT, PLAN, declare_launch

DAY = timedelta(days=1)
BEFORE = declare(
    arms=[Arm(id="champion", model_uri="s3://1", digest="d", payload={"t": 0.5}), Arm(id="challenger")]
)


def incompatibilities(
    after: Experiment, arms_ever: frozenset[str] = frozenset(), metrics_ever: frozenset[str] = frozenset()
) -> dict[str, str]:
    """Return field to rule of the changes that would falsify the records of `BEFORE`."""
    arms = {arm.id for arm in BEFORE.arms} | arms_ever
    metrics = {metric.name for metric in BEFORE.metrics} | metrics_ever
    try:
        require_compatible(BEFORE, after, arms_ever=arms, metrics_ever=metrics)
    except InvalidExperimentError as error:
        return dict(error.violations)
    return {}


@pytest.mark.parametrize(
    ("change", "field", "fragment"),
    [
        ({"model_uri": "s3://2"}, "arms[0].model_uri", "can't change from 's3://1' to 's3://2'"),
        ({"digest": "e"}, "arms[0].digest", "can't change from 'd' to 'e'"),
        ({"payload": {}}, "arms[0].payload", "add a new one under another name"),
        ({"prior_from": PriorFrom("b", 0.1)}, "arms[0].prior_from", "can't change from none to 0.1 of 'b'"),
    ],
)
def test_the_model_of_an_arm_stays(change: Mapping[str, object], field: str, fragment: str) -> None:
    """Once started, an arm's model can't change: its facts are those of one model version."""
    arms = (replace(BEFORE.arms[0], **change), BEFORE.arms[1])  # type: ignore[arg-type]
    found = incompatibilities(replace(BEFORE, arms=arms))
    assert list(found) == [field]
    assert fragment in found[field]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": MetricKind.COUNT}, "metrics[1].kind"),
        ({"direction": "minimize"}, "metrics[1].direction"),
        ({"minimum": -1.0}, "metrics[1].minimum"),
        ({"maximum": 200.0}, "metrics[1].maximum"),
    ],
)
def test_the_meaning_of_a_metric_stays(change: Mapping[str, object], field: str) -> None:
    """Once started, a metric's kind, direction and range can't change: they define the quanta of its sums."""
    metrics = (BEFORE.metrics[0], replace(BEFORE.metrics[1], **change))  # type: ignore[arg-type]
    assert list(incompatibilities(replace(BEFORE, metrics=metrics))) == [field]


@pytest.mark.parametrize(
    ("before", "change", "field", "fragment"),
    [
        ({}, {"is_guardrail": True}, "role", "can't change from none to 'guardrail' once"),
        ({"is_guardrail": True}, {"is_guardrail": False}, "role", "from 'guardrail' to none once"),
        ({"is_guardrail": True}, {"is_guardrail": False, "is_signal": True}, "role", "to 'signal' once"),
        (
            {"is_guardrail": True},
            {"worse_by": RelativeMargin(0.1)},
            "worse_by",
            "can't change from none to relative 0.1 once",
        ),
        (
            {"is_signal": True, "worse_by": AbsoluteMargin(1.0)},
            {"worse_by": AbsoluteMargin(2.0)},
            "worse_by",
            "can't change from absolute 1 to absolute 2 once",
        ),
    ],
)
def test_what_is_watched_stays(
    before: Mapping[str, object], change: Mapping[str, object], field: str, fragment: str
) -> None:
    """Once started, roles and margins can't change: chosen in view of outcomes they could find anything."""
    stored = replace(BEFORE.metrics[1], **before)  # type: ignore[arg-type]
    changed = replace(stored, **change)  # type: ignore[arg-type]
    with pytest.raises(InvalidExperimentError) as caught:
        require_compatible(
            replace(BEFORE, metrics=(BEFORE.metrics[0], stored)),
            replace(BEFORE, metrics=(BEFORE.metrics[0], changed)),
            arms_ever=(),
            metrics_ever=(),
        )
    (violation,) = caught.value.violations
    assert violation.field == f"metrics[1].{field}"
    assert fragment in violation.description


def test_a_salt_stays() -> None:
    """Once started, the salt can't change: all units would be reassigned."""
    assert list(incompatibilities(replace(BEFORE, salt=bytes(16)))) == ["salt"]


def test_what_was_dropped_does_not_return() -> None:
    """An arm or a metric that was dropped can't come back under its name: it might be a different one."""
    again = declare(arms=[*BEFORE.arms, Arm(id="old")], metrics=[*BEFORE.metrics, Metric(name="gone")])
    found = incompatibilities(again, frozenset({"old"}), frozenset({"gone"}))
    assert list(found) == ["arms[2].id", "metrics[2].name"]
    assert "'old' was dropped from this experiment and can't come back" in found["arms[2].id"]


def test_what_may_change() -> None:
    """Arms and metrics may come, go and be taken out; windows, policy, limits and memory may change."""
    after = replace(
        declare(
            arms=[replace(BEFORE.arms[0], is_taken_out=True), Arm(id="new")],
            metrics=[replace(BEFORE.metrics[0], window=HOUR, default_value=0.0), Metric(name="new")],
            policy=WeightedSplit(weights={"new": 1.0}),
            limits=Limits(minimum_share=0.1),
            half_life=DAY,
        ),
        champion="new",
        description="another",
    )
    assert incompatibilities(after) == {}


def test_numbers_of_arms_and_metrics_run_out() -> None:
    """Decision ids have room for 65,536 arms over an experiment's life, the log for 32,768 metrics."""
    require_numbers_left(65_536, 32_768)
    with pytest.raises(InvalidExperimentError) as refusal:
        require_numbers_left(65_537, 32_769)
    assert [violation.field for violation in refusal.value.violations] == ["arms", "metrics"]


def launch_changes(before: Experiment, after: Experiment) -> dict[str, str]:
    """Return field to rule of the changes of a launch that are refused."""
    arms, metrics = {arm.id for arm in before.arms}, {metric.name for metric in before.metrics}
    try:
        require_compatible(before, after, arms_ever=arms, metrics_ever=metrics)
    except InvalidExperimentError as error:
        return dict(error.violations)
    return {}


def test_a_launch_stays() -> None:
    """Without it, arms out of service would get traffic again; the rule says what to do instead."""
    experiment = declare_launch()
    found = launch_changes(experiment, replace(experiment, launch=None))
    assert list(found) == ["launch"]
    assert "can't be removed once the experiment has started" in found["launch"]
    assert "conclude the experiment instead" in found["launch"]


def test_the_cycle_of_a_launch_stays() -> None:
    """Covered time is counted in cycles of one length."""
    experiment = declare_launch()
    found = launch_changes(experiment, replace(experiment, launch=replace(PLAN, cycle=2 * DAY)))
    assert list(found) == ["launch.cycle"]
    assert "can't change from 7 days, 0:00:00 to 2 days, 0:00:00" in found["launch.cycle"]
    assert "create a new experiment instead" in found["launch.cycle"]


def test_the_rest_of_a_plan_may_change() -> None:
    """Stages hold for arms that enter later; a launch may also be declared for an experiment that runs."""
    experiment = declare_launch()
    plan = LaunchPlan(stages=(BANDIT,), mode=Mode.AUTOMATIC, minimum_cycles=5, holdback=None)
    assert launch_changes(experiment, replace(experiment, launch=plan)) == {}
    assert launch_changes(replace(experiment, launch=None), experiment) == {}

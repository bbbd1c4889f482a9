"""Reports on insufficient data: they name what can't be said, and have no wrong numbers."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from bandit.experiment import Arm
from bandit.facts import Epoch, Facts, Tally
from bandit.limits import Limits
from bandit.metric import N_STEPS, Metric, MetricKind
from bandit.policies import WeightedSplit
from bandit.v1 import evidence_pb2, experiment_pb2
from server.rpc.messages.report import to_bytes
from server.services.errors import InvalidInputError
from server.services.reports.values import ReportRequest
from tests.bandit.builders import (
    HOUR,
    MINUTE,
    START,
    binary_tally,
    decision_key,
    declare,
    make_epoch,
    outcome_key,
)
from tests.support.reports import CLICK, ERROR, drawn, made_of, report_on, require_sane

EVEN = WeightedSplit(weights={"champion": 1, "challenger": 1})
FLOORS = Limits(minimum_share=0.1)
LATER = START + 30 * 24 * HOUR


def hourly(n: int, **changes: object) -> list[Epoch]:
    """Return `n` epochs of an hour each."""
    return [make_epoch(number + 1, START + number * HOUR, **changes) for number in range(n)]  # type: ignore[arg-type]  # passed on


def facts_of(*epochs: Sequence[tuple[int, int]], metric: int = 0) -> Facts:
    """Return facts from each arm's decisions and successes in each epoch."""
    cells = {
        (number, arm): cell for number, row in enumerate(epochs, start=1) for arm, cell in enumerate(row)
    }
    return Facts(
        decisions={decision_key(*place): n for place, (n, _) in cells.items() if n},
        outcomes={
            outcome_key(*place, metric=metric): binary_tally(wins, wins)
            for place, (_, wins) in cells.items()
            if wins
        },
    )


def reasons(report: experiment_pb2.Report, subject: str) -> set[str]:
    """Return the reasons why the subject is missing, for any metric and arm."""
    return {each.reason for each in report.unsaid if subject in each.subjects}


def metrics_of(report: experiment_pb2.Report, name: str = "click") -> dict[str, experiment_pb2.MetricReport]:
    """Return arm to its report on the metric."""
    return {arm.arm: each for arm in report.arms for each in arm.metrics if each.metric == name}


@pytest.mark.parametrize(
    ("metric", "now", "reason"),
    [
        pytest.param(CLICK, START + HOUR, "no-closed-epoch", id="no closed epoch"),
        pytest.param(CLICK, LATER, "no-decisions", id="nothing decided"),
        pytest.param(Metric(name="click"), LATER, "no-window", id="no window"),
    ],
)
def test_without_data_no_evidence_is_shown(metric: Metric, now: timedelta, reason: str) -> None:
    """One reason is given for everything that is missing, and not repeated for each arm."""
    epochs = hourly(1 if reason == "no-closed-epoch" else 3)
    report = report_on(declare(metrics=[metric], policy=EVEN), epochs, now=now)  # type: ignore[arg-type]  # an instant
    require_sane(report)
    assert reasons(report, "estimate") == reasons(report, "comparison.difference") == {reason}
    assert not any(each.arms for each in report.unsaid if "estimate" in each.subjects)
    for each in metrics_of(report).values():
        assert not each.HasField("estimate")
        assert not each.HasField("mean")
        assert not each.comparison.HasField("difference")
        assert not each.comparison.better.established
    assert report.splits[0].unsaid.reason == reason
    assert report.verdict.advice == evidence_pb2.ADVICE_WAIT
    explanation = report.splits[0].unsaid.explanation
    shown = " ".join(drawn(report).split())
    assert shown.lower().count(explanation.lower()) == 1


def test_one_decision_bounds_nothing() -> None:
    """With one decision, the interval is the metric's whole range."""
    facts = facts_of([(1, 1), (1, 0)])
    report = report_on(declare(metrics=[CLICK], policy=EVEN), hourly(3), facts, now=LATER)
    require_sane(report)
    for each in metrics_of(report).values():
        assert (each.estimate.interval.lower, each.estimate.interval.upper) == (0, 1)
    assert not metrics_of(report)["challenger"].comparison.better.established


def test_an_arm_without_an_outcome_is_not_compared() -> None:
    """If silence is ignored, its decisions are not resolved, and only the other arm's mean is given."""
    ignoring = replace(CLICK, default_value=None)
    facts = facts_of([(8, 4), (2, 0)])
    report = report_on(declare(metrics=[ignoring], policy=EVEN), hourly(3), facts, now=LATER)
    require_sane(report)
    assert metrics_of(report)["champion"].HasField("estimate")
    (missing,) = [each for each in report.unsaid if "estimate" in each.subjects]
    assert (missing.reason, list(missing.arms)) == ("arm-without-outcomes", ["challenger"])
    assert reasons(report, "comparison.difference") == {"arm-without-outcomes"}


@pytest.mark.parametrize("n", [5, 20, 100])
def test_intervals_are_not_too_narrow_after_successes_only(n: int) -> None:
    """The interval contains the exact fixed-sample bound for n successes of n, so it is not too narrow."""
    facts = facts_of([(n, n), (n, n)])
    report = report_on(declare(metrics=[CLICK], policy=EVEN), hourly(3), facts, now=LATER)
    require_sane(report)
    for each in metrics_of(report).values():
        assert each.estimate.interval.lower < 0.025 ** (1 / n)
        assert each.estimate.interval.upper == 1
    assert reasons(report, "comparison.difference") == set()


def test_zero_variance_is_not_certainty() -> None:
    """A real-valued metric with a constant value still has bounds on both sides."""
    spend = Metric(name="spend", kind=MetricKind.REAL, maximum=8.0, window=MINUTE)
    steady = Tally(n=50, total=50 * N_STEPS // 4, squares=50 * (N_STEPS // 4) ** 2)
    facts = Facts(
        decisions={decision_key(1, arm): 50 for arm in (0, 1)},
        outcomes={outcome_key(1, arm): steady for arm in (0, 1)},
    )
    report = report_on(declare(metrics=[spend], policy=EVEN), hourly(3), facts, now=LATER)
    require_sane(report)
    for each in metrics_of(report, "spend").values():
        assert each.estimate.value == pytest.approx(2.0)
        assert each.estimate.interval.lower < 1.9
        assert each.estimate.interval.upper > 2.1


def test_without_floors_scarce_arms_are_compared_and_splits_are_not_valued() -> None:
    """Comparisons divide by no share. Splits do: without a floor they need a hundredth, and a hint helps."""
    starved = hourly(3, shares={0: 0.999, 1: 0.001})
    facts = facts_of([(999, 50), (1, 0)], [(999, 50), (1, 0)])
    report = report_on(declare(metrics=[CLICK]), starved, facts, now=LATER)
    require_sane(report)
    challenger = metrics_of(report)["challenger"]
    assert challenger.HasField("estimate")
    assert challenger.comparison.difference.interval.upper > 0.5
    assert report.splits[0].unsaid.reason == "shares-below-floor"
    assert "minimum share" in report.splits[0].unsaid.explanation
    assert any(hint.startswith("limits.minimum_share: ") for hint in report.hints)


def test_an_arm_added_yesterday_is_reported_separately() -> None:
    """It has no closed epoch, and the other arms are still compared."""
    declared = declare(arms=["champion", "challenger", "new"], metrics=[CLICK], limits=FLOORS)
    third = dict.fromkeys(range(3), 1 / 3)
    epochs = [*hourly(2), make_epoch(3, START + 2 * HOUR, shares=third)]
    facts = facts_of([(500, 25), (500, 40)], [(500, 25), (500, 40)])
    report = report_on(declared, epochs, facts, now=START + 3 * HOUR)
    require_sane(report)
    assert metrics_of(report)["challenger"].comparison.HasField("difference")
    (missing,) = [each for each in report.unsaid if "estimate" in each.subjects]
    assert (missing.reason, list(missing.arms)) == ("arm-without-share", ["new"])
    assert report.splits[0].unsaid.reason == "arm-without-share"


def test_returning_units_withhold_all_evidence() -> None:
    """Beliefs are shown, evidence is not, and the notes give the remedy."""
    facts = facts_of([(500, 25), (500, 90)])
    declared = declare(metrics=[CLICK, ERROR], policy=EVEN)
    report = report_on(declared, hourly(3), facts, now=LATER, groups={7: 1_000})
    require_sane(report)
    assert reasons(report, "estimate") == {"repeated-units"}
    assert report.sample_ratio.unsaid.reason == report.outlook.unsaid.reason == "repeated-units"
    assert report.arms[1].probability_best > 0.99
    assert any('analysis_unit = "unit"' in note for note in report.notes)
    assert report.verdict.advice == evidence_pb2.ADVICE_WAIT


def test_a_range_below_zero_has_no_relative_lift() -> None:
    """Differences are given, but ratios are not."""
    profit = Metric(name="profit", kind=MetricKind.REAL, minimum=-4.0, maximum=4.0, window=MINUTE)
    tally = Tally(n=100, total=60 * N_STEPS, squares=60 * N_STEPS**2)
    facts = Facts(
        decisions={decision_key(1, arm): 100 for arm in (0, 1)},
        outcomes={outcome_key(1, arm): tally for arm in (0, 1)},
    )
    report = report_on(declare(metrics=[profit], policy=EVEN), hourly(3), facts, now=LATER)
    require_sane(report)
    assert reasons(report, "comparison.relative_lift") == {"no-ratio-scale"}
    assert metrics_of(report, "profit")["challenger"].comparison.HasField("difference")


def test_an_experiment_of_one_arm_has_nothing_to_compare() -> None:
    """Its mean is given, its only split equals what it did, and there is no outlook."""
    declared = declare(arms=["champion"], metrics=[CLICK])
    report = report_on(declared, hourly(3, shares={0: 1.0}), facts_of([(100, 7)], [(100, 7)]), now=LATER)
    require_sane(report)
    assert metrics_of(report)["champion"].estimate.value == pytest.approx(0.07)
    assert not report.splits[0].HasField("gain")
    assert report.splits[0].gain_unsaid.reason == "split-in-force"
    assert report.outlook.unsaid.reason == "no-challenger"


def test_with_every_arm_taken_out_there_is_still_a_report() -> None:
    """No arm is believed best, and no split is reported."""
    arms = [Arm(id="champion", is_taken_out=True), Arm(id="challenger", is_taken_out=True)]
    report = report_on(declare(arms=arms, metrics=[CLICK]), hourly(3, shares={0: 1.0, 1: 0.0}), now=LATER)
    require_sane(report)
    assert not report.splits
    assert all(arm.out_of_service and not arm.HasField("probability_best") for arm in report.arms)


def test_the_default_lift_is_an_improvement_if_less_is_better() -> None:
    """The default outlook is for an improvement, which is a decrease if less is better."""
    declared = declare(metrics=[replace(ERROR, is_guardrail=False)], policy=EVEN)
    report = report_on(declared, hourly(3), facts_of([(500, 50), (500, 50)]), now=LATER)
    require_sane(report)
    assert report.outlook.lift == -0.1
    assert report.outlook.days_at_half > 0


def test_a_thousand_arms_fit_into_a_message_and_a_screen() -> None:
    """History is thinned, and neither the verdict nor the list of missing numbers names all arms."""
    n_arms = 1_000
    ids = [f"arm-{number:04}-{'x' * 54}" for number in range(n_arms)]
    shares = dict.fromkeys(range(n_arms), 1 / n_arms)
    epochs = hourly(200, shares=shares)
    cells = [(number, arm) for number in (1, 2) for arm in range(n_arms)]
    facts = Facts(
        decisions={decision_key(*cell): 20 for cell in cells},
        outcomes={outcome_key(*cell): binary_tally(1 + cell[1] % 3, 1 + cell[1] % 3) for cell in cells},
    )
    declared = declare(arms=ids, metrics=[CLICK, ERROR])
    report = report_on(declared, epochs, facts, now=LATER, request=ReportRequest(max_epochs=5_000))
    require_sane(report)
    assert report.ByteSize() < 4 * 1024 * 1024
    assert len(report.epochs) >= 20
    assert (report.epochs[0].number, report.epochs[-1].number) == (1, 200)
    assert len(report.verdict.evidence) + len(report.verdict.belief) < 50
    assert len(report.unsaid) < 20


def test_a_report_that_is_too_large_is_shortened_before_it_is_refused() -> None:
    """Only the ends of its history are kept, and no earlier looks; if still too large, it is an error."""
    facts = facts_of(*[[(50, 5), (50, 9)]] * 50)
    made = made_of(declare(metrics=[CLICK], policy=EVEN), hourly(60), facts, now=LATER)
    whole = to_bytes(made, 0)
    n_bytes = len(whole)
    assert to_bytes(made, n_bytes) == whole
    short = experiment_pb2.Report.FromString(to_bytes(made, n_bytes - 1))
    assert [epoch.number for epoch in short.epochs] == [1, 60]
    assert not any(metric.looks for arm in short.arms for metric in arm.metrics)
    assert "Shares and means over time are left out" in short.notes[-1]
    require_sane(short)
    (arm, *_) = experiment_pb2.Report.FromString(whole).arms
    assert short.arms[0].metrics[0].estimate == arm.metrics[0].estimate
    with pytest.raises(InvalidInputError, match="name fewer `metrics`, or raise max_bytes"):
        to_bytes(made, 500)

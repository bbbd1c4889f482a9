"""Tables of a report in the terminal."""

import io

import pytest
from rich.console import Console

from bandit.v1.evidence_pb2 import INTERVAL_KIND_POSTERIOR
from bandit.v1.experiment_pb2 import (
    DIRECTION_MAXIMIZE,
    STATE_RUNNING,
    Report,
)
from server.cli.framework.console import decimals_for
from server.cli.report_view.terminal import print_report, sparklines
from server.wording import percent


@pytest.fixture
def report() -> Report:
    """Return a report on two arms and one taken out, with a share that moves from .5 to .9 half-way."""
    made = Report(
        experiment="team-a/ranker",
        state=STATE_RUNNING,
        champion="v1",
        reward_metric="click",
        direction=DIRECTION_MAXIMIZE,
        n_epochs=2,
        notes=["[bold]not markup[/bold]"],
    )
    made.report_time.FromSeconds(1_000)
    for number, (start, share) in enumerate([(0, 0.5), (500, 0.9)], start=1):
        epoch = made.epochs.add(number=number, shares={"v1": 1 - share, "v2": share})
        epoch.start_time.FromSeconds(start)
    for name, mean in [("v1", 0.04), ("v2", 0.05)]:
        arm = made.arms.add(arm=name, share=0.5, probability_best=0.25, expected_loss=0.001)
        arm.decisions.policy = 12_000
        arm.decisions.fallback = 345
        metric = arm.metrics.add(
            metric="click", outcomes=11_000, open_outcomes=70, late_outcomes=3, mean=mean, observations=11_000
        )
        metric.interval.lower = mean - 0.01
        metric.interval.upper = mean + 0.01
        metric.interval.level = 0.95
        metric.interval.kind = INTERVAL_KIND_POSTERIOR
        arm.metrics.add(metric="latency", outcomes=17)
    made.arms.add(arm="old", out_of_service=True)
    return made


def drawn(report: Report) -> str:
    """Return the report as printed to a pipe."""
    stream = io.StringIO()
    print_report(report, Console(file=stream, width=100, markup=False, highlight=False))
    return stream.getvalue()


def test_an_arm_shows_all_that_is_known(report: Report) -> None:
    """It shows share, decisions, outcomes, the number counted, mean, interval, P(best) and loss."""
    (row,) = [line.split() for line in drawn(report).splitlines() if line.startswith("v1 ") and "%" in line]
    assert row == [
        "v1",
        "50.0",
        "%",
        "12,345",
        "11,000",
        "11,000",
        "0.040",
        "0.030",
        "to",
        "0.050",
        "25.0",
        "%",
        "0.001",
    ]


def test_units_stand_beside_decisions_where_they_are_counted(report: Report) -> None:
    """The column is there only if some arm has units, and what waits then waits for its window."""
    assert " units" not in drawn(report)
    report.arms[0].units = 9_876
    text = drawn(report)
    (row,) = [line.split() for line in text.splitlines() if line.startswith("v1 ") and "%" in line]
    assert row[3:5] == ["12,345", "9,876"]
    assert "140 outcomes are waiting for their window to close" in text


def test_an_interval_is_labelled_by_its_kind(report: Report) -> None:
    """A posterior interval is labelled as such."""
    assert "95 % posterior" in drawn(report)


def test_what_is_unknown_is_a_dash_and_not_a_zero(report: Report) -> None:
    """An arm out of service has dashes for mean, interval, P(best) and expected loss."""
    (row,) = [line.split() for line in drawn(report).splitlines() if line.startswith("old (out)")]
    assert row[-4:] == ["-", "-", "-", "-"]


def test_outcomes_that_do_not_count_are_listed(report: Report) -> None:
    """Open and late outcomes are listed below the table, and so are the server's notes, unchanged."""
    text = drawn(report)
    assert "click: 140 outcomes are waiting for their epoch to close" in text
    assert "click: 6 outcomes came after their window" in text
    assert "· [bold]not markup[/bold]" in text


def test_other_metrics_have_a_separate_table(report: Report) -> None:
    """Guardrails have a table below the reward metric's."""
    text = drawn(report)
    assert text.index("\nlatency") > text.index("P(best)")


def test_a_launch_says_where_each_challenger_is(report: Report) -> None:
    """A sentence an arm, after the verdict; without a launch there is no such section."""
    assert "Launch" not in drawn(report)
    report.verdict.headline = "Wait."
    report.verdict.evidence.append("nothing is shown")
    report.launch.arms.add(arm="v2", sentence="Wait: v2 is in canary at 1 %, 412 of 5,000 decisions.")
    text = drawn(report)
    assert "v2: Wait: v2 is in canary at 1 %, 412 of 5,000 decisions." in text
    assert text.index("\nVerdict\n") < text.index("\nLaunch\n") < text.index("\nEvidence\n")


def test_the_sparkline_is_proportional_in_time(report: Report) -> None:
    """A share that moved half-way through changes in the middle, whatever the number of epochs."""
    line = sparklines(report)["v2"]
    assert set(line[: len(line) // 2 - 1]) == {"▅"}
    assert set(line[len(line) // 2 :]) == {"█"}


def test_an_arm_that_was_not_there_leaves_blanks(report: Report) -> None:
    """Blanks, and not a share of zero, show that an arm did not exist."""
    assert sparklines(report)["old"].strip() == ""


def test_a_report_without_epochs_or_numbers_is_drawn(report: Report) -> None:
    """A report on a new experiment can be printed."""
    del report.epochs[:]
    for arm in report.arms:
        del arm.metrics[:]
    assert "P(best)" in drawn(report)


def test_a_thousand_arms_with_long_names_fit(report: Report) -> None:
    """Nothing is cut off, as long names take more lines."""
    for number in range(1_000):
        report.arms.add(arm=f"{number:04}-" + "x" * 58, share=0.001)
    lines = drawn(report).splitlines()
    assert all(len(line) <= 100 for line in lines)
    assert sum(line.startswith("0999-") for line in lines) == 3


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0.0 %"), (1e-9, "<0.1 %"), (0.12345, "12.3 %"), (1 - 1e-9, ">99.9 %"), (1, "100.0 %")],
)
def test_only_exact_zeros_and_ones_are_shown_as_such(share: float, text: str) -> None:
    """Only exact zeros and ones are shown as 0 % and 100 %."""
    assert percent(share) == text


@pytest.mark.parametrize(("widths", "decimals"), [([], 3), ([0.0], 3), ([0.25], 2), ([30], 0), ([1e-30], 8)])
def test_decimals_follow_the_narrowest_interval(widths: list[float], decimals: int) -> None:
    """Numbers show two figures of the narrowest interval, and at most eight decimals."""
    assert decimals_for(widths) == decimals

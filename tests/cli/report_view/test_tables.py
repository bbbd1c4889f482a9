"""Tables of evidence: their contents, what they never show, and that each reason is printed once."""

import math
import re
from dataclasses import replace
from datetime import UTC
from decimal import Decimal

import pytest

from bandit.decision_id import Basis
from bandit.facts import Epoch, Facts
from bandit.limits import Limits
from bandit.metric import Metric, RelativeMargin
from bandit.policies import WeightedSplit
from bandit.v1 import evidence_pb2, experiment_pb2
from server.cli.report_view.sections import unsaid_texts
from server.cli.report_view.tables import e_value_text, finding, interval_text, lift_texts, p_value_text
from server.services.reports.values import ReportRequest
from server.wording import split_name
from tests.bandit.builders import (
    HOUR,
    START,
    binary_tally,
    decision_key,
    declare,
    make_epoch,
    outcome_key,
)
from tests.support.reports import CLICK, ERROR, drawn, report_on, require_sane

EVEN = WeightedSplit(weights={"champion": 1, "challenger": 1, "base": 1, "v2": 1})
WINS = {0: 100, 1: 400, 2: 100}
"""Successes in 2,000 decisions of each arm."""


def report(days: int = 20) -> experiment_pb2.Report:
    """Report, after `days`, on four days of an even split over three arms, of which the second is better."""
    epochs = [
        make_epoch(number, START + number * 24 * HOUR, shares=dict.fromkeys(range(3), 1 / 3))
        for number in range(1, 6)
    ]
    cells = [(number, arm) for number in range(1, 5) for arm in range(3)]
    clicks = {cell: WINS[cell[1]] // 4 for cell in cells}
    facts = Facts(
        decisions={decision_key(*cell): 500 for cell in cells},
        outcomes={
            **{outcome_key(*cell): binary_tally(n, n) for cell, n in clicks.items()},
            **{outcome_key(*cell, metric=1): binary_tally(5, 5) for cell in cells},
        },
    )
    declared = declare(
        arms=["base", "better", "alike"], metrics=[CLICK, ERROR], limits=Limits(minimum_share=0.2)
    )
    return report_on(declared, epochs, facts, now=START + days * 24 * HOUR)


def rows(text: str, title: str) -> list[str]:
    """Return the lines of the table below a title."""
    lines = text.splitlines()
    title_line = next(number for number, line in enumerate(lines) if line.startswith(title))
    rule = next(number for number in range(title_line, len(lines)) if lines[number].startswith("─"))
    return lines[rule + 1 : lines.index("", rule)]


def test_shadow_decisions_have_a_column_where_there_are_any() -> None:
    """They stand apart: an arm in shadow has answered nobody."""
    assert "in shadow" not in drawn(report())
    epochs = [make_epoch(1, START, shares={0: 1.0, 1: 0.0}), make_epoch(2, START + HOUR)]
    facts = Facts(decisions={decision_key(1, 0): 1_000, decision_key(1, 1, Basis.SHADOW): 300}, outcomes={})
    text = drawn(report_on(declare(arms=["base", "seen"], metrics=[CLICK]), epochs, facts, now=START + HOUR))
    lines = rows(text, "belief on click")
    base, seen = (next(line.split() for line in lines if line.startswith(arm)) for arm in ("base", "seen"))
    assert (base[3], base[4], seen[3], seen[4]) == ("1,000", "0", "0", "300")
    assert "in shadow" in text


def test_a_row_adds_up_and_shows_what_is_established() -> None:
    """The mean less the champion's then is the difference; estimates stand above their intervals."""
    made = report()
    require_sane(made)
    lines = rows(drawn(made), "evidence on click")
    champion, above, alike = (
        next(line for line in lines if line.startswith(f"{arm} ")) for arm in ("base", "better", "alike")
    )
    below = lines[lines.index(above) + 1]
    assert champion.split() == ["base", "0.0500", "champion"]
    assert above.split()[:6] == ["better", "0.2000", "0.0500", "+0.1500", "+300", "%"]
    assert above.split()[-1] == "better"
    assert " to +" in below
    assert alike.rstrip().endswith("not established")


@pytest.mark.parametrize(("clicks", "more"), [(52, 50), (53, 50), (107, 103), (211, 207)])
def test_the_shown_difference_is_that_of_the_shown_means(clicks: int, more: int) -> None:
    """Rounding never makes a row that does not add up to its last digit."""
    cells = {(number, arm): (507, (more, clicks)[arm]) for number in range(1, 5) for arm in (0, 1)}
    facts = Facts(
        decisions={decision_key(*cell): n for cell, (n, _) in cells.items()},
        outcomes={outcome_key(*cell): binary_tally(n, n) for cell, (_, n) in cells.items()},
    )
    epochs = [make_epoch(number, START + number * HOUR) for number in range(1, 6)]
    made = report_on(declare(metrics=[CLICK], policy=EVEN), epochs, facts, now=START + 9 * HOUR)
    row = next(line for line in rows(drawn(made), "evidence on click") if line.startswith("challenger"))
    mean, then, difference = map(Decimal, row.split()[1:4])
    assert mean - then == difference
    (sentence,) = [line for line in made.verdict.evidence if line.startswith("click:")]
    said = re.search(r"; ([\d.]+) against ([\d.]+) a decision, difference ([+-][\d.]+) \(", sentence)
    assert said is not None
    mean, then, difference = map(Decimal, said.groups())
    assert mean - then == difference


def test_before_two_weeks_nothing_is_promoted() -> None:
    """Even with strong evidence, the verdict waits for two weeks and gives the reason."""
    made = report(days=6)
    assert made.verdict.advice == evidence_pb2.ADVICE_WAIT
    assert made.verdict.headline == (
        "Wait: better is better than base; nothing is promoted before 2 whole weeks, on 2026-03-15 12:00 UTC."
    )
    assert any(line.startswith("click: better is better") for line in made.verdict.evidence)


def test_splits_and_checks_are_in_the_report() -> None:
    """An even split has no gain over an even split, which is no estimate; and the checks are shown."""
    text = drawn(report())
    split = " ".join(" ".join(rows(text, "static splits")).split())
    assert {"alike", "base", "better", "0.333"} <= set(split.split())
    assert "0.1000 ± 0.1000 - - 4,500 of 6,000 4,500" in split
    assert "the shares then were those of the split, so there is no gain to estimate" in " ".join(
        text.split()
    )
    assert "No sample ratio mismatch (SRM): decisions follow the shares" in text
    assert "Decisions answered with click: base 5.0 %, better 20.0 %, alike 5.0 %" in text


def test_one_reason_is_printed_once_with_its_arms() -> None:
    """A reason is not repeated for each arm and field, and of many arms only a few are named."""
    unsaid = evidence_pb2.Unsaid(
        subjects=["estimate", "comparison.relative_lift"],
        metric="click",
        reason="x",
        explanation="because",
        arms=[f"arm-{number}" for number in range(40)],
    )
    split = evidence_pb2.SplitReport(
        weights={"a": 1.0}, unsaid=evidence_pb2.Unsaid(subjects=["value"], reason="x", explanation="because")
    )
    (line,) = unsaid_texts(experiment_pb2.Report(unsaid=[unsaid], splits=[split]))
    assert line == (
        "Because (for click: estimate, relative lift of arm-0, arm-1, arm-2, arm-3, arm-4 and 35 more arms; "
        "static split a 1)."
    )


def claim(log_e_value: float = 0.0, *, established: bool = False) -> evidence_pb2.Claim:
    """Return a claim."""
    return evidence_pb2.Claim(log_e_value=log_e_value, p_value=1.0, established=established)


def test_e_values_and_p_values_are_neither_infinite_nor_zero() -> None:
    """Extreme e-values and p-values are shown as finite, positive numbers."""
    assert e_value_text(1e9) == ">1e+06"
    assert e_value_text(math.log(23.4)) == "23.4"
    assert p_value_text(1e-300) == "<1e-06"
    assert p_value_text(0.0123) == "0.012"


def test_a_finding_that_faded_is_none_and_is_dated() -> None:
    """Status and p follow from the e-value now, as the interval does; the largest says when it was shown."""
    made = report_on(
        declare(metrics=[CLICK], policy=EVEN),
        *faded(),
        now=START + 30 * 24 * HOUR,
        request=ReportRequest(max_epochs=5),
    )
    require_sane(made)
    better = made.arms[1].metrics[0].comparison.better
    difference = made.arms[1].metrics[0].comparison.difference.interval
    assert (better.established, better.lapsed) == (False, True)
    assert better.log_e_value < better.log_largest_e_value
    assert better.p_value == 1
    assert difference.lower < 0 < difference.upper
    assert better.first_established.ToSeconds() < made.report_time.ToSeconds()
    assert "was better" in " ".join(drawn(made).split())
    (sentence,) = [line for line in made.verdict.evidence if line.startswith("click:")]
    assert "is not established (p 1), though at an earlier look it was established as better" in sentence


def faded() -> tuple[list[Epoch], Facts]:
    """Return epochs in which the challenger is better, and as many in which it is worse."""
    epochs = [make_epoch(number, START + number * HOUR) for number in range(1, 12)]
    wins = {
        (number, arm): 60 + (30 if (arm == 1) == (number <= 5) else 0)
        for number in range(1, 9)
        for arm in (0, 1)
    }
    return epochs, Facts(
        decisions={decision_key(*cell): 300 for cell in wins},
        outcomes={outcome_key(*cell): binary_tally(n, n) for cell, n in wins.items()},
    )


def skewed(n_errors: int = 0) -> experiment_pb2.Report:
    """Return a report in which half of the challenger's decisions are missing, and it looks far better."""
    epochs = [make_epoch(number, START + number * 24 * HOUR) for number in range(1, 21)]
    cells = {
        (number, arm): (500, 50) if arm == 0 else (250, 100) for number in range(1, 20) for arm in (0, 1)
    }
    clicks = {outcome_key(*cell): binary_tally(n, n) for cell, (_, n) in cells.items()}
    errors = {
        outcome_key(*cell, metric=1): binary_tally(n_errors, n_errors) for cell in cells if cell[1] == 1
    }
    facts = Facts(
        decisions={decision_key(*cell): n for cell, (n, _) in cells.items()},
        outcomes={**clicks, **(errors if n_errors else {})},
    )
    declared = declare(arms=["base", "v2"], metrics=[CLICK, ERROR], policy=EVEN)
    return report_on(declared, epochs, facts, now=START + 40 * 24 * HOUR)


def test_while_decisions_do_not_follow_the_shares_no_arm_is_better() -> None:
    """The alarm comes first, nothing is established, and neither text, table nor page calls an arm better."""
    made = skewed()
    require_sane(made)
    better = made.arms[1].metrics[0].comparison.better
    assert (made.sample_ratio.alarming, better.established) == (True, False)
    assert better.p_value < 0.001
    assert made.verdict.advice == evidence_pb2.ADVICE_CHECK
    assert made.verdict.headline.startswith("Look at assignment and counting first")
    words = " ".join([made.verdict.headline, *made.verdict.evidence, *made.verdict.belief]).lower()
    assert not {"better", "worse", "promote", "best"} & set(words.replace(",", " ").replace(":", " ").split())
    assert words.index("do not follow the shares") < words.index("no finding is given for any arm")
    text = drawn(made)
    assert "evidence on click a decision: NOT TO BE TRUSTED" in text
    assert "withheld" in text
    assert "Sample ratio mismatch (SRM): decisions do not follow the shares" in text
    above = next(line for line in rows(text, "evidence on click") if line.startswith("v2"))
    assert above.split()[-1] == "withheld"


def test_harm_takes_an_arm_out_even_during_the_alarm() -> None:
    """The headline starts with the alarm, and takes the arm out as a precaution without calling it worse."""
    made = skewed(n_errors=40)
    assert (made.verdict.advice, made.verdict.arm) == (evidence_pb2.ADVICE_ROLL_BACK, "v2")
    assert made.verdict.headline == (
        "Look at assignment and counting first: decisions do not follow the shares. Take v2 out "
        "meanwhile, as a precaution: error gives cause, though no number of this report can be trusted "
        "until then."
    )


def test_a_missing_bound_is_printed_as_no_bound() -> None:
    """A missing bound is printed as "no bound", and not as infinity."""
    assert interval_text(evidence_pb2.Interval(lower=0.5), 2, "+") == "+0.50 to no bound"
    assert lift_texts(evidence_pb2.Interval(upper=30)) == ("no bound", "31 times")
    assert lift_texts(evidence_pb2.Interval(lower=-0.25, upper=0.5)) == ("-25 %", "+50 %")


@pytest.mark.parametrize(
    ("comparison", "words"),
    [
        (evidence_pb2.Comparison(better=claim(established=True)), "better"),
        (evidence_pb2.Comparison(better=evidence_pb2.Claim(lapsed=True)), "was better"),
        (evidence_pb2.Comparison(better=claim(), worse=claim(established=True)), "worse"),
        (evidence_pb2.Comparison(better=claim(), worse=claim()), "not established"),
        (evidence_pb2.Comparison(better=claim(), harm=claim(established=True)), "does harm"),
        (evidence_pb2.Comparison(champion="a"), "-"),
    ],
)
def test_a_finding_must_be_established(comparison: evidence_pb2.Comparison, words: str) -> None:
    """A finding is shown only if it is established, and a lapsed one as such; what is missing is a dash."""
    assert finding(experiment_pb2.MetricReport(comparison=comparison)) == words


def watched(metric: Metric, *errors: int) -> experiment_pb2.Report:
    """Return a report on ten days, with 100 of 2,000 errors of the champion, and these of the challenger."""
    epochs = [make_epoch(number, START + number * 24 * HOUR) for number in range(1, len(errors) + 2)]
    cells = {(number, arm): (100, n)[arm] for number, n in enumerate(errors, 1) for arm in (0, 1)}
    facts = Facts(
        decisions=dict.fromkeys((decision_key(*cell) for cell in cells), 2_000),
        outcomes={outcome_key(*cell, metric=1): binary_tally(n, n) for cell, n in cells.items()},
    )
    declared = declare(metrics=[CLICK, metric], policy=EVEN)
    made = report_on(declared, epochs, facts, now=START + (len(errors) + 2) * 24 * HOUR)
    require_sane(made)
    return made


def test_a_margin_is_sent_and_shown_beside_what_it_decides() -> None:
    """Role and margin are in the metric's title; harm and its absence are findings of their own."""
    margin = replace(ERROR, worse_by=RelativeMargin(0.5))
    good, bad = watched(margin, *[100] * 10), watched(margin, *[250] * 10)
    assert "error (guardrail, may be worse by 50 %)" in drawn(good)
    reports = [made.arms[1].metrics[1] for made in (good, bad)]
    for metric in reports:
        assert (metric.role, metric.guardrail) == (experiment_pb2.METRIC_ROLE_GUARDRAIL, True)
        assert metric.worse_by.relative == 0.5
        assert not metric.comparison.HasField("signal")
    assert [each.comparison.not_worse.established for each in reports] == [True, False]
    assert [each.comparison.harm.established for each in reports] == [False, True]
    assert [finding(each) for each in reports] == ["not worse by 50 %", "worse and does harm"]
    plain = watched(ERROR, *[100] * 10).arms[1].metrics[1]
    assert not plain.HasField("worse_by")
    assert not plain.comparison.HasField("not_worse")


def test_a_signal_is_sent_and_shown_with_what_changes_it() -> None:
    """It is off for an equal challenger, and on from the epoch in which a bad one was seen."""
    signal = replace(ERROR, is_guardrail=False, is_signal=True)
    good, bad = watched(signal, *[100] * 6), watched(signal, *[100] * 3, *[200] * 3)
    assert "error (signal)" in drawn(bad)
    off, on = (made.arms[1].metrics[1] for made in (good, bad))
    for metric in (off, on):
        assert (metric.role, metric.guardrail) == (experiment_pb2.METRIC_ROLE_SIGNAL, False)
        assert not metric.comparison.HasField("harm")
    state = off.comparison.signal
    assert (state.held, state.pauses, state.since_epoch) == (False, 0, 0)
    assert state.log_threshold == pytest.approx(math.log(20))
    assert not state.HasField("since_time")
    state = on.comparison.signal
    assert (state.held, state.pauses, state.since_epoch) == (True, 1, 4)
    assert state.log_threshold == pytest.approx(math.log(5))
    assert state.since_time.ToDatetime(UTC) == START + 4 * 24 * HOUR
    assert (finding(off), finding(on)) == ("not established", "worse and signal on")


def test_a_split_over_many_arms_is_not_spelled_out() -> None:
    """It is named by the number of its arms, and by whether it is even."""
    even = evidence_pb2.SplitReport(weights={f"a{number}": 0.1 for number in range(10)})
    assert split_name(even.weights) == "even over 10 arms"
    assert split_name({"b": 0.25, "a": 0.75}) == "a 0.75 / b 0.25"


def test_a_metric_without_evidence_has_no_evidence_table() -> None:
    """It has no table of evidence; the reason is listed instead."""
    declared = declare(metrics=[replace(CLICK, window=None, default_value=None)])
    made = report_on(declared, [make_epoch()], now=START + HOUR)
    text = drawn(made)
    assert "\nevidence on" not in text
    assert "What can't be said" in text

"""The outlook in words: times and traffic in units that fit, and one reason where there is none."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from math import inf

import pytest

from bandit.experiment import AnalysisUnit, Arm
from bandit.facts import Epoch, Facts, Tally
from bandit.facts.grid import FactGrid
from bandit.inference.planning.power import Forecast
from bandit.inference.reasons import CannotSay, Reason
from bandit.launch.launching import Launching
from bandit.limits import Limits
from bandit.metric import N_STEPS, Metric, MetricKind
from bandit.policies import WeightedSplit
from bandit.v1.evidence_pb2 import Outlook as OutlookMessage
from server.services.reports.outlook import Outlook, look_out, outlook_text
from server.wording import minimum_share_text
from tests.bandit.builders import (
    HOUR,
    MINUTE,
    START,
    binary_tally,
    decision_key,
    declare,
    make_epoch,
    outcome_key,
    stand,
)
from tests.bandit.launch.launches import in_bandit
from tests.support.reports import CLICK, report_on, require_sane

EVEN = WeightedSplit(weights={"champion": 1, "challenger": 1})


def epochs(length: timedelta = HOUR, **changes: object) -> list[Epoch]:
    """Return two epochs."""
    return [make_epoch(number + 1, START + number * length, **changes) for number in range(2)]  # type: ignore[arg-type]  # passed on


def facts_of(champion: tuple[int, int], challenger: tuple[int, int] = (0, 0)) -> Facts:
    """Return decisions and successes of both arms in the first epoch."""
    counts = enumerate((champion, challenger))
    found = {arm: (n, wins) for arm, (n, wins) in counts if n}
    return Facts(
        decisions={decision_key(1, arm): n for arm, (n, _) in found.items()},
        outcomes={outcome_key(1, arm): binary_tally(wins, wins) for arm, (_, wins) in found.items() if wins},
    )


def outlook_on(facts: Facts, after: timedelta = timedelta(days=30), **declared: object) -> OutlookMessage:
    """Return the outlook of a report on an experiment of two arms."""
    unit = declared.pop("analysis_unit", AnalysisUnit.DECISION)
    declared = {"metrics": [CLICK], "policy": EVEN} | declared
    experiment = replace(declare(**declared), analysis_unit=unit)  # type: ignore[arg-type]  # passed on
    report = report_on(experiment, epochs(min(HOUR, after / 4)), facts, now=START + after)
    require_sane(report)
    return report.outlook


def made(half: float, most: float, **changes: object) -> Outlook:
    """Return an outlook of 4,000 decisions a day, with these days."""
    found = Forecast(
        decisions_at_half=4_000 * half,
        decisions_at_most=4_000 * most,
        days_at_half=half,
        days_at_most=most,
        champion_share=0.5,
        challenger_share=0.5,
    )
    outlook = Outlook(
        lift=0.1,
        unit=AnalysisUnit.DECISION,
        decisions_per_day=4_000.0,
        measured=timedelta(days=3),
        forecast=found,
        challenger="v2",
    )
    return replace(outlook, **changes)  # type: ignore[arg-type]  # fields of an outlook


@pytest.mark.parametrize(
    ("half", "most", "words"),
    [
        (40 / 1_440, 3.2 / 24, "after 40 minutes at even odds, after 3.2 hours with a chance of four fifths"),
        (23.4, 70, "after 23 days at even odds, after 10 weeks with a chance of four fifths"),
        (11_122, 30_000, "after 30 years at even odds, after 82 years with a chance of four fifths"),
        (800, inf, "after 2.2 years at even odds, never with a chance of four fifths"),
        (inf, inf, "never at even odds"),
    ],
)
def test_times_have_the_unit_that_fits_and_only_the_infinite_is_never(
    half: float, most: float, words: str
) -> None:
    """From minutes to years; what is known is given, however far it is."""
    traffic = "at the declared floors and 4,000 decisions a day, as measured over 3 days"
    assert outlook_text(made(half, most)) == f"A lift of +10 % would be seen {words}, {traffic}."


def test_traffic_is_given_in_the_unit_over_which_it_was_measured() -> None:
    """The traffic of a minute is not multiplied to that of a day, in words."""
    outlook = outlook_on(
        facts_of((137, 14), (138, 20)), after=MINUTE * 1.25, metrics=[replace(CLICK, window=MINUTE / 60)]
    )
    assert "and 220 decisions a minute, as measured over 1.2 minutes." in outlook.text
    assert outlook.decisions_per_day == pytest.approx(275 / 1.25 * 1_440)
    assert "after 3.2 hours at even odds" in outlook.text


def test_units_are_units() -> None:
    """Where evidence counts units, so does the traffic."""
    facts = facts_of((500, 50), (500, 60))
    assert "33 decisions a day" in outlook_on(facts).text
    assert "33 units a day" in outlook_on(facts, analysis_unit=AnalysisUnit.UNIT).text


@pytest.mark.parametrize(
    ("facts", "declared", "reason", "words"),
    [
        (
            facts_of((500, 50)),
            {"arms": [Arm(id="champion"), Arm(id="challenger", is_taken_out=True)]},
            "no-challenger",
            "there is no challenger in service",
        ),
        (facts_of((0, 0)), {}, "no-traffic", "no decision is drawn from the shares, so the traffic is 0"),
        (
            facts_of((0, 0), (50, 5)),
            {},
            "not-observed",
            "the champion has no outcome yet, so its mean is not known",
        ),
        (
            facts_of((500, 0), (500, 9)),
            {},
            "champion-at-zero",
            "the champion's mean is 0, so a change relative to it has no value",
        ),
        (
            facts_of((500, 495), (500, 490)),
            {},
            "lift-out-of-range",
            "the mean after the lift lies outside the metric's range",
        ),
        (
            facts_of((500, 50)),
            {"policy": WeightedSplit(weights={"champion": 1})},
            "challenger-without-planned-share",
            "challenger gets no share",
        ),
        (
            facts_of((0, 0), (500, 50)),
            {"policy": WeightedSplit(weights={"challenger": 1})},
            "not-observed",
            "the champion has no outcome yet, so its mean is not known",
        ),
        (
            facts_of((500, 50), (500, 50)),
            {"metrics": [Metric(name="click")]},
            "no-window",
            "the metric has no window, so a missing outcome never counts as silence",
        ),
    ],
)
def test_a_missing_outlook_names_the_one_condition_that_is_broken(
    facts: Facts, declared: Mapping[str, object], reason: str, words: str
) -> None:
    """Each broken condition has a code and a sentence of its own."""
    outlook = outlook_on(facts, **declared)  # type: ignore[arg-type]  # parts of a declaration
    assert outlook.unsaid.reason == reason
    assert outlook.text == f"When a lift of +10 % would be seen can't be said: {words}."
    assert list(outlook.unsaid.arms) == (["challenger"] if "challenger-without" in reason else [])


def test_a_loser_without_a_share_is_advised_a_minimum_share() -> None:
    """Without floors a lift takes more than ten years; the sentence and the message give the remedy."""
    facts = facts_of((3_000, 300), (3_000, 330))
    starved = outlook_on(facts, policy=declare().policy)
    assert starved.days_at_half > 3_652
    assert starved.minimum_share == 0.01
    assert starved.text.endswith(f". {minimum_share_text(0.01)}")
    floored = outlook_on(facts, policy=declare().policy, limits=Limits(minimum_share=0.1))
    assert not floored.HasField("minimum_share")
    assert "declare" not in floored.text.split("declared floors")[1]


def test_amounts_are_planned_in_their_own_unit() -> None:
    """An amount has its own variance, and its lift is a part of its mean."""
    revenue = Metric(name="revenue", kind=MetricKind.REAL, minimum=-128.0, maximum=384.0, window=MINUTE)
    step = N_STEPS // 512

    def earned(each: int, spread: int) -> Facts:
        values = [(each - spread + 128) * step, (each + spread + 128) * step]
        tally = Tally(n=1_000, total=500 * sum(values), squares=500 * sum(value**2 for value in values))
        return Facts(
            decisions={decision_key(1, arm): 1_000 for arm in (0, 1)},
            outcomes={outcome_key(1, arm): tally for arm in (0, 1)},
        )

    small, large = (outlook_on(earned(20, spread), metrics=[revenue]).days_at_half for spread in (2, 19))
    assert 0 < small < large
    assert outlook_on(earned(40, 19), metrics=[revenue]).days_at_half < large
    assert outlook_on(earned(0, 19), metrics=[revenue]).unsaid.reason == Reason.CHAMPION_AT_ZERO


def test_evidence_that_is_withheld_withholds_the_outlook() -> None:
    """Its reason is that of the evidence."""
    withheld = made(1, 2, forecast=CannotSay(Reason.REPEATED_UNITS))
    assert "units come back" in outlook_text(withheld)


def half_of(launching: Launching) -> float:
    """Return after how many days a lift is seen at even odds, in an experiment with this launch."""
    shares = dict.fromkeys(range(4), 1 / 4)
    history = [make_epoch(number + 1, START + number * HOUR, shares) for number in range(2)]
    state = stand(
        launching.experiment,
        history,
        Facts(
            decisions={decision_key(1, 0): 10_000},
            outcomes={outcome_key(1, 0): binary_tally(10_000, 500)},
        ),
        now=START + timedelta(days=30),
        launch=launching.launch,
    )
    found = look_out(
        state,
        state.facts,
        dict.fromkeys(range(4), 0.2),
        started_at=START,
        grid=FactGrid(state.facts, history, range(4)),
        withheld=None,
        lift=0.1,
    )
    assert found.challenger == "b"
    assert isinstance(found.forecast, Forecast)
    return found.forecast.days_at_half


def test_in_a_launch_a_later_comparison_takes_longer() -> None:
    """The j-th has the level of j (j + 1) claims, which the outlook is made for, too."""
    only = in_bandit("b")
    first = replace(only, launch=replace(only.launch, hypotheses=()))
    later = first
    for _ in range(4):
        later = later.comparing("c", "a", 2)
    assert half_of(first.comparing("b", "a", 2)) < half_of(later.comparing("b", "a", 2))

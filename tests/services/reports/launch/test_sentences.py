"""Launches in words: where each arm is, why, and what a person has to do."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import inf, log
from typing import Any

import pytest

from bandit.launch import moves
from bandit.launch.claims import ClaimKind, LaunchClaim, ShadowPairs
from bandit.launch.gates import ArmFigures, Finding, Lift, Look, VisibleLift
from bandit.launch.launching import Launching, Occasion
from bandit.launch.plan import GuardrailAction, Mode
from bandit.launch.rulings import Action, Ruling
from bandit.launch.state import ArmState
from server.services.reports.launch.sentences import arm_sentence, claim_sentence, reason_for
from server.services.reports.launch.view import view_of
from tests.bandit.launch.launches import PLAN, SHADOW, declare_launch, in_bandit, occasion, underway

NOW = datetime(2026, 12, 10, 9, 0, tzinfo=UTC)
NEVER = " At this traffic a lift of +1 % does not show within ten years."
PAIRS = ShadowPairs(n=4812, shadow=0.021, champion=0.019, lower=-0.004, upper=0.008)
CYCLE_END = datetime(2026, 12, 13, 17, 8, tzinfo=UTC)
BETTER = Lift(estimate=0.032, lower=0.009, upper=0.055)
UNCLEAR = Lift(estimate=0.02, lower=-0.04, upper=0.09)
COUNTS = {"events": 23.0, "event_decisions": 400.0, "champion_decisions": 400.0}
WEEKS = {week: timedelta(days=7) for week in range(4)}
ENOUGH = ArmFigures(
    decisions=9_000,
    outcomes=9_000,
    covered=timedelta(days=28),
    covered_by_cycle=WEEKS,
    evidence=9.0,
    level=4.4,
    lift=BETTER,
    probability_best=0.99,
)


def look(launching: Launching, **figures: Any) -> Look:
    """Return a look at a launch in which b has these figures."""
    seen: Mapping[str, ArmFigures] = dict.fromkeys(launching.launch.arms, ENOUGH)
    return Look(
        at=NOW,
        launching=launching,
        figures={**seen, "b": replace(ENOUGH, **figures)},
        cycle_ends_at=CYCLE_END,
    )


def sentence(at: Look) -> str:
    """Return the sentence of b."""
    return arm_sentence("b", at.launching.arm("b"), at)


def by_controller(reason: str) -> Occasion:
    """Return an occasion of the service."""
    return replace(occasion(9), actor="controller", reason=reason)


def test_an_arm_that_can_not_be_told_apart_waits_with_its_bounds() -> None:
    """The bounds hold at every look, so they can be quoted."""
    at = look(in_bandit("b"), evidence=1.0, lift=UNCLEAR)
    assert sentence(at) == "Wait: too early to tell b from a. So far between -4 and +9 %."


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (VisibleLift(lift=0.05, days=40.0), " At this traffic a lift of +5 % shows in about 12 d."),
        (VisibleLift(lift=-0.05, days=28.5), " At this traffic a lift of -5 % shows in about 12 h."),
        (VisibleLift(lift=0.01, days=inf), NEVER),
        (VisibleLift(lift=0.01, days=1e12), NEVER),
        (VisibleLift(lift=0.05, days=20.0), ""),
    ],
)
def test_an_arm_that_waits_says_when_an_improvement_would_show(visible: VisibleLift, expected: str) -> None:
    """Less the 28 days that it has had; nothing of an improvement that should have been seen by then."""
    at = look(in_bandit("b"), evidence=1.0, lift=UNCLEAR, visible=visible)
    assert sentence(at) == f"Wait: too early to tell b from a. So far between -4 and +9 %.{expected}"


def test_a_lead_that_the_data_do_not_bear_out_is_told() -> None:
    """It was established once, and is not now."""
    led_at = datetime(2026, 11, 12, 8, 0, tzinfo=UTC)
    at = look(in_bandit("b"), evidence=1.0, lift=UNCLEAR, led_at=led_at)
    assert sentence(at) == (
        "Was better: b led a from 2026-11-12 on, and the data since do not bear it out. Not promoted. "
        "So far between -4 and +9 %."
    )


def test_a_sample_ratio_alarm_names_who_is_furthest_from_its_share() -> None:
    """Whatever else is counted of it is not judged."""
    at = replace(look(underway()), is_alarming=True, skewed=("b", 0.041))
    assert sentence(at) == (
        "Held: b is in canary at 1 %; decisions do not follow the shares: b has 4.1 % more than its share; "
        "nothing is judged until this is clear."
    )
    assert "b has 100.0 % less than its share" in sentence(replace(at, skewed=("b", -1.0)))


def test_a_shadow_counts_pairs() -> None:
    """Its minimum of outcomes is one of pairs."""
    shadow = replace(SHADOW, minimum_outcomes=5_000)
    launching = underway(declare_launch(plan=replace(PLAN, stages=(shadow, *PLAN.stages))))
    at = look(launching, outcomes=412, mirrored=1.0)
    assert sentence(at) == "Wait: b is in shadow, 412 of 5,000 pairs."


def test_a_better_arm_says_when_it_is_promoted() -> None:
    """Better now, but not yet where a cycle ends: the date is that of the end."""
    assert sentence(look(in_bandit("b"))) == (
        "Wait: b is better than a, and is promoted on 2026-12-13 17:08 UTC if that still holds."
    )


def test_a_winner_says_how_much_better_it_is() -> None:
    """The estimate, and at least how much; and who promotes it."""
    launching = in_bandit("b")
    assert launching.plan.mode is Mode.RECOMMEND
    assert sentence(look(launching, is_winner=True)) == (
        "Promote b: clicks +3.2 %, at least +0.9 %. It waits for a person to promote it."
    )


def test_holds_are_in_one_sentence() -> None:
    """A person's hold is given with its reason."""
    launching = moves.held(underway(), "b", replace(occasion(3), actor="ann", reason="odd latencies"))
    assert sentence(look(launching)) == "Held: b is in canary at 1 %; held by ann: odd latencies."


def test_silence_says_how_long_it_has_lasted() -> None:
    """No arm has had an outcome: nobody is blamed, and nobody moves."""
    at = replace(look(underway()), silence=timedelta(hours=3, minutes=12, seconds=7))
    assert sentence(at) == (
        "Held: b is in canary at 1 %; no outcomes for 3 h 12 min, of any arm; "
        "silence is not taken for failure."
    )


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        (
            LaunchClaim(metric="click", kind=ClaimKind.BETTER, log_e_value=log(3.25), log_level=log(80)),
            "click: evidence that it is better than a: e-value 3.25, needs 80",
        ),
        (
            LaunchClaim(metric="error", kind=ClaimKind.HARM, log_e_value=-1.0, log_level=30.0, pairs=PAIRS),
            (
                "error: evidence that it is worse than a: e-value 0.368, needs 10^13; in shadow, on 4,812 "
                "pairs, 0.021 where a had 0.019, a difference between -0.004 and +0.008"
            ),
        ),
        (
            LaunchClaim(metric="slow", kind=ClaimKind.SIGNAL, log_e_value=0.0, log_level=log(20)),
            "slow: evidence that it is worse than it may be: e-value 1, holds it at 20",
        ),
        (
            LaunchClaim(
                metric="slow", kind=ClaimKind.SIGNAL, log_e_value=0.0, log_level=log(5), is_held=True
            ),
            "slow: holds it; evidence that it is no longer bad: e-value 1, needs 5",
        ),
        (
            LaunchClaim(metric="click", kind=ClaimKind.BETTER, unsaid="no epoch has closed"),
            "click: no evidence can be given: no epoch has closed",
        ),
        (LaunchClaim(metric="tone", kind=ClaimKind.COMPARED), "tone: nothing has been seen yet"),
    ],
)
def test_a_claim_gives_its_e_value_and_its_level(claim: LaunchClaim, expected: str) -> None:
    """And what the pairs in shadow show; or why there is nothing to give."""
    assert claim_sentence(claim, "a") == expected


def test_a_closed_gate_says_how_much_is_there() -> None:
    """Figures with their thresholds, in words."""
    stage = replace(PLAN.stages[0], minimum_decisions=5_000, minimum_duration=timedelta(days=2))
    launching = underway()
    arm = replace(launching.arm("b"), stages=(stage, *PLAN.stages[1:]))
    at = look(launching.with_arm("b", arm), decisions=412, covered=timedelta(hours=29))
    assert sentence(at) == "Wait: b is in canary at 1 %, 1 d 5 h of 2 d with traffic, 412 of 5,000 decisions."


@pytest.mark.parametrize(
    ("finding", "expected"),
    [
        (
            Finding(metric="complaints", figures={"e_value": 45.0, "level": 40.0, "lift_lower": 0.31}),
            (
                "Rolled back: b had at least 31 % more complaints than a (e-value 45, level 40). "
                "a answers; find out why."
            ),
        ),
        (
            Finding(
                metric="errors",
                figures={"ratio": 5.75, **COUNTS, "champion_events": 4.0},
                is_trip_wire=True,
            ),
            (
                "Tripped: errors in 23 of 400 decisions of b, in 4 of 400 of a, 5.75 times the rate; "
                "a fuse, not a finding. a answers; find out why."
            ),
        ),
        (
            Finding(metric="errors", figures={**COUNTS, "champion_events": 0.0}, is_trip_wire=True),
            (
                "Tripped: errors in 23 of 400 decisions of b, in 0 of 400 of a; a fuse, not a finding. "
                "a answers; find out why."
            ),
        ),
    ],
)
def test_a_rollback_gives_its_figures(finding: Finding, expected: str) -> None:
    """A finding gives its bound; the fuse claims none."""
    before = in_bandit("b")
    ruling = Ruling(action=Action.ROLL_BACK, arm="b", finding=finding, figures=finding.figures)
    reason = reason_for(ruling, look(before))
    assert sentence(look(ruling.applied(before, by_controller(reason)))) == expected


def test_a_promotion_that_turns_out_bad_asks_for_a_rollback() -> None:
    """Where the service does not act by itself; by whatever it was found."""
    asked = declare_launch(plan=replace(PLAN, guardrail_action=GuardrailAction.RECOMMEND))
    after = moves.promoted(in_bandit("b", experiment=asked), "b", occasion(9))
    trip = Finding(metric="errors", figures={**COUNTS, "champion_events": 4.0}, is_trip_wire=True)
    turned = Finding(metric="clicks", figures={"e_value": 90.0, "level": 80.0}, is_reversal=True)
    assert sentence(replace(look(after), harmed={"b": (trip,)})) == (
        "Roll back b: errors in 23 of 400 decisions of b, in 4 of 400 of a; a fuse, not a finding. "
        "The holdback does not end until a person decides."
    )
    assert sentence(replace(look(after), harmed={"b": (turned,)})) == (
        "Roll back b: a is better than b on clicks since the promotion (e-value 90, level 80). "
        "The holdback does not end until a person decides."
    )


def test_a_promotion_that_is_taken_back_at_once_says_so() -> None:
    """A guardrail acts in both modes, so nobody has to."""
    after = moves.promoted(in_bandit("b"), "b", occasion(9))
    found = Finding(metric="errors", figures={"e_value": 90.0, "level": 80.0})
    at = replace(look(after), harmed={"b": (found,)})
    assert sentence(at).endswith("(e-value 90, level 80). It is rolled back now.")
    assert {arm.arm: arm.next for arm in view_of(at).arms}["b"] == "roll back b"


def test_an_inconclusive_launch_says_between_which_bounds_it_ended() -> None:
    """And that nothing was shipped."""
    before = in_bandit("b")
    at = look(before, lift=Lift(estimate=0.001, lower=-0.008, upper=0.011))
    seconds = timedelta(days=28).total_seconds()
    ruling = Ruling(action=Action.END, arm="b", figures={"covered_seconds": seconds})
    after = ruling.applied(before, by_controller(reason_for(ruling, at)))
    assert sentence(look(after)) == (
        "Inconclusive: after 28 d with traffic b lies between -0.8 and +1.1 % of a. Nothing was shipped; "
        "a answers. Restart b to give it longer."
    )


def test_a_retired_arm_says_what_it_could_gain_at_most() -> None:
    """Beside the least lift that would be worth having."""
    figures = {"most_lift": 0.002, "least_lift": 0.01}
    ruling = Ruling(action=Action.END, arm="b", figures=figures, outcome=ArmState.RETIRED)
    assert reason_for(ruling, look(in_bandit("b"))) == (
        "b gains 0.2 % over a at most; only 1 % is worth having"
    )


def test_the_launch_speaks_of_who_most_needs_a_person() -> None:
    """A held challenger comes before one that only waits."""
    launching = moves.held(in_bandit("b"), "c", replace(occasion(3), actor="ann", reason="why"))
    assert view_of(look(launching)).sentence == "Held: c is in canary at 1 %; held by ann: why."

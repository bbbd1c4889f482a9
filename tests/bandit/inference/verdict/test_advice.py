"""Advice from evidence and beliefs: levels, whole cycles, and which of several actions is most urgent."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from math import inf, log

import pytest

from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.results import EProcess
from bandit.inference.sequential.sample_ratio import SampleRatio
from bandit.inference.verdict.advice import Advice, Beliefs, Harm, Rules, Ruling, established_at_cycles, rule
from bandit.inference.verdict.assessment import Assessment, MetricEvidence
from bandit.inference.verdict.claims import ChallengerEvidence, Claim, TestKind
from bandit.metric import Metric
from tests.bandit.inference.experiment_states import CLICK, ERROR, STARTED_AT

DAY = timedelta(days=1)
NOTHING = CannotSay(Reason.NO_DECISIONS)
RULES = Rules()
SURE = 10.0
"""ln E beyond any level."""


def claim(log_values: Sequence[float], *, n_tests: int = 2, first_row: int = 0) -> Claim:
    """Return a claim with this path of ln E, over rows from `first_row` on."""
    return Claim(
        test=TestKind.CENTRED_ODDS,
        process=EProcess(tuple(log_values)),
        n_tests=n_tests,
        rows=tuple(range(first_row, first_row + len(log_values))),
    )


def evidence(
    metric: Metric,
    *,
    better: Mapping[int, Sequence[float]] | None = None,
    harm: Mapping[int, Sequence[float]] | None = None,
    ends: Sequence[timedelta] | None = None,
    n_tests: int = 2,
    first_row: int = 0,
) -> MetricEvidence:
    """Return evidence whose rows ended at `ends` after the start; by default one row per day."""
    better, harm = better or {}, harm or {}
    n_rows = max((len(path) for path in (*better.values(), *harm.values())), default=0)
    row_ends = ends or [(row + 1) * DAY for row in range(n_rows)]

    def claimed(paths: Mapping[int, Sequence[float]], arm: int) -> Claim | CannotSay:
        return claim(paths[arm], n_tests=n_tests, first_row=first_row) if arm in paths else NOTHING

    return MetricEvidence(
        metric=metric,
        means={},
        challengers={
            arm: ChallengerEvidence(
                arm=arm,
                comparison=NOTHING,
                better=claimed(better, arm),
                worse=NOTHING,
                harm=claimed(harm, arm),
            )
            for arm in sorted(better.keys() | harm.keys())
        },
        response=NOTHING,
        row_ends=tuple(STARTED_AT + end for end in row_ends),
    )


def assessment(
    reward: MetricEvidence, *others: MetricEvidence, sample_ratio: SampleRatio | CannotSay = NOTHING
) -> Assessment:
    """Return an assessment with champion 0."""
    return Assessment(
        champion=0,
        reward=reward,
        others={other.metric.name: other for other in others},
        sample_ratio=sample_ratio,
        splits=(),
    )


def beliefs(
    best: Mapping[int, float] | None = None,
    *,
    loss: float | None = 0.1,
    harms: Mapping[tuple[str, int], Harm] | None = None,
) -> Beliefs:
    """Return beliefs of an experiment; by default two arms are in service."""
    return Beliefs(probability_best=best or {0: 0.01, 1: 0.99}, champion_loss=loss, harms=harms or {})


def ruling_of(seen: Assessment, believed: Beliefs | None = None, *, day: float = 14) -> Ruling:
    """Return the ruling on this day."""
    return rule(seen, believed or beliefs(), STARTED_AT, STARTED_AT + day * DAY)


def winning(n_days: int = 14) -> MetricEvidence:
    """Return evidence of a challenger that is certainly better, every day."""
    return evidence(CLICK, better={1: [SURE] * n_days})


ALARM = SampleRatio(expected={}, observed={}, z={}, process=EProcess((SURE,)), n_foreign=0)


def test_a_clock_that_was_set_back_completes_no_cycle() -> None:
    """A report before the experiment's own start counts 0 cycles, not a negative number."""
    assert ruling_of(assessment(winning()), day=-30).cycles == 0


def test_what_is_proven_at_two_whole_cycles_and_believed_is_promoted() -> None:
    """A winner is promoted on the fourteenth day and not on the thirteenth."""
    assert ruling_of(assessment(winning())) == Ruling(advice=Advice.PROMOTE, arm=1, cycles=2)
    assert ruling_of(assessment(winning(13)), day=13).advice is Advice.WAIT


def test_only_the_ends_of_cycles_are_looked_at() -> None:
    """An e-process that is high all week, and now, and was low where the cycles ended does not promote."""
    path = [SURE] * 22
    path[13] = path[20] = 0.0
    assert ruling_of(assessment(evidence(CLICK, better={1: path})), day=22).advice is Advice.WAIT
    path[13] = SURE
    assert ruling_of(assessment(evidence(CLICK, better={1: path})), day=22).advice is Advice.PROMOTE


def test_a_proof_at_an_earlier_cycle_still_counts() -> None:
    """What is established now, and was at the end of some cycle, need not have been in between."""
    path = [0.0] * 13 + [SURE] + [0.0] * 14 + [SURE]
    seen = evidence(CLICK, better={1: path})
    assert established_at_cycles(seen, STARTED_AT, RULES) == {1}


@pytest.mark.parametrize("now", [SURE, 3.6, -0.1])
def test_what_has_faded_is_not_promoted(now: float) -> None:
    """A challenger that was established at two cycles and no longer is has lapsed, and waits."""
    path = [SURE] * 14 + [now] * 7
    seen = evidence(CLICK, better={1: path})
    found = seen.challengers[1].better
    assert isinstance(found, Claim)
    is_faded = now < SURE
    assert (found.is_lapsed, found.is_established, found.first_established) == (is_faded, not is_faded, 0)
    assert established_at_cycles(seen, STARTED_AT, RULES) == (frozenset() if is_faded else {1})
    assert ruling_of(assessment(seen), day=21).advice is (Advice.WAIT if is_faded else Advice.PROMOTE)


def test_a_single_cycle_is_never_enough() -> None:
    """A finding on the seventh day is no proof, even if it is back: on the fourteenth it was not there."""
    path = [SURE] * 7 + [0.0] * 7 + [SURE]
    assert ruling_of(assessment(evidence(CLICK, better={1: path})), day=15).advice is Advice.WAIT


@pytest.mark.parametrize(
    ("ends", "row"),
    [
        ([12.25, 14.0, 15.75], 1),
        ([12.25, 14.001, 15.75], 1),
        ([12.5, 14.5], 1),
        ([13.9, 15.7], 0),
        ([6.0, 13.0, 16.0], 1),
    ],
)
def test_the_row_that_ended_nearest_to_the_cycle_is_looked_at(ends: list[float], row: int) -> None:
    """Epochs may last days: one that ends just after the cycle is still part of it."""
    for other in range(len(ends)):
        path = [SURE if each == other else 0.0 for each in range(len(ends))] + [SURE]
        seen = evidence(CLICK, better={1: path}, ends=[end * DAY for end in (*ends, ends[-1] + 0.001)])
        assert established_at_cycles(seen, STARTED_AT, RULES) == ({1} if other == row else frozenset())


@pytest.mark.parametrize(("first_row", "is_shown"), [(0, True), (1, True), (4, True), (5, False)])
def test_of_rows_that_end_together_the_last_is_looked_at(first_row: int, is_shown: bool) -> None:  # noqa: FBT001 - a case
    """The rows of a first epoch that took two cycles end with it: all of its decisions are in by then.

    Its first row only serves as centre, so that the claim's path may begin later; with the epoch after.
    """
    path = [SURE] * (7 - first_row)
    ends = [14 * DAY] * 5 + [17 * DAY, 20 * DAY]
    seen = evidence(CLICK, better={1: path}, ends=ends, first_row=first_row)
    assert established_at_cycles(seen, STARTED_AT, RULES) == ({1} if is_shown else frozenset())


def test_a_cycle_is_not_looked_at_before_an_epoch_ended_after_it() -> None:
    """The row that belongs to a cycle never changes later, so no look is retracted."""
    seen = evidence(CLICK, better={1: [SURE]}, ends=[13.9 * DAY])
    assert established_at_cycles(seen, STARTED_AT, RULES) == frozenset()
    ended = evidence(CLICK, better={1: [SURE, SURE]}, ends=[13.9 * DAY, 14.4 * DAY])
    assert established_at_cycles(ended, STARTED_AT, RULES) == {1}


def test_cycles_count_from_the_start_and_have_any_length() -> None:
    """With a cycle of one day, looks are at the end of the second day and of every later one."""
    path = [SURE, 0.0, SURE]
    daily = replace(RULES, cycle=DAY)
    seen = assessment(evidence(CLICK, better={1: path}))
    assert rule(seen, beliefs(), STARTED_AT, STARTED_AT + 2.5 * DAY, daily).cycles == 2
    first_two = assessment(evidence(CLICK, better={1: path[:2]}))
    assert rule(first_two, beliefs(), STARTED_AT, STARTED_AT + 2 * DAY, daily).advice is Advice.WAIT
    assert rule(seen, beliefs(), STARTED_AT, STARTED_AT + 3 * DAY, daily).advice is Advice.PROMOTE


def test_promotion_divides_alpha_over_challengers() -> None:
    """Four challengers in both directions need ln E of ln 160; ln 159 is not enough."""
    for e_value, advice in ((160.001, Advice.PROMOTE), (159.0, Advice.WAIT)):
        paths = {arm: [log(e_value) if arm == 2 else 0.0] * 14 for arm in (1, 2, 3, 4)}
        best = {0: 0.0, 1: 0.0, 2: 0.98, 3: 0.01, 4: 0.01}
        ruling = ruling_of(assessment(evidence(CLICK, better=paths, n_tests=8)), beliefs(best))
        assert ruling.advice is advice
        assert ruling.arm == (2 if advice is Advice.PROMOTE else None)


def test_what_is_proven_but_not_believed_best_waits() -> None:
    """Being better than the champion is not enough if a third arm may be best."""
    assert ruling_of(assessment(winning()), beliefs({0: 0.0, 1: 0.94, 2: 0.06})).advice is Advice.WAIT
    assert ruling_of(assessment(winning()), beliefs({0: 0.5, 2: 0.5})).advice is Advice.WAIT


def test_an_arm_that_cannot_be_compared_is_not_promoted() -> None:
    """An arm without a claim is not established; nor does it keep another from it."""
    seen = evidence(CLICK, better={1: [log(80.1)] * 14}, harm={2: [0.0]}, n_tests=4)
    assert established_at_cycles(seen, STARTED_AT, RULES) == {1}
    few = evidence(CLICK, better={1: [log(79.0)] * 14}, harm={2: [0.0]}, n_tests=4)
    assert established_at_cycles(few, STARTED_AT, RULES) == frozenset()


@pytest.mark.parametrize(("e_value", "advice"), [(40.01, Advice.ROLL_BACK), (39.9, Advice.WAIT)])
def test_a_guardrail_fires_at_its_level_on_any_day(e_value: float, advice: Advice) -> None:
    """With two challengers and one guardrail the level is 2 / alpha, on any day."""
    guard = evidence(ERROR, harm={1: [0.0, 0.0, 0.0], 2: [0.0, 0.0, log(e_value)]})
    ruling = ruling_of(assessment(evidence(CLICK), guard), beliefs({0: 0.4, 1: 0.3, 2: 0.3}), day=1)
    assert ruling.advice is advice
    assert (ruling.arm, ruling.metric) == ((2, "error") if advice is Advice.ROLL_BACK else (None, ""))


def test_harm_that_has_faded_rolls_nothing_back() -> None:
    """Harm that was established a look ago and no longer is does not fire now."""
    guard = evidence(ERROR, harm={1: [0.0, SURE, 1.0]})
    assert ruling_of(assessment(evidence(CLICK), guard), day=3).advice is Advice.WAIT


def test_every_guardrail_has_its_own_claim_and_other_metrics_have_none() -> None:
    """Of three guardrails the one that reaches its level fires; what is only worse elsewhere does not."""
    guards = [
        evidence(replace(ERROR, name=name), harm={1: [log(level)], 2: [0.0]}, n_tests=6)
        for name, level in (("a", 119.0), ("b", 1.0), ("c", 1.0))
    ]
    seen = evidence(replace(CLICK, name="d"), better={1: [0.0]})
    worse = replace(seen.challengers[1], worse=claim([SURE]), harm=None)
    bystander = replace(seen, challengers={1: worse})
    best = beliefs({0: 0.4, 1: 0.3, 2: 0.3})
    assert ruling_of(assessment(evidence(CLICK), bystander, *guards), best, day=1).advice is Advice.WAIT
    guards[0] = evidence(replace(ERROR, name="a"), harm={1: [log(121.0)], 2: [0.0]}, n_tests=6)
    ruling = ruling_of(assessment(evidence(CLICK), bystander, *guards), best, day=1)
    assert ruling == Ruling(advice=Advice.ROLL_BACK, arm=1, metric="a", cycles=0)


def test_an_arm_out_of_service_is_not_rolled_back_again() -> None:
    """The guardrail of an arm that was taken out is ignored, and another arm may be promoted."""
    guard = evidence(ERROR, harm={1: [0.0], 2: [SURE]})
    reward = evidence(CLICK, better={1: [SURE] * 14, 2: [0.0] * 14})
    harms = {("error", 2): Harm(events=100, ratio=inf)}
    assert ruling_of(assessment(reward, guard), beliefs(harms=harms)).advice is Advice.PROMOTE


@pytest.mark.parametrize(
    ("events", "ratio", "advice"),
    [
        (20, 5.0, Advice.TRIP),
        (20, inf, Advice.TRIP),
        (19, inf, Advice.WAIT),
        (2000, 4.99, Advice.WAIT),
    ],
)
def test_the_fuse_needs_both_events_and_ratio(events: int, ratio: float, advice: Advice) -> None:
    """A trip needs five times the errors and twenty of them; the ratio may be infinite."""
    believed = beliefs({0: 0.5, 1: 0.5}, harms={("error", 1): Harm(events=events, ratio=ratio)})
    assert ruling_of(assessment(evidence(CLICK)), believed, day=0).advice is advice


@pytest.mark.parametrize(
    ("loss", "day", "advice"),
    [
        (0.0025, 14, Advice.RETIRE),
        (0.0026, 14, Advice.WAIT),
        (0.0, 13.9, Advice.WAIT),
        (None, 14, Advice.WAIT),
    ],
)
def test_challengers_that_cannot_win_are_retired_after_two_cycles(
    loss: float | None, day: float, advice: Advice
) -> None:
    """Challengers are retired if the champion's expected loss is a quarter of a per cent or less."""
    assert (
        ruling_of(assessment(evidence(CLICK)), beliefs({0: 0.9, 1: 0.1}, loss=loss), day=day).advice is advice
    )


def test_a_champion_alone_has_nothing_to_retire() -> None:
    """With one arm in service nothing is retired."""
    assert ruling_of(assessment(evidence(CLICK)), beliefs({0: 1.0}, loss=0.0)).advice is Advice.WAIT


def test_the_most_urgent_action_comes_first() -> None:
    """Harm comes before the fuse, then a broken log, a winner, futility; each hides those after it."""
    guard = evidence(ERROR, harm={1: [SURE]})
    calm = evidence(ERROR, harm={1: [0.0]})
    harms = {("error", 1): Harm(events=50, ratio=9.0)}
    cases = [
        (assessment(winning(), guard, sample_ratio=ALARM), beliefs(loss=0.0, harms=harms), Advice.ROLL_BACK),
        (assessment(winning(), calm, sample_ratio=ALARM), beliefs(loss=0.0, harms=harms), Advice.TRIP),
        (assessment(winning(), calm, sample_ratio=ALARM), beliefs(loss=0.0), Advice.CHECK),
        (assessment(winning(), calm), beliefs(loss=0.0), Advice.PROMOTE),
        (assessment(evidence(CLICK), calm), beliefs(loss=0.0), Advice.RETIRE),
        (assessment(evidence(CLICK), calm), beliefs(), Advice.WAIT),
    ]
    assert [ruling_of(seen, believed).advice for seen, believed, _ in cases] == [
        advice for *_, advice in cases
    ]


def test_withheld_evidence_promotes_nothing() -> None:
    """Withheld evidence has no looks, and without a look there is no winner."""
    silent = replace(evidence(CLICK, harm={1: [0.0]}), row_ends=())
    seen = assessment(silent, sample_ratio=CannotSay(Reason.REPEATED_UNITS))
    assert ruling_of(seen, day=60).advice is Advice.WAIT

"""Advice from evidence and beliefs: levels, whole cycles, and which of several actions is most urgent."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from math import inf, log

import pytest

from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.results import EProcess
from bandit.inference.sequential.sample_ratio import SampleRatio
from bandit.inference.verdict.advice import Advice, Beliefs, Harm, Rules, Ruling, p_values_at_cycles, rule
from bandit.inference.verdict.assessment import Assessment, MetricEvidence
from bandit.inference.verdict.claims import ChallengerEvidence, Claim, TestKind
from bandit.metric import Metric
from tests.bandit.inference.experiment_states import CLICK, ERROR, STARTED_AT

DAY = timedelta(days=1)
NOTHING = CannotSay(Reason.NO_DECISIONS)
RULES = Rules()
SURE = 10.0
"""ln E beyond any level."""


def claim(*log_values: float) -> Claim:
    """Return a claim with this path of ln E."""
    process = EProcess(log_values)
    return Claim(test=TestKind.MEAN, process=process, p_value=process.p_value)


def evidence(
    metric: Metric,
    *,
    better: Mapping[int, Sequence[float]] | None = None,
    worse: Mapping[int, Sequence[float]] | None = None,
    ends: Sequence[timedelta] | None = None,
) -> MetricEvidence:
    """Return evidence whose rows ended at `ends` after the start; by default one row per day."""
    better, worse = better or {}, worse or {}
    n_rows = max((len(path) for path in (*better.values(), *worse.values())), default=0)
    row_ends = ends or [(row + 1) * DAY for row in range(n_rows)]
    return MetricEvidence(
        metric=metric,
        means={},
        paths={},
        challengers={
            arm: ChallengerEvidence(
                arm=arm,
                difference=NOTHING,
                lift=NOTHING,
                better=claim(*better[arm]) if arm in better else NOTHING,
                worse=claim(*worse[arm]) if arm in worse else NOTHING,
            )
            for arm in sorted(better.keys() | worse.keys())
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
    """An e-process that is high all week and low at its end does not promote."""
    path = [SURE] * 21
    path[13] = path[20] = 0.0
    assert ruling_of(assessment(evidence(CLICK, better={1: path})), day=21).advice is Advice.WAIT
    path[13] = SURE
    assert ruling_of(assessment(evidence(CLICK, better={1: path})), day=21).advice is Advice.PROMOTE


def test_a_proof_at_an_earlier_cycle_still_counts() -> None:
    """The p-value is the smallest so far over whole cycles, so an earlier proof still counts."""
    path = [0.0] * 28
    path[13] = SURE
    p_values = p_values_at_cycles(evidence(CLICK, better={1: path}), STARTED_AT, RULES)
    assert p_values == pytest.approx({1: 2.718281828**-SURE})


@pytest.mark.parametrize("is_contradicted", [True, False])
def test_what_has_lapsed_is_not_promoted(is_contradicted: bool) -> None:  # noqa: FBT001 - drawn
    """A challenger is not promoted if, since the proof, all decisions together no longer support it."""
    path = [SURE] * 14 + [SURE if is_contradicted else -0.1] * 7
    seen = evidence(CLICK, better={1: path})
    lapsed = replace(claim(*path), is_contradicted=is_contradicted)
    challenger = replace(seen.challengers[1], better=lapsed)
    assert lapsed.is_lapsed
    assert ruling_of(assessment(seen), day=21).advice is (Advice.PROMOTE if is_contradicted else Advice.WAIT)
    assert ruling_of(assessment(replace(seen, challengers={1: challenger})), day=21).advice is Advice.WAIT


def test_a_single_cycle_is_never_enough() -> None:
    """A finding on the seventh day is not a proof, even on the thirteenth."""
    path = [SURE] * 7 + [0.0] * 7
    assert ruling_of(assessment(evidence(CLICK, better={1: path})), day=14).advice is Advice.WAIT


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
    path = [0.0] * len(ends)
    path[row] = SURE
    seen = evidence(CLICK, better={1: path}, ends=[end * DAY for end in ends])
    assert p_values_at_cycles(seen, STARTED_AT, RULES)[1] < 0.05


def test_a_cycle_is_not_looked_at_before_an_epoch_ended_after_it() -> None:
    """The row that belongs to a cycle never changes later, so no look is retracted."""
    seen = evidence(CLICK, better={1: [SURE]}, ends=[13.9 * DAY])
    assert p_values_at_cycles(seen, STARTED_AT, RULES) == {1: 1.0}


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
    """Four challengers need ln E of ln 80; ln 79 is not enough."""
    for e_value, advice in ((80.001, Advice.PROMOTE), (79.0, Advice.WAIT)):
        paths = {arm: [log(e_value) if arm == 2 else 0.0] * 14 for arm in (1, 2, 3, 4)}
        best = {0: 0.0, 1: 0.0, 2: 0.98, 3: 0.01, 4: 0.01}
        ruling = ruling_of(assessment(evidence(CLICK, better=paths)), beliefs(best))
        assert ruling.advice is advice
        assert ruling.arm == (2 if advice is Advice.PROMOTE else None)


def test_what_is_proven_but_not_believed_best_waits() -> None:
    """Being better than the champion is not enough if a third arm may be best."""
    assert ruling_of(assessment(winning()), beliefs({0: 0.0, 1: 0.94, 2: 0.06})).advice is Advice.WAIT
    assert ruling_of(assessment(winning()), beliefs({0: 0.5, 2: 0.5})).advice is Advice.WAIT


def test_an_arm_that_cannot_be_compared_is_not_promoted_and_counts_in_the_family() -> None:
    """An arm that cannot be compared has p-value 1, and two challengers need ln 40."""
    seen = evidence(CLICK, better={1: [log(39.0)] * 14}, worse={2: [0.0]})
    assert p_values_at_cycles(seen, STARTED_AT, RULES) == pytest.approx({1: 2 / 39, 2: 1.0})


@pytest.mark.parametrize(("e_value", "advice"), [(40.01, Advice.ROLL_BACK), (39.9, Advice.WAIT)])
def test_a_guardrail_fires_at_its_level_on_any_day(e_value: float, advice: Advice) -> None:
    """With two challengers and one guardrail the level is 2 / alpha, at once and at any later look."""
    guard = evidence(ERROR, worse={1: [0.0, 0.0, 0.0], 2: [0.0, log(e_value), 0.0]})
    ruling = ruling_of(assessment(evidence(CLICK), guard), beliefs({0: 0.4, 1: 0.3, 2: 0.3}), day=1)
    assert ruling.advice is advice
    assert (ruling.arm, ruling.metric) == ((2, "error") if advice is Advice.ROLL_BACK else (None, ""))


def test_every_guardrail_divides_alpha() -> None:
    """Three guardrails and two challengers set the level to 6 / alpha; other metrics don't count or fire."""
    guards = [
        evidence(replace(ERROR, name=name), worse={1: [log(level)], 2: [0.0]})
        for name, level in (("a", 119.0), ("b", 1.0), ("c", 1.0))
    ]
    bystander = evidence(replace(CLICK, name="d"), worse={1: [SURE], 2: [SURE]})
    best = beliefs({0: 0.4, 1: 0.3, 2: 0.3})
    assert ruling_of(assessment(evidence(CLICK), bystander, *guards), best, day=1).advice is Advice.WAIT
    guards[0] = evidence(replace(ERROR, name="a"), worse={1: [log(121.0)], 2: [0.0]})
    ruling = ruling_of(assessment(evidence(CLICK), bystander, *guards), best, day=1)
    assert ruling == Ruling(advice=Advice.ROLL_BACK, arm=1, metric="a", cycles=0)


def test_an_arm_out_of_service_is_not_rolled_back_again() -> None:
    """The guardrail of an arm that was taken out is ignored, and another arm may be promoted."""
    guard = evidence(ERROR, worse={1: [0.0], 2: [SURE]})
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
    guard = evidence(ERROR, worse={1: [SURE]})
    calm = evidence(ERROR, worse={1: [0.0]})
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
    silent = replace(evidence(CLICK, worse={1: [0.0]}), row_ends=())
    seen = assessment(silent, sample_ratio=CannotSay(Reason.REPEATED_UNITS))
    assert ruling_of(seen, day=60).advice is Advice.WAIT

"""Hints on declarations and on what came in: each names its field and the remedy; none comes without need."""

import doctest
from dataclasses import replace
from datetime import timedelta

import pytest

from bandit import hints
from bandit.facts.fold import ArmObservations
from bandit.hints import hints_from, hints_on
from bandit.limits import Limits
from bandit.metric import Direction, Metric, MetricKind
from bandit.policies import EpsilonGreedy, WeightedSplit
from bandit.posteriors.moments import OutcomeMoments
from bandit.posteriors.priors import BetaPrior, NormalInverseGammaPrior
from tests.bandit.builders import declare

CLICK = Metric(name="click", window=timedelta(hours=1), default_value=0.0)
SPEND = Metric(
    name="spend",
    kind=MetricKind.REAL,
    maximum=1_000.0,
    window=timedelta(hours=1),
    prior=NormalInverseGammaPrior(mean=40.0, pseudo_observations=1.0, shape=1.0, scale=2_500.0),
)
FLOORS = Limits(minimum_share=0.05)


def seen(n: int, mean: float, deviation: float = 0.0) -> ArmObservations:
    """Return observations of one arm."""
    return ArmObservations(sums=OutcomeMoments(n=n, mean=mean, centred_squares=n * deviation**2))


def rate(n: int, successes: int) -> ArmObservations:
    """Return yes/no observations of one arm."""
    return ArmObservations(sums=OutcomeMoments.from_successes(n=n, successes=successes))


def test_a_sound_declaration_gets_no_hint() -> None:
    """Windows, floors and priors that fit need no advice, under any policy."""
    split = WeightedSplit(weights={"champion": 1, "challenger": 1})
    assert hints_on(declare(metrics=[CLICK, SPEND], limits=FLOORS)) == []
    assert hints_on(declare(metrics=[CLICK, SPEND], limits=FLOORS, policy=EpsilonGreedy(epsilon=0.1))) == []
    assert hints_on(declare(metrics=[CLICK, SPEND], policy=split)) == []


def test_a_metric_without_a_window_has_no_evidence() -> None:
    """The hint names the metric and what to declare."""
    (hint,) = hints_on(declare(metrics=[replace(CLICK, window=None, default_value=None)], limits=FLOORS))
    assert hint.startswith("click has no window, so there is no evidence on it: ")


def test_events_that_do_harm_are_looked_for_without_a_window() -> None:
    """Of a guardrail or signal of such events, the hint says that there is evidence of harm."""
    error = Metric(name="error", direction=Direction.MINIMIZE)
    for watched in (replace(error, is_guardrail=True), replace(error, is_signal=True)):
        (hint,) = hints_on(declare(metrics=[CLICK, watched], limits=FLOORS))
        assert hint.startswith("error has no window, so there is no evidence on it but that of harm: ")


def test_floors_that_make_evidence_impossible_are_named() -> None:
    """A policy that learns may starve an arm without a floor, and a split may give it nothing at all."""
    (hint,) = hints_on(declare(metrics=[CLICK]))
    assert hint.startswith(
        "limits.minimum_share: without one the policy may leave champion or challenger with"
    )
    assert "minimum_share = 0.05" in hint
    idle = declare(metrics=[CLICK], policy=WeightedSplit(weights={"champion": 1}))
    (hint,) = hints_on(idle)
    assert hint.startswith("policy.static_split.weights: challenger has a weight of 0 and gets no traffic")
    assert hints_on(declare(arms=["champion"], metrics=[CLICK])) == []


def test_a_range_of_more_than_thirty_deviations_asks_for_a_cap() -> None:
    """By the prior before the start, and by what came in after it."""
    wide = replace(SPEND, maximum=1_600.0)
    (hint,) = hints_on(declare(metrics=[CLICK, wide], limits=FLOORS))
    assert hint.startswith(
        "spend: its range of 0 to 1600 is 32 times the standard deviation that its prior expects"
    )
    assert "maximum = 540 and clip = true" in hint
    (hint,) = hints_from(
        wide, {"champion": seen(500, 40.0, 50.0), "challenger": seen(500, 41.0, 52.0)}, {}, steers=True
    )
    assert "31 times the standard deviation that what comes in has" in hint
    assert hints_from(SPEND, {"champion": seen(500, 40.0, 50.0)}, {}, steers=True) == []
    (hint,) = hints_from(SPEND, {"champion": seen(500, 40.0), "challenger": seen(500, 40.0)}, {}, steers=True)
    assert "every value so far is 40" in hint


def test_a_prior_in_the_middle_of_the_range_is_told() -> None:
    """A real-valued metric that steers and has no prior starts at the middle of its range."""
    bare = replace(SPEND, prior=None)
    assert hints_on(declare(metrics=[CLICK, bare], limits=FLOORS)) == []
    (hint,) = hints_on(declare(metrics=[bare], limits=FLOORS))
    assert hint.startswith("spend has no prior, so belief starts at 500, the middle of its range")


@pytest.mark.parametrize(
    ("metric", "observed", "is_far"),
    [
        (CLICK, rate(1_000, 10), False),
        (CLICK, rate(1_000, 2), False),
        (replace(CLICK, prior=BetaPrior(50.0, 50.0)), rate(1_000, 10), True),
        (replace(CLICK, prior=BetaPrior(50.0, 50.0)), rate(10, 5), False),
        (replace(CLICK, prior=BetaPrior(1.0, 99.0)), rate(1_000, 10), False),
        (replace(SPEND, prior=None), seen(100, 5.0, 40.0), True),
        (SPEND, seen(100, 5.0, 40.0), False),
    ],
)
def test_a_prior_is_far_if_it_moves_a_mean_by_more_than_chance_does(
    metric: Metric,
    observed: ArmObservations,
    is_far: bool,  # noqa: FBT001 - drawn
) -> None:
    """A weak prior, a near one, and few observations are no reason for a hint."""
    found = [
        hint for hint in hints_from(metric, {"v1": observed}, {}, steers=True) if "the prior is far" in hint
    ]
    assert len(found) == is_far
    assert all(hint.startswith(f"{metric.name}: ") and "belief about v1 from " in hint for hint in found)


def test_the_examples_in_docstrings_hold() -> None:
    """Every docstring example holds."""
    assert doctest.testmod(hints).failed == 0


def test_a_prior_taken_from_another_arm_can_be_far() -> None:
    """It can't be declared anew, so the hint says how much the arm has to outweigh."""
    own, taken = rate(400, 80), OutcomeMoments.from_successes(n=1_000, successes=10)
    (hint,) = hints_from(CLICK, {"v2": own}, {"v2": taken}, steers=True)
    assert "the prior that it took from another arm is far from what comes in" in hint
    assert "belief about v2 from 0.2 to 0.06" in hint
    assert hint.endswith("It is worth 1,000 outcomes, which v2 has to outweigh with its own.")
    assert hints_from(CLICK, {"v2": own}, {}, steers=True) == []

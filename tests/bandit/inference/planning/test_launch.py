"""Forecasts of launches beside simulations that share no code with them, and beside published figures."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from math import inf, isfinite, log, sqrt

import numpy as np
import pytest

from bandit.inference.data.table import EvidenceTable, ValueScale
from bandit.inference.planning.launch import (
    LaunchSetting,
    _Forecaster,
    forecast_launch,
    hypotheses,
    visible_loss,
)
from bandit.inference.planning.launch_forecast import HARMS, Guardrail, LaunchForecast
from bandit.inference.planning.launch_runs import Course, LaunchRuns, chances_of_best, simulate
from bandit.inference.planning.power import Plan
from bandit.inference.planning.walk import Surroundings, walk
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.comparison import Comparison, compare
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.odds import harm_process
from bandit.inference.sequential.results import EProcess
from bandit.launch.plan import Holdback, LaunchPlan, Stage, StageKind
from bandit.metric import Direction, Metric
from bandit.posteriors import BetaPosterior
from bandit.posteriors.best_arm import best_arm_probabilities

DAY = timedelta(days=1)
ERROR = Metric(name="error", direction=Direction.MINIMIZE, is_guardrail=True, window=timedelta())
RAMP = Stage(kind=StageKind.RAMP, shares=(0.05, 0.1, 0.2, 0.3, 0.4))
GOAL = Plan(
    base_mean=0.05,
    lift=0.1,
    decisions_per_day=4_000,
    champion_floor=0.2,
    challenger_floor=0.05,
    rest=0.75,
    n_compared=hypotheses(1),
)
SETTING = LaunchSetting(
    plan=LaunchPlan(
        stages=(RAMP, Stage(kind=StageKind.BANDIT, maximum_duration=51 * DAY)), holdback=Holdback(share=0.05)
    ),
    goal=GOAL,
    is_yes_no=True,
    window=timedelta(),
    outcomes_per_decision=0.05,
    guardrails=(Guardrail(metric=ERROR, base=0.02),),
    n_guardrails=1,
)
SIGMAS = 5.0
"""Standard errors by which figures may differ: more happens by chance once in two million times."""


@pytest.fixture(scope="module")
def found() -> LaunchForecast:
    """Return the forecast of the launch above."""
    return forecast_of(SETTING)


def forecast_of(setting: LaunchSetting, n_runs: int = 500) -> LaunchForecast:
    """Return the forecast of a setting that breaks no condition."""
    forecast = forecast_launch(setting, n_runs=n_runs)
    assert isinstance(forecast, LaunchForecast)
    return forecast


def tolerance(probability: float, *n_runs: int) -> float:
    """Return how far two simulated rates may lie apart."""
    return SIGMAS * sqrt(max(probability * (1 - probability), 0.01) * sum(1 / n for n in n_runs))


def test_bounds_follow_from_the_levels_of_the_hypotheses(found: LaunchForecast) -> None:
    """One challenger has half of what any number of them have together; promotion errs in one direction."""
    assert (found.false_promotion.bound, found.false_promotion.bound_of_all) == (0.0125, 0.025)
    assert (found.false_rollback.bound, found.false_rollback.bound_of_all) == (0.025, 0.05)
    for risk in (found.false_promotion, found.false_rollback):
        assert risk.simulated is not None
        assert risk.simulated <= risk.bound + tolerance(risk.bound, 500)
    five = forecast_of(replace(SETTING, goal=replace(GOAL, n_challengers=5, rest=0.55)), n_runs=20)
    levels = sum(1 / hypotheses(number) for number in range(1, 6))
    assert five.false_rollback.bound == pytest.approx(0.05 * levels)


def test_promotions_are_those_of_a_launch_played_with_the_reports_test(found: LaunchForecast) -> None:
    """The same part is promoted by the end, and half of it by the median day."""
    n_runs = 80
    days = np.array([played(np.random.default_rng(seed)) for seed in range(n_runs)])
    promotion = found.promotion
    assert promotion is not None
    assert promotion.earliest == 19.0
    assert abs(np.isfinite(days).mean() - promotion.probability) <= tolerance(
        promotion.probability, n_runs, 500
    )
    slack = tolerance(0.5, n_runs, 500)
    assert (days <= promotion.day).mean() >= 0.5 - slack
    assert (days < promotion.day).mean() <= 0.5 + slack


@pytest.mark.parametrize(
    ("lift", "floors", "probability", "day"),
    [
        (0.05, (0.2, 0.05), 0.19, inf),
        (0.05, (0.5, 0.5), 0.29, inf),
        (0.1, (0.2, 0.05), 0.89, 35.0),
        (0.1, (0.5, 0.5), 0.97, 28.0),
    ],
)
def test_promotions_are_as_frequent_as_published(
    lift: float, floors: tuple[float, float], probability: float, day: float
) -> None:
    """Within 8 weeks at 4,000 a day, for a comparison that has the error rate to itself (1,000 runs)."""
    goal = replace(
        GOAL, lift=lift, champion_floor=floors[0], challenger_floor=floors[1], rest=1 - sum(floors)
    )
    course = _Forecaster(replace(SETTING, goal=goal), 1, 500, lambda _done, _total: None)
    days = simulate(course.course(), 500, np.random.default_rng(2)).promoted_on(log(2 / 0.05))
    assert abs(np.isfinite(days).mean() - probability) <= tolerance(probability, 500, 1_000)
    if isfinite(day):
        assert abs(np.quantile(days, 0.5, method="inverted_cdf") - day) <= 7


def test_a_promotion_needs_evidence_at_a_cycles_end_and_now_and_belief_and_time() -> None:
    """Half weeks of a bandit stage that lasts four weeks, at least two; days are those of the looks."""
    yes, no = 9.0, 0.0
    rows = {
        14.0: (no, no, no, yes, yes, yes, yes, yes),
        inf: (no, yes, yes, no, yes, no, no, no),  # at the end of no cycle from the second on
        24.5: (no, no, no, yes, no, no, yes, no),  # shown on day 14, and again; believed from day 21 on
    }
    best = np.array([[0.99] * 8, [0.99] * 8, [0.5] * 5 + [0.99] * 3])
    [step] = walk(
        LaunchPlan(stages=(Stage(kind=StageKind.BANDIT),)),
        Surroundings(decisions_per_day=1.0, outcomes_per_decision=1.0, reserve=0.2, floor=0.05),
    )
    course = Course(
        steps=(step,),
        longest=28.0,
        cycle=7.0,
        minimum_cycles=2,
        decisions_per_day=1.0,
        window=0.0,
        means=(0.1, 0.1),
        variances=(0.09, 0.09),
        is_less_better=False,
        is_yes_no=True,
        reserve=0.2,
        floor=0.05,
        maximum_share=1.0,
        design=Design(),
    )
    ends = np.linspace(3.5, 28.0, 8)
    runs = LaunchRuns(
        ends=ends,
        shares=np.zeros((3, 8, 2)),
        evidence=np.array(list(rows.values())),
        best=best,
        course=course,
    )
    assert runs.promoted_on(5.0).tolist() == list(rows)
    late = replace(runs, course=replace(course, window=3.5))
    assert late.promoted_on(5.0).tolist() == [17.5, inf, 28.0]
    later = replace(runs, course=replace(course, window=7.0))
    assert later.promoted_on(5.0).tolist() == [21.0, inf, inf]
    doubtful = replace(runs, best=np.full((3, 8), 0.9))
    assert doubtful.promoted_on(5.0).tolist() == [inf] * 3


def played(rng: np.random.Generator) -> float:
    """Play one launch in epochs of a third of a day, by exact beliefs; return the day of the promotion."""
    n_days, looks = 56, 3
    shares, n, sums = (np.zeros((n_days * looks, 2)) for _ in range(3))
    best = np.zeros(n_days * looks)
    for row in range(n_days * looks):
        day = row // looks
        share = RAMP.shares[day] if day < len(RAMP.shares) else 0.05 + 0.75 * best[row - 1]
        shares[row] = 1 - share, share
        n[row] = rng.multinomial(4_000 // looks, shares[row])
        sums[row] = rng.binomial(n[row].astype(int), GOAL.means)
        total, won = n[: row + 1].sum(axis=0), sums[: row + 1].sum(axis=0)
        beliefs = [BetaPosterior(1 + won[arm], 1 + total[arm] - won[arm]) for arm in (0, 1)]
        best[row] = best_arm_probabilities(beliefs)[1]
    table = EvidenceTable(arms=(0, 1), shares=shares, n=n, sums=sums, squares=sums, scale=ValueScale())
    compared = compare(table, 1, 0, Design(n_challengers=hypotheses(1)))
    assert isinstance(compared, Comparison)
    level = Design(n_challengers=hypotheses(1)).log_level
    values = dict(zip(compared.rows, compared.better.log_values, strict=True))
    shown = [cycle * 7 for cycle in range(2, 9) if values[cycle * 7 * looks - 1] >= level]
    for row in range(19 * looks - 1, n_days * looks):
        day_end = (row + 1) / looks
        if values[row] >= level and best[row] >= 0.95 and any(day <= day_end for day in shown):
            return day_end
    return inf


def test_harm_is_found_when_the_guardrails_own_process_finds_it(found: LaunchForecast) -> None:
    """By the median day half of the launches that are played event by event have found it."""
    n_runs = 150
    [guardrail] = found.guardrails
    assert [harm.times for harm in guardrail.harms] == list(HARMS)
    for harm in guardrail.harms[1:]:
        rng = np.random.default_rng(round(100 * harm.times))
        days = np.array([harmed(harm.times, harm.day, rng) for _ in range(n_runs)])
        assert abs((days <= harm.day).mean() - 0.5) <= tolerance(0.5, n_runs, 500) + LATE
        assert harm.decisions == pytest.approx(4_000 * harm.day)


LATE = 0.05
"""A row holds 3 % of the events before it, so a median is late by half of that: a 5th percentile at most."""


def harmed(times: float, until: float, rng: np.random.Generator) -> float:
    """Play the ramp in rows of a hundredth of the days given; return the day on which harm is found."""
    step = until / 100
    starts = np.arange(200) * step
    steps = np.minimum((starts + step / 2).astype(int), len(RAMP.shares) - 1)
    share = np.array(RAMP.shares)[steps]
    shares = np.stack([1 - share, share], axis=1)
    n = rng.poisson(4_000 * step * shares)
    sums = rng.binomial(n, [0.02, 0.02 * times]).astype(float)
    scale = ValueScale(direction=Direction.MINIMIZE)
    table = EvidenceTable(arms=(0, 1), shares=shares, n=n.astype(float), sums=sums, squares=sums, scale=scale)
    process = harm_process(table, 1, 0)
    assert isinstance(process, EProcess)
    fired = np.flatnonzero(np.array(process.log_values) >= log(hypotheses(1) / 0.05))
    return float(starts[fired[0]] + step) if len(fired) else inf


def test_a_launch_with_a_shadow_stage_is_forecast_with_its_pairs() -> None:
    """Harm is found in shadow, and everything else takes a day longer."""
    shadow = replace(ERROR, is_shadow=True)
    plan = replace(
        SETTING.plan, stages=(Stage(kind=StageKind.SHADOW, minimum_duration=DAY), *SETTING.plan.stages)
    )
    guardrails = (Guardrail(metric=shadow, base=0.02),)
    found = forecast_of(replace(SETTING, plan=plan, guardrails=guardrails), n_runs=50)
    assert found.steps[0].step.label == "shadow"
    assert found.promotion is not None
    assert found.promotion.earliest == 20.0
    assert found.guardrails[0].harms[-1].day < 0.5


def test_where_more_is_better_harm_is_fewer_events() -> None:
    """A guardrail on answers fires when they become fewer."""
    answered = Metric(name="answered", is_guardrail=True, window=timedelta(hours=1), default_value=0.0)
    setting = replace(SETTING, guardrails=(Guardrail(metric=answered, base=0.9),))
    [guardrail] = forecast_of(setting, n_runs=40).guardrails
    days = [harm.day for harm in guardrail.harms]
    assert days == sorted(days, reverse=True)
    assert guardrail.harms[-1].probability == 1.0


def test_later_challengers_have_a_stricter_level() -> None:
    """The last of three is taken out later than the first."""
    setting = replace(SETTING, goal=replace(GOAL, n_challengers=3, rest=0.65))
    [guardrail] = forecast_of(setting, n_runs=200).guardrails
    assert all(harm.day < harm.last_day for harm in guardrail.harms[1:])


def test_larger_floors_and_more_traffic_promote_more() -> None:
    """The even split promotes more than 20/5, and ten times the traffic nearly always, as soon as it may."""
    even = replace(GOAL, champion_floor=0.5, challenger_floor=0.5, rest=0.0)
    busy = replace(GOAL, decisions_per_day=40_000)
    declared, split, often = (
        forecast_of(replace(SETTING, goal=goal, guardrails=()), n_runs=300).promotion
        for goal in (GOAL, even, busy)
    )
    assert declared is not None
    assert split is not None
    assert often is not None
    assert declared.probability < split.probability
    assert (often.probability, often.day) == (1.0, often.earliest)


def test_a_window_is_waited_for() -> None:
    """No promotion before the outcomes of the first look count; without a window there is none at all."""
    setting = replace(SETTING, guardrails=())
    weekly = forecast_of(replace(setting, window=7 * DAY), n_runs=50).promotion
    assert weekly is not None
    assert weekly.earliest == 26.0
    assert weekly.day >= 26.0
    assert forecast_of(replace(setting, window=None), n_runs=2).promotion is None


def test_a_step_that_never_ends_leaves_the_guardrails_of_the_steps_before() -> None:
    """Nothing is promoted, but harm is found where there is traffic."""
    asking = replace(RAMP, shares=(0.3,), minimum_outcomes=10)
    plan = replace(SETTING.plan, stages=(asking, SETTING.plan.stages[-1]))
    found = forecast_of(replace(SETTING, plan=plan, outcomes_per_decision=0.0), n_runs=100)
    assert found.promotion is None
    assert isfinite(found.guardrails[0].harms[-1].day)


def test_amounts_are_planned_by_bounded_scores() -> None:
    """With the variance of a yes/no metric of that mean they take longer, as their test does."""
    goal = replace(GOAL, base_mean=0.5, lift=0.1, variance=0.01)
    setting = replace(SETTING, goal=goal, is_yes_no=False, guardrails=())
    found = forecast_of(setting, n_runs=50)
    assert found.promotion is not None
    assert found.promotion.probability == 1.0


def test_the_loss_that_a_holdback_sees_shrinks_with_traffic_and_time() -> None:
    """Published: at 5 % of 40,000 a day, a loss of 10 % is found with .41 in a week and .99 in four."""
    busy = replace(SETTING, goal=replace(GOAL, decisions_per_day=40_000))
    week, month = (visible_loss(busy, 0.05, days, is_sure=False) for days in (7.0, 28.0))
    assert month < 0.1 < week < 0.15
    assert visible_loss(SETTING, 0.05, 7.0, is_sure=False) > 0.2
    assert visible_loss(SETTING, 0.05, 7.0, is_sure=True) > visible_loss(SETTING, 0.05, 7.0, is_sure=False)
    assert visible_loss(SETTING, 0.05, 0.001, is_sure=False) == inf


def test_a_condition_that_is_broken_is_returned() -> None:
    """No lift, no forecast."""
    assert forecast_launch(replace(SETTING, goal=replace(GOAL, lift=0.0))) == CannotSay(Reason.NO_LIFT)


def test_beliefs_of_several_arms_are_those_of_the_library() -> None:
    """The normal approximation is within a hundredth of exact beta beliefs at 50 events."""
    won, total = np.array([[50.0, 62.0, 58.0]]), np.array([[1_000.0] * 3])
    mean = (won + 1) / (total + 2)
    normal = chances_of_best(mean, np.sqrt(mean * (1 - mean) / (total + 3)))[0]
    exact = best_arm_probabilities([BetaPosterior(1 + w, 1 + 1_000 - w) for w in won[0]])
    assert normal == pytest.approx(exact, abs=0.01)


def test_progress_counts_up_to_all_simulations() -> None:
    """Each simulation is reported once."""
    seen: list[tuple[int, int]] = []
    forecast_launch(SETTING, n_runs=2, report=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(1, 8))
    assert rising(seen)


def rising(seen: Sequence[tuple[int, int]]) -> bool:
    """Whether the number of all simulations stays the same."""
    return all(one[1] == other[1] == 7 for one, other in pairwise(seen))

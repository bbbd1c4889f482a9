"""Plans for the floors of an experiment, and for others to compare with."""

from dataclasses import dataclass, replace
from math import fsum
from typing import Final

from bandit.experiment import AnalysisUnit, Experiment
from bandit.inference.data.floors import declared_floors
from bandit.inference.planning.launch import hypotheses
from bandit.inference.planning.power import Plan, forecast, helpful_minimum_share
from bandit.inference.reasons import CannotSay, Reason
from bandit.metric import Direction
from bandit.number_text import beside, exact
from bandit.validation import InvalidExperimentError, require_valid
from server.cli.experiment_file.decode import Problem
from server.cli.experiment_file.file import ExperimentFileError, file_label, read_experiment
from server.rpc.messages.experiment import to_experiment
from server.services.errors import InvalidInputError

COMPARED: Final = (("20/5", 0.2, 0.05), ("5/5", 0.05, 0.05), ("1/1", 0.01, 0.01))
"""Floors that are always shown next to the declared ones: the champion's, and each challenger's."""

_NO_SALT: Final = bytes(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """An experiment that has not started.

    Attributes:
        metric: The reward metric's name.
        unit: What evidence counts.
        is_yes_no: Whether its outcomes are 0 or 1.
        is_less_better: Whether less of it is better.
        minimum: Its smallest value.
        width: Its largest value less its smallest.
        champion: The champion's floor, in [0, 1].
        challenger: The smallest floor of a challenger, in [0, 1].
        rest: One less the sum of all floors: what the policy distributes.
        n_challengers: At least 1.
        n_compared: Challengers that share the error rate, where they are not those; in a launch, what the
            level of its first comparison is divided by.
    """

    metric: str
    unit: AnalysisUnit
    is_yes_no: bool
    is_less_better: bool
    minimum: float
    width: float
    champion: float
    challenger: float
    rest: float
    n_challengers: int
    n_compared: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """What a plan is made for, in the metric's unit.

    Attributes:
        decisions_per_day: Decisions a day, over all arms, or units where evidence counts units.
        base: The champion's mean of the reward metric.
        lift: The relative lift.
        variance: Variance of one outcome; None for a yes/no metric.
    """

    decisions_per_day: float
    base: float
    lift: float
    variance: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The days until a lift is seen at some floors; infinite if it is never seen.

    Attributes:
        name: Name of the floors.
        champion: The champion's expected share of the decisions until `days_at_half`.
        challenger: The same of the challenger that has the lift.
        days_at_half: Until it is seen with a chance of about one half.
        days_at_most: Until it is seen with a chance of about four fifths.
        minimum_share: A minimum share of every arm that brings the lift within reach, where it is out of it
            because the losing arm gets too small a share; None otherwise.
    """

    name: str
    champion: float
    challenger: float
    days_at_half: float
    days_at_most: float
    minimum_share: float | None


def from_file(file: str) -> tuple[Planned, Experiment]:
    """Return what an experiment file declares, for plans and as it is.

    Raises:
        ExperimentFileError: The file has no valid experiment, or one without a challenger.
    """
    message = read_experiment(file)
    try:
        experiment = to_experiment(message, _NO_SALT)
        require_valid(experiment)
    except (InvalidInputError, InvalidExperimentError) as error:
        problems = [Problem(path=each.field, text=each.description) for each in error.violations]
        raise ExperimentFileError(file_label(file), problems) from error
    return _planned(experiment, file_label(file)), experiment


def _planned(experiment: Experiment, label: str) -> Planned:
    floors = declared_floors(experiment)
    challengers = [floor for arm, floor in floors.items() if arm != experiment.champion]
    if not challengers or experiment.champion not in floors:
        text = "must have a champion and a challenger in service, to compare them"
        raise ExperimentFileError(label, [Problem(path="arms", text=text)])
    reward = experiment.metric(experiment.reward_metric)
    return Planned(
        metric=reward.name,
        unit=experiment.analysis_unit,
        is_yes_no=reward.is_binary,
        is_less_better=reward.direction is Direction.MINIMIZE,
        minimum=reward.minimum,
        width=reward.maximum - reward.minimum,
        champion=floors[experiment.champion],
        challenger=min(challengers),
        rest=1 - fsum(floors.values()),
        n_challengers=len(challengers),
        n_compared=None if experiment.launch is None else hypotheses(1),
    )


def from_flags(n_arms: int, champion: float | None, challenger: float | None) -> Planned:
    """Return a yes/no experiment of `n_arms` arms; a floor of None takes an even part of the rest.

    Raises:
        ValueError: The floors add up to more than 1.
    """
    n_challengers = n_arms - 1
    if champion is None:
        champion = 1 / n_arms if challenger is None else 1 - n_challengers * challenger
    if challenger is None:
        challenger = (1 - champion) / n_challengers
    if champion < 0 or champion + n_challengers * challenger > 1 + 1e-9:
        raise ValueError("the floors of the champion and of all challengers add up to more than 1")
    return Planned(
        metric="a yes/no metric",
        unit=AnalysisUnit.DECISION,
        is_yes_no=True,
        is_less_better=False,
        minimum=0.0,
        width=1.0,
        champion=champion,
        challenger=challenger,
        rest=1 - champion - n_challengers * challenger,
        n_challengers=n_challengers,
    )


def plan_rows(planned: Planned, numbers: Numbers) -> list[Row]:
    """Return a row for the declared floors, then for those of `COMPARED`, then for an even split.

    Raises:
        ValueError: A condition of a plan is broken, such as a base outside the metric's range; or the
            variance is missing or out of range.
    """
    variance = numbers.variance
    if variance is None and not planned.is_yes_no:
        raise ValueError(f"--variance is required, because {planned.metric} is not yes/no")
    if variance is not None and not 0 < variance <= planned.width**2 / 4:
        raise ValueError(f"--variance must be in (0, {exact(planned.width**2 / 4)}] for this metric's range")
    even = 1 / (planned.n_challengers + 1)
    rests = [1 - champion - planned.n_challengers * challenger for _, champion, challenger in COMPARED]
    floors = [
        ("declared", planned.champion, planned.challenger, planned.rest),
        *((*compared, rest) for compared, rest in zip(COMPARED, rests, strict=True) if rest >= 0),
        ("even split", even, even, 0.0),
    ]
    rows = []
    for name, champion, challenger, rest in floors:
        plan = declared_plan(planned, numbers)
        plan = replace(plan, champion_floor=champion, challenger_floor=challenger, rest=max(rest, 0.0))
        found = forecast(plan, is_yes_no=planned.is_yes_no)
        if isinstance(found, CannotSay):
            raise ValueError(_refusal(found, planned, numbers.base, numbers.lift))  # noqa: TRY004 - values are at fault
        rows.append(
            Row(
                name=name,
                champion=found.champion_share,
                challenger=found.challenger_share,
                days_at_half=found.days_at_half,
                days_at_most=found.days_at_most,
                minimum_share=helpful_minimum_share(plan, is_yes_no=planned.is_yes_no),
            )
        )
    return rows


def declared_plan(planned: Planned, numbers: Numbers) -> Plan:
    """Return the plan at the declared floors."""
    return Plan(
        base_mean=(numbers.base - planned.minimum) / planned.width,
        lift=numbers.lift,
        decisions_per_day=numbers.decisions_per_day,
        champion_floor=planned.champion,
        challenger_floor=planned.challenger,
        rest=max(planned.rest, 0.0),
        is_less_better=planned.is_less_better,
        variance=None if planned.is_yes_no else (numbers.variance or 0.0) / planned.width**2,
        start=planned.minimum / planned.width,
        n_challengers=planned.n_challengers,
        n_compared=planned.n_compared,
    )


def _refusal(missing: CannotSay, planned: Planned, base: float, lift: float) -> str:
    """Return the condition that is broken, in terms of the flags."""
    mean, maximum = base + lift * abs(base), planned.minimum + planned.width
    end = planned.minimum if mean < planned.minimum else maximum
    values = f"the metric's range, {planned.minimum:.12g} to {maximum:.12g}"
    texts = {
        Reason.NO_TRAFFIC: "--decisions-per-day must be positive and finite",
        Reason.NO_LIFT: "--lift must not be 0",
        Reason.MEAN_OUT_OF_RANGE: f"--base-rate must lie within {values}, got {exact(base)}",
        Reason.LIFT_OUT_OF_RANGE: (
            f"--lift takes the mean to {beside(mean, end)}, outside {values}: ask for a smaller one"
        ),
        Reason.CHAMPION_AT_ZERO: (
            "--base-rate is 0, and so is every lift relative to it: give the mean that you expect"
        ),
        Reason.CHAMPION_WITHOUT_PLANNED_SHARE: "the champion gets no share: declare a minimum share for it",
        Reason.CHALLENGER_WITHOUT_PLANNED_SHARE: (
            "a challenger gets no share: declare a minimum share for it"
        ),
    }
    return texts.get(missing.reason, missing.explanation)

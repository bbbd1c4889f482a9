"""The launch that an experiment file plans: what is forecast, from the file and the traffic."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite

from bandit.experiment import Experiment
from bandit.inference.planning.launch import LaunchSetting, forecast_launch
from bandit.inference.planning.launch_forecast import (
    Guardrail,
    GuardrailForecast,
    HarmForecast,
    HoldbackForecast,
    LaunchForecast,
    PromotionForecast,
    Risk,
)
from bandit.inference.planning.power import Plan
from bandit.inference.planning.walk import StepTime
from bandit.inference.reasons import CannotSay
from bandit.metric import Metric
from bandit.number_text import exact
from server.cli.commands.plan.launch_warnings import Remark, notes_on, warnings_on
from server.suggestions import did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLaunch:
    """A launch that has not started, with its forecast.

    Attributes:
        setting: What was forecast for.
        forecast: The forecast.
        challengers: Ids of the challengers, in the order of the file.
        warnings: What keeps the launch from a verdict in time, and what would help.
        notes: What the forecast leaves out.
    """

    setting: LaunchSetting
    forecast: LaunchForecast
    challengers: tuple[str, ...]
    warnings: tuple[Remark, ...]
    notes: tuple[Remark, ...]


def plan_launch(
    experiment: Experiment,
    goal: Plan,
    guardrail_rates: Mapping[str, float],
    report: Callable[[int, int], None],
) -> PlannedLaunch | None:
    """Forecast an experiment's launch; None if it has none.

    Args:
        experiment: The experiment.
        goal: Traffic, base and lift of the reward metric at the declared floors.
        guardrail_rates: Name of a guardrail to the champion's rate.
        report: Is called with how many of how many simulations are done.

    Raises:
        ValueError: A rate is given for what is no yes/no guardrail, or is out of range.
    """
    plan = experiment.launch
    if plan is None:
        if guardrail_rates:
            raise ValueError("--guardrail-rate needs a file with a launch")
        return None
    guardrails = _guardrails(experiment, guardrail_rates)
    reward = experiment.metric(experiment.reward_metric)
    setting = LaunchSetting(
        plan=plan,
        goal=goal,
        is_yes_no=reward.is_binary,
        window=reward.window,
        outcomes_per_decision=_posted(reward, goal.base_mean),
        guardrails=guardrails,
        n_guardrails=sum(metric.is_guardrail for metric in experiment.metrics),
        maximum_share=experiment.limits.maximum_share,
        maximum_step_per_hour=experiment.limits.maximum_step_per_hour,
    )
    found = forecast_launch(setting, report=report)
    if isinstance(found, CannotSay):
        raise ValueError(found.explanation)  # noqa: TRY004 - values are at fault
    return PlannedLaunch(
        setting=setting,
        forecast=found,
        challengers=tuple(
            arm.id for arm in experiment.arms if arm.id != experiment.champion and not arm.is_taken_out
        ),
        warnings=tuple(warnings_on(setting, found)),
        notes=tuple(notes_on(experiment, setting)),
    )


def _guardrails(experiment: Experiment, rates: Mapping[str, float]) -> tuple[Guardrail, ...]:
    known = {metric.name: metric for metric in experiment.metrics if metric.is_guardrail}
    for name, rate in rates.items():
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise ValueError(
                f"--guardrail-rate names {name!r}, which is no guardrail; guardrails: {listed}"
                f"{did_you_mean(name, known)}"
            )
        if not known[name].is_binary:
            raise ValueError(f"--guardrail-rate: {name} is not yes/no, so it has no rate")
        if not 0 < rate < 1:
            raise ValueError(f"--guardrail-rate: the rate of {name} must be in (0, 1), got {exact(rate)}")
    return tuple(Guardrail(metric=known[name], base=rate) for name, rate in rates.items())


def _posted(reward: Metric, mean: float) -> float:
    """Return the outcomes that callers post for a decision, if they leave out what silence says anyway."""
    if not reward.is_binary or reward.default_value is None:
        return 1.0
    return mean if reward.default_value == 0 else 1 - mean


def launch_document(planned: PlannedLaunch) -> dict[str, object]:
    """Return the forecast for JSON: days from the start of the launch; None for what never happens."""
    found = planned.forecast
    return {
        "challengers": list(planned.challengers),
        "runs": found.n_runs,
        "steps": [_step(step) for step in found.steps],
        "promotion": None if found.promotion is None else _promotion(found.promotion),
        "false_promotion": _risk(found.false_promotion),
        "false_rollback": _risk(found.false_rollback),
        "guardrails": [_guardrail(each) for each in found.guardrails],
        "holdback": None if found.holdback is None else _holdback(found.holdback),
        "warnings": [{"code": each.code, "text": each.text} for each in planned.warnings],
        "notes": [{"code": each.code, "text": each.text} for each in planned.notes],
    }


def _promotion(promotion: PromotionForecast) -> dict[str, object]:
    return {
        "earliest_day": promotion.earliest,
        "end_day": promotion.ends,
        "probability": promotion.probability,
        "median_day": _finite(promotion.day),
        "quartile_days": [_finite(day) for day in promotion.quartiles],
    }


def _risk(risk: Risk) -> dict[str, object]:
    return {"bound": risk.bound, "bound_of_any_number": risk.bound_of_all, "simulated": risk.simulated}


def _guardrail(found: GuardrailForecast) -> dict[str, object]:
    return {
        "metric": found.guardrail.metric.name,
        "base_rate": found.guardrail.base,
        "false_rollback": found.false,
        "harms": [_harm(harm) for harm in found.harms],
    }


def _holdback(holdback: HoldbackForecast) -> dict[str, object]:
    return {
        "days": holdback.days,
        "loss_at_half": _finite(holdback.at_half),
        "loss_at_most": _finite(holdback.at_most),
    }


def _step(step: StepTime) -> dict[str, object]:
    return {
        "step": step.step.label,
        "share": step.share,
        "champion_share": step.champion_share,
        "starts_day": _finite(step.starts),
        "least_days": step.least,
        "typical_days": _finite(step.typical),
        "most_days": _finite(step.most),
        "waits_for": step.waits_for,
        "beside": step.n_beside,
    }


def _harm(harm: HarmForecast) -> dict[str, object]:
    return {
        "times": harm.times,
        "probability": harm.probability,
        "median_day": _finite(harm.day),
        "median_decisions": _finite(harm.decisions),
        "median_day_of_last": _finite(harm.last_day),
    }


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None

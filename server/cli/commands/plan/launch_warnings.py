"""Warnings about a planned launch: what gets no verdict in time at this traffic, and what would."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from math import ceil, inf, isfinite
from typing import Final

from bandit.experiment import Experiment
from bandit.inference.planning.launch import LaunchSetting
from bandit.inference.planning.launch_forecast import GuardrailForecast, LaunchForecast, PromotionForecast
from bandit.inference.planning.power import Forecast, Plan, forecast
from bandit.inference.planning.walk import MOST_CYCLES, StepTime
from bandit.launch.plan import LaunchPlan, Mode
from server.wording import days_text, percent, signed_percent

LIKELY: Final = 0.8
"""A promotion that is less probable than this is warned of."""

LONGEST_ADVISED: Final = 366.0
"""A longer stage than a year, in days, is no advice."""

_DAY: Final = timedelta(days=1)
_FLOORS: Final = ((0.2, 0.05), (0.2, 0.2), (0.3, 0.3))
_DOUBLED: Final = 2.0
_HALF: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """One thing to know about a plan.

    Attributes:
        code: Which one it is, for machines.
        text: The sentence.
    """

    code: str
    text: str


def warnings_on(setting: LaunchSetting, found: LaunchForecast) -> Iterator[Remark]:
    """Yield the warnings, in the order of the launch."""
    for step in found.steps:
        yield from _on_step(step, setting)
    yield from _on_promotion(setting, found)
    for guardrail in found.guardrails:
        yield from _on_guardrail(guardrail, found)
    holdback = found.holdback
    if holdback is not None and holdback.at_half > _HALF:
        sees = (
            "sees no loss" if holdback.at_half == inf else f"sees no loss below {percent(holdback.at_half)}"
        )
        text = f"the holdback {sees} within {days_text(holdback.days)}: give it more cycles or a larger share"
        yield Remark(code="blind_holdback", text=text)


def notes_on(experiment: Experiment, setting: LaunchSetting) -> Iterator[Remark]:
    """Yield what the forecast leaves out."""
    given = {each.metric.name for each in setting.guardrails}
    for metric in experiment.metrics:
        if metric.is_guardrail and metric.name not in given:
            text = f"give --guardrail-rate {metric.name}=RATE to see when it takes a challenger out"
            if not metric.is_binary:
                text = "it is not yes/no, so when it takes a challenger out is not simulated"
            yield Remark(code="guardrail_left_out", text=f"{metric.name}: {text}")
    if setting.plan.mode is Mode.RECOMMEND:
        text = 'in mode "recommend" people take the steps: their time comes on top'
        yield Remark(code="people_take_steps", text=text)
    approved = [str(stage.kind) for stage in setting.plan.stages if stage.approval]
    if approved:
        text = f"the time that people take to approve comes on top: {', '.join(approved)}"
        yield Remark(code="approvals", text=text)


def _on_step(step: StepTime, setting: LaunchSetting) -> Iterator[Remark]:
    label, others = step.step.label, setting.goal.n_challengers - 1
    if not isfinite(step.starts):
        return
    if not isfinite(step.typical):
        text = f"{label}: {step.waits_for} is never met, because there are no such decisions or outcomes"
        yield Remark(code="endless_step", text=text)
    elif step.typical > step.most:
        text = (
            f"{label} takes {days_text(step.typical)} for its {step.waits_for}, longer than its "
            f"maximum_duration of {days_text(step.most)}: it is held there as inconclusive. {_quicker(step)}"
        )
        yield Remark(code="step_too_short", text=text)
    elif not step.is_bandit and step.typical > max(step.least, MOST_CYCLES * setting.plan.cycle / _DAY):
        text = (
            f"{label} takes {days_text(step.typical)} for its {step.waits_for}: lower it, or raise its share"
        )
        yield Remark(code="slow_step", text=text)
    if step.n_beside < others:
        n_beside = (
            "only one challenger fits" if step.n_beside == 0 else f"only {step.n_beside + 1} challengers fit"
        )
        text = f"{label}: {n_beside} beside the champion; others wait, and their launches take longer"
        yield Remark(code="no_room", text=text)


def _quicker(step: StepTime) -> str:
    remedies = [f"set maximum_duration to {days_text(step.typical)} or more", f"lower {step.waits_for}"]
    share = step.share * step.typical / step.most
    if not step.is_bandit and 0 < share < 1:
        remedies.insert(0, f"raise its share to {100 * share:.2g} %")
    return _listed(remedies)


def _on_promotion(setting: LaunchSetting, found: LaunchForecast) -> Iterator[Remark]:
    goal, promotion = setting.goal, found.promotion
    if setting.window is None:
        text = "the reward metric has no window, so its outcomes are never evidence: declare one"
        yield Remark(code="no_window", text=f"no challenger can be promoted: {text}")
        return
    if goal.lift > 0 if goal.is_less_better else goal.lift < 0:
        text = f"at {signed_percent(goal.lift)} the challenger is worse, so it should never be promoted"
        yield Remark(code="worse", text=f"{text}: give the lift that you hope for")
        return
    if promotion is None:
        return
    if promotion.earliest > promotion.ends:
        window = days_text(setting.window / _DAY)
        text = (
            f"the bandit stage ends after {days_text(promotion.ends)}, and allows a promotion only after "
            f"{days_text(promotion.earliest)}, since outcomes count after their window of {window}: set "
            "a longer maximum_duration"
        )
        yield Remark(code="promotion_too_late", text=text)
    elif promotion.probability < LIKELY:
        yield Remark(code="unlikely_promotion", text=_unlikely(setting, promotion, found.steps[-1].starts))


def _unlikely(setting: LaunchSetting, promotion: PromotionForecast, entry: float) -> str:
    goal, most = setting.goal, promotion.ends - entry
    remedies = []
    floors = _helpful_floors(setting, most)
    if floors is not None:
        champion, challenger = floors
        remedies.append(
            f"floors in the bandit stage, champion_minimum_share = {champion:g} and minimum_share = "
            f"{challenger:g} for the challenger"
        )
    longer = _longer_stage(setting, setting.plan)
    if longer is not None and longer > most:
        remedies.append(f"a bandit stage with a maximum_duration of {days_text(longer)}")
    if not remedies:
        remedies.append("a larger lift, or a metric that shows more, since no floor and no year is enough")
    remedies.append(
        "comparing in shadow what needs no answer to be served, or evaluating offline, which take no traffic "
        "from the champion"
    )
    return (
        f"a challenger with a lift of {signed_percent(goal.lift)} is promoted with a probability of only "
        f"{percent(promotion.probability)} before the bandit stage ends, after {days_text(promotion.ends)}. "
        f"What would help: {'; '.join(remedies)}"
    )


def _helpful_floors(setting: LaunchSetting, most: float) -> tuple[float, float] | None:
    """Return the first larger floors at which four fifths see the lift in time."""
    goal = setting.goal
    for champion, challenger in _FLOORS:
        wanted = max(champion, goal.champion_floor), max(challenger, goal.challenger_floor)
        is_more = wanted != (goal.champion_floor, goal.challenger_floor)
        total = wanted[0] + goal.n_challengers * wanted[1]
        if is_more and total <= 1 and _days_at_most(setting, _at(goal, *wanted)) <= most:
            return wanted
    return None


def _longer_stage(setting: LaunchSetting, plan: LaunchPlan) -> float | None:
    """Return the whole cycles in days after which four fifths see the lift; None if that is over a year."""
    days = _days_at_most(setting, setting.goal)
    cycle = plan.cycle / _DAY
    return cycle * ceil(days / cycle) if days <= LONGEST_ADVISED else None


def _at(goal: Plan, champion: float, challenger: float) -> Plan:
    rest = max(1 - champion - goal.n_challengers * challenger, 0.0)
    return replace(goal, champion_floor=champion, challenger_floor=challenger, rest=rest)


def _days_at_most(setting: LaunchSetting, goal: Plan) -> float:
    found = forecast(goal, is_yes_no=setting.is_yes_no)
    return found.days_at_most if isinstance(found, Forecast) else inf


def _on_guardrail(found: GuardrailForecast, launch: LaunchForecast) -> Iterator[Remark]:
    """Warn where twice the harm is not found before the bandit stage, or at all."""
    doubled = next((harm for harm in found.harms if harm.times == _DOUBLED), None)
    bandit = launch.steps[-1].starts
    name = found.guardrail.metric.name
    if doubled is None:
        return
    help_text = "make the steps before it longer, start at a larger share, or compare it in shadow first"
    if doubled.probability < _HALF:
        text = (
            f"{name}: a challenger that is twice as bad is taken out with a probability of only "
            f"{percent(doubled.probability)} before the launch ends: {help_text}"
        )
        yield Remark(code="blind_guardrail", text=text)
    elif bandit and doubled.day > bandit:
        text = (
            f"{name}: a challenger that is twice as bad is taken out after {days_text(doubled.day)} at even "
            f"odds, when it is in the bandit stage, which begins after {days_text(bandit)}: {help_text}"
        )
        yield Remark(code="slow_guardrail", text=text)


def _listed(remedies: list[str]) -> str:
    text = f"{', '.join(remedies[:-1])}, or {remedies[-1]}"
    return f"{text[:1].upper()}{text[1:]}"

"""The forecast of a launch, for people to read."""

from collections.abc import Iterator
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bandit.inference.planning.launch_forecast import (
    GuardrailForecast,
    HoldbackForecast,
    PromotionForecast,
    Risk,
)
from bandit.inference.planning.walk import StepTime
from server.cli.commands.plan.launch import PlannedLaunch
from server.cli.framework.tables import plain_table, print_table
from server.wording import days_text, percent, signed_percent


def print_launch(console: Console, planned: PlannedLaunch) -> None:
    """Print the steps, the sentences, the guardrails, and the warnings."""
    found, goal = planned.forecast, planned.setting.goal
    first, *others = planned.challengers
    beside = f", beside {', '.join(others)}" if others else ""
    console.print(Text(f"Launch of {first}{beside}", style="bold"))
    console.print()
    print_table(console, _step_table(found.steps))
    console.print()
    for sentence in _sentences(planned):
        console.print(Text(f"· {sentence}"))
    console.print()
    for guardrail in found.guardrails:
        print_table(console, _harm_table(guardrail, has_others=goal.n_challengers > 1))
        console.print()
    for title, remarks in (("Warnings", planned.warnings), ("Left out", planned.notes)):
        if remarks:
            console.print(Text(title, style="bold"))
            for each in remarks:
                console.print(Text(f"· {each.text}"))
            console.print()


def _step_table(steps: tuple[StepTime, ...]) -> Table:
    table = plain_table()
    table.add_column("step", overflow="fold")
    for heading in ("begins after", "takes at least", "at this traffic"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("because of", overflow="fold")
    for step in steps:
        begins = days_text(step.starts) if step.starts else "at once"
        table.add_row(step.step.label, begins, days_text(step.least), days_text(step.typical), step.waits_for)
    return table


def _sentences(planned: PlannedLaunch) -> Iterator[str]:
    found, goal = planned.forecast, planned.setting.goal
    if found.promotion is not None:
        yield _promoted(found.promotion, signed_percent(goal.lift))
    yield f"Promoted although it is no better: {_risk(found.false_promotion, found.n_runs)}."
    if planned.setting.n_guardrails:
        yield f"Taken out although it does no harm: {_risk(found.false_rollback, found.n_runs)}."
    if found.holdback is not None:
        yield _held_back(found.holdback)


def _promoted(promotion: PromotionForecast, lift: str) -> str:
    median = f"in the median after {days_text(promotion.day)}"
    if days_text(promotion.day) == "never":
        median = "in fewer than half of all launches"
    return (
        f"At {lift} it is promoted after {days_text(promotion.earliest)} at the earliest, {median}; with a "
        f"probability of {percent(promotion.probability)} before the bandit stage ends, after "
        f"{days_text(promotion.ends)}."
    )


def _risk(risk: Risk, n_runs: int) -> str:
    text = f"with a probability of at most {percent(risk.bound)}"
    if risk.bound_of_all != risk.bound:
        text += f" ({percent(risk.bound_of_all)} however many challengers are added)"
    if risk.simulated is not None:
        text += f"; the first, in {percent(risk.simulated)} of {n_runs} simulated launches"
    return text


def _held_back(holdback: HoldbackForecast) -> str:
    text = f"The holdback of {days_text(holdback.days)} is a fuse: "
    if holdback.at_half > 1:
        return f"{text}at this traffic it sees no loss."
    seen = f"it sees a loss of {percent(holdback.at_half)} at even odds"
    if holdback.at_most <= 1:
        seen += f", and of {percent(holdback.at_most)} with four fifths"
    return f"{text}{seen}, and no smaller one."


def _harm_table(found: GuardrailForecast, *, has_others: bool) -> Table:
    guardrail = found.guardrail
    table = plain_table(f"Guardrail {guardrail.metric.name}, the champion at {100 * guardrail.base:.4g} %")
    headings = ["times worse", "taken out after", "decisions", "before the end"]
    if has_others:
        headings.append("the last challenger after")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for harm in found.harms:
        decisions = f"{harm.decisions:,.0f}" if harm.decisions < _NEVER else "never"
        cells = [f"{harm.times:g}", days_text(harm.day), decisions, percent(harm.probability)]
        table.add_row(*cells, *([days_text(harm.last_day)] if has_others else []))
    return table


_NEVER: Final = 1e15

"""`bandit-server plan`: the time until a lift is seen, planned before the start and without a server."""

import json
from math import isfinite
from typing import Final

import click
from rich.console import Console
from rich.text import Text

from bandit.experiment import Experiment
from server.cli.commands.plan.launch import PlannedLaunch, launch_document, plan_launch
from server.cli.commands.plan.launch_tables import print_launch
from server.cli.commands.plan.table import (
    Numbers,
    Planned,
    Row,
    declared_plan,
    from_file,
    from_flags,
    plan_rows,
)
from server.cli.experiment_file.file import ExperimentFileError
from server.cli.framework.console import output_console
from server.cli.framework.errors import CalledWronglyError
from server.cli.framework.finite_float import FiniteFloat
from server.cli.framework.help import Command
from server.cli.framework.progress import progress_bar
from server.cli.framework.rate_option import NamedRate
from server.cli.framework.tables import plain_table, print_table
from server.wording import counted, days_text, minimum_share_text, rate_text

_DAY: Final = 86_400.0
"""Seconds in a day."""


@click.command(cls=Command)
@click.argument("file", required=False)
@click.option(
    "--decisions-per-day",
    type=float,
    required=True,
    metavar="N",
    help="Decisions per day, over all arms; new units per day where evidence counts units.",
)
@click.option(
    "--base-rate",
    type=float,
    required=True,
    metavar="MEAN",
    help="The champion's mean of the reward metric, in its unit; for a yes/no metric its rate.",
)
@click.option(
    "--lift",
    type=float,
    default=0.1,
    show_default=True,
    metavar="PART",
    help="Relative lift to detect; negative where less is better.",
)
@click.option(
    "--variance",
    type=float,
    metavar="V",
    help="Variance of one outcome, in the metric's unit squared. Required unless the metric is yes/no.",
)
@click.option(
    "--arms", type=click.IntRange(2, 1_000), metavar="N", help="Arms, champion included; not with FILE."
)
@click.option(
    "--champion-share",
    type=FiniteFloat(0, 1, max_open=True),
    metavar="PART",
    help="The champion's floor; not with FILE. Default: an even split.",
)
@click.option(
    "--challenger-share",
    type=FiniteFloat(0, 1, max_open=True),
    metavar="PART",
    help="Each challenger's floor; not with FILE. Default: an even split.",
)
@click.option(
    "--guardrail-rate",
    "guardrail_rates",
    type=NamedRate(),
    multiple=True,
    metavar="NAME=RATE",
    help="The champion's rate of a yes/no guardrail, to plan a launch with; once for each.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
def plan(
    file: str | None,
    decisions_per_day: float,
    base_rate: float,
    lift: float,
    variance: float | None,
    arms: int | None,
    champion_share: float | None,
    challenger_share: float | None,
    guardrail_rates: tuple[tuple[str, float], ...],
    *,
    as_json: bool,
) -> None:
    """Plan how long it takes to see a lift, and what to expect of a launch, before the start.

    Plans for the floors that the experiment file FILE declares, or for those of the flags, and for others to
    compare with: power depends on the floors. The test is that of the report. Shares are assumed to move as a
    policy like Thompson sampling is expected to move them while it learns.

    If FILE has a launch, it is simulated at this traffic: the time in each step, when a challenger is
    promoted or taken out, how often that is false, and what would not be seen in time.
    """
    if file is not None and (arms, champion_share, challenger_share) != (None, None, None):
        raise CalledWronglyError(
            "--arms, --champion-share and --challenger-share can't be given with FILE, which declares them"
        )
    numbers = Numbers(decisions_per_day=decisions_per_day, base=base_rate, lift=lift, variance=variance)
    try:
        planned, experiment = (
            _of_flags(arms, champion_share, challenger_share, guardrail_rates)
            if file is None
            else from_file(file)
        )
        rows = plan_rows(planned, numbers)
        launch = (
            None if experiment is None else _simulated(experiment, planned, numbers, dict(guardrail_rates))
        )
    except (ExperimentFileError, ValueError) as error:
        raise CalledWronglyError(str(error)) from error
    if as_json:
        added = {} if launch is None else {"launch": launch_document(launch)}
        document = _document(planned, rows, lift) | added
        click.echo(json.dumps(document, indent=2, allow_nan=False))
    else:
        _print(planned, rows, numbers, launch)


def _of_flags(
    arms: int | None,
    champion_share: float | None,
    challenger_share: float | None,
    guardrail_rates: tuple[tuple[str, float], ...],
) -> tuple[Planned, None]:
    if guardrail_rates:
        raise ValueError("--guardrail-rate needs FILE, which declares the guardrails")
    return from_flags(arms or 2, champion_share, challenger_share), None


def _simulated(
    experiment: Experiment, planned: Planned, numbers: Numbers, guardrail_rates: dict[str, float]
) -> PlannedLaunch | None:
    with progress_bar("simulating launches") as report:
        return plan_launch(experiment, declared_plan(planned, numbers), guardrail_rates, report)


def _print(planned: Planned, rows: list[Row], numbers: Numbers, launch: PlannedLaunch | None) -> None:
    console = output_console()
    _print_rows(console, planned, rows, numbers)
    if launch is None:
        console.print(Text(f"{_ADVICE} {_TWO_WEEKS}"))
    else:
        console.print(Text(_ADVICE))
        console.print()
        print_launch(console, launch)


def _print_rows(console: Console, planned: Planned, rows: list[Row], numbers: Numbers) -> None:
    challengers = f"{planned.n_challengers} challenger{'' if planned.n_challengers == 1 else 's'}"
    traffic = f"{challengers} at {rate_text(numbers.decisions_per_day, _DAY, counted(planned.unit))}"
    about = f"{planned.metric}: a lift of {100 * numbers.lift:+g} % with {traffic}"
    console.print(Text(about, style="bold"))
    console.print()
    table = plain_table()
    table.add_column("floors", overflow="fold")
    for heading in ("champion has", "challenger has", "seen at even odds", "with four fifths"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.name,
            f"{100 * row.champion:.3g} %",
            f"{100 * row.challenger:.3g} %",
            days_text(row.days_at_half),
            days_text(row.days_at_most),
        )
    print_table(console, table)
    console.print()
    declared = rows[0]
    if declared.minimum_share is not None:
        time = days_text(declared.days_at_half)
        why = minimum_share_text(declared.minimum_share)
        console.print(Text(f"At the declared floors: {time} at even odds. {why}", style="bold"))
        console.print()


def _document(planned: Planned, rows: list[Row], lift: float) -> dict[str, object]:
    return {
        "metric": planned.metric,
        "unit": planned.unit,
        "n_challengers": planned.n_challengers,
        "lift": lift,
        "plans": [
            {
                "floors": row.name,
                "champion_share": row.champion,
                "challenger_share": row.challenger,
                "days_at_half": row.days_at_half if isfinite(row.days_at_half) else None,
                "days_at_most": row.days_at_most if isfinite(row.days_at_most) else None,
                "minimum_share": row.minimum_share,
            }
            for row in rows
        ],
    }


_ADVICE: Final = (
    "Power depends on the floors: near 0 they cost the least regret and show the least; a champion at 20 % "
    "and challengers at 5 % keep most of an even split's power at half its regret. Shares are averages until "
    "even odds, while a policy like Thompson sampling learns. Half of the simulated experiments had seen the "
    "lift after .76 to .94 of the time at even odds, .73 to .99 with floors of 5 % or 1 % for both, .87 to "
    "1.05 where the metric is not yes/no. Without a floor under the losing arm, plans are unreliable."
)
_TWO_WEEKS: Final = "No arm is promoted before two whole weeks."

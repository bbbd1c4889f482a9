"""Tables of regret for the terminal."""

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.harness.console import plain_table
from benchmarks.regret.problems.named_problems import NAMED, Named
from benchmarks.regret.results import Result

_MOST_MEANS: Final = 10
HOW_TO_READ: Final = (
    "regret: mean of the best arm of each round less that of the chosen arm, summed over rounds, averaged "
    "over runs ± standard error; best: share of rounds that chose a best arm; slope: (R(T) - R(T/10)) / "
    "ln 10, which tends to Lai & Robbins' C for an asymptotically optimal policy (C ln T is not a lower "
    "bound at finite T); off: distance from the anchor, in combined standard errors if the anchor has one"
)


def print_results(results: Sequence[Result], out: Console) -> None:
    """Print one table for each problem."""
    for _, group in groupby(results, key=lambda result: result.title):
        of_problem = list(group)
        out.print(Text(heading(of_problem[0]), style="bold"), soft_wrap=True)
        out.print(_table(of_problem))
        out.print()
    out.print(f"· {HOW_TO_READ}", soft_wrap=True)


def print_list(problems: Iterable[Named], out: Console) -> None:
    """Print the named problems, one per line."""
    table = plain_table("Named problems", "name", "about", "rounds", "runs", "played", n_left=2)
    for named in problems:
        played = "by default" if named.is_default else "by name"
        table.add_row(named.name, named.about, f"{named.problem.horizon:,}", f"{named.n_runs:,}", played)
    out.print(table)


def cells(result: Result) -> tuple[str, ...]:
    """Return the texts of a row, in the order of `HEADINGS`."""
    problem = result.match.problem
    constant = problem.lai_robbins
    return (
        result.match.entrant.label,
        f"{result.measured.regret.n:,}",
        f"{result.mean:,.2f}",
        "" if math.isnan(result.standard_error) else f"± {result.standard_error:.2f}",
        f"{result.share_of_best:.1%}",
        f"{result.slope:.2f}",
        "" if constant is None or not math.isfinite(constant) else f"{constant:.2f}",
        "" if result.anchor is None else f"{result.anchor.regret:,.1f} ({result.anchor.source})",
        distance(result),
    )


HEADINGS: Final = ("policy", "runs", "regret", "SE", "best", "slope", "C", "anchor", "off")
"""Headings of `cells`."""


def distance(result: Result) -> str:
    """Return a result's distance from its anchor."""
    if result.anchor is None or not math.isfinite(result.mean):
        return ""
    if result.errors_off is None:
        return f"{result.mean / result.anchor.regret - 1:+.1%}"
    return f"{result.errors_off:+.1f} SE" if math.isfinite(result.errors_off) else "?"


def heading(result: Result) -> str:
    """Return a problem's name, description and horizon."""
    problem = result.match.problem
    if result.title in NAMED:
        return f"{result.title}: {NAMED[result.title].about} ({problem.horizon:,} rounds)"
    means = ", ".join(f"{mean:g}" for mean in problem.means[:_MOST_MEANS])
    more = ", ..." if problem.n_arms > _MOST_MEANS else ""
    worth = f"means {means}{more}" if problem.means else f"{problem.n_arms} arms, means drawn for each run"
    return f"{worth} ({problem.reward.value}, {problem.horizon:,} rounds)"


def _table(results: Sequence[Result]) -> Table:
    table = plain_table("", *HEADINGS, no_wrap=True)
    table.title = None
    for result in results:
        table.add_row(*cells(result))
    return table

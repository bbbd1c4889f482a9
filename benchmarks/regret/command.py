"""The command line of `python -m benchmarks.regret`.

--means or --means-beta plays one problem. Without them, the named problems are played: some have an anchor, a
bandit does not win on others, some are checks with an exact answer, and some compare other libraries.
"""

import json
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from bandit.client import CallError
from benchmarks.harness.console import console, progress_bar
from benchmarks.harness.processes import ChildError
from benchmarks.regret.blocks import Match, play_all
from benchmarks.regret.matches import Plan, make_plans
from benchmarks.regret.options import MOST_RUNS, OneLineCommand, OptionError, Options, problem_options
from benchmarks.regret.players.server_player import ServerPlayError
from benchmarks.regret.plots import PlotsUnavailableError, require_plots, write_plots
from benchmarks.regret.problems.named_problems import NAMED
from benchmarks.regret.problems.problem import ProblemError
from benchmarks.regret.results import Result, exact_anchor, ours_as_anchor, to_json
from benchmarks.regret.simulation import Measured
from benchmarks.regret.tables import print_list, print_results
from benchmarks.regret.through_server import (
    MOST_ERRORS,
    Comparison,
    play_through_server,
    print_comparisons,
    require_servable,
)
from server.cli.framework.progress import ending_on_sigterm

_IN_PROCESS_RUNS: Final = 4_000
"""Fewest in-process runs of a problem, for comparison with a server's runs."""

_MOST_ROUNDS_ALONE: Final = 1_000_000
"""Rounds, in all runs together, that this process plays in less time than other processes take to start."""

_EXAMPLE: Final = """
\b
Policies are NAME[:VALUE][:OPTION=VALUE], separated by commas:
  thompson                          Thompson sampling
  epsilon-greedy:0.1:decay=1000     explores 10 %, and 5 % after 1,000
  uniform                           equal shares
  split:90/10                       fixed shares, champion first
  mabwiser-thompson, mabwiser-epsilon-greedy:0.1, river-thompson, ...
Options of this library's policies: floor=0.05, champion-floor=0.2, half-life=5000.
"""


@click.command(cls=OneLineCommand, epilog=_EXAMPLE)
@problem_options
@click.option("--runs", type=click.IntRange(1, MOST_RUNS), help="Independent runs.  [default: 1000]")
@click.option(
    "--peer-runs",
    type=click.IntRange(1, MOST_RUNS),
    help="Runs of MABWiser's policies; river's get ten times as many.  [default: 40]",
)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Random seed.")
@click.option("--jobs", type=click.IntRange(1, 1_024), help="Number of processes.  [default: one per core]")
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write one JSON object per policy to this file.",
)
@click.option("--curve", is_flag=True, help="Add regret by round, with 95 % bands, to the JSON.")
@click.option(
    "--plots", type=click.Path(path_type=Path, file_okay=False), help="Write plots and a page to this folder."
)
@click.option(
    "--problem",
    "names",
    multiple=True,
    type=click.Choice(list(NAMED)),
    metavar="NAME",
    help="Play this named problem; may be repeated.",
)
@click.option("--quick", is_flag=True, help="Play the named problems with a twentieth of their runs.")
@click.option("--list", "is_list", is_flag=True, help="List the named problems and exit.")
@click.option(
    "--through-server", is_flag=True, help="Play through a real server, and compare with in-process runs."
)
@click.pass_context
@ending_on_sigterm()
def main(context: click.Context, /, **options: Any) -> None:
    """Simulate bandit problems and print each policy's regret.

    Without --means the named problems are played; --list shows them.
    """
    if options["is_list"]:
        print_list(NAMED.values(), console())
        return
    try:
        _check_files(options)
        plans = make_plans(context, options)
        if options["through_server"]:
            _compare(plans[0], options)
        else:
            _measure(plans, options)
    except (ProblemError, PlotsUnavailableError) as error:
        raise OptionError(str(error)) from error
    except (ChildError, ServerPlayError, CallError) as error:
        raise click.ClickException(str(error)) from error
    except BrokenProcessPool as error:
        raise click.ClickException(
            "a process was killed, perhaps because memory ran out: try --jobs 1"
        ) from error


def _check_files(options: Options) -> None:
    """Check before the simulation that its results can be written."""
    file = options["json_file"]
    if file is not None and not file.absolute().parent.is_dir():
        raise OptionError(f"--json must name a file in a folder that exists, got {file}")
    if options["curve"] and file is None:
        raise OptionError("--curve writes to the JSON file: add --json FILE")
    if options["plots"] is not None:
        require_plots()


def _measure(plans: Sequence[Plan], options: Options) -> None:
    began = time.perf_counter()
    results = _play(plans, options["jobs"])
    seconds = time.perf_counter() - began
    out = console()
    print_results(results, out)
    for package in sorted({package for plan in plans for package in plan.missing}):
        out.print(f"· left out {package}, which is not installed: pip install {package}")
    out.print(f"· seed {options['seed']}; {seconds:.1f} s")
    if options["json_file"] is not None:
        _write_json(options["json_file"], [to_json(each, has_curve=options["curve"]) for each in results])
    if options["plots"] is not None:
        command = f"python -m benchmarks.regret {shlex.join(sys.argv[1:])}"
        out.print(f"· plots: {write_plots(results, options['plots'], command)[-1]}")


def _play(plans: Sequence[Plan], n_processes: int | None) -> list[Result]:
    matches = [match for plan in plans for match in plan.matches]
    if n_processes is None:
        n_processes = os.cpu_count() or 1 if _n_rounds(matches) > _MOST_ROUNDS_ALONE else 1
    with progress_bar("playing", _n_rounds(matches)) as on_rounds:
        measured = iter(play_all(matches, n_processes, on_rounds))
    return [result for plan in plans for result in _results(plan, measured)]


def _results(plan: Plan, measured: Iterator[Measured]) -> list[Result]:
    """Return one result for each match, with its anchor."""
    results = [Result(title=plan.title, match=match, measured=next(measured)) for match in plan.matches]
    return [
        replace(
            result,
            anchor=plan.anchors.get(result.match.entrant.label)
            or exact_anchor(result.match)
            or ours_as_anchor(results, result.match.entrant),
        )
        for result in results
    ]


def _compare(plan: Plan, options: Options) -> None:
    """Play through a server and in-process; exit with code 1 if the results disagree."""
    if plan.missing:
        raise OptionError("--through-server can't serve another library's policies: leave them out")
    require_servable(plan.matches)
    with progress_bar("through a server", _n_rounds(plan.matches)) as on_rounds:
        served, verdict = play_through_server(plan.matches, on_rounds)
    often = [replace(match, n_runs=max(match.n_runs, _IN_PROCESS_RUNS)) for match in plan.matches]
    in_process = _play([replace(plan, matches=often)], options["jobs"])
    comparisons = [
        Comparison(served=result, in_process=other, n_epochs=n_epochs)
        for (result, n_epochs), other in zip(served, in_process, strict=True)
    ]
    print_comparisons(comparisons, console())
    print(f"\nverify: {verdict}")
    if options["json_file"] is not None:
        _write_json(options["json_file"], [each.to_json(has_curve=options["curve"]) for each in comparisons])
    if not all(each.agrees for each in comparisons):
        raise click.ClickException(
            f"server and simulation differ by more than {MOST_ERRORS:g} standard errors"
        )


def _write_json(file: Path, document: list[dict[str, object]]) -> None:
    file.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _n_rounds(matches: Sequence[Match]) -> int:
    """Return the number of rounds in all runs of all matches."""
    return sum(match.n_rounds for match in matches)

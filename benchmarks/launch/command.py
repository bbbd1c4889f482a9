"""Launches of four weeks, with no hand on them: `python -m benchmarks.launch`.

A real server runs in this process on a clock that is moved two hours at a time, reading and monotonic time
together. Between two moves BatchChoose decides and BatchReward posts what the arms answer, over gRPC; then
the server polls, begins epochs and looks at the launch, as it does all the time. The table of each launch is
read from its events. The server's draws and the outcomes follow from the seed.
"""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import click

from benchmarks.harness.console import console, progress_bar
from benchmarks.launch.cases import CASES, STEP, Case
from benchmarks.launch.results import Outcome, outcome_of
from benchmarks.launch.simulated_server import simulated_server
from benchmarks.launch.story import Story, StoryError, begin
from benchmarks.launch.tables import print_outcome, print_summary

_DAYS: Final = 28


@click.command()
@click.option("--cases", default="*", show_default=True, help="Only those whose name matches this pattern.")
@click.option("--days", type=click.IntRange(1, 90), default=_DAYS, show_default=True, help="At most.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write all figures there."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of draws and outcomes.")
def main(*, cases: str, days: int, json_file: Path | None, seed: int) -> None:
    """Simulate launches, and print the story of each; exit with 1 unless each ends as it should."""
    chosen = [case for case in CASES if fnmatch(case.name, cases)]
    if not chosen:
        names = "; ".join(case.name for case in CASES)
        raise click.UsageError(f"no case matches {cases!r}: there are {names}")
    most = timedelta(days=days)
    outcomes = []
    with progress_bar("launches", len(chosen) * round(most / STEP)) as on_steps:
        for case in chosen:
            try:
                outcomes.append(asyncio.run(_tell(case, most, seed, on_steps)))
            except StoryError as error:
                raise click.ClickException(f"{case.name}: {error}") from error
            print_outcome(outcomes[-1], console())
    print_summary(outcomes, console())
    if json_file is not None:
        document = [asdict(outcome) | {"end": outcome.end} for outcome in outcomes]
        json_file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if not all(outcome.is_expected for outcome in outcomes):
        raise click.exceptions.Exit(1)


async def _tell(case: Case, most: timedelta, seed: int, on_steps: Callable[[int], None]) -> Outcome:
    """Simulate one launch."""
    began, n_left = time.perf_counter(), round(most / STEP)

    def on_step() -> None:
        nonlocal n_left
        n_left -= 1
        on_steps(1)

    with TemporaryDirectory(prefix="bandit-launch-") as scratch:
        async with simulated_server(Path(scratch), step=STEP, seed=seed) as server:
            story = Story(server, await begin(server, case.declared), case.traffic(seed))
            await story.run(most, on_step)
            on_steps(n_left)  # of a launch that was over before
            return await outcome_of(case, story, time.perf_counter() - began)

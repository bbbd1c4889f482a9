"""The speed of the decision path: `python -m benchmarks.throughput`, against bare echo RPCs.

Absolute rates say little on a shared machine. So subjects are measured in turns, by the same client, and a
ratio is that of neighbouring rounds. In the first table an ordinary client calls; on two cores it is more
often the bottleneck than the server, which pulls ratios of rates towards 1, and only the ratio of server CPU
per call is free of that. In the tables of `listeners` the client costs less than any server.
"""

import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.harness.console import console
from benchmarks.harness.experiments import declare, response_bytes
from benchmarks.harness.load_client import LoadClient, LoadError
from benchmarks.harness.processes import Child, ChildError, serving, verify
from benchmarks.harness.timings import Comparison
from benchmarks.throughput.cases import Row, choose_rows, few_experiments, many_experiments, other_rows
from benchmarks.throughput.interleaved import Comparer, echoing
from benchmarks.throughput.listeners.comparing import Effort
from benchmarks.throughput.listeners.sites import Choice, compare_listeners
from benchmarks.throughput.listeners.tables import HOW_TO_READ, figures_table, ratios_table
from benchmarks.throughput.profiling import profile
from benchmarks.throughput.startup import N_STARTS, Startup, measure_startup, start_once, summarise
from benchmarks.throughput.tables import comparison_table, print_profile, startup_table
from server.cli.framework.progress import ending_on_sigterm

_ROUND_SECONDS: Final = 0.5
_N_ROUNDS: Final = 3
_QUICK_EFFORT: Final = Effort(n_rounds=1, seconds=0.3)
_N_MANY: Final = 10_000
_N_MANY_QUICK: Final = 200
_SETTLING_SECONDS: Final = 2.0
_HOW_TO_READ: Final = (
    "ratio: items a second over echoes a second, median and quartiles of neighbouring rounds; CPU ratio: the "
    "server's CPU time of an echo over that of an item, which a busy client does not distort; latencies "
    "include waiting behind other callers; of many experiments half have 2 arms, four tenths 10 and a tenth "
    "100, and calls are spread over those with the row's number of arms"
)

_Step = Callable[[str], Callable[[], None]]


@click.command()
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write all figures there."
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.5, 60),
    default=3.0,
    show_default=True,
    help="How long each row is measured; every other subject of the row takes as long again.",
)
@click.option(
    "--quick", is_flag=True, help="Short turns, and 200 experiments instead of 10,000: a smoke test."
)
@click.option(
    "--listeners", "is_listeners", is_flag=True, help="Compare the two listeners, and nothing else."
)
@click.option(
    "--rows",
    default="*",
    show_default=True,
    help="Of that comparison, the rows that match this pattern, such as 'Choose, 10 arms*'.",
)
@click.option("--no-fast-lane", is_flag=True, help="In that comparison, leave out the fast lane.")
@click.option("--profile", "is_profile", is_flag=True, help="Show what the server's time goes to instead.")
@ending_on_sigterm()
def main(
    *,
    json_file: Path | None,
    seconds: float,
    quick: bool,
    is_listeners: bool,
    rows: str,
    no_fast_lane: bool,
    is_profile: bool,
) -> None:
    """Measure Choose, Reward and their batches against bare echo RPCs, then start-up and memory."""
    effort = _QUICK_EFFORT if quick else Effort(n_rounds=_N_ROUNDS, seconds=seconds / _N_ROUNDS)
    choice = Choice(rows=rows, has_fast=not no_fast_lane, effort=effort)
    try:
        with TemporaryDirectory(prefix="bandit-throughput-") as name:
            scratch = Path(name)
            if is_profile:
                _print_profiles(scratch, seconds)
                return
            document: dict[str, object] = {"machine": _machine()}
            if not is_listeners:
                document |= _measure(scratch, 1.0 if quick else seconds, _N_MANY_QUICK if quick else _N_MANY)
            document |= _compare_listeners(scratch, choice)
    except (ChildError, LoadError) as error:
        raise click.ClickException(str(error)) from error
    if json_file is not None:
        json_file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _print_profiles(scratch: Path, seconds: float) -> None:
    out = console()
    with LoadClient() as client:
        for found in profile(scratch, client, seconds):
            print_profile(found, out)


def _measure(scratch: Path, seconds: float, n_many: int) -> dict[str, object]:
    """Print the table of calls by an ordinary client and that of starts; return their figures."""
    out = console()
    with _progress() as progress:
        startups = _measure_startup(scratch, progress)
        few, few_notes = _measure_server(scratch / "few", few_experiments(), seconds, progress)
        many, many_notes = _measure_server(scratch / "many", many_experiments(n_many), seconds, progress)
        task = progress.add_task(f"start with {n_many:,} experiments", total=1)
        start = start_once(scratch / "many", lambda: progress.advance(task))
    startups = [*startups, summarise(f"{n_many:,} experiments", [start])]
    notes = [*few_notes, *many_notes]
    out.print(comparison_table([*few, *many]))
    out.print()
    out.print(startup_table(startups))
    _print_notes([_HOW_TO_READ, *notes], out)
    return {
        "comparisons": [asdict(comparison) for comparison in (*few, *many)],
        "startups": [asdict(startup) for startup in startups],
        "notes": notes,
    }


def _compare_listeners(scratch: Path, choice: Choice) -> dict[str, object]:
    """Print the tables of both listeners and the echoes; return their figures."""
    out = console()
    folder = scratch / "listeners"
    folder.mkdir()
    with _progress() as progress:
        task = progress.add_task("building the load client", total=None)
        found = compare_listeners(folder, choice, lambda row: progress.update(task, description=row))
    out.print(figures_table(found.rows))
    out.print()
    out.print(ratios_table(found.rows))
    _print_notes([HOW_TO_READ, *found.notes], out)
    return {"listeners": asdict(found)}


def _print_notes(notes: Sequence[str], out: Console) -> None:
    out.print()
    for note in notes:
        out.print(f"· {note}", soft_wrap=True)
    out.print()


def _measure_startup(scratch: Path, progress: Progress) -> list[Startup]:
    task = progress.add_task("cold starts", total=1 + 2 * N_STARTS)
    return measure_startup(scratch, lambda: progress.advance(task))


def _measure_server(
    folder: Path, names_of_arms: dict[int, Sequence[str]], seconds: float, progress: Progress
) -> tuple[list[Comparison], list[str]]:
    """Return comparisons on a server with these experiments, and notes on them."""
    folder.mkdir()
    with serving(folder) as server:
        notes = [_declare(server, names_of_arms, progress)]
        rows = [*choose_rows(names_of_arms), *other_rows(names_of_arms, _ROUND_SECONDS)]
        with echoing(response_bytes(server.address, names_of_arms[10][0])) as echo, LoadClient() as client:
            comparer = Comparer(client, echo, server, seconds=seconds, round_seconds=_ROUND_SECONDS)
            comparisons = list(_compare(comparer, rows, progress))
        notes.append(f"memory after the load: {server.resident_mib() * 1.048576:.0f} MB")
    verdict = verify(folder)
    if f" {comparer.n_rewards:,} outcomes" not in verdict:
        raise ChildError(f"{comparer.n_rewards:,} rewards were acknowledged, but verify says: {verdict}")
    notes.append(f"every acknowledged reward is there; verify: {verdict}")
    return comparisons, notes


def _compare(comparer: Comparer, rows: Sequence[Row], progress: Progress) -> Iterator[Comparison]:
    task = progress.add_task("", total=len(rows) * comparer.n_rounds)
    for row in rows:
        progress.update(task, description=f"{row.title}, {row.setting}")
        yield comparer.compare(row, lambda: progress.advance(task))


def _declare(server: Child, names_of_arms: dict[int, Sequence[str]], progress: Progress) -> str:
    """Create the experiments, and print how long it took."""
    n_experiments = sum(map(len, names_of_arms.values()))
    task = progress.add_task(f"creating and starting {n_experiments:,} experiments", total=n_experiments)
    began = time.perf_counter()
    declare(server.address, names_of_arms, lambda n_more: progress.advance(task, n_more))
    seconds = time.perf_counter() - began
    time.sleep(_SETTLING_SECONDS)
    return f"{n_experiments:,} experiments were created and started through RPC in {seconds:.1f} s"


@contextmanager
def _progress() -> Iterator[Progress]:
    """Show bars on standard error, if that is a terminal."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    errors = console(stderr=True)
    with Progress(*columns, console=errors, disable=not errors.is_terminal) as progress:
        yield progress


def _machine() -> Mapping[str, object]:
    return {
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "grpcio": version("grpcio"),
        "bandit-allocator": version("bandit-allocator"),
    }

"""The command line of `python -m benchmarks.validity`."""

import json
import os
import shlex
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import click

from benchmarks.harness.console import console, progress_bar
from benchmarks.harness.parallel import run_all
from benchmarks.validity.cell import Cell
from benchmarks.validity.cells import all_cells
from benchmarks.validity.groups import row_of
from benchmarks.validity.measures.measurements import Sample
from benchmarks.validity.measures.results import Row
from benchmarks.validity.pieces import joined, pieces_of
from benchmarks.validity.tables import print_rows

_RUNS, _QUICK_RUNS = 1_000, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All rows, and the time that they took."""

    rows: list[Row]
    seconds: float
    cpu_seconds: float


@click.command()
@click.option(
    "--runs", type=click.IntRange(2), help="Runs per cell; some cells take twice as many.  [default: 1000]"
)
@click.option("--quick", is_flag=True, help="100 runs per cell: takes two minutes, too few for conclusions.")
@click.option("--cells", metavar="PATTERN", help="Only cells whose 'group: name' matches, such as '*drift*'.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Random seed.")
@click.option("--jobs", type=click.IntRange(1, 1_024), help="Number of processes.  [default: one per core]")
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write all figures there as JSON.",
)
@click.option("--list", "is_list", is_flag=True, help="List the cells and exit.")
def main(
    runs: int | None,
    cells: str | None,
    seed: int,
    jobs: int | None,
    json_file: Path | None,
    *,
    quick: bool,
    is_list: bool,
) -> None:
    """Simulate experiments, and print the error rates, coverage and power of the report's inference.

    Figures come with standard errors. Results depend on the seed and not on the number of processes.
    """
    chosen = _chosen(cells)
    if is_list:
        click.echo("\n".join(cell.title for cell in chosen))
        return
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise click.UsageError(f"--json must name a file in a folder that exists, got {json_file}")
    n_runs = runs or (_QUICK_RUNS if quick else _RUNS)
    measured = _measure(chosen, n_runs, seed, jobs or os.cpu_count() or 1)
    out = console()
    out.width = max(out.width, _WIDTH)
    print_rows(measured.rows, out)
    out.print(
        f"{len(chosen)} cells, seed {seed}: {measured.seconds:.0f} s, {measured.cpu_seconds:.0f} s of CPU."
    )
    if json_file is not None:
        json_file.write_text(_to_json(measured, n_runs, seed))


def _chosen(pattern: str | None) -> list[Cell]:
    cells = [cell for cell in all_cells() if pattern is None or fnmatch(cell.title, pattern)]
    if not cells:
        raise click.UsageError(f"--cells must match at least one cell, got {pattern!r}; --list shows them")
    return cells


def _measure(cells: Sequence[Cell], runs: int, seed: int, jobs: int) -> Measured:
    started = time.perf_counter()
    pieces = pieces_of(cells, runs, seed)
    with progress_bar("simulating", len(pieces)) as advance:
        played = run_all([piece.play for piece in pieces], jobs, advance)
    samples: defaultdict[str, list[Sample]] = defaultdict(list)
    for piece, (sample, _) in zip(pieces, played, strict=True):
        samples[piece.cell].append(sample)
    return Measured(
        rows=[row_of(cell, joined(samples[cell.title])) for cell in cells],
        seconds=time.perf_counter() - started,
        cpu_seconds=sum(seconds for _, seconds in played),
    )


def _to_json(measured: Measured, runs: int, seed: int) -> str:
    content = {
        "command": shlex.join(["python", "-m", "benchmarks.validity", *sys.argv[1:]]),
        "seed": seed,
        "runs": runs,
        "seconds": round(measured.seconds, 1),
        "cpu_seconds": round(measured.cpu_seconds, 1),
        "rows": [row.as_json() for row in measured.rows],
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


_WIDTH = 170

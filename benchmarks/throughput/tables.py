"""The tables that the command prints."""

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.harness.console import plain_table
from benchmarks.harness.timings import Comparison, Spread
from benchmarks.throughput.profiling import N_SHOWN, Profile
from benchmarks.throughput.startup import Startup

_ENOUGH_TO_ROUND: Final = 10


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Return rates, latencies and CPU of each method, and their ratios to the echo."""
    table = plain_table(
        "Calls, each against the echo in turns",
        *("called", "setting", "items/s", "p50\nms", "p95\nms", "p99\nms", "CPU µs\nan item"),
        *("echo/s", "CPU µs\nan echo", "ratio", "quartiles", "CPU\nratio", "aim"),
        n_left=2,
        no_wrap=True,
    )
    for row in comparisons:
        table.add_row(
            row.title,
            row.setting,
            f"{row.measured.rate.middle:,.0f}",
            *(f"{value:.2f}" for value in (row.measured.p50_ms, row.measured.p95_ms, row.measured.p99_ms)),
            f"{row.measured.cpu_us_per_item:.1f}",
            f"{row.echo.rate.middle:,.0f}",
            f"{row.echo.cpu_us_per_item:.1f}",
            _short(row.rate_ratio.middle),
            _quartiles(row.rate_ratio),
            _short(row.cpu_ratio),
            row.aim,
        )
    return table


def startup_table(startups: Sequence[Startup]) -> Table:
    """Return cold start times and memory at rest."""
    table = plain_table(
        "Start (aims: 1.5 s, 150 MB at rest)",
        *("database", "first line s", "SERVING s", "memory MB"),
        no_wrap=True,
    )
    for row in startups:
        resident_mb = row.resident_mib * 1.048576
        seconds = f"{row.first_line_seconds:.2f}", f"{row.serving_seconds:.2f}"
        table.add_row(row.database, *seconds, f"{resident_mb:.0f}")
    return table


def print_profile(found: Profile, out: Console) -> None:
    """Print one kind of call: its CPU time and the most expensive functions."""
    heading = f"{found.title}: {found.n_calls:,} calls, {found.cpu_us_per_call:,.0f} µs of CPU each, profiled"
    out.print(Text(heading, style="bold"), soft_wrap=True)
    out.print(f"The event loop's {N_SHOWN} most expensive functions by own time:")
    out.print(found.functions, soft_wrap=True)
    out.print()


def _short(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio >= _ENOUGH_TO_ROUND else f"{ratio:.2f}"


def _quartiles(spread: Spread) -> str:
    return f"{_short(spread.lower)}-{_short(spread.upper)}"

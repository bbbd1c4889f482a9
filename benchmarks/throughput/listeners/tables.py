"""The tables of the comparison of listeners."""

from collections.abc import Sequence
from typing import Final

from rich.table import Table

from benchmarks.harness.console import plain_table
from benchmarks.throughput.listeners.comparing import Compared, Ratio

HOW_TO_READ: Final = (
    "8 \N{MULTIPLICATION SIGN} 8: eight connections, and on each eight calls, or messages of a stream, "
    "at a time; CPU: of all threads of the server, where calls follow answers; latencies: at half of that "
    "rate, by schedule, from when a call was due; client: CPU of the load client a call"
)


def figures_table(rows: Sequence[Compared]) -> Table:
    """Return what each subject achieves on one core, and what a call costs it."""
    table = plain_table(
        "Calls on one core, and at half of that rate by schedule",
        *("called", "setting", "subject", "calls/s", "CPU µs\na call", "quartiles"),
        *("client\nµs", "p50\nms", "p99\nms", "p99.9\nms"),
        n_left=3,
        no_wrap=True,
    )
    for row in rows:
        for found in row.subjects:
            latencies = found.scheduled.p50_us, found.scheduled.p99_us, found.scheduled.p999_us
            table.add_row(
                row.title,
                row.setting,
                found.name,
                f"{found.rate.middle:,.0f}",
                f"{found.cpu_us.middle:,.1f}",
                f"{found.cpu_us.lower:,.1f}-{found.cpu_us.upper:,.1f}",
                f"{found.client_cpu_us:.1f}",
                *(f"{microseconds / 1e3:,.2f}" for microseconds in latencies),
            )
    return table


def ratios_table(rows: Sequence[Compared]) -> Table:
    """Return the ratios of neighbouring turns, beside their limits."""
    table = plain_table(
        "Ratios",
        *("called", "setting", "ratio", "required", "found", "quartiles", ""),
        n_left=3,
        no_wrap=True,
    )
    for row in rows:
        for ratio in row.ratios:
            table.add_row(
                row.title,
                row.setting,
                f"{ratio.goal.measure.value}: {ratio.goal.of} / {ratio.goal.to}",
                _required(ratio),
                f"{ratio.found.middle:.2f}",
                f"{ratio.found.lower:.2f}-{ratio.found.upper:.2f}",
                _verdict(ratio),
            )
    return table


def _verdict(ratio: Ratio) -> str:
    if ratio.goal.least is None and ratio.goal.most is None:
        return ""
    return "met" if ratio.is_met else "MISSED"


def _required(ratio: Ratio) -> str:
    least, most = ratio.goal.least, ratio.goal.most
    limits = (("≥", least), ("≤", most))
    return " and ".join(f"{sign} {limit:.3g}" for sign, limit in limits if limit is not None)

"""A report in the terminal, at 100 columns: beliefs, evidence, and the verdict."""

from bisect import bisect_right
from collections.abc import Iterator
from typing import Final

from rich import table as rich_table
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from bandit.v1.experiment_pb2 import Epoch, Report
from server.cli.framework.console import local_time
from server.cli.framework.tables import plain_table, print_table
from server.cli.report_view.sections import Section, heading, sections
from server.cli.report_view.tables import Column, Row, Table, belief_table, evidence_tables

_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_MOST_STEPS: Final = 48
_LEAST_STEPS: Final = 8
_ARM_WIDTH: Final = 18
"""Characters beside the bars of shares, for an arm's name."""


def print_report(report: Report, console: Console) -> None:
    """Print beliefs and evidence, metric by metric; then checks, verdict, sentences and notes."""
    console.print(Text(heading(report), style="bold"), soft_wrap=True)
    for table in (belief_table(report), *_history_tables(report, console.width), *evidence_tables(report)):
        console.print()
        print_table(console, _drawn(table))
    for section in sections(report):
        _print_section(section, console)


def sparklines(report: Report, n_steps: int = _MOST_STEPS) -> dict[str, str]:
    """Return arm id to a bar of its share for each of equal time steps; a space where it was missing."""
    epochs = _epochs_in_force(report, n_steps)
    return {arm.arm: "".join(_block(epoch, arm.arm) for epoch in epochs) for arm in report.arms}


def _epochs_in_force(report: Report, n_steps: int) -> list[Epoch]:
    """Return the epoch in force at the end of each of equal time steps; the report has an epoch."""
    starts = [epoch.start_time.ToNanoseconds() for epoch in report.epochs]
    duration = max(report.report_time.ToNanoseconds() - starts[0], 0)
    moments = (starts[0] + duration * (step + 1) // n_steps for step in range(n_steps))
    return [report.epochs[max(bisect_right(starts, moment) - 1, 0)] for moment in moments]


def _block(epoch: Epoch, arm: str) -> str:
    if arm not in epoch.shares:
        return " "
    return _BLOCKS[min(int(epoch.shares[arm] * len(_BLOCKS)), len(_BLOCKS) - 1)]


def _history_tables(report: Report, width: int) -> Iterator[Table]:
    """Yield the table of shares over time, which the page plots instead; none without epochs."""
    if report.epochs:
        since = f"share over time, since {local_time(report.epochs[0].start_time)}"
        columns = Column("arm", is_text=True, wraps=True), Column(since, is_text=True, wraps=True)
        n_steps = min(max(width - _ARM_WIDTH, _LEAST_STEPS), _MOST_STEPS)
        yield Table("", columns, tuple(map(Row, sparklines(report, n_steps).items())))


def _drawn(table: Table) -> rich_table.Table:
    drawn = plain_table(table.title)
    for column in table.columns:
        drawn.add_column(
            column.heading,
            justify="left" if column.is_text else "right",
            overflow="fold" if column.wraps else "ellipsis",
            no_wrap=not column.wraps,
            min_width=column.min_width,
        )
    for row in table.rows:
        drawn.add_row(*row.cells, style="dim" if row.is_dim else None)
    return drawn


def _print_section(section: Section, console: Console) -> None:
    """Print a title over lines with hanging indents."""
    console.print()
    console.print(Text(section.title, style="bold"))
    for line in section.lines:
        item = rich_table.Table.grid(padding=(0, 1, 0, 0))
        item.add_row(Text("·"), Text(line, overflow="fold"))
        console.print(Padding(item, (0, 0, 0, 0), expand=False))

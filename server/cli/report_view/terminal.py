"""Draws a report for people, at 100 columns: what is believed, what is evident, and what follows."""

from bisect import bisect_right
from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bandit.v1.experiment_pb2 import Epoch, Report
from server.cli.framework.console import local_time, percent, plain_table
from server.cli.report_view.evidence_tables import evidence_table, has_evidence, splits_table
from server.cli.report_view.formatting import (
    ABSENT,
    arm_name,
    heading,
    interval_heading,
    interval_text,
    is_guardrail,
    mean_text,
    metric_of,
    n_decisions,
    other_metrics,
    posterior_decimals,
    share_text,
)
from server.cli.report_view.sections import Section, sections

_BLOCKS = "▁▂▃▄▅▆▇█"
_N_BUCKETS = 48


def print_report(report: Report, console: Console) -> None:
    """Prints beliefs beside evidence, metric by metric; then checks, splits, verdict and notes."""
    console.print(Text(heading(report), style="bold"), soft_wrap=True)
    for table in (*belief_tables(report), *_history_tables(report), *evidence_tables(report)):
        console.print()
        console.print(table)
    for section in sections(report):
        _print_section(section, console)


def _line(arm: str, epochs: Sequence[Epoch]) -> str:
    return "".join(_block(epoch, arm) for epoch in epochs)


def _epochs_in_force(report: Report) -> list[Epoch]:
    """The epoch in force at the end of each of equal stretches of time; there is at least one epoch."""
    starts = [epoch.start_time.ToNanoseconds() for epoch in report.epochs]
    duration = max(report.report_time.ToNanoseconds() - starts[0], 0)
    moments = (starts[0] + duration * (bucket + 1) // _N_BUCKETS for bucket in range(_N_BUCKETS))
    return [report.epochs[max(bisect_right(starts, moment) - 1, 0)] for moment in moments]


def _block(epoch: Epoch, arm: str) -> str:
    if arm not in epoch.shares:
        return " "
    return _BLOCKS[min(int(epoch.shares[arm] * len(_BLOCKS)), len(_BLOCKS) - 1)]


def belief_tables(report: Report) -> list[Table]:
    """What is counted and believed on the reward metric."""
    return [_arms_table(report)]


def evidence_tables(report: Report) -> list[Table]:
    """What is evident on the reward metric, everything on the other metrics, and static splits."""
    tables = []
    if has_evidence(report, report.reward_metric):
        tables.append(evidence_table(report, report.reward_metric))
    for name in other_metrics(report):
        tables.append(_metric_table(report, name))
        if has_evidence(report, name):
            tables.append(evidence_table(report, name))
    if any(not split.HasField("unsaid") for split in report.splits):
        tables.append(splits_table(report.splits, report.reward_metric))
    return tables


def _history_tables(report: Report) -> list[Table]:
    return [_history_table(report)] if report.epochs else []


def _arms_table(report: Report) -> Table:
    metrics = [metric_of(arm, report.reward_metric) for arm in report.arms]
    decimals = posterior_decimals(metrics)
    table = plain_table(f"belief on {report.reward_metric}")
    table.add_column("arm", overflow="fold", min_width=6)
    table.add_column("share", justify="right", no_wrap=True)
    for text in ("decisions", "outcomes", "mean", interval_heading(metrics), "P(best)", "exp. loss"):
        table.add_column(text, justify="right", no_wrap=True)
    for arm, metric in zip(report.arms, metrics, strict=True):
        table.add_row(
            arm_name(arm),
            percent(arm.share),
            f"{n_decisions(arm):,}",
            f"{metric.outcomes:,}",
            mean_text(metric, decimals),
            interval_text(metric.interval, decimals) if metric.HasField("interval") else ABSENT,
            percent(arm.probability_best) if arm.HasField("probability_best") else ABSENT,
            f"{arm.expected_loss:.2g}" if arm.HasField("expected_loss") else ABSENT,
            style="dim" if arm.out_of_service else None,
        )
    return table


def _history_table(report: Report) -> Table:
    table = plain_table()
    table.add_column("arm", overflow="fold")
    table.add_column(f"share over time, since {local_time(report.epochs[0].start_time)}", no_wrap=True)
    epochs = _epochs_in_force(report)
    for arm in report.arms:
        table.add_row(arm.arm, _line(arm.arm, epochs))
    return table


def _metric_table(report: Report, name: str) -> Table:
    """What was posted for a metric, and what is believed of it."""
    metrics = [metric_of(arm, name) for arm in report.arms]
    decimals = posterior_decimals(metrics)
    table = plain_table(f"{name} (guardrail)" if is_guardrail(report, name) else name)
    table.add_column("arm", overflow="fold", min_width=6)
    for text in ("outcomes", "late", "answered", "mean", interval_heading(metrics)):
        table.add_column(text, justify="right", no_wrap=True)
    for arm, metric in zip(report.arms, metrics, strict=True):
        table.add_row(
            arm.arm,
            f"{metric.outcomes:,}",
            f"{metric.late_outcomes:,}",
            share_text(metric.response_ratio, is_known=metric.HasField("response_ratio")),
            mean_text(metric, decimals),
            interval_text(metric.interval, decimals) if metric.HasField("interval") else ABSENT,
        )
    return table


def _print_section(section: Section, console: Console) -> None:
    """A title over lines that wrap under their own beginning."""
    console.print()
    if section.title:
        console.print(Text(section.title, style="bold"))
    for line in section.lines:
        item = Table.grid(padding=(0, 1, 0, 0))
        item.add_row(Text("·"), Text(line, overflow="fold"))
        console.print(Padding(item, (0, 0, 0, 0), expand=False))

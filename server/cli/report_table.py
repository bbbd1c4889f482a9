"""Draws a report for people, at 100 columns."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bandit.v1.evidence_pb2 import IntervalKind
from bandit.v1.experiment_pb2 import (
    DIRECTION_MINIMIZE,
    ArmReport,
    Epoch,
    MetricReport,
    Report,
)
from server.cli.console import decimals_for, local_time, percent, plain_table, state_name

_BLOCKS = "▁▂▃▄▅▆▇█"
_N_BUCKETS = 48
_ABSENT = "-"


def print_report(report: Report, console: Console) -> None:
    """Prints the arms on the reward metric, their shares over time, other metrics, and what to know first."""
    console.print(Text(_heading(report), style="bold"), soft_wrap=True)
    console.print()
    console.print(_arms_table(report))
    if report.epochs:
        console.print()
        console.print(_history_table(report))
    for metric in _other_metrics(report):
        console.print()
        console.print(_metric_table(report, metric))
    notes = [*_uncounted(report), *report.notes]
    if notes:
        console.print()
    for note in notes:
        console.print(Text(f"· {note}"), soft_wrap=not console.is_terminal)


def sparkline(arm: str, report: Report) -> str:
    """The arm's share in equal stretches of time until the report; a space where it was not in it."""
    start = report.epochs[0].start_time.ToNanoseconds()
    duration = max(report.report_time.ToNanoseconds() - start, 0)
    moments = (start + duration * (bucket + 1) // _N_BUCKETS for bucket in range(_N_BUCKETS))
    return "".join(_block(_epoch_at(report.epochs, moment), arm) for moment in moments)


def _epoch_at(epochs: Sequence[Epoch], nanoseconds: int) -> Epoch:
    """The epoch in force at a moment, or the first if that is before it; `epochs` is not empty."""
    begun = [epoch for epoch in epochs if epoch.start_time.ToNanoseconds() <= nanoseconds]
    return begun[-1] if begun else epochs[0]


def _block(epoch: Epoch, arm: str) -> str:
    if arm not in epoch.shares:
        return " "
    return _BLOCKS[min(int(epoch.shares[arm] * len(_BLOCKS)), len(_BLOCKS) - 1)]


def _heading(report: Report) -> str:
    goal = "less" if report.direction == DIRECTION_MINIMIZE else "more"
    parts = [
        f"{report.experiment}: {state_name(report.state)}",
        f"{goal} {report.reward_metric} is better",
        f"champion {report.champion}",
        f"{report.n_epochs:,} epoch{'' if report.n_epochs == 1 else 's'}",
    ]
    if report.winner:
        parts.insert(1, f"winner {report.winner}")
    return " · ".join(parts)


def _arms_table(report: Report) -> Table:
    metrics = [_metric(arm, report.reward_metric) for arm in report.arms]
    decimals = _decimals(metrics)
    table = plain_table()
    table.add_column("arm", overflow="fold", min_width=6)
    table.add_column("share", justify="right", no_wrap=True)
    for heading in ("decisions", "outcomes", "mean", _interval_heading(metrics), "P(best)", "exp. loss"):
        table.add_column(heading, justify="right", no_wrap=True)
    for arm, metric in zip(report.arms, metrics, strict=True):
        table.add_row(
            _arm_name(arm),
            percent(arm.share),
            f"{_n_decisions(arm):,}",
            f"{metric.outcomes:,}",
            f"{metric.mean:,.{decimals}f}" if metric.HasField("mean") else _ABSENT,
            _interval(metric, decimals),
            percent(arm.probability_best) if arm.HasField("probability_best") else _ABSENT,
            f"{arm.expected_loss:.2g}" if arm.HasField("expected_loss") else _ABSENT,
            style="dim" if arm.out_of_service else None,
        )
    return table


def _history_table(report: Report) -> Table:
    table = plain_table()
    table.add_column("arm", overflow="fold")
    table.add_column(f"share over time, since {local_time(report.epochs[0].start_time)}", no_wrap=True)
    for arm in report.arms:
        table.add_row(arm.arm, sparkline(arm.arm, report))
    return table


def _metric_table(report: Report, name: str) -> Table:
    metrics = [_metric(arm, name) for arm in report.arms]
    decimals = _decimals(metrics)
    table = plain_table(name)
    table.add_column("arm", overflow="fold", min_width=6)
    for heading in ("outcomes", "mean", _interval_heading(metrics)):
        table.add_column(heading, justify="right", no_wrap=True)
    for arm, metric in zip(report.arms, metrics, strict=True):
        mean = f"{metric.mean:,.{decimals}f}" if metric.HasField("mean") else _ABSENT
        table.add_row(arm.arm, f"{metric.outcomes:,}", mean, _interval(metric, decimals))
    return table


def _arm_name(arm: ArmReport) -> str:
    if arm.out_of_service:
        return f"{arm.arm} (out)"
    return f"{arm.arm} (warm-up)" if arm.warming_up else arm.arm


def _n_decisions(arm: ArmReport) -> int:
    counts = arm.decisions
    return counts.policy + counts.restricted + counts.fallback + counts.unconfirmed


def _metric(arm: ArmReport, name: str) -> MetricReport:
    """The arm's report on the metric; an empty one if there is none."""
    return next((metric for metric in arm.metrics if metric.metric == name), MetricReport(metric=name))


def _other_metrics(report: Report) -> list[str]:
    names = dict.fromkeys(metric.metric for arm in report.arms for metric in arm.metrics)
    return [name for name in names if name != report.reward_metric]


def _decimals(metrics: Sequence[MetricReport]) -> int:
    return decimals_for(
        [each.interval.upper - each.interval.lower for each in metrics if each.HasField("interval")]
    )


def _interval_heading(metrics: Sequence[MetricReport]) -> str:
    """Level and kind, as in `95 % posterior`."""
    for metric in metrics:
        if metric.HasField("interval"):
            kind = IntervalKind.Name(metric.interval.kind).removeprefix("INTERVAL_KIND_").lower()
            return f"{metric.interval.level * 100:g} % {kind}"
    return "interval"


def _interval(metric: MetricReport, decimals: int) -> str:
    if not metric.HasField("interval"):
        return _ABSENT
    return f"{metric.interval.lower:,.{decimals}f} to {metric.interval.upper:,.{decimals}f}"


def _uncounted(report: Report) -> Iterator[str]:
    """What was posted and is not in the table's numbers."""
    for name in (report.reward_metric, *_other_metrics(report)):
        metrics = [_metric(arm, name) for arm in report.arms]
        n_open = sum(metric.open_outcomes for metric in metrics)
        n_late = sum(metric.late_outcomes for metric in metrics)
        if n_open:
            yield f"{name}: {n_open:,} outcomes wait for their epoch to close before they count"
        if n_late:
            yield f"{name}: {n_late:,} outcomes came after their window and are kept apart"

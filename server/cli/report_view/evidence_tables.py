"""The tables of a report that hold evidence: comparisons, static splits, and what can't be said."""

from collections.abc import Sequence

from rich.table import Table

from bandit.v1.evidence_pb2 import Claim, SplitReport
from bandit.v1.experiment_pb2 import ArmReport, MetricReport, Report
from server.cli.framework.console import decimals_for, plain_table
from server.cli.report_view.formatting import (
    ABSENT,
    e_values_text,
    evidence_decimals,
    finding,
    interval_text,
    lift_texts,
    metric_of,
    p_value_text,
    split_name,
)


def has_evidence(report: Report, name: str) -> bool:
    """Whether anything is evident on the metric."""
    metrics = [metric_of(arm, name) for arm in report.arms]
    return any(metric.HasField("estimate") or _claims(metric) for metric in metrics)


def evidence_table(report: Report, name: str) -> Table:
    """A metric's means and comparisons, two lines for each arm: better above, worse below."""
    decimals = evidence_decimals([metric_of(arm, name) for arm in report.arms])
    is_alarming = report.sample_ratio.alarming
    holds = "NOT TO BE TRUSTED (see Verdict)" if is_alarming else "holds at every look, 95 %"
    table = plain_table(f"evidence on {name}: {holds}")
    table.add_column("arm", overflow="fold", min_width=6)
    for heading in ("mean", f"less {report.champion}", "relative"):
        table.add_column(heading, justify="right", overflow="fold")
    for heading in ("is it", "e-value", "p (Holm)"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("finding", overflow="fold")
    for arm in report.arms:
        table.add_row(*_row(arm, report, metric_of(arm, name), decimals))
    return table


def _row(arm: ArmReport, report: Report, metric: MetricReport, decimals: int) -> list[str]:
    estimate, comparison = metric.estimate, metric.comparison
    mean = (
        f"{estimate.value:,.{decimals}f}\n{interval_text(estimate.interval, decimals)}"
        if metric.HasField("estimate")
        else ABSENT
    )
    if arm.arm == report.champion:
        return [arm.arm, mean, "champion", "", "", "", "", ""]
    difference, claims = comparison.difference, _claims(metric)
    return [
        arm.arm,
        mean,
        f"{difference.value:+,.{decimals}f}\n{interval_text(difference.interval, decimals, '+')}"
        if comparison.HasField("difference")
        else ABSENT,
        "\nto ".join(lift_texts(comparison.relative_lift))
        if comparison.HasField("relative_lift")
        else ABSENT,
        "\n".join(f"{name}?" for name, _ in claims),
        "\n".join(e_values_text(claim) for _, claim in claims) or ABSENT,
        "\n".join(p_value_text(claim.p_value) for _, claim in claims) or ABSENT,
        finding(metric, is_alarming=report.sample_ratio.alarming),
    ]


def _claims(metric: MetricReport) -> list[tuple[str, Claim]]:
    comparison, claims = metric.comparison, []
    if comparison.HasField("better"):
        claims.append(("better", comparison.better))
    if comparison.HasField("worse"):
        claims.append(("worse", comparison.worse))
    return claims


def splits_table(splits: Sequence[SplitReport], name: str) -> Table:
    """What static splits would have earned; those of which nothing can be said are left out."""
    said = [split for split in splits if not split.HasField("unsaid")]
    decimals = decimals_for([2 * split.value.standard_error for split in said])
    table = plain_table(f"static splits: {name} a decision, on the same traffic")
    table.add_column("split", overflow="fold", min_width=10)
    for heading in ("would have earned", "bandit earned", "gain", "gain at any look", "worth decisions"):
        table.add_column(heading, justify="right", overflow="fold")
    for split in said:
        table.add_row(*split_row(split, decimals))
    return table


def split_row(split: SplitReport, decimals: int) -> list[str]:
    """One static split's numbers."""
    return [
        split_name(split),
        f"{split.value.value:,.{decimals}f} ± {split.value.standard_error:.2g}",
        f"{split.earned:,.{decimals}f}",
        f"{split.gain.value:+,.{decimals}f} ± {split.gain.standard_error:.2g}",
        interval_text(split.gain.interval, decimals, "+"),
        f"{split.effective_sample_size:,.0f}",
    ]

"""The tables of a report as values, which the terminal prints and the page shows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp
from typing import Final

from bandit.facts.units import N_STEERING
from bandit.metric import MARGINS
from bandit.v1.evidence_pb2 import Claim, Comparison, Estimate, Interval, IntervalKind, SplitReport
from bandit.v1.experiment_pb2 import (
    ANALYSIS_UNIT_UNIT,
    METRIC_ROLE_SIGNAL,
    ArmReport,
    MetricReport,
    Report,
)
from server.cli.framework.console import decimals_for
from server.wording import digits_for, margin_text, percent, shown_difference, signed_percent, split_name

_ABSENT: Final = "-"
_NO_BOUND: Final = "no bound"
_LARGEST_SHOWN: Final = 1e6
_LARGEST_LOG: Final = 700.0
_SMALLEST_P: Final = 1e-6
_FIGURES: Final = 1e-4
"""The part of a value below which its figures are noise."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        heading: Its heading; may have several lines.
        is_text: Whether it has text, which is aligned to the left, instead of numbers.
        wraps: Whether a cell that is too wide may take several lines.
        min_width: Its minimum width in characters.
    """

    heading: str
    is_text: bool = False
    wraps: bool = False
    min_width: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table.

    Attributes:
        cells: One for each column; each may have several lines.
        is_dim: Whether it is about an arm out of service.
    """

    cells: tuple[str, ...]
    is_dim: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        title: Its heading; may be empty.
        columns: Its columns.
        rows: Its rows.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def belief_table(report: Report) -> Table:
    """Return the table of counts and beliefs on the reward metric."""
    metrics = [metric_of(arm, report.reward_metric) for arm in report.arms]
    decimals = _posterior_decimals(metrics)
    counts_units = any(arm.units for arm in report.arms)
    has_shadows = any(arm.decisions.shadow for arm in report.arms)
    rows = [
        Row(
            (
                _arm_name(arm),
                percent(arm.share),
                f"{_n_decisions(arm):,}",
                *([f"{arm.units:,}"] if counts_units else []),
                *([f"{arm.decisions.shadow:,}"] if has_shadows else []),
                f"{metric.outcomes:,}",
                f"{metric.observations:,.0f}",
                *_posterior_cells(metric, decimals),
                percent(arm.probability_best) if arm.HasField("probability_best") else _ABSENT,
                f"{arm.expected_loss:.2g}" if arm.HasField("expected_loss") else _ABSENT,
            ),
            is_dim=arm.out_of_service,
        )
        for arm, metric in zip(report.arms, metrics, strict=True)
    ]
    counts = "decisions", *(["units"] if counts_units else []), *(["in shadow"] if has_shadows else [])
    headings = "share", *counts, "outcomes", "counted", "mean", _interval_heading(metrics)
    columns = _ARM, *map(Column, (*headings, "P(best)", "exp. loss"))
    which = f", of the first {N_STEERING} of each unit" if report.analysis_unit == ANALYSIS_UNIT_UNIT else ""
    return Table(f"belief on {report.reward_metric} a decision{which}", columns, tuple(rows))


def evidence_tables(report: Report) -> list[Table]:
    """Return the tables of evidence on the reward metric, of the other metrics, and of static splits."""
    tables = []
    if _has_evidence(report, report.reward_metric):
        tables.append(_evidence_table(report, report.reward_metric))
    for name in other_metrics(report):
        tables.append(_metric_table(report, name))
        if _has_evidence(report, name):
            tables.append(_evidence_table(report, name))
    if any(not split.HasField("unsaid") for split in report.splits):
        tables.append(_splits_table(report))
    return tables


def _metric_table(report: Report, name: str) -> Table:
    """Return the table of a metric's outcomes and beliefs."""
    metrics = [metric_of(arm, name) for arm in report.arms]
    decimals = _posterior_decimals(metrics)
    rows = [
        Row(
            (
                arm.arm,
                f"{metric.outcomes:,}",
                f"{metric.late_outcomes:,}",
                percent(metric.response_ratio) if metric.HasField("response_ratio") else _ABSENT,
                *_posterior_cells(metric, decimals),
            )
        )
        for arm, metric in zip(report.arms, metrics, strict=True)
    ]
    headings = "outcomes", "late", "answered", "mean", _interval_heading(metrics)
    return Table(f"{name}{_role_text(metrics)}", (_ARM, *map(Column, headings)), tuple(rows))


def _role_text(metrics: Sequence[MetricReport]) -> str:
    """Return the role of a metric and its margin in parentheses; empty if it has no role."""
    for metric in metrics:
        role = "guardrail" if metric.guardrail else "signal" if metric.role == METRIC_ROLE_SIGNAL else ""
        if role:
            return f" ({role}{f', may be worse by {_margin_text(metric)}' * metric.HasField('worse_by')})"
    return ""


def _margin_text(metric: MetricReport) -> str:
    kind = metric.worse_by.WhichOneof("kind")
    return "" if kind is None else margin_text(MARGINS[kind](getattr(metric.worse_by, kind)))


def _evidence_table(report: Report, name: str) -> Table:
    """Return the table of a metric's means and comparisons: estimates above their intervals."""
    metrics = [metric_of(arm, name) for arm in report.arms]
    decimals = max(map(_digits, _estimates(metrics)), default=0)
    holds = "NOT TO BE TRUSTED (see Verdict)" if report.sample_ratio.alarming else "holds at every look, 95 %"
    columns = (
        _ARM,
        *_wrapping("mean", f"{report.champion} then", "difference", "relative"),
        *map(Column, ("p", "e-value")),
        Column("finding", is_text=True, wraps=True),
    )
    rows = (
        Row(_evidence_cells(arm, report, metric, decimals))
        for arm, metric in zip(report.arms, metrics, strict=True)
    )
    return Table(f"evidence on {name} a {unit_of(report)}: {holds}", columns, tuple(rows))


def _evidence_cells(arm: ArmReport, report: Report, metric: MetricReport, decimals: int) -> tuple[str, ...]:
    estimate, comparison = metric.estimate, metric.comparison
    mean = (
        f"{estimate.value:,.{decimals}f}\n{interval_text(estimate.interval, decimals)}"
        if metric.HasField("estimate")
        else _ABSENT
    )
    if arm.arm == report.champion:
        return arm.arm, mean, "champion", "", "", "", "", ""
    if not comparison.HasField("difference"):
        return arm.arm, mean, *[_ABSENT] * 5, finding(metric, is_alarming=report.sample_ratio.alarming)
    difference, claim = comparison.difference, _leading(comparison)
    shown = shown_difference(estimate.value, comparison.champion_mean, decimals)
    return (
        arm.arm,
        mean,
        f"{comparison.champion_mean:,.{decimals}f}",
        f"{shown:+,.{decimals}f}\n{interval_text(difference.interval, decimals, '+')}",
        _relative_text(comparison),
        p_value_text(claim.p_value),
        e_value_text(claim.log_e_value),
        finding(metric, is_alarming=report.sample_ratio.alarming),
    )


def _estimates(metrics: Sequence[MetricReport]) -> Iterator[Estimate]:
    """Yield the estimates of means and differences."""
    for metric in metrics:
        if metric.HasField("estimate"):
            yield metric.estimate
        if metric.comparison.HasField("difference"):
            yield metric.comparison.difference


def _digits(estimate: Estimate) -> int:
    return digits_for(estimate.standard_error, estimate.interval.upper - estimate.interval.lower)


def _leading(comparison: Comparison) -> Claim:
    """Return the claim of the direction that has more evidence."""
    return max((comparison.better, comparison.worse), key=lambda claim: claim.log_e_value)


def _relative_text(comparison: Comparison) -> str:
    if not comparison.HasField("relative_change"):
        return _ABSENT
    lower, upper = lift_texts(comparison.relative_lift)
    return f"{signed_percent(comparison.relative_change)}\n{lower} to {upper}"


def unit_of(report: Report) -> str:
    """Return what evidence counts: `decision` or `unit`."""
    return "unit" if report.analysis_unit == ANALYSIS_UNIT_UNIT else "decision"


def _has_evidence(report: Report, name: str) -> bool:
    """True if there is evidence on the metric."""
    metrics = [metric_of(arm, name) for arm in report.arms]
    return any(
        metric.HasField("estimate")
        or metric.comparison.HasField("harm")
        or metric.comparison.HasField("signal")
        for metric in metrics
    )


def _splits_table(report: Report) -> Table:
    """Return the table of what static splits would have earned, without those that have no estimate."""
    estimated, unit = [split for split in report.splits if not split.HasField("unsaid")], unit_of(report)
    decimals = decimals_for(
        [max(2 * split.value.standard_error, _FIGURES * abs(split.value.value)) for split in estimated]
    )
    columns = (
        Column("split", is_text=True, wraps=True, min_width=10),
        *_wrapping("would have earned", "bandit earned", "gain", "gain at any look"),
        *_wrapping(f"{unit}s", f"worth {unit}s"),
    )
    rows = (
        Row(
            (
                split_name(split.weights),
                f"{split.value.value:,.{decimals}f} ± {split.value.standard_error:.2g}",
                f"{split.earned:,.{decimals}f}",
                *_gain_cells(split, decimals),
                f"{split.value.n:,} of {split.value.n + split.value.n_omitted:,}",
                f"{split.effective_sample_size:,.0f}",
            )
        )
        for split in estimated
    )
    return Table(f"static splits: {report.reward_metric} a {unit}, on the same traffic", columns, tuple(rows))


def _gain_cells(split: SplitReport, decimals: int) -> tuple[str, str]:
    """Return the gain and its interval; it is missing where the shares were those of the split."""
    if not split.HasField("gain"):
        return _ABSENT, _ABSENT
    gain = split.gain
    return (
        f"{gain.value:+,.{decimals}f} ± {gain.standard_error:.2g}",
        interval_text(gain.interval, decimals, "+"),
    )


def metric_of(arm: ArmReport, name: str) -> MetricReport:
    """Return the arm's report on the metric; an empty one if it is missing."""
    return next((metric for metric in arm.metrics if metric.metric == name), MetricReport(metric=name))


def other_metrics(report: Report) -> list[str]:
    """Return the names of all metrics except the reward metric, in their order."""
    names = dict.fromkeys(metric.metric for arm in report.arms for metric in arm.metrics)
    return [name for name in names if name != report.reward_metric]


def _arm_name(arm: ArmReport) -> str:
    """Return an arm's id, marked if it is out of service or warming up."""
    if arm.out_of_service:
        return f"{arm.arm} (out)"
    return f"{arm.arm} (warm-up)" if arm.warming_up else arm.arm


def _n_decisions(arm: ArmReport) -> int:
    """Return the number of decisions of every basis."""
    counts = arm.decisions
    return counts.policy + counts.restricted + counts.fallback + counts.unconfirmed


def _posterior_cells(metric: MetricReport, decimals: int) -> tuple[str, str]:
    """Return the mean of the observations, and the posterior interval."""
    return (
        f"{metric.mean:,.{decimals}f}" if metric.HasField("mean") else _ABSENT,
        interval_text(metric.interval, decimals) if metric.HasField("interval") else _ABSENT,
    )


def _posterior_decimals(metrics: Sequence[MetricReport]) -> int:
    """Return the number of decimals that distinguishes the posteriors."""
    return _decimals([each.interval for each in metrics if each.HasField("interval")])


def _decimals(intervals: Sequence[Interval]) -> int:
    return decimals_for([each.upper - each.lower for each in intervals])


def _interval_heading(metrics: Sequence[MetricReport]) -> str:
    """Return level and kind, as in `95 % posterior`."""
    for metric in metrics:
        if metric.HasField("interval"):
            kind = IntervalKind.Name(metric.interval.kind).removeprefix("INTERVAL_KIND_").lower()
            return f"{metric.interval.level * 100:g} % {kind}"
    return "interval"


def interval_text(interval: Interval, decimals: int, sign: str = "") -> str:
    """Return both ends of an interval; `no bound` for an infinite one."""
    ends = [
        f"{getattr(interval, name):{sign},.{decimals}f}" if interval.HasField(name) else _NO_BOUND
        for name in ("lower", "upper")
    ]
    return " to ".join(ends)


def lift_texts(interval: Interval) -> tuple[str, str]:
    """Return both ends of a relative lift in percent."""
    lower = signed_percent(interval.lower) if interval.HasField("lower") else _NO_BOUND
    return lower, signed_percent(interval.upper) if interval.HasField("upper") else _NO_BOUND


def e_value_text(log_e_value: float) -> str:
    """Format an e-value, never as infinity."""
    value = exp(min(log_e_value, _LARGEST_LOG))
    return f">{_LARGEST_SHOWN:.0e}" if value > _LARGEST_SHOWN else f"{value:.3g}"


def p_value_text(p_value: float) -> str:
    """Format a p-value, never as zero."""
    return f"<{_SMALLEST_P:.0e}" if p_value < _SMALLEST_P else f"{p_value:.2g}"


def finding(metric: MetricReport, *, is_alarming: bool = False) -> str:
    """Return what is established about a challenger; empty for the champion."""
    comparison = metric.comparison
    if not metric.HasField("comparison"):
        return ""
    if is_alarming:
        return "withheld"
    claims = {"better": comparison.better, "worse": comparison.worse, "does harm": comparison.harm}
    if comparison.HasField("not_worse"):
        claims[f"not worse by {_margin_text(metric)}"] = comparison.not_worse
    found = [name for name, claim in claims.items() if claim.established]
    found += [f"was {name}" for name, claim in claims.items() if claim.lapsed]
    found += ["signal on"] * comparison.signal.held
    if not found:
        return "not established" if comparison.HasField("better") else _ABSENT
    return " and ".join(found)


def _wrapping(*headings: str) -> list[Column]:
    """Return columns of numbers whose cells may take several lines."""
    return [Column(heading, wraps=True) for heading in headings]


_ARM: Final = Column("arm", is_text=True, wraps=True, min_width=6)

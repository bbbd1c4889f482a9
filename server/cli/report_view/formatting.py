"""What the numbers of a report look like, in a table and on a page alike."""

from collections.abc import Iterator, Sequence
from math import exp

from bandit.v1.evidence_pb2 import Claim, Interval, IntervalKind, SampleRatio, SplitReport, Unsaid
from bandit.v1.experiment_pb2 import DIRECTION_MINIMIZE, ArmReport, MetricReport, Report
from server.cli.framework.console import decimals_for, percent, state_name

ABSENT = "-"
NO_BOUND = "no bound"
_FEW = 5
_LARGEST_SHOWN = 1e6
_LARGEST_LOG = 700.0
_SMALLEST_P = 1e-6


def heading(report: Report) -> str:
    """What experiment it is about, in one line."""
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


def arm_name(arm: ArmReport) -> str:
    """Its id, and why it is no ordinary arm if it is none."""
    if arm.out_of_service:
        return f"{arm.arm} (out)"
    return f"{arm.arm} (warm-up)" if arm.warming_up else arm.arm


def n_decisions(arm: ArmReport) -> int:
    """Decisions of every basis."""
    counts = arm.decisions
    return counts.policy + counts.restricted + counts.fallback + counts.unconfirmed


def metric_of(arm: ArmReport, name: str) -> MetricReport:
    """The arm's report on the metric; an empty one if there is none."""
    return next((metric for metric in arm.metrics if metric.metric == name), MetricReport(metric=name))


def other_metrics(report: Report) -> list[str]:
    """Names of all metrics but the reward metric, in their order."""
    names = dict.fromkeys(metric.metric for arm in report.arms for metric in arm.metrics)
    return [name for name in names if name != report.reward_metric]


def is_guardrail(report: Report, name: str) -> bool:
    """Whether the metric must not get worse."""
    return any(metric_of(arm, name).guardrail for arm in report.arms)


def posterior_decimals(metrics: Sequence[MetricReport]) -> int:
    """How many decimals tell the posteriors apart."""
    return _decimals([each.interval for each in metrics if each.HasField("interval")])


def evidence_decimals(metrics: Sequence[MetricReport]) -> int:
    """How many decimals tell estimates apart."""
    return _decimals([each.estimate.interval for each in metrics if each.HasField("estimate")])


def _decimals(intervals: Sequence[Interval]) -> int:
    return decimals_for([each.upper - each.lower for each in intervals])


def interval_heading(metrics: Sequence[MetricReport]) -> str:
    """Level and kind, as in `95 % posterior`."""
    for metric in metrics:
        if metric.HasField("interval"):
            kind = IntervalKind.Name(metric.interval.kind).removeprefix("INTERVAL_KIND_").lower()
            return f"{metric.interval.level * 100:g} % {kind}"
    return "interval"


def mean_text(metric: MetricReport, decimals: int) -> str:
    """The mean of what was counted."""
    return f"{metric.mean:,.{decimals}f}" if metric.HasField("mean") else ABSENT


def interval_text(interval: Interval, decimals: int, sign: str = "") -> str:
    """Both ends; an end that the data do not bound is said to be none."""
    ends = [
        f"{getattr(interval, name):{sign},.{decimals}f}" if interval.HasField(name) else NO_BOUND
        for name in ("lower", "upper")
    ]
    return " to ".join(ends)


def lift_texts(interval: Interval) -> tuple[str, str]:
    """Both ends of a relative lift in percent."""
    lower = f"{_signed_percent(interval.lower)}" if interval.HasField("lower") else NO_BOUND
    return lower, _signed_percent(interval.upper) if interval.HasField("upper") else NO_BOUND


def _signed_percent(part: float) -> str:
    if abs(part) >= 10:  # noqa: PLR2004 - beyond ten-fold, per cent are no help
        return f"{1 + part:.3g} times"
    return f"{100 * part:+.1f} %"


def e_value_text(log_e_value: float) -> str:
    """An e-value, never as infinity."""
    value = exp(min(log_e_value, _LARGEST_LOG))
    return f">{_LARGEST_SHOWN:.0e}" if value > _LARGEST_SHOWN else f"{value:.3g}"


def e_values_text(claim: Claim) -> str:
    """The e-value now and the largest so far, from which the p-value comes; once if they are the same."""
    texts = dict.fromkeys(map(e_value_text, (claim.log_e_value, claim.log_largest_e_value)))
    return "/".join(texts)


def p_value_text(p_value: float) -> str:
    """A p-value, never as zero."""
    return f"<{_SMALLEST_P:.0e}" if p_value < _SMALLEST_P else f"{p_value:.2g}"


def finding(metric: MetricReport, *, is_alarming: bool = False) -> str:
    """What is established of a challenger, in two words; nothing of the champion."""
    if not metric.HasField("comparison"):
        return ""
    if is_alarming:
        return "withheld"
    comparison = metric.comparison
    said = [name for name in ("better", "worse") if comparison.HasField(name)]
    claims = {name: getattr(comparison, name) for name in said}
    found = [f"was {name}" if claim.lapsed else name for name, claim in claims.items() if claim.established]
    if not said:
        return "can't be said"
    return " and ".join(found) or "not established"


def split_name(split: SplitReport) -> str:
    """The parts of a static split, or how many arms share it."""
    weights = split.weights
    if len(weights) > _FEW:
        even = "even " if len(set(weights.values())) == 1 else ""
        return f"{even}over {len(weights):,} arms"
    return " / ".join(f"{arm} {weight:.3g}" for arm, weight in sorted(weights.items()))


def sample_ratio_text(check: SampleRatio) -> str:
    """The sample-ratio check in a sentence."""
    if check.HasField("unsaid"):
        return f"can't be checked: {check.unsaid.explanation}"
    p_value = f"anytime p {p_value_text(check.p_value)}"
    if not check.arms:
        return p_value
    furthest = max(check.arms, key=lambda arm: abs(arm.z))
    verdict = "DECISIONS DO NOT FOLLOW THE SHARES" if check.alarming else "decisions follow the shares"
    count = f"{furthest.arm}: {furthest.observed:,} decisions, {furthest.expected:,.0f} by its shares"
    return f"{verdict} ({p_value}; furthest is {count}, z {furthest.z:+.1f})"


def unsaid_texts(unsaid: Sequence[Unsaid]) -> list[str]:
    """What can't be said, one line for each reason."""
    return [f"{_subject(each)}: {each.explanation}" for each in unsaid]


def _subject(unsaid: Unsaid) -> str:
    subjects = ", ".join(name.removeprefix("comparison.").replace("_", " ") for name in unsaid.subjects)
    arms = f" of {', '.join(unsaid.arms[:_FEW])}" if unsaid.arms else ""
    more = f" and {len(unsaid.arms) - _FEW:,} more arms" if len(unsaid.arms) > _FEW else ""
    return f"{unsaid.metric}: {subjects}{arms}{more}"


def uncounted(report: Report) -> Iterator[str]:
    """What was posted and is not in the numbers."""
    for name in (report.reward_metric, *other_metrics(report)):
        metrics = [metric_of(arm, name) for arm in report.arms]
        n_open = sum(metric.open_outcomes for metric in metrics)
        n_late = sum(metric.late_outcomes for metric in metrics)
        if n_open:
            yield f"{name}: {n_open:,} outcomes wait for their epoch to close before they count"
        if n_late:
            yield f"{name}: {n_late:,} outcomes came after their window and are kept apart"


def share_text(part: float, *, is_known: bool) -> str:
    """A share or ratio in percent; a dash if it is not known."""
    return percent(part) if is_known else ABSENT

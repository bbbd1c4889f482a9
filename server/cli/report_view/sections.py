"""The parts of a report that are sentences, in their order: the same in a table and on a page."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bandit.v1.experiment_pb2 import Report
from server.cli.framework.console import percent
from server.cli.report_view.formatting import (
    metric_of,
    sample_ratio_text,
    split_name,
    uncounted,
    unsaid_texts,
)

_MOST_RATIOS: Final = 10
_E_AND_P: Final = (
    "An e-value a/b is a at this look, and b the largest at any look so far; one number if they are equal. "
    "p is 1/b, adjusted by Holm over challengers and directions: e may fall again, p stays."
)


@dataclass(frozen=True, slots=True)
class Section:
    """Lines under a title; the title may be empty, the lines are not."""

    title: str
    lines: tuple[str, ...]


def sections(report: Report) -> list[Section]:
    """Checks, verdict, evidence, belief, outlook, what can't be said, notes; none without lines."""
    found = [
        Section("Checks", tuple(_checks(report))),
        Section("Verdict", tuple(filter(None, [report.verdict.headline]))),
        Section("Evidence", tuple(report.verdict.evidence)),
        Section("Belief", tuple(report.verdict.belief)),
        Section("Outlook", tuple(filter(None, [report.outlook.text]))),
        Section("What can't be said", (*unsaid_texts(report.unsaid), *_unsaid_splits(report))),
        Section("Notes", (*uncounted(report), *_legend(report), *report.notes)),
    ]
    return [section for section in found if section.lines]


def _legend(report: Report) -> Iterator[str]:
    comparisons = (metric.comparison for arm in report.arms for metric in arm.metrics)
    if any(comparison.HasField("better") or comparison.HasField("worse") for comparison in comparisons):
        yield _E_AND_P


def _checks(report: Report) -> Iterator[str]:
    if report.HasField("sample_ratio"):
        yield f"Sample ratio: {sample_ratio_text(report.sample_ratio)}"
    ratios = [
        f"{arm.arm} {percent(metric.response_ratio)}"
        for arm in report.arms[:_MOST_RATIOS]
        if (metric := metric_of(arm, report.reward_metric)).HasField("response_ratio")
    ]
    if ratios:
        more = ", ..." if len(report.arms) > _MOST_RATIOS else ""
        yield f"Decisions answered with {report.reward_metric}: {', '.join(ratios)}{more}"


def _unsaid_splits(report: Report) -> Iterator[str]:
    for split in report.splits:
        if split.HasField("unsaid"):
            yield f"static split {split_name(split)}: {split.unsaid.explanation}"

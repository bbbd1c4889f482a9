"""The sections of sentences in a report, in order: the same in the terminal and on the page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from bandit.v1.evidence_pb2 import Unsaid
from bandit.v1.experiment_pb2 import DIRECTION_MINIMIZE, Report
from server.cli.framework.console import state_name
from server.cli.report_view.tables import metric_of, other_metrics
from server.wording import percent, split_name

_MOST_RATIOS: Final = 10
_MOST_NAMED: Final = 5
_E_AND_P: Final = (
    "Relative is the relative lift (uplift) over the champion. An e-value a/b is a at this look, and b the "
    "largest at any look so far; one number if they are equal. p is 1/b, adjusted by Holm over challengers "
    "and directions. The e-value may fall again; p stays."
)


@dataclass(frozen=True, slots=True)
class Section:
    """A title and the lines under it."""

    title: str
    lines: tuple[str, ...]


def heading(report: Report) -> str:
    """Return a line that identifies the experiment."""
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


def sections(report: Report) -> list[Section]:
    """Return checks, verdict, evidence, belief, outlook, what can't be said and notes, without empty ones."""
    found = [
        Section("Checks", tuple(_checks(report))),
        Section("Verdict", tuple(filter(None, [report.verdict.headline]))),
        Section("Evidence", tuple(report.verdict.evidence)),
        Section("Belief", tuple(report.verdict.belief)),
        Section("Outlook", tuple(filter(None, [report.outlook.text]))),
        Section("What can't be said", (*unsaid_texts(report.unsaid), *_unsaid_splits(report))),
        Section("Notes", (*_uncounted(report), *_legend(report), *report.notes)),
    ]
    return [section for section in found if section.lines]


def _legend(report: Report) -> Iterator[str]:
    comparisons = (metric.comparison for arm in report.arms for metric in arm.metrics)
    if any(comparison.HasField("better") or comparison.HasField("worse") for comparison in comparisons):
        yield _E_AND_P


def _checks(report: Report) -> Iterator[str]:
    """Yield how many decisions were answered; the sample-ratio check is part of the evidence."""
    ratios = [
        f"{arm.arm} {percent(metric.response_ratio)}"
        for arm in report.arms[:_MOST_RATIOS]
        if (metric := metric_of(arm, report.reward_metric)).HasField("response_ratio")
    ]
    if ratios:
        more = ", ..." if len(report.arms) > _MOST_RATIOS else ""
        yield f"Decisions answered with {report.reward_metric}: {', '.join(ratios)}{more}"


def unsaid_texts(unsaid: Sequence[Unsaid]) -> list[str]:
    """Return what can't be said, one line for each reason."""
    return [f"{_subject(each)}: {each.explanation}" for each in unsaid]


def _subject(unsaid: Unsaid) -> str:
    subjects = ", ".join(name.removeprefix("comparison.").replace("_", " ") for name in unsaid.subjects)
    arms = f" of {', '.join(unsaid.arms[:_MOST_NAMED])}" if unsaid.arms else ""
    n_more = len(unsaid.arms) - _MOST_NAMED
    more = f" and {n_more:,} more arms" if n_more > 0 else ""
    return f"{unsaid.metric}: {subjects}{arms}{more}"


def _unsaid_splits(report: Report) -> Iterator[str]:
    for split in report.splits:
        if split.HasField("unsaid"):
            yield f"static split {split_name(split.weights)}: {split.unsaid.explanation}"


def _uncounted(report: Report) -> Iterator[str]:
    """Yield the posted outcomes that the numbers do not include."""
    for name in (report.reward_metric, *other_metrics(report)):
        metrics = [metric_of(arm, name) for arm in report.arms]
        n_open = sum(metric.open_outcomes for metric in metrics)
        n_late = sum(metric.late_outcomes for metric in metrics)
        if n_open:
            yield f"{name}: {n_open:,} outcomes are waiting for their epoch to close before they count"
        if n_late:
            yield f"{name}: {n_late:,} outcomes came after their window and do not count"

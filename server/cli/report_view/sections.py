"""The sections of sentences in a report, in order: the same in the terminal and on the page."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bandit.v1.evidence_pb2 import Unsaid
from bandit.v1.experiment_pb2 import DIRECTION_MINIMIZE, Report
from server.cli.framework.console import state_name
from server.cli.report_view.tables import metric_of, other_metrics, unit_of
from server.wording import percent, split_name

_MOST_RATIOS: Final = 10
_MOST_NAMED: Final = 5
_LEGEND: Final = (
    "A challenger's row compares it with the champion over the time in which both had a share, so its mean "
    "less the champion's then is the difference; relative is the relative lift (uplift). p at most 0.05, an "
    "interval that leaves out 0 and a finding are one statement, adjusted for both directions of all "
    "challengers. It is about now: a finding that has faded is marked as such."
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


def _launch(report: Report) -> Iterator[str]:
    """Yield where each challenger is, and how it compares with the champion in shadow."""
    for arm in report.launch.arms:
        yield f"{arm.arm}: {arm.sentence}"
        yield from (f"{arm.arm}: {claim.sentence}." for claim in arm.claims if claim.HasField("pairs"))


def sections(report: Report) -> list[Section]:
    """Return the sections in their order, without empty ones."""
    found = [
        Section("Checks", tuple(_checks(report))),
        Section("Verdict", tuple(filter(None, [report.verdict.headline]))),
        Section("Launch", tuple(_launch(report))),
        Section("Evidence", tuple(report.verdict.evidence)),
        Section("Belief", tuple(report.verdict.belief)),
        Section("Outlook", tuple(_outlook(report))),
        Section("What can't be said", tuple(unsaid_texts(report))),
        Section("Hints", tuple(report.hints)),
        Section("Notes", (*_uncounted(report), *_legend(report), *report.notes)),
    ]
    return [section for section in found if section.lines]


def _outlook(report: Report) -> Iterator[str]:
    """Yield the outlook, unless it is among what can't be said."""
    if report.outlook.text and not report.outlook.HasField("unsaid"):
        yield report.outlook.text


def _legend(report: Report) -> Iterator[str]:
    if any(metric.comparison.HasField("difference") for arm in report.arms for metric in arm.metrics):
        yield _LEGEND


def _checks(report: Report) -> Iterator[str]:
    """Yield how many decisions were answered; the sample-ratio check is part of the evidence."""
    ratios = [
        f"{arm.arm} {percent(metric.response_ratio)}"
        for arm in report.arms[:_MOST_RATIOS]
        if (metric := metric_of(arm, report.reward_metric)).HasField("response_ratio")
    ]
    if ratios:
        more = ", ..." if len(report.arms) > _MOST_RATIOS else ""
        what = f"{_upper_first(unit_of(report))}s answered with {report.reward_metric}"
        yield f"{what}: {', '.join(ratios)}{more}"


def unsaid_texts(report: Report) -> list[str]:
    """Return what can't be said: one line for each reason, whatever it is missing for."""
    missing: dict[str, list[str]] = {}
    for each in report.unsaid:
        missing.setdefault(each.explanation, []).append(_subject(each))
    for split in report.splits:
        if split.HasField("unsaid"):
            name = f"static split {split_name(split.weights)}"
            missing.setdefault(split.unsaid.explanation, []).append(name)
    if report.sample_ratio.HasField("unsaid"):
        missing.setdefault(report.sample_ratio.unsaid.explanation, []).append("sample ratio")
    if report.outlook.HasField("unsaid"):
        missing.setdefault(report.outlook.unsaid.explanation, []).append("outlook")
    return [f"{_upper_first(why)} (for {'; '.join(subjects)})." for why, subjects in missing.items()]


def _upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]


def _subject(unsaid: Unsaid) -> str:
    """Return what is missing: a whole metric's evidence, or a part of it."""
    parts = {name.removeprefix("comparison.").replace("_", " ") for name in unsaid.subjects}
    arms = f" of {', '.join(unsaid.arms[:_MOST_NAMED])}" if unsaid.arms else ""
    n_more = len(unsaid.arms) - _MOST_NAMED
    more = f" and {n_more:,} more arms" if n_more > 0 else ""
    what = "evidence" if parts >= _ALL_OF_A_COMPARISON else ", ".join(sorted(parts))
    return f"{unsaid.metric}: {what}{arms}{more}"


_ALL_OF_A_COMPARISON: Final = {"difference", "better", "worse"}


def _uncounted(report: Report) -> Iterator[str]:
    """Yield the posted outcomes that the numbers do not include."""
    what = "window" if any(arm.units for arm in report.arms) else "epoch"
    for name in (report.reward_metric, *other_metrics(report)):
        metrics = [metric_of(arm, name) for arm in report.arms]
        n_open = sum(metric.open_outcomes for metric in metrics)
        n_late = sum(metric.late_outcomes for metric in metrics)
        if n_open:
            yield f"{name}: {n_open:,} outcomes are waiting for their {what} to close before they count"
        if n_late:
            yield f"{name}: {n_late:,} outcomes came after their window and do not count"
